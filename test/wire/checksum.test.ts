import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { frame } from '../../src/testing/builder.ts'
import { parseAddress, swap16 } from '../../src/wire/address.ts'
import {
  addDeltas,
  applyDelta,
  applyDeltaToPartial,
  complement,
  delta16,
  delta32,
  pseudoHeader,
  sum,
  transportChecksumOk,
  writeTransportChecksum,
} from '../../src/wire/checksum.ts'
import { fold } from '../../src/wire/ones-complement.ts'
import { anySpec, i32, u16 } from './arbitraries.ts'
import { viewOf } from './memory.ts'

/** RFC 1071 as it is written: 16-bit words in network order, carries added one by one. */
function naiveSum(bytes: Uint8Array, start = 0): number {
  let total = start
  for (let i = 0; i < bytes.length; i += 2) {
    total += bytes[i]! * 256 + (bytes[i + 1] ?? 0)
    if (total > 0xffff) total -= 0xffff
  }
  return total
}

describe('the sum of bytes', () => {
  it('is that of the example in RFC 1071 section 3', () => {
    const bytes = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7)
    expect(swap16(sum(new DataView(bytes.buffer), 0, 8))).toBe(0xddf2)
  })

  it('is the naive one, at every alignment, with odd lengths and a start', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(7), u16(), (bytes, before, start) => {
        const shifted = new Uint8Array(before + bytes.length)
        shifted.set(bytes, before)
        const mem = new DataView(shifted.buffer)
        expect(sum(mem, before, bytes.length, swap16(start))).toBe(swap16(naiveSum(bytes, start)))
      }),
      { numRuns: 1000 },
    )
  })

  it('loses no carry in the largest that is promised, 128 KiB of ones', () => {
    const bytes = new Uint8Array(131072).fill(0xff)
    expect(sum(new DataView(bytes.buffer), 0, bytes.length, 0xffff)).toBe(0xffff)
    bytes[131071] = 0xfe
    expect(swap16(sum(new DataView(bytes.buffer), 0, bytes.length))).toBe(0xfffe)
  })

  it('is +0 for zeros only, and -0 (0xffff) for every other sum of zero', () => {
    expect(sum(new DataView(new ArrayBuffer(40)), 0, 40)).toBe(0)
    expect(sum(new DataView(Uint8Array.of(0x12, 0x34, 0xed, 0xcb).buffer), 0, 4)).toBe(0xffff)
  })

  it('continues from a sum as if the bytes followed', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 2, maxLength: 80 }), fc.nat(), (bytes, cut) => {
        const mem = new DataView(bytes.slice().buffer)
        const first = (cut % bytes.length) & ~1
        expect(sum(mem, first, bytes.length - first, sum(mem, 0, first))).toBe(sum(mem, 0, bytes.length))
      }),
    )
  })
})

describe('folding', () => {
  const table = [
    [0, 0],
    [0xffff, 0xffff],
    [0x10000, 1],
    [0x1fffe, 0xffff],
    [0xffff0000, 0xffff],
    [0xffffffff, 0xffff],
    [0x7fffffff, 0x7fff],
  ] as const
  for (const [given, folded] of table)
    it(`0x${given.toString(16)} gives 0x${folded.toString(16)}`, () => expect(fold(given)).toBe(folded))
})

describe('the incremental update', () => {
  it('is that of the example in RFC 1624 section 4, where RFC 1141 is wrong', () => {
    // HC = 0xdd2f, m = 0x5555, m' = 0x3285 gives 0x0000, not 0xffff; in either byte order.
    expect(applyDelta(0xdd2f, delta16(0x5555, 0x3285))).toBe(0)
    expect(applyDelta(swap16(0xdd2f), delta16(swap16(0x5555), swap16(0x3285)))).toBe(0)
  })

  it('leaves a sum as it is if nothing changes', () => {
    fc.assert(
      fc.property(u16(), i32(), (given, word) => {
        fc.pre(given !== 0xffff)
        expect(applyDelta(given, delta32(word, word))).toBe(given)
        expect(applyDeltaToPartial(complement(given), delta32(word, word))).toBe(complement(given))
      }),
    )
  })

  it('equals the sum in full, whatever words change and however their deltas are joined', () => {
    const change = fc.tuple(fc.nat(8), i32())
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 40, maxLength: 60 }),
        fc.array(change, { maxLength: 5 }),
        (bytes, changes) => {
          bytes[0] = 0x45 // never all zero, as no header with a checksum is but ICMP's
          const mem = new DataView(bytes.buffer)
          const before = complement(sum(mem, 0, bytes.length))
          let delta = 0
          for (const [word, value] of changes) {
            const at = 4 + word * 4
            delta = addDeltas(delta, delta32(mem.getInt32(at, true), value))
            mem.setInt32(at, value, true)
          }
          expect(applyDelta(before, delta)).toBe(complement(sum(mem, 0, bytes.length)))
          expect(applyDeltaToPartial(complement(before), delta)).toBe(sum(mem, 0, bytes.length))
        },
      ),
      { numRuns: 1000 },
    )
  })

  it('of 32 bits is that of both halves', () => {
    fc.assert(
      fc.property(i32(), i32(), u16(), (from, to, given) => {
        const low = delta16(from & 0xffff, to & 0xffff)
        const high = delta16(from >>> 16, to >>> 16)
        expect(applyDelta(given, delta32(from, to))).toBe(applyDelta(given, addDeltas(low, high)))
      }),
    )
  })
})

describe('the pseudo-header', () => {
  it('sums up the addresses, the protocol and the length', () => {
    const bytes = Uint8Array.of(10, 0, 0, 5, 192, 0, 2, 1, 0, 17, 0x12, 0x34)
    expect(pseudoHeader(parseAddress('10.0.0.5'), parseAddress('192.0.2.1'), 17, 0x1234)).toBe(swap16(naiveSum(bytes)))
  })
})

describe('a transport checksum', () => {
  it('is right in every frame that the builder makes, by the naive sum too', () => {
    fc.assert(
      fc.property(anySpec(), (spec) => {
        const made = frame(spec)
        const { mem, ipAt } = viewOf(made)
        expect(transportChecksumOk(mem, ipAt)).toBe(true)
        expect(naiveTransportSum(made.subarray(14))).toBe(0xffff)
      }),
    )
  })

  it('is found wrong if any bit that it covers is turned', () => {
    fc.assert(
      fc.property(anySpec(), fc.nat(), fc.nat(7), (spec, place, bit) => {
        const made = frame(spec)
        const { mem, ipAt } = viewOf(made)
        const headerLen = (mem.getUint8(ipAt) & 0xf) * 4
        const at = 14 + headerLen + (place % (made.length - 14 - headerLen))
        const ofUdp = mem.getUint8(ipAt + 9) === 17
        // A UDP length that reaches elsewhere does not fit; a checksum turned to zero says that there is none.
        fc.pre(!ofUdp || at - 14 - headerLen < 4 || at - 14 - headerLen > 7)
        made[at]! ^= 1 << bit
        expect(transportChecksumOk(mem, ipAt)).toBe(false)
      }),
    )
  })

  it('of UDP: zero on the wire means none, and is right', () => {
    const { mem, ipAt } = viewOf(
      frame({ ip: { src: '10.0.0.5', dst: '192.0.2.1' }, udp: { sport: 1, dport: 2, checksum: 'none' }, payload: 'x' }),
    )
    expect(mem.getUint16(ipAt + 26)).toBe(0)
    expect(transportChecksumOk(mem, ipAt)).toBe(true)
  })

  it('of UDP: a computed zero is sent as ones', () => {
    const spec = { ip: { src: '10.0.0.5', dst: '192.0.2.1' }, udp: { sport: 1, dport: 2 } }
    const { mem, ipAt } = viewOf(frame({ ...spec, payload: Uint8Array.of(0, 0) }))
    // Data that is the checksum over everything else brings the sum to -0.
    const payload = Uint8Array.of(mem.getUint8(ipAt + 26), mem.getUint8(ipAt + 27))
    const made = viewOf(frame({ ...spec, payload }))
    expect(made.mem.getUint16(made.ipAt + 26)).toBe(0xffff)
    expect(transportChecksumOk(made.mem, made.ipAt)).toBe(true)
  })

  it('of another protocol is not looked for', () => {
    const { mem, ipAt, end } = viewOf(
      frame({ ip: { src: '10.0.0.5', dst: '192.0.2.1' }, protocol: { number: 47 }, payload: 'anything' }),
    )
    const before = new Uint8Array(mem.buffer).slice()
    expect(transportChecksumOk(mem, ipAt)).toBe(true)
    writeTransportChecksum(mem, ipAt)
    expect(new Uint8Array(mem.buffer, 0, end)).toEqual(before)
  })
})

/** RFC 1071 over a whole IPv4 packet: 0xffff if its transport checksum is right. */
function naiveTransportSum(packet: Uint8Array): number {
  const headerLen = (packet[0]! & 0xf) * 4
  const transport = packet.subarray(headerLen)
  const protocol = packet[9]!
  const length = transport.length
  const pseudo = Uint8Array.of(...packet.subarray(12, 20), 0, protocol, length >> 8, length & 0xff)
  return naiveSum(transport, protocol === 1 ? 0 : naiveSum(pseudo))
}
