// What the property tests of wire/ are fed with: descriptions of valid frames, and bytes of every kind of damage.

import fc from 'fast-check'
import { type FrameSpec, frame } from '../../src/testing/builder.ts'
import { formatAddress } from '../../src/wire/address.ts'

export const u16 = (): fc.Arbitrary<number> => fc.integer({ min: 0, max: 0xffff })
export const i32 = (): fc.Arbitrary<number> => fc.integer({ min: -0x80000000, max: 0x7fffffff })
export const address = (): fc.Arbitrary<string> => i32().map(formatAddress)

const bytes = (maxLength: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ maxLength })

// Well-formed option lists for both protocols: kinds above 1 with a length.
const options = (): fc.Arbitrary<Uint8Array> =>
  fc
    .array(fc.oneof(fc.constant([1]), fc.tuple(fc.integer({ min: 2, max: 255 }), bytes(10)).map(option)), {
      maxLength: 4,
    })
    .map((list) => Uint8Array.from(list.flat()))
    .filter((list) => list.length <= 40)

const option = ([kind, data]: [number, Uint8Array]): number[] => [kind, data.length + 2, ...data]

const ip = (): fc.Arbitrary<FrameSpec['ip']> =>
  fc.record({
    src: address(),
    dst: address(),
    ttl: fc.integer({ min: 1, max: 255 }),
    tos: fc.integer({ min: 0, max: 255 }),
    id: u16(),
    dontFragment: fc.boolean(),
    options: options(),
  })

const tcp = (): fc.Arbitrary<NonNullable<FrameSpec['tcp']>> =>
  fc.record({
    sport: u16(),
    dport: u16(),
    seq: i32(),
    ack: i32(),
    flags: fc.constantFrom('S', 'SA', 'A', 'PA', 'FA', 'R', 'RA'),
    window: u16(),
    options: options(),
  })

const udp = (): fc.Arbitrary<NonNullable<FrameSpec['udp']>> => fc.record({ sport: u16(), dport: u16() })

const payload = (): fc.Arbitrary<Uint8Array> => bytes(64)

export const tcpSpec = (): fc.Arbitrary<FrameSpec> => fc.record({ ip: ip(), tcp: tcp(), payload: payload() })
export const udpSpec = (): fc.Arbitrary<FrameSpec> => fc.record({ ip: ip(), udp: udp(), payload: payload() })
export const echoSpec = (): fc.Arbitrary<FrameSpec> =>
  fc.record({
    ip: ip(),
    icmp: fc.record({ type: fc.constantFrom(0, 8, 13, 14), id: u16(), seq: u16() }),
    payload: payload(),
  })
/** As much of a packet as routers embed in an error: at least its header and eight bytes, or less from a bad one. */
const embedded = (): fc.Arbitrary<Uint8Array> =>
  fc
    .tuple(fc.oneof(tcpSpec(), udpSpec()), fc.integer({ min: 20, max: 80 }))
    .map(([spec, length]) => frame(spec).subarray(14, 14 + length))
const errorSpec = (): fc.Arbitrary<FrameSpec> =>
  fc.record({
    ip: ip(),
    icmp: fc.record({
      type: fc.constantFrom(3, 4, 5, 11, 12),
      code: fc.oneof(fc.integer({ min: 0, max: 4 }), fc.integer({ min: 0, max: 15 })),
      embedded: fc.oneof(bytes(40), embedded()),
    }),
  })

export const anySpec = (): fc.Arbitrary<FrameSpec> => fc.oneof(tcpSpec(), udpSpec(), echoSpec(), errorSpec())

/**
 * Bytes that never were a frame, and valid frames with some bytes overwritten and the end cut off: in half of them the
 * IPv4 total length is cut too, so that it is the header after it that finds itself short.
 */
export const damagedFrame = (): fc.Arbitrary<Uint8Array> =>
  fc.oneof(
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 100 }) },
    { weight: 6, arbitrary: fc.tuple(anySpec(), overwrites(), fc.option(fc.nat()), fc.boolean()).map(damaged) },
  )

type Overwrite = [at: number, value: number]
const overwrites = (): fc.Arbitrary<Overwrite[]> =>
  fc.array(fc.tuple(fc.nat(120), fc.integer({ min: 0, max: 255 })), { maxLength: 6 })

function damaged([spec, overwrites, cut, told]: [FrameSpec, Overwrite[], number | null, boolean]): Uint8Array {
  const whole = frame(spec)
  const bytes = whole.slice(0, cut === null ? whole.length : cut % (whole.length + 1))
  if (told && bytes.length >= 34) new DataView(bytes.buffer).setUint16(16, bytes.length - 14)
  for (const [at, value] of overwrites) if (at < bytes.length) bytes[at] = value
  return bytes
}
