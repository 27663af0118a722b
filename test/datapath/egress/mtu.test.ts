// Packets larger than the next link takes: RFC 791 3.2 (fragmenting), RFC 1191 (Fragmentation Needed), RFC 4787 REQ-13.

import { beforeEach, describe, expect, it } from 'vitest'
import { type FrameSpec, fragments, frame } from '../../../src/testing/builder.ts'
import { Gateway } from '../gateway.ts'
import { HOST, LAN, MAC, SERVER, WAN } from '../network.ts'
import { type Decoded, decode, echo, fromOf, printed, tcpSegment, toOf, udp } from '../packets.ts'
import { sumOf } from '../verify.ts'

const MTU = 576
const data = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 7) & 0xff)
const datagram = (length: number, more: Parameters<typeof udp>[2] = {}): FrameSpec =>
  udp(`${HOST}:5000`, `${SERVER}:53`, { payload: data(length), ...more })

let gateway: Gateway
beforeEach(async () => {
  gateway = await Gateway.start({ wanMtu: MTU })
})

/** The datagram's body put together again from fragments in order; fails on a hole or an overlap. */
function reassembled(pieces: readonly Decoded[]): Uint8Array {
  let next = 0
  for (const [i, { offset, body, moreFragments }] of pieces.entries()) {
    expect(offset).toBe(next)
    expect(moreFragments).toBe(i < pieces.length - 1)
    next += body.length
  }
  return Uint8Array.from(pieces.flatMap(({ body }) => [...body]))
}

/** The transport checksum over the whole datagram with its pseudo-header is right. */
function checksumFits({ src, dst, protocol }: Decoded, body: Uint8Array): boolean {
  const addresses = [src, dst].flatMap((address) => address.split('.').map(Number))
  const pseudo = Uint8Array.of(...addresses, 0, protocol, body.length >>> 8, body.length & 0xff)
  return sumOf(body, protocol === 1 ? 0 : sumOf(pseudo)) === 0xffff
}

describe("don't fragment", () => {
  const tooBig = datagram(MTU, { ip: { dontFragment: true } })

  it('too big: Fragmentation Needed with the MTU of the next link', () => {
    expect(gateway.fate(LAN, tooBig)).toBe('too-big')
    const [error] = gateway.toLan()
    expect(printed([error!])).toEqual([
      'IP 10.0.0.1 > 10.0.0.5: ICMP 192.0.2.7 unreachable - need to frag (mtu 576), length 556',
    ])
    expect(decode(error!).embedded).toEqual(frame(tooBig).subarray(14, 14 + 548))
    expect(gateway.counter('icmpErrorsSent', 1)).toBe(1)
  })

  it('as big as the link: sent', () => {
    const [sent] = gateway.inside(datagram(MTU - 28, { ip: { dontFragment: true } }))
    expect(decode(sent!)).toMatchObject({ length: MTU, dontFragment: true })
    expect(gateway.fate(LAN, datagram(MTU - 27, { ip: { dontFragment: true } }))).toBe('too-big')
  })

  it('from outside: the sender is told about the small link inside', async () => {
    const small = await Gateway.start({ lanMtu: 1280 })
    const external = fromOf(small.inside(datagram(1))[0]!)
    const answer = udp(`${SERVER}:53`, external, { ip: { dontFragment: true }, payload: data(1400) })
    expect(small.fate(WAN, answer)).toBe('too-big')
    expect(printed(small.toWan())).toEqual([
      `IP 203.0.113.1 > 192.0.2.7: ICMP 203.0.113.1 unreachable - need to frag (mtu 1280), length 556`,
    ])
  })
})

describe('fragmenting', () => {
  const packets = [
    ['a UDP datagram', datagram(1400)],
    ['a UDP datagram one byte too long', datagram(MTU - 27)],
    ['a UDP datagram of an odd length', datagram(1001)],
    ['a UDP datagram without a checksum', datagram(1400, { checksum: 'none' })],
    ['a TCP segment', tcpSegment(`${HOST}:5000`, `${SERVER}:80`, 'S', { payload: data(1400) })],
    ['a ping', echo(HOST, SERVER, 9, { payload: data(1400) })],
  ] as const
  for (const [what, spec] of packets)
    it(`${what} arrives as it was`, () => {
      const whole = decode(frame(spec))
      const pieces = gateway.inside({ ...spec, ip: { ...spec.ip, id: 4711, tos: 0x10 } })
      const parts = pieces.map(decode)
      const body = reassembled(parts)
      expect(parts.length).toBe(Math.ceil((whole.length - 20) / 552))
      for (const part of parts)
        expect(part).toMatchObject({ id: parts[0]!.id, ttl: 63, dst: SERVER, options: new Uint8Array() })
      for (const piece of pieces) expect(piece[15]).toBe(0x10)
      for (const part of parts) expect(part.length).toBeLessThanOrEqual(MTU)
      // Only ports or identifier, and the checksum, differ.
      expect(body.subarray(whole.protocol === 6 ? 18 : 8)).toEqual(whole.body.subarray(whole.protocol === 6 ? 18 : 8))
      expect(spec.udp?.checksum === 'none' || checksumFits(parts[0]!, body)).toBe(true)
      expect(gateway.counter('fragmented')).toBe(1)
      expect(gateway.drops()).toEqual({})
    })

  it('copies options to later fragments if they say so (RFC 791 3.1)', () => {
    // A record route option (kind 7), which isn't copied, and a stream identifier (0x88), which is.
    const options = Uint8Array.of(7, 3, 4, 0x88, 4, 1, 2, 0)
    const parts = gateway.inside(datagram(1400, { ip: { options } })).map(decode)
    expect([...parts[0]!.options]).toEqual([...options])
    for (const part of parts.slice(1)) expect([...part.options]).toEqual([0x88, 4, 1, 2])
    expect(checksumFits(parts[0]!, reassembled(parts))).toBe(true)
  })

  it('cuts fragments further, and they fit together with the others', () => {
    const whole = frame({ eth: { src: MAC.host, dst: MAC.lan }, ...datagram(2800, { ip: { id: 7 } }) })
    const parts = fragments(whole, 1400).flatMap((piece) => gateway.inside(piece).map(decode))
    expect(parts.map(({ offset }) => offset)).toEqual([0, 552, 1104, 1400, 1952, 2504, 2800])
    expect(checksumFits(parts[0]!, reassembled(parts))).toBe(true)
  })

  it('completes a partial checksum first', () => {
    const parts = gateway.inside(datagram(1400, { partialChecksum: true })).map(decode)
    expect(checksumFits(parts[0]!, reassembled(parts))).toBe(true)
  })

  it('works from outside, too', async () => {
    const small = await Gateway.start({ lanMtu: 1280 })
    const external = fromOf(small.inside(datagram(1))[0]!)
    const pieces = small.outside(udp(`${SERVER}:53`, external, { payload: data(1400) }))
    expect(toOf(pieces[0]!)).toBe(`${HOST}:5000`)
    expect(checksumFits(decode(pieces[0]!), reassembled(pieces.map(decode)))).toBe(true)
  })
})
