// The number of a TCP segment that an ICMP error embeds (RFC 5927 4.1): one that its sender can have under way, or the
// error is from somebody who guesses. SND.UNA =< SEG.SEQ =< SND.NXT, as Linux's own sockets take it.

import { beforeEach, describe, expect, it } from 'vitest'
import { parseFilterRule } from '../../../src/coordinator/filter.ts'
import { ftp } from '../../../src/helpers/ftp.ts'
import { frame } from '../../../src/testing/builder.ts'
import { Gateway } from '../gateway.ts'
import { EXTERNAL, HOST, LAN, ROUTER, SERVER, WAN } from '../network.ts'
import { decode, decodeIp, icmpError, tcpSegment, viewOf } from '../packets.ts'
import { connectionsOf } from '../tables.ts'

const FROM = `${HOST}:5000`
const TO = `${SERVER}:80`
const FORGED = 'icmp-embedded-sequence'
/** In a frame. Errors here embed eight bytes of the segment, which hold its number and not its checksum. */
const SEQUENCE_AT = 38

/** A connection that the inside host opens with `isn`; the server's numbers begin at 0. */
class Story {
  readonly gateway: Gateway
  readonly isn: number
  external = ''
  /** The last segment that went out, and the last that came in, as they left the gateway. */
  wentOut: Uint8Array = new Uint8Array(0)
  cameIn: Uint8Array = new Uint8Array(0)

  constructor(gateway: Gateway, isn = 1000) {
    this.gateway = gateway
    this.isn = isn
  }

  /** From inside: `seq` counts from the SYN, `ack` from the server's. */
  sends(flags: string, seq: number, ack = 1, payload = ''): this {
    const tcp = { seq: (this.isn + seq) | 0, ack: flags.includes('A') ? ack : 0 }
    const sent = this.gateway.inside(tcpSegment(FROM, TO, flags, { tcp, payload }))
    expect(sent).toHaveLength(1)
    this.wentOut = sent[0]!
    this.external = `${EXTERNAL}:${decode(this.wentOut).sport}`
    return this
  }

  /** The server answers: `ack` counts from the client's SYN. */
  gets(flags: string, seq: number, ack: number, payload = ''): this {
    const tcp = { seq, ack: (this.isn + ack) | 0 }
    const came = this.gateway.outside(tcpSegment(TO, this.external, flags, { tcp, payload }))
    expect(came).toHaveLength(1)
    this.cameIn = came[0]!
    return this
  }

  opens(): this {
    return this.sends('S', 0).gets('SA', 0, 1).sends('A', 1)
  }

  /** What becomes of an error from outside about a segment from inside with this number. */
  aboutOurs(seq: number): string {
    return this.gateway.fate(WAN, icmpError(ROUTER, EXTERNAL, withSequence(this.wentOut, (this.isn + seq) | 0)))
  }

  /** And of one from inside about one of the server's. */
  aboutTheirs(seq: number): string {
    return this.gateway.fate(LAN, icmpError(HOST, SERVER, withSequence(this.cameIn, seq)))
  }
}

function withSequence(sent: Uint8Array, seq: number): Uint8Array {
  const copy = sent.slice()
  viewOf(copy).setInt32(SEQUENCE_AT, seq)
  return copy
}

let story: Story
let gateway: Gateway
beforeEach(async () => {
  gateway = await Gateway.start()
  story = new Story(gateway)
})

const table = (asked: (seq: number) => string, rows: Readonly<Record<number, string>>): void => {
  const got = Object.fromEntries(Object.keys(rows).map((seq) => [seq, asked(Number(seq))]))
  expect(got).toEqual(rows)
}

describe('about what the inside host has sent', () => {
  it('its SYN, and no other number', () => {
    story.sends('S', 0)
    table((seq) => story.aboutOurs(seq), { [-1]: FORGED, 0: 'sent', 1: 'sent', 2: FORGED, 70000: FORGED })
  })

  it('100 bytes under way: their numbers, and the next one, which a segment without data has', () => {
    story.opens().sends('PA', 1, 1, 'x'.repeat(100))
    table((seq) => story.aboutOurs(seq), { 0: FORGED, 1: 'sent', 50: 'sent', 101: 'sent', 102: FORGED, 65000: FORGED })
  })

  it('half of them acknowledged', () => {
    story.opens().sends('PA', 1, 1, 'x'.repeat(100)).gets('A', 1, 51)
    table((seq) => story.aboutOurs(seq), { 1: FORGED, 50: FORGED, 51: 'sent', 101: 'sent', 102: FORGED })
  })

  it('nothing under way: one number of all', () => {
    story.opens().sends('PA', 1, 1, 'x'.repeat(100)).gets('A', 1, 101)
    table((seq) => story.aboutOurs(seq), { 1: FORGED, 100: FORGED, 101: 'sent', 102: FORGED })
  })

  it('a keep-alive, which repeats a byte that was acknowledged', () => {
    story.opens().sends('PA', 1, 1, 'x'.repeat(100)).gets('A', 1, 101).sends('A', 100)
    table((seq) => story.aboutOurs(seq), { 99: FORGED, 100: 'sent', 101: 'sent', 102: FORGED })
  })

  it('data that is repeated, because the acknowledgement was lost behind the gateway', () => {
    story.opens().sends('PA', 1, 1, 'x'.repeat(100)).gets('A', 1, 101).sends('PA', 1, 1, 'x'.repeat(100))
    table((seq) => story.aboutOurs(seq), { 0: FORGED, 1: 'sent', 2: FORGED, 101: 'sent' })
  })

  it('a FIN, and the last acknowledgement', () => {
    story.opens().sends('FA', 1).gets('FA', 1, 2).sends('A', 2, 2)
    table((seq) => story.aboutOurs(seq), { 1: FORGED, 2: 'sent', 3: FORGED })
  })

  it('a SYN that opens the connection anew while the gateway remembers the old one', () => {
    story.opens().sends('S', 500_000, 0)
    table((seq) => story.aboutOurs(seq), { 1: 'sent', 499999: FORGED, 500000: 'sent', 500001: FORGED })
  })

  it('numbers that wrap', () => {
    story = new Story(gateway, -50)
    story.opens().sends('PA', 1, 1, 'x'.repeat(100))
    table((seq) => story.aboutOurs(seq), { 0: FORGED, 1: 'sent', 50: 'sent', 101: 'sent', 102: FORGED })
  })
})

describe('about what the server has sent', () => {
  it('its SYN/ACK', () => {
    story.sends('S', 0).gets('SA', 0, 1)
    table((seq) => story.aboutTheirs(seq), { 0: 'sent', 1: 'sent', 2: FORGED, [-100_000]: FORGED })
  })

  it('data', () => {
    story.opens().gets('PA', 1, 1, 'x'.repeat(100))
    table((seq) => story.aboutTheirs(seq), { 0: FORGED, 1: 'sent', 101: 'sent', 102: FORGED })
  })

  it('nothing, if it has sent nothing', () => {
    story.sends('S', 0)
    story.cameIn = frame(tcpSegment(TO, FROM, 'SA'))
    table((seq) => story.aboutTheirs(seq), { [-1]: FORGED, 0: FORGED, 1: FORGED })
  })
})

describe('nobody is strict', () => {
  const ANY = { [-1_000_000]: 'sent', 0: 'sent', 1: 'sent', 1000000: 'sent' }

  it('where windows are not enforced (tcp.liberal)', async () => {
    story = new Story(await Gateway.start({ tcp: { liberal: true } })).opens()
    table((seq) => story.aboutOurs(seq), ANY)
  })

  it('where a rule of the filter says so', async () => {
    const rule = parseFilterRule({ action: 'allow', windows: 'liberal' })
    story = new Story(await Gateway.start({ filter: [rule] })).opens()
    table((seq) => story.aboutOurs(seq), ANY)
  })

  it('with a connection that was picked up in mid-stream (tcp.pickup)', async () => {
    story = new Story(await Gateway.start({ tcp: { pickup: true } })).sends('PA', 5000, 1, 'data')
    table((seq) => story.aboutOurs(seq), ANY)
  })
})

it('a segment behind a helper’s change of lengths has the receiver’s number, its bounds the sender’s', async () => {
  await gateway.help(ftp())
  const control = `${SERVER}:21`
  const sends = (flags: string, seq: number, ack: number, payload = '') =>
    gateway.inside(tcpSegment(FROM, control, flags, { tcp: { seq, ack }, payload }))
  const { sport } = decode(sends('S', 1000, 0)[0]!)
  const external = `${EXTERNAL}:${sport}`
  gateway.outside(tcpSegment(control, external, 'SA', { tcp: { seq: 0, ack: 1001 } }))
  const greeting = '220 ready\r\n'
  gateway.outside(tcpSegment(control, external, 'PA', { tcp: { seq: 1, ack: 1001 }, payload: greeting }))
  const ack = 1 + greeting.length
  sends('A', 1001, ack)
  const port = 'PORT 10,0,0,5,200,10\r\n'
  const [rewritten] = sends('PA', 1001, ack, port)
  const added = decode(rewritten!).length - 40 - port.length
  expect(added).not.toBe(0)
  gateway.outside(tcpSegment(control, external, 'A', { tcp: { seq: ack, ack: 1001 + port.length + added } }))
  const next = 1001 + port.length
  const [list] = sends('PA', next, ack, 'LIST\r\n')
  expect(decode(list!).seq).toBe(next + added)
  const [error] = gateway.outside(icmpError(ROUTER, EXTERNAL, list!))
  expect(viewOf(decodeIp(decode(error!).embedded).body).getInt32(4)).toBe(next)
  for (const [number, fate] of [
    [next + added - 1, FORGED],
    [next + added + 6, 'sent'],
    [next + added + 7, FORGED],
  ] as const)
    expect(gateway.fate(WAN, icmpError(ROUTER, EXTERNAL, withSequence(list!, number)))).toBe(fate)
})

it('a forged error changes nothing of its connection, nor does a right one', () => {
  story.opens().sends('PA', 1, 1, 'x'.repeat(100))
  const before = connectionsOf(gateway.tables)
  expect(story.aboutOurs(1)).toBe('sent')
  expect(story.aboutOurs(102)).toBe(FORGED)
  expect(connectionsOf(gateway.tables)).toEqual(before)
  gateway.check()
})
