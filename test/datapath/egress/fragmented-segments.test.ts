// TCP segments that come in fragments: the other end may acknowledge all of what has come, as where the kernel puts
// datagrams together before it tracks them, and a later fragment tells nothing else of its connection.

import { beforeEach, describe, expect, it } from 'vitest'
import { fragments, frame } from '../../../src/testing/builder.ts'
import { Cluster } from '../cluster.ts'
import { Gateway } from '../gateway.ts'
import { EXTERNAL, HOST, LAN, MAC, SERVER, WAN } from '../network.ts'
import { decode, type More, tcpSegment } from '../packets.ts'
import { connectionsOf } from '../tables.ts'

const FROM = `${HOST}:5000`
const TO = `${SERVER}:80`
const LENGTH = 1400
const payload = new Uint8Array(LENGTH)
const LAN_FRAME = { src: MAC.host, dst: MAC.lan }
const WAN_FRAME = { src: MAC.server, dst: MAC.wan }

type Numbers = { seq: number; ack: number; window?: number }
let id = 0
const out = (flags: string, tcp: Numbers, more: More = {}): Uint8Array =>
  frame({ eth: LAN_FRAME, ...tcpSegment(FROM, TO, flags, { ...more, tcp, ip: { ...more.ip, id: ++id } }) })

/** Either gateway, as far as it is used here. */
interface Ways {
  inside(bytes: Uint8Array): Uint8Array[]
  outside(bytes: Uint8Array): Uint8Array[]
}

/** Opens a connection; its external endpoint. */
function open(by: Ways): string {
  const [syn] = by.inside(out('S', { seq: 1000, ack: 0 }))
  const external = `${EXTERNAL}:${decode(syn!).sport}`
  by.outside(frame({ eth: WAN_FRAME, ...tcpSegment(TO, external, 'SA', { tcp: { seq: 0, ack: 1001 } }) }))
  by.inside(out('A', { seq: 1001, ack: 1 }))
  return external
}

let gateway: Gateway
let external: string
beforeEach(async () => {
  gateway = await Gateway.start()
  external = open(gateway)
})

const back = (flags: string, tcp: Numbers, more: More = {}): Uint8Array =>
  frame({ eth: WAN_FRAME, ...tcpSegment(TO, external, flags, { ...more, tcp, ip: { ...more.ip, id: ++id } }) })
const acknowledges = (ack: number): string => gateway.fate(WAN, back('A', { seq: 1, ack }))

describe('a segment in fragments', () => {
  const pieces = () => fragments(out('PA', { seq: 1001, ack: 1 }, { payload }), 400)

  for (const [what, order] of [
    ['in order', [0, 1, 2, 3]],
    ['the last first', [3, 2, 1, 0]],
    ['the first in the middle', [2, 0, 3, 1]],
  ] as const)
    it(`${what}: is acknowledged to its end, and no further`, () => {
      const its = pieces()
      expect(its).toHaveLength(4)
      for (const n of order) gateway.inside(its[n]!)
      expect(acknowledges(1001 + LENGTH + 1)).toBe('tcp-ack-over')
      expect(acknowledges(1001 + LENGTH)).toBe('sent')
      expect(gateway.drops()).toEqual({ 'tcp-ack-over': 1 })
    })

  it('is acknowledged as far as it has come', () => {
    const [first, second] = pieces()
    gateway.inside(first!)
    expect(acknowledges(1001 + 800 - 20)).toBe('tcp-ack-over')
    gateway.inside(second!)
    expect(acknowledges(1001 + 800 - 20)).toBe('sent')
  })

  it('that ends the connection: its FIN counts behind all of its bytes', () => {
    for (const piece of fragments(out('FA', { seq: 1001, ack: 1 }, { payload }), 400)) gateway.inside(piece)
    expect(acknowledges(1001 + LENGTH + 2)).toBe('tcp-ack-over')
    expect(acknowledges(1001 + LENGTH + 1)).toBe('sent')
  })

  it('from outside, too', () => {
    for (const piece of fragments(back('PA', { seq: 1, ack: 1001 }, { payload }), 400)) gateway.outside(piece)
    expect(gateway.fate(LAN, out('A', { seq: 1001, ack: 1 + LENGTH + 1 }))).toBe('tcp-ack-over')
    expect(gateway.fate(LAN, out('A', { seq: 1001, ack: 1 + LENGTH }))).toBe('sent')
  })

  it('untranslated, too', async () => {
    gateway = await Gateway.start({ nat: { translate: false } })
    open(gateway)
    external = FROM
    gateway.outside(frame({ eth: WAN_FRAME, ...tcpSegment(TO, FROM, 'SA', { tcp: { seq: 0, ack: 1001 } }) }))
    gateway.inside(out('A', { seq: 1001, ack: 1 }))
    for (const piece of pieces()) gateway.inside(piece)
    expect(acknowledges(1001 + LENGTH)).toBe('sent')
  })

  it('through four shards, many times', async () => {
    const cluster = await Cluster.start({ shards: 4 })
    external = open(cluster)
    for (let n = 0; n < 16; n++) {
      const seq = 1001 + n * LENGTH
      const whole = out('PA', { seq, ack: 1 }, { payload })
      for (const piece of fragments(whole, 400)) expect(cluster.inside(piece)).toHaveLength(1)
      expect(cluster.outside(back('A', { seq: 1, ack: seq + LENGTH }))).toHaveLength(1)
    }
    expect(cluster.drops()).toEqual({})
  })
})

describe('later fragments of a segment that was not believed', () => {
  it('keep nothing alive, and move nothing', () => {
    gateway.pass(60)
    const before = connectionsOf(gateway.tables)
    // Too old for the window: it goes on, for its receiver to challenge it.
    for (const piece of fragments(back('PA', { seq: -200_000, ack: 1001 }, { payload }), 400))
      expect(gateway.fate(WAN, piece)).toBe('sent')
    const after = connectionsOf(gateway.tables)
    const uncounted = (rows: typeof before) => rows.map((row) => ({ ...row, packets: 0, bytes: 0 }))
    expect(uncounted(after)).toEqual(uncounted(before))
    expect(gateway.fate(LAN, out('A', { seq: 1001, ack: 2 }))).toBe('tcp-ack-over')
  })

  it('are no reply to a SYN', async () => {
    gateway = await Gateway.start()
    const [syn] = gateway.inside(out('S', { seq: 1000, ack: 0 }))
    external = `${EXTERNAL}:${decode(syn!).sport}`
    const before = connectionsOf(gateway.tables)
    // A SYN/ACK that acknowledges no SYN of this connection goes on, for the client to reset.
    for (const piece of fragments(back('SA', { seq: 7, ack: 555 }, { payload }), 400)) gateway.outside(piece)
    const state = (rows: typeof before) => rows.map((row) => ({ ...row, packets: 0, bytes: 0 }))
    expect(state(connectionsOf(gateway.tables))).toEqual(state(before))
  })
})
