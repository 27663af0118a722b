// Fragments that pass through (RFC 4787 REQ-14, rule 6 of the design): the first shows the ports and makes a record,
// the others follow it.

import { beforeEach, describe, expect, it } from 'vitest'
import { type FrameSpec, fragments, frame } from '../../../src/testing/builder.ts'
import { onlyOne } from '../../conntrack/scripted-connection.ts'
import { Cluster } from '../cluster.ts'
import { Gateway } from '../gateway.ts'
import { EXTERNAL, HOST, LAN, MAC, SERVER, WAN } from '../network.ts'
import { decode, echo, echoReply, fromOf, tcpSegment, udp } from '../packets.ts'
import { sumOf } from '../verify.ts'

const data = Uint8Array.from({ length: 4000 }, (_, i) => (i * 13) & 0xff)
const SIZE = 1480

function pieces(port: number, spec: FrameSpec, id = 1): Uint8Array[] {
  const eth = port === LAN ? { src: MAC.host, dst: MAC.lan } : { src: MAC.server, dst: MAC.wan }
  return fragments(frame({ eth, ...spec, ip: { ...spec.ip, id }, payload: spec.payload ?? data }), SIZE)
}

/** What fragments in order make together, the checksum of their transport verified over the whole. */
function joined(sent: readonly Uint8Array[]): { src: string; dst: string; body: Uint8Array } {
  const parts = sent.map(decode).sort((a, b) => a.offset - b.offset)
  const body = Uint8Array.from(parts.flatMap((part) => [...part.body]))
  const { src, dst, protocol } = parts[0]!
  const addresses = [src, dst].flatMap((address) => address.split('.').map(Number))
  const pseudo = Uint8Array.of(...addresses, 0, protocol, body.length >>> 8, body.length & 0xff)
  expect(sumOf(body, protocol === 1 ? 0 : sumOf(pseudo))).toBe(0xffff)
  return { src, dst, body }
}

let gateway: Gateway
beforeEach(async () => {
  gateway = await Gateway.start()
})

describe('a datagram in fragments, the first one first', () => {
  const datagrams = [
    ['UDP', udp(`${HOST}:5000`, `${SERVER}:53`), 8],
    ['TCP', tcpSegment(`${HOST}:5000`, `${SERVER}:80`, 'S'), 20],
    ['a ping', echo(HOST, SERVER, 9), 8],
  ] as const
  for (const [what, spec, headerLength] of datagrams)
    it(`${what} from inside`, () => {
      const sent = pieces(LAN, spec).flatMap((piece) => gateway.inside(piece))
      expect(sent).toHaveLength(3)
      const { src, dst, body } = joined(sent)
      expect([src, dst]).toEqual([EXTERNAL, SERVER])
      expect(body.subarray(headerLength)).toEqual(data)
      expect(gateway.drops()).toEqual({})
      gateway.check()
    })

  it('all of them in one burst', () => {
    gateway.burst(LAN, pieces(LAN, datagrams[0][1]))
    expect(joined(gateway.toWan()).body.subarray(8)).toEqual(data)
  })

  it('UDP from outside, back to the inside host', () => {
    const external = fromOf(gateway.inside(udp(`${HOST}:5000`, `${SERVER}:53`))[0]!)
    const sent = pieces(WAN, udp(`${SERVER}:53`, external)).flatMap((piece) => gateway.outside(piece))
    expect(joined(sent)).toMatchObject({ src: SERVER, dst: HOST })
  })

  it("a ping's answer from outside", () => {
    const { icmpId } = decode(gateway.inside(echo(HOST, SERVER, 9))[0]!)
    const sent = pieces(WAN, echoReply(SERVER, EXTERNAL, icmpId)).flatMap((piece) => gateway.outside(piece))
    expect(joined(sent)).toMatchObject({ src: SERVER, dst: HOST })
    expect(decode(sent[0]!).icmpId).toBe(9)
  })

  it('without a UDP checksum', () => {
    const spec = udp(`${HOST}:5000`, `${SERVER}:53`, { checksum: 'none' })
    const sent = pieces(LAN, spec).flatMap((piece) => gateway.inside(piece))
    expect(sent).toHaveLength(3)
    expect(decode(sent[0]!).body.subarray(6, 8)).toEqual(Uint8Array.of(0, 0))
  })

  it('a protocol without ports', async () => {
    const gre = await Gateway.start({ nat: { protocols: [47] } })
    const spec = { ip: { src: HOST, dst: SERVER }, protocol: { number: 47 } }
    expect(pieces(LAN, spec).flatMap((piece) => gre.inside(piece))).toHaveLength(3)
  })
})

describe('later fragments', () => {
  const [first, second, last] = pieces(LAN, udp(`${HOST}:5000`, `${SERVER}:53`)) as [Uint8Array, Uint8Array, Uint8Array]

  it('in any order after the first', () => {
    const sent = [first, last, second].flatMap((piece) => gateway.inside(piece))
    expect(joined(sent).body.subarray(8)).toEqual(data)
  })

  it('before the first wait for it, and go on after it in the order they came', () => {
    expect(gateway.fate(LAN, last)).toBe('waiting')
    expect(gateway.fate(LAN, second)).toBe('waiting')
    const sent = gateway.inside(first)
    expect(sent.map((frame) => decode(frame).offset)).toEqual([0, 2 * SIZE, SIZE])
    expect(joined(sent).body.subarray(8)).toEqual(data)
    expect(gateway.drops()).toEqual({})
    gateway.check()
  })

  it('that have waited go on before what comes behind the first in its burst', () => {
    gateway.inside(last)
    gateway.burst(LAN, [first, second])
    expect(gateway.toWan().map((frame) => decode(frame).offset)).toEqual([0, 2 * SIZE, SIZE])
  })

  it('of another identification, source, destination, protocol or side do not follow it', () => {
    gateway.inside(first)
    const later = { moreFragments: true, fragmentOffset: SIZE, id: 1 }
    const others: readonly [number, FrameSpec][] = [
      [LAN, { ip: { src: HOST, dst: SERVER, ...later, id: 2 }, protocol: { number: 17 }, payload: 'abcdefgh' }],
      [LAN, { ip: { src: '10.0.0.6', dst: SERVER, ...later }, protocol: { number: 17 }, payload: 'abcdefgh' }],
      [LAN, { ip: { src: HOST, dst: '192.0.2.8', ...later }, protocol: { number: 17 }, payload: 'abcdefgh' }],
      [LAN, { ip: { src: HOST, dst: SERVER, ...later }, protocol: { number: 6 }, payload: 'abcdefgh' }],
      [WAN, { ip: { src: HOST, dst: SERVER, ...later }, protocol: { number: 17 }, payload: 'abcdefgh' }],
    ]
    const fates = others.map(([port, spec]) => gateway.fate(port, spec))
    // From outside, what goes neither to NAT's addresses nor to the inside is the kernel's.
    expect(fates).toEqual(['waiting', 'waiting', 'waiting', 'waiting', 'not-ours'])
  })

  it('are counted to the connection of the first', () => {
    for (const piece of [first, second, last]) gateway.inside(piece)
    const [sent] = gateway.inside(udp(`${HOST}:5000`, `${SERVER}:53`))
    expect(fromOf(sent!)).toMatch(EXTERNAL)
    expect(gateway.counter('connections', 1)).toBe(1)
  })

  it('of a datagram whose first fragment was dropped are dropped', () => {
    const external = fromOf(gateway.inside(udp(`${HOST}:5000`, `${SERVER}:53`))[0]!)
    const [refused, ...others] = pieces(WAN, udp('192.0.2.99:53', external)) as [Uint8Array, ...Uint8Array[]]
    expect(gateway.fate(WAN, refused)).toBe('filtered')
    for (const other of others) expect(gateway.fate(WAN, other)).toBe('fragment-orphan')
  })

  it("of a datagram for the host are the host's", () => {
    for (const port of [4000, 20_000])
      for (const piece of pieces(WAN, udp(`${SERVER}:53`, `${EXTERNAL}:${port}`), port))
        expect(gateway.fate(WAN, piece)).toBe('not-ours')
    for (const piece of pieces(LAN, udp(`${HOST}:53`, '10.0.0.1:53'))) expect(gateway.fate(LAN, piece)).toBe('not-ours')
  })
})

describe("a datagram's record", () => {
  const [first, second, last] = pieces(LAN, udp(`${HOST}:5000`, `${SERVER}:53`)) as [Uint8Array, Uint8Array, Uint8Array]

  it('ends when the datagram is complete', () => {
    for (const piece of [first, second, last]) expect(gateway.fate(LAN, piece)).toBe('sent')
    expect(gateway.fate(LAN, second)).toBe('fragment-duplicate')
    gateway.pass(2)
    expect(gateway.fate(LAN, second)).toBe('waiting')
  })

  it('ends when it is complete in another order', () => {
    for (const piece of [first, last, second]) expect(gateway.fate(LAN, piece)).toBe('sent')
    expect(gateway.fate(LAN, last)).toBe('fragment-duplicate')
  })

  it('lets nothing pass twice', () => {
    const fates = [first, second, first, second, last, last].map((piece) => gateway.fate(LAN, piece))
    expect(fates).toEqual(['sent', 'sent', 'fragment-duplicate', 'fragment-duplicate', 'sent', 'fragment-duplicate'])
  })

  it('begins anew with the first fragment of a datagram that takes the same identification later', () => {
    for (const piece of [first, second]) expect(gateway.fate(LAN, piece)).toBe('sent')
    gateway.pass(4)
    for (const piece of [first, second, last]) expect(gateway.fate(LAN, piece)).toBe('sent')
  })

  it('ends 30 seconds after it began, complete or not', () => {
    gateway.inside(first)
    gateway.pass(28)
    expect(gateway.fate(LAN, second)).toBe('sent')
    gateway.pass(3)
    expect(gateway.fate(LAN, last)).toBe('waiting')
  })

  it('of what waits ends 30 seconds after it began, and what waits is dropped', () => {
    gateway.inside(second)
    gateway.pass(28)
    expect(gateway.counter('fragmentsWaiting')).toBe(1)
    gateway.pass(3)
    expect(gateway.counter('fragmentsWaiting')).toBe(0)
    expect(gateway.drops()).toEqual({ 'fragment-orphan': 1 })
  })
})

describe('a later fragment of a TCP segment changes nothing that its first has not', () => {
  /** The server's segment in three pieces, to the external endpoint. */
  const segment = (external: string, flags: string, seq: number, ack: number): Uint8Array[] =>
    pieces(WAN, tcpSegment(`${SERVER}:80`, external, flags, { tcp: { seq, ack } }))
  const syn = (): string => fromOf(gateway.inside(tcpSegment(`${HOST}:5000`, `${SERVER}:80`, 'S'))[0]!)

  it('is no answer to a SYN that the first does not answer', () => {
    const sent = segment(syn(), 'A', 1, 7).map((piece) => gateway.fate(WAN, piece))
    expect(sent).toEqual(['sent', 'sent', 'sent'])
    expect(onlyOne(gateway)).toMatchObject({ state: 'SYN_SENT', seenReply: false })
    gateway.check()
  })

  it('keeps no connection alive that the first does not', () => {
    const external = syn()
    gateway.outside(tcpSegment(`${SERVER}:80`, external, 'SA'))
    gateway.inside(tcpSegment(`${HOST}:5000`, `${SERVER}:80`, 'A'))
    gateway.outside(tcpSegment(`${SERVER}:80`, external, 'R'))
    const { lastSeen } = onlyOne(gateway)
    gateway.pass(100)
    expect(segment(external, 'R', 1, 0).map((piece) => gateway.fate(WAN, piece))).toEqual(['sent', 'sent', 'sent'])
    expect(onlyOne(gateway)).toMatchObject({ state: 'CLOSE', lastSeen })
  })
})

describe('fragments whose datagram comes together in one shard and whose flow is of another', () => {
  const IDS = Array.from({ length: 32 }, (_, id) => id + 1)

  it('do not go on where the first one does not', async () => {
    const cluster = await Cluster.start({ shards: 4 })
    cluster.inside(tcpSegment(`${HOST}:5000`, `${SERVER}:80`, 'S'))
    const early = tcpSegment(`${HOST}:5000`, `${SERVER}:80`, 'A', { tcp: { ack: 1 } })
    for (const id of IDS) expect(pieces(LAN, early, id).flatMap((piece) => cluster.inside(piece))).toEqual([])
    expect(cluster.handovers()['known-fragment']).toBeGreaterThan(IDS.length)
    expect(cluster.drops()).toEqual({ 'tcp-state': IDS.length, 'fragment-orphan': 2 * IDS.length })
  })

  it('stay the kernel’s where the first one is', async () => {
    const cluster = await Cluster.start({ shards: 4, nat: { protocols: [47] } })
    const gre: FrameSpec = { ip: { src: SERVER, dst: EXTERNAL }, protocol: { number: 47 } }
    const firsts = IDS.map((id) => pieces(WAN, gre, id))
    for (const [first] of firsts) expect(cluster.outside(first!)).toEqual([])
    cluster.inside({ ip: { src: HOST, dst: SERVER }, protocol: { number: 47 }, payload: 'x' })
    for (const [, ...later] of firsts) expect(later.flatMap((piece) => cluster.outside(piece))).toEqual([])
  })
})
