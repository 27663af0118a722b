// Fragments that pass through (RFC 4787 REQ-14, rule 6 of the design): the first shows the ports and makes a record,
// the others follow it.

import { beforeEach, describe, expect, it } from 'vitest'
import { type FrameSpec, fragments, frame } from '../../../src/testing/builder.ts'
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

  it('before the first are orphans', () => {
    expect(gateway.fate(LAN, second)).toBe('fragment-orphan')
    expect(gateway.fate(LAN, first)).toBe('sent')
    expect(gateway.fate(LAN, last)).toBe('sent')
  })

  it('of another identification, source, destination, protocol or side are orphans', () => {
    gateway.inside(first)
    const later = { moreFragments: true, fragmentOffset: SIZE, id: 1 }
    const others: readonly [number, FrameSpec][] = [
      [LAN, { ip: { src: HOST, dst: SERVER, ...later, id: 2 }, protocol: { number: 17 }, payload: 'abcdefgh' }],
      [LAN, { ip: { src: '10.0.0.6', dst: SERVER, ...later }, protocol: { number: 17 }, payload: 'abcdefgh' }],
      [LAN, { ip: { src: HOST, dst: '192.0.2.8', ...later }, protocol: { number: 17 }, payload: 'abcdefgh' }],
      [LAN, { ip: { src: HOST, dst: SERVER, ...later }, protocol: { number: 6 }, payload: 'abcdefgh' }],
      [WAN, { ip: { src: HOST, dst: SERVER, ...later }, protocol: { number: 17 }, payload: 'abcdefgh' }],
    ]
    for (const [port, spec] of others) expect(gateway.fate(port, spec)).toBe('fragment-orphan')
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
    expect(gateway.fate(LAN, second)).toBe('fragment-orphan')
  })

  it('ends when it is complete in another order', () => {
    for (const piece of [first, last, second]) expect(gateway.fate(LAN, piece)).toBe('sent')
    expect(gateway.fate(LAN, last)).toBe('fragment-orphan')
  })

  it('begins anew with the first fragment of a datagram sent again', () => {
    for (const piece of [first, second, first, second, last]) expect(gateway.fate(LAN, piece)).toBe('sent')
  })

  it('ends 30 seconds after it began, complete or not', () => {
    gateway.inside(first)
    gateway.pass(28)
    expect(gateway.fate(LAN, second)).toBe('sent')
    gateway.pass(3)
    expect(gateway.fate(LAN, last)).toBe('fragment-orphan')
  })

  const unaskedFrom = (from: string, to: string): Uint8Array =>
    fragments(
      frame({ eth: { src: MAC.server, dst: MAC.wan }, ...udp(from, to), payload: data.subarray(0, 64) }),
      16,
    )[0]!
  const begun = fragments(
    frame({ eth: { src: MAC.host, dst: MAC.lan }, ...udp(`${HOST}:1`, `${SERVER}:2`), payload: data.subarray(0, 64) }),
    16,
  )[0]!
  const withId = (bytes: Uint8Array, id: number): Uint8Array => {
    const copy = bytes.slice()
    const mem = new DataView(copy.buffer)
    mem.setUint16(18, id)
    // The header checksum follows by RFC 1624; the builder's identification is 0.
    const sum = (~mem.getUint16(24) & 0xffff) + id
    mem.setUint16(24, ~((sum & 0xffff) + (sum >>> 16)))
    return copy
  }
  /** First fragments of so many datagrams, by 64. */
  const begin = (port: number, bytes: Uint8Array, count: number): void => {
    for (let id = 0; id < count; id += 64)
      gateway.burst(
        port,
        Array.from({ length: 64 }, (_, i) => withId(bytes, id + i)),
      )
  }

  it('is refused when 8192 datagrams are under way; what nobody has asked for is not counted', () => {
    const external = fromOf(gateway.inside(udp(`${HOST}:5000`, `${SERVER}:53`))[0]!)
    const unasked = unaskedFrom('192.0.2.99:53', external)
    for (let id = 0; id < 200; id++) expect(gateway.fate(WAN, withId(unasked, id))).toBe('filtered')
    begin(LAN, begun, 8192)
    expect(gateway.toWan()).toHaveLength(8192)
    expect(gateway.fate(LAN, withId(begun, 9000))).toBe('fragment-table-full')
    gateway.pass(32)
    expect(gateway.fate(LAN, withId(begun, 9000))).toBe('sent')
  })

  it("is one of 4096 at most if the datagram is the host's: those that anybody sends leave room for others", () => {
    const unasked = unaskedFrom(`${SERVER}:53`, `${EXTERNAL}:20000`)
    begin(WAN, unasked, 8192)
    expect([gateway.counter('notOurs', WAN), gateway.drops()]).toEqual([8192, {}])
    begin(LAN, begun, 4096)
    expect(gateway.toWan()).toHaveLength(4096)
    expect(gateway.fate(LAN, withId(begun, 9000))).toBe('fragment-table-full')
    gateway.pass(32)
    const [first, ...others] = pieces(WAN, udp(`${SERVER}:53`, `${EXTERNAL}:20000`))
    for (const piece of [first!, ...others]) expect(gateway.fate(WAN, piece)).toBe('not-ours')
  })
})
