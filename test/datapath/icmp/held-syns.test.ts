// SYNs from outside that nobody has asked for (RFC 5382 REQ-4): not answered for six seconds; not at all if the inside
// end opens the same connection meanwhile; else by ICMP port unreachable. Whoever sends them must learn no more by
// that, and hit nobody with it.

import { beforeEach, describe, expect, it } from 'vitest'
import { frame } from '../../../src/testing/builder.ts'
import { Gateway, type GatewayOptions } from '../gateway.ts'
import { EXTERNAL, HOST, MAC, SERVER, WAN } from '../network.ts'
import { decode, decodeIp, fromOf, printed, tcpSegment, udp } from '../packets.ts'
import { connectionsOf } from '../tables.ts'

const FROM = `${HOST}:5000`
const TO = `${SERVER}:80`
const PEER = '198.51.100.7'
const POOL = '198.51.100.200'
const HOLD = 6

let gateway: Gateway
/** An external endpoint that the inside host has, and that has not sent to PEER. */
let external: string
beforeEach(() => starts())

async function starts(options: GatewayOptions = {}): Promise<void> {
  gateway = await Gateway.start(options)
  external = fromOf(gateway.inside(tcpSegment(FROM, TO, 'S'))[0]!)
}

const syn = (from: string, to = external, more = {}) => tcpSegment(from, to, 'S', { tcp: { seq: 7000 }, ...more })
const outcomes = () => ({
  held: gateway.counter('heldSyns', 0),
  opened: gateway.counter('heldSyns', 1),
  noRoom: gateway.counter('heldSyns', 2),
})

describe('a SYN to a mapping that does not let its sender in', () => {
  it('is dropped, and its sender learns six seconds later that nobody is there, by the address it has sent to', () => {
    expect(gateway.fate(WAN, syn(`${PEER}:4000`))).toBe('filtered')
    gateway.pass(HOLD - 0.1)
    expect(gateway.toWan()).toEqual([])
    gateway.pass(0.3)
    const port = external.split(':')[1]
    expect(printed(gateway.toWan())).toEqual([
      `IP ${EXTERNAL} > ${PEER}: ICMP ${EXTERNAL} tcp port ${port} unreachable, length 36`,
    ])
    expect(gateway.counter('icmpErrorsSent', 5)).toBe(1)
    expect(outcomes()).toEqual({ held: 1, opened: 0, noRoom: 0 })
    gateway.pass(60)
    expect(gateway.toWan()).toEqual([])
  })

  it('has its first eight bytes quoted as it came, and no more: the answer is short whatever was sent', () => {
    gateway.outside(syn(`${PEER}:4000`, external, { ip: { ttl: 40, options: Uint8Array.of(7, 4, 4, 0) } }))
    gateway.outside(syn(`${PEER}:4001`))
    gateway.pass(HOLD + 0.2)
    const [withOptions, plain] = gateway
      .toWan()
      .map(decode)
      .toSorted((a, b) => b.length - a.length)
    expect([withOptions!.length, plain!.length]).toEqual([60, 56])
    const quoted = decodeIp(withOptions!.embedded)
    expect(quoted).toMatchObject({ src: PEER, dst: EXTERNAL, ttl: 40 })
    expect(quoted.body).toHaveLength(8)
  })

  it('is answered once, however often it is repeated', () => {
    for (let i = 0; i < 5; i++) {
      gateway.outside(syn(`${PEER}:4000`))
      gateway.pass(1)
    }
    gateway.pass(HOLD - 5 + 0.2)
    expect(gateway.toWan()).toHaveLength(1)
  })

  it('makes nothing, and refreshes nothing', () => {
    const before = connectionsOf(gateway.tables)
    gateway.outside(syn(`${PEER}:4000`))
    gateway.pass(HOLD + 0.2)
    expect(connectionsOf(gateway.tables)).toEqual(before)
    gateway.check()
  })

  it('is not answered if the inside host opens that connection meanwhile: both open it at the same time', () => {
    gateway.outside(syn(`${PEER}:4000`))
    gateway.pass(3)
    const [opened] = gateway.inside(tcpSegment(FROM, `${PEER}:4000`, 'S'))
    expect(fromOf(opened!)).toBe(external)
    // The SYN is repeated, and let in now.
    expect(gateway.fate(WAN, syn(`${PEER}:4000`))).toBe('sent')
    gateway.pass(HOLD)
    expect(gateway.toWan()).toEqual([])
    expect(outcomes()).toEqual({ held: 1, opened: 1, noRoom: 0 })
  })

  it('is not answered even if what was opened is over before the six seconds are', () => {
    gateway.outside(syn(`${PEER}:4000`))
    gateway.inside(tcpSegment(FROM, `${PEER}:4000`, 'S'))
    const refusal = tcpSegment(`${PEER}:4000`, external, 'RA', { tcp: { seq: 0, ack: 1 } })
    expect(gateway.fate(WAN, refusal)).toBe('sent')
    expect(connectionsOf(gateway.tables)).toHaveLength(1)
    gateway.pass(HOLD + 0.2)
    expect(gateway.toWan()).toEqual([])
  })

  it('is not answered if it was repeated and let in', () => {
    gateway.outside(syn(`${PEER}:4000`))
    // Filtering depends on the address: another port of the peer is enough.
    gateway.inside(tcpSegment(FROM, `${PEER}:9`, 'S'))
    expect(gateway.fate(WAN, syn(`${PEER}:4000`))).toBe('sent')
    gateway.pass(HOLD + 0.2)
    expect(gateway.toWan()).toEqual([])
    expect(outcomes()).toMatchObject({ opened: 1 })
  })

  it('is answered if the inside host has opened another connection, or sent by UDP', () => {
    gateway.outside(syn(`${PEER}:4000`))
    gateway.inside(tcpSegment(FROM, `${PEER}:4001`, 'S'))
    gateway.inside(udp(FROM, `${PEER}:4000`))
    gateway.pass(HOLD + 0.2)
    expect(gateway.toWan()).toHaveLength(1)
  })
})

describe('whether NAT has given the port out can’t be told by the answer', () => {
  const answersTo = async (options: GatewayOptions, to: (mapped: string) => string) => {
    await starts(options)
    gateway.outside(syn(`${PEER}:4000`, to(external)))
    gateway.pass(HOLD - 0.1)
    expect(gateway.toWan()).toEqual([])
    gateway.pass(0.3)
    return gateway.toWan().map((sent) => ({ ...decode(sent), body: undefined, embedded: undefined }))
  }
  const beside = (mapped: string): string => {
    const [address, port] = mapped.split(':')
    return `${address}:${Number(port) ^ 2}`
  }

  for (const [what, options] of [
    ['on an address that is shared with the host', {}],
    ['on an address of the pool', { pool: [POOL] }],
  ] as const)
    it(what, async () => {
      const mapped = await answersTo(options, (to) => to)
      expect(mapped).toMatchObject([{ type: 3, code: 3, dst: PEER, ttl: 64 }])
      expect(await answersTo(options, beside)).toEqual(mapped)
    })

  it('a port that the host may have is left to the kernel', () => {
    expect(gateway.fate(WAN, syn(`${PEER}:4000`, `${EXTERNAL}:22`))).toBe('not-ours')
    gateway.pass(HOLD + 0.2)
    expect(gateway.toWan()).toEqual([])
    expect(outcomes()).toEqual({ held: 0, opened: 0, noRoom: 0 })
  })
})

describe('nobody is answered', () => {
  const bad = (spec: ReturnType<typeof syn>) => {
    const bytes = frame({ eth: { src: MAC.server, dst: MAC.wan }, ...spec })
    bytes[bytes.length - 1]! ^= 1
    return bytes
  }
  for (const [what, packet] of [
    ['another segment', () => tcpSegment(`${PEER}:4000`, external, 'A')],
    ['a SYN/ACK', () => tcpSegment(`${PEER}:4000`, external, 'SA')],
    ['UDP', () => udp(`${PEER}:4000`, external)],
    ['a SYN with a wrong checksum', () => bad(syn(`${PEER}:4000`))],
    ['a SYN by the address of an inside host', () => syn('10.0.0.9:4000')],
    ['a SYN whose time to live is over, but by Time Exceeded', () => syn(`${PEER}:4000`, external, { ip: { ttl: 1 } })],
    ['the first fragment of a SYN', () => syn(`${PEER}:4000`, external, { ip: { moreFragments: true } })],
    ['a SYN to an inside address', () => syn(`${PEER}:4000`, FROM)],
    [
      'a SYN with data, which is larger than what is held',
      () => syn(`${PEER}:4000`, external, { payload: 'x'.repeat(200) }),
    ],
  ] as const)
    it(`about ${what}`, () => {
      gateway.outside(packet())
      gateway.toWan()
      gateway.pass(HOLD + 0.2)
      expect(gateway.toWan()).toEqual([])
    })

  it('if the operator says so (tcp.answerUnsolicited: false)', async () => {
    await starts({ tcp: { answerUnsolicited: false } })
    gateway.outside(syn(`${PEER}:4000`))
    gateway.pass(HOLD + 0.2)
    expect(gateway.toWan()).toEqual([])
    expect(outcomes()).toEqual({ held: 0, opened: 0, noRoom: 0 })
  })
})

describe('a flood', () => {
  it('of one source, by whoever’s address: four answers in six seconds at most', () => {
    for (let port = 1; port <= 400; port++) gateway.outside(syn(`${PEER}:${port}`))
    const { held, noRoom } = outcomes()
    expect(held).toBe(4)
    expect(held + noRoom).toBe(400)
    gateway.pass(HOLD + 0.2)
    expect(gateway.toWan()).toHaveLength(4)
  })

  it('of many sources: no more are held than there is room, the longest among them, and connections go on', () => {
    const options = new Uint8Array(40)
    for (let host = 0; host < 4000; host++) {
      const source = `100.64.${host >> 8}.${host & 255}:80`
      gateway.outside(
        tcpSegment(source, external, 'S', { tcp: { options: options.fill(1) }, ip: { options: options.fill(1) } }),
      )
    }
    const { held, noRoom } = outcomes()
    expect(held).toBeGreaterThan(64)
    expect(held).toBeLessThanOrEqual(256)
    expect(held + noRoom).toBe(4000)
    expect(gateway.outside(tcpSegment(TO, external, 'SA'))).toHaveLength(1)
    gateway.pass(HOLD + 0.2)
    // No more at once than the rate limit's bucket holds.
    expect(gateway.toWan().length).toBeLessThanOrEqual(100)
    gateway.outside(syn(`${PEER}:4000`))
    gateway.pass(HOLD + 0.2)
    expect(gateway.toWan()).toHaveLength(1)
  })

  it('another’s SYNs in one’s own set leave it to chance whether one’s own is held', () => {
    // Of a source that is alone in its set the first is held always, the second three times in four, and so on.
    const heldOf = (source: string, count: number) => {
      const before = outcomes().held
      for (let port = 1; port <= count; port++) gateway.outside(syn(`${source}:${port}`))
      const { held } = outcomes()
      gateway.pass(HOLD + 0.2)
      return held - before
    }
    const second = Array.from({ length: 200 }, () => heldOf(PEER, 2) - 1).reduce((a, b) => a + b)
    expect(second).toBeGreaterThan(120)
    expect(second).toBeLessThan(180)
  })
})

it('from an inside host, by hairpin: it is told in the same way', () => {
  expect(gateway.hairpin(tcpSegment('10.0.0.6:6000', external, 'S'))).toEqual([])
  gateway.pass(HOLD + 0.2)
  const [told, ...more] = gateway.toLan()
  expect(more).toEqual([])
  expect(decode(told!)).toMatchObject({ src: EXTERNAL, dst: '10.0.0.6', type: 3, code: 3 })
  const quoted = decodeIp(decode(told!).embedded)
  expect(`${quoted.src}:${quoted.sport} ${quoted.dst}:${quoted.dport}`).toBe(`10.0.0.6:6000 ${external}`)
})

it('what is held is the shard’s thread’s, and gone with it', async () => {
  gateway.outside(syn(`${PEER}:4000`))
  await gateway.restart()
  gateway.turn()
  gateway.pass(HOLD + 0.2)
  expect(gateway.toWan()).toEqual([])
})
