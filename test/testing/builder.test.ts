import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { build, type FrameSpec, fragments, frame } from '../../src/testing/builder.ts'
import { formatAddress, formatMac, swap16 } from '../../src/wire/address.ts'
import { transportChecksumOk } from '../../src/wire/checksum.ts'
import * as icmp from '../../src/wire/icmp.ts'
import * as ipv4 from '../../src/wire/ipv4.ts'
import * as tcp from '../../src/wire/tcp.ts'
import * as udp from '../../src/wire/udp.ts'
import * as virtioNet from '../../src/wire/virtio-net.ts'
import { anySpec, tcpSpec } from '../wire/arbitraries.ts'
import { viewOf } from '../wire/memory.ts'

const ip = { src: '10.0.0.5', dst: '192.0.2.1' }

describe('a built frame', () => {
  it('parses to what was described', () => {
    fc.assert(
      fc.property(anySpec(), (spec) => {
        const { mem, ipAt, end } = viewOf(frame(spec))
        expect(ipv4.fits(mem, ipAt, end)).toBe(true)
        expect(ipv4.headerOk(mem, ipAt)).toBe(true)
        expect(formatAddress(ipv4.src(mem, ipAt))).toBe(spec.ip.src)
        expect(formatAddress(ipv4.dst(mem, ipAt))).toBe(spec.ip.dst)
        expect(ipv4.ttl(mem, ipAt)).toBe(spec.ip.ttl)
        expect(ipv4.tos(mem, ipAt)).toBe(spec.ip.tos)
        expect(ipv4.id(mem, ipAt)).toBe(spec.ip.id)
        expect(ipv4.fragmentWord(mem, ipAt)).toBe(spec.ip.dontFragment ? ipv4.DONT_FRAGMENT : 0)
        const at = ipAt + ipv4.headerLen(mem, ipAt)
        const length = ipv4.totalLength(mem, ipAt) - ipv4.headerLen(mem, ipAt)
        if (spec.tcp) {
          expect(tcp.fits(mem, at, end)).toBe(true)
          expect([tcp.srcPort(mem, at), tcp.dstPort(mem, at)]).toEqual([spec.tcp.sport, spec.tcp.dport])
          expect([tcp.seq(mem, at), tcp.ack(mem, at)]).toEqual([spec.tcp.seq, spec.tcp.ack])
          expect(length - tcp.headerLen(mem, at)).toBe(spec.payload!.length)
        } else if (spec.udp) {
          expect(udp.fits(mem, at, end)).toBe(true)
          expect([udp.srcPort(mem, at), udp.dstPort(mem, at)]).toEqual([spec.udp.sport, spec.udp.dport])
          expect(udp.length(mem, at)).toBe(udp.HEADER_LEN + spec.payload!.length)
        } else {
          expect(icmp.fits(mem, at, end)).toBe(true)
          expect([icmp.type(mem, at), icmp.code(mem, at)]).toEqual([spec.icmp!.type, spec.icmp!.code ?? 0])
          expect(swap16(icmp.id(mem, at))).toBe(spec.icmp!.id ?? 0)
        }
      }),
    )
  })

  it('is written into given memory within its length and the virtio-net header', () => {
    fc.assert(
      fc.property(anySpec(), fc.nat(7), (spec, shift) => {
        const memory = new Uint8Array(2000).fill(0xee)
        const at = 100 + shift
        const length = build(new DataView(memory.buffer), at, spec)
        expect(memory.subarray(at, at + length)).toEqual(frame(spec))
        expect([...memory.subarray(at - 10, at)]).toEqual(new Array(10).fill(0))
        expect(memory.subarray(0, at - 10).every((byte) => byte === 0xee)).toBe(true)
        expect(memory.subarray(at + length).every((byte) => byte === 0xee)).toBe(true)
      }),
    )
  })

  it('has the MAC addresses that were asked for', () => {
    const eth = { src: '02:00:00:00:00:0a', dst: '02:00:00:00:00:0b' }
    const { mem, at } = viewOf(frame({ eth, ip, udp: { sport: 1, dport: 2 } }))
    expect(formatMac(mem, at)).toBe(eth.dst)
    expect(formatMac(mem, at + 6)).toBe(eth.src)
  })

  it('has the flags that tcpdump would name', () => {
    const { mem, ipAt } = viewOf(frame({ ip, tcp: { sport: 1, dport: 2, flags: 'FSRP.UEW' } }))
    expect(tcp.flags(mem, ipAt + 20)).toBe(0xff)
  })

  it('of a bare protocol or a later fragment has the payload as it was given', () => {
    const { mem, ipAt, end } = viewOf(
      frame({
        ip: { ...ip, fragmentOffset: 1480, moreFragments: true, id: 7 },
        protocol: { number: 17 },
        payload: 'abcdefgh',
      }),
    )
    expect(ipv4.fragmentWord(mem, ipAt)).toBe(ipv4.MORE_FRAGMENTS | 185)
    expect(Buffer.from(mem.buffer, ipAt + 20, end - ipAt - 20).toString()).toBe('abcdefgh')
  })

  it('of segments tells the link how to cut it', () => {
    const { mem, at } = viewOf(
      frame({ ip, tcp: { sport: 1, dport: 2 }, payload: 'x'.repeat(3000), gso: { size: 1448 } }),
    )
    expect({
      flags: virtioNet.flags(mem, at),
      gsoType: virtioNet.gsoType(mem, at),
      gsoSize: virtioNet.gsoSize(mem, at),
      headerLength: virtioNet.headerLength(mem, at),
      checksumStart: virtioNet.checksumStart(mem, at),
      checksumOffset: virtioNet.checksumOffset(mem, at),
    }).toEqual({
      flags: virtioNet.NEEDS_CHECKSUM,
      gsoType: virtioNet.GSO_TCPV4,
      gsoSize: 1448,
      headerLength: 54,
      checksumStart: 34,
      checksumOffset: 16,
    })
  })

  const refused = [
    ['nothing carried', { ip }, 'one of tcp, udp, icmp, protocol'],
    ['41 bytes of options', { ip: { ...ip, options: new Uint8Array(41) }, udp: { sport: 1, dport: 2 } }, '41 bytes of'],
    ['too much payload', { ip, udp: { sport: 1, dport: 2 }, payload: new Uint8Array(65508) }, '65536 bytes'],
    ['an unknown flag', { ip, tcp: { sport: 1, dport: 2, flags: 'SX' } }, '"X" is no TCP flag'],
    ['a partial checksum of ICMP', { ip, icmp: { type: 8 }, partialChecksum: true }, 'only TCP and UDP'],
    ['an address that is none', { ip: { ...ip, src: 'here' }, icmp: { type: 8 } }, '"here" is no IPv4 address'],
  ] as const satisfies readonly (readonly [string, FrameSpec, string])[]
  for (const [what, spec, message] of refused)
    it(`is refused with ${what}`, () => {
      expect(() => frame(spec)).toThrow(RangeError)
      expect(() => frame(spec)).toThrow(message)
    })
})

describe('fragments', () => {
  it('put together are the whole', () => {
    fc.assert(
      fc.property(tcpSpec(), fc.integer({ min: 1, max: 6 }), (spec, units) => {
        const whole = frame({ ...spec, ip: { ...spec.ip, options: new Uint8Array(0), dontFragment: false } })
        const pieces = fragments(whole, units * 8)
        const put = new Uint8Array(whole.length - 34)
        pieces.forEach((piece, i) => {
          const { mem, ipAt, end } = viewOf(piece)
          expect(ipv4.fits(mem, ipAt, end)).toBe(true)
          expect(ipv4.headerOk(mem, ipAt)).toBe(true)
          expect(ipv4.id(mem, ipAt)).toBe(spec.ip.id)
          const word = ipv4.fragmentWord(mem, ipAt)
          expect((word & ipv4.MORE_FRAGMENTS) !== 0).toBe(i < pieces.length - 1)
          put.set(piece.subarray(34), (word & ipv4.OFFSET_MASK) * 8)
        })
        expect(put).toEqual(whole.subarray(34))
      }),
    )
  })

  it('have all options in the first, in later ones those with the copied bit', () => {
    const options = Uint8Array.of(7, 4, 4, 0, 0x94, 4, 0, 0)
    const [first, later] = fragments(
      frame({ ip: { ...ip, options }, udp: { sport: 1, dport: 2 }, payload: 'x'.repeat(16) }),
      16,
    ).map(viewOf)
    expect(ipv4.headerLen(first!.mem, first!.ipAt)).toBe(28)
    expect(ipv4.headerLen(later!.mem, later!.ipAt)).toBe(24)
    expect(later!.mem.getInt32(later!.ipAt + 20)).toBe(0x94040000 | 0)
  })

  it('of one piece are the whole itself', () => {
    const whole = frame({ ip, udp: { sport: 1, dport: 2 }, payload: 'small' })
    expect(fragments(whole, 1480)).toEqual([whole])
    expect(transportChecksumOk(viewOf(whole).mem, viewOf(whole).ipAt)).toBe(true)
  })

  for (const size of [0, -8, 7, 12])
    it(`of ${size} bytes are refused`, () => {
      expect(() => fragments(frame({ ip, icmp: { type: 8 } }), size)).toThrow(RangeError)
    })
})
