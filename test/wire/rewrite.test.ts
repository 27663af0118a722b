// The translator's arithmetic, packets in and packets out: a frame rewritten in place with incremental checksums is,
// byte for byte, the frame that the builder makes of the rewritten description with checksums computed in full.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type FrameSpec, frame } from '../../src/testing/builder.ts'
import { parseAddress, swap16 } from '../../src/wire/address.ts'
import {
  addDeltas,
  applyDelta,
  applyDeltaToPartial,
  delta16,
  delta32,
  transportChecksumOk,
} from '../../src/wire/checksum.ts'
import * as icmp from '../../src/wire/icmp.ts'
import * as ipv4 from '../../src/wire/ipv4.ts'
import * as tcp from '../../src/wire/tcp.ts'
import * as udp from '../../src/wire/udp.ts'
import { address, echoSpec, tcpSpec, u16, udpSpec } from './arbitraries.ts'
import { viewOf } from './memory.ts'

interface Rewrite {
  readonly src: string
  readonly dst: string
  readonly sport: number
  readonly dport: number
}

const rewrites = (): fc.Arbitrary<Rewrite> => fc.record({ src: address(), dst: address(), sport: u16(), dport: u16() })

/** Addresses and TTL with the header's checksum; returns the delta that the pseudo-header sees. */
function rewriteIp(mem: DataView, ipAt: number, to: Rewrite): number {
  const src = parseAddress(to.src)
  const dst = parseAddress(to.dst)
  const delta = addDeltas(delta32(ipv4.src(mem, ipAt), src), delta32(ipv4.dst(mem, ipAt), dst))
  ipv4.setSrc(mem, ipAt, src)
  ipv4.setDst(mem, ipAt, dst)
  ipv4.setChecksum(mem, ipAt, applyDelta(ipv4.checksum(mem, ipAt), delta))
  ipv4.decrementTtl(mem, ipAt)
  return delta
}

const wordOfPorts = (to: Rewrite): number => swap16(to.sport) | (swap16(to.dport) << 16)

/** TCP and UDP: ports too. */
function rewrite(made: Uint8Array, to: Rewrite): void {
  const { mem, ipAt } = viewOf(made)
  const at = ipAt + ipv4.headerLen(mem, ipAt)
  const delta = addDeltas(rewriteIp(mem, ipAt, to), delta32(udp.ports(mem, at), wordOfPorts(to)))
  if (ipv4.protocol(mem, ipAt) === ipv4.PROTO_TCP) {
    tcp.setPorts(mem, at, wordOfPorts(to))
    tcp.adjustChecksum(mem, at, delta)
  } else {
    udp.setPorts(mem, at, wordOfPorts(to))
    udp.adjustChecksum(mem, at, delta)
  }
}

function rewritten(spec: FrameSpec, to: Rewrite): FrameSpec {
  const { sport, dport } = to
  return {
    ...spec,
    ip: { ...spec.ip, src: to.src, dst: to.dst, ttl: spec.ip.ttl! - 1 },
    ...(spec.tcp && { tcp: { ...spec.tcp, sport, dport } }),
    ...(spec.udp && { udp: { ...spec.udp, sport, dport } }),
  }
}

/**
 * The same with data that makes its checksum zero, the rarest and most delicate value: what the checksum is over two
 * bytes of zeros is put in their place.
 */
function withChecksumZero(spec: FrameSpec): FrameSpec {
  const zeros = { ...spec, payload: Uint8Array.of(0, 0) }
  const { mem, ipAt } = viewOf(frame(zeros))
  const at = ipAt + ipv4.headerLen(mem, ipAt)
  const field = at + (spec.tcp ? 16 : spec.udp ? 6 : 2)
  return { ...spec, payload: Uint8Array.of(mem.getUint8(field), mem.getUint8(field + 1)) }
}

describe('TCP and UDP rewritten in place are what they would be built as', () => {
  const specs = fc.oneof(tcpSpec(), udpSpec())

  it('whatever the packet and the translation', () => {
    fc.assert(
      fc.property(specs, rewrites(), (spec, to) => {
        const made = frame(spec)
        rewrite(made, to)
        expect(made).toEqual(frame(rewritten(spec, to)))
      }),
      { numRuns: 1000 },
    )
  })

  it('from a checksum of zero', () => {
    fc.assert(
      fc.property(specs, rewrites(), (drawn, to) => {
        const spec = withChecksumZero(drawn)
        const made = frame(spec)
        rewrite(made, to)
        expect(made).toEqual(frame(rewritten(spec, to)))
      }),
    )
  })

  it('to a checksum of zero', () => {
    fc.assert(
      fc.property(specs, rewrites(), (drawn, to) => {
        const { payload } = withChecksumZero(rewritten(drawn, to))
        const spec = { ...drawn, payload: payload! }
        const made = frame(spec)
        rewrite(made, to)
        const { mem, ipAt } = viewOf(made)
        const at = ipAt + ipv4.headerLen(mem, ipAt)
        expect(spec.tcp ? tcp.checksum(mem, at) : udp.checksum(mem, at)).toBe(spec.tcp ? 0 : 0xffff)
        expect(made).toEqual(frame(rewritten(spec, to)))
      }),
    )
  })

  it('with a header checksum that becomes zero', () => {
    fc.assert(
      fc.property(specs, rewrites(), (drawn, to) => {
        const after = rewritten({ ...drawn, ip: { ...drawn.ip, id: 0 } }, to)
        const { mem, ipAt } = viewOf(frame(after))
        const spec = { ...drawn, ip: { ...drawn.ip, id: swap16(ipv4.checksum(mem, ipAt)) } }
        const made = frame(spec)
        rewrite(made, to)
        expect(ipv4.checksum(viewOf(made).mem, viewOf(made).ipAt)).toBe(0)
        expect(made).toEqual(frame(rewritten(spec, to)))
      }),
    )
  })

  it('with a checksum that is wrong, which stays wrong by as much', () => {
    fc.assert(
      fc.property(specs, rewrites(), fc.integer({ min: 1, max: 0xfffe }), (spec, to, wrong) => {
        const made = frame(spec)
        const { mem, ipAt } = viewOf(made)
        const field = ipAt + ipv4.headerLen(mem, ipAt) + (spec.tcp ? 16 : 6)
        const damaged = (mem.getUint16(field) + wrong) & 0xffff
        fc.pre(damaged !== 0 || spec.tcp !== undefined)
        mem.setUint16(field, damaged)
        fc.pre(!transportChecksumOk(mem, ipAt))
        rewrite(made, to)
        expect(transportChecksumOk(mem, ipAt)).toBe(false)
      }),
    )
  })
})

describe('UDP without a checksum', () => {
  it('has none after any rewrite', () => {
    fc.assert(
      fc.property(udpSpec(), rewrites(), (drawn, to) => {
        const spec: FrameSpec = { ...drawn, udp: { ...drawn.udp!, checksum: 'none' } }
        const made = frame(spec)
        rewrite(made, to)
        expect(made).toEqual(frame(rewritten(spec, to)))
      }),
    )
  })
})

describe('a partial checksum', () => {
  it('follows the addresses, and neither ports nor TTL', () => {
    fc.assert(
      fc.property(fc.oneof(tcpSpec(), udpSpec()), rewrites(), (drawn, to) => {
        const spec = { ...drawn, partialChecksum: true }
        const made = frame(spec)
        const { mem, ipAt } = viewOf(made)
        const at = ipAt + ipv4.headerLen(mem, ipAt)
        const delta = rewriteIp(mem, ipAt, to)
        udp.setPorts(mem, at, wordOfPorts(to))
        const transport = spec.tcp ? tcp : udp
        transport.setChecksum(mem, at, applyDeltaToPartial(transport.checksum(mem, at), delta))
        expect(new Uint8Array(mem.buffer)).toEqual(new Uint8Array(frame(rewritten(spec, to)).buffer))
      }),
    )
  })
})

describe('ICMP queries and replies', () => {
  const translateId = (made: Uint8Array, id: number): void => {
    const { mem, ipAt } = viewOf(made)
    const at = ipAt + ipv4.headerLen(mem, ipAt)
    icmp.adjustChecksum(mem, at, delta16(icmp.id(mem, at), swap16(id)))
    icmp.setId(mem, at, swap16(id))
  }

  it('with a new identifier verify, and differ from the full computation in no more than the kind of zero', () => {
    fc.assert(
      fc.property(echoSpec(), u16(), fc.boolean(), (drawn, id, steered) => {
        const target = { ...drawn, icmp: { ...drawn.icmp!, id } }
        const spec = { ...drawn, payload: steered ? withChecksumZero(target).payload! : drawn.payload! }
        const made = frame(spec)
        translateId(made, id)
        const full = frame({ ...spec, icmp: target.icmp })
        const { mem, ipAt } = viewOf(made)
        expect(transportChecksumOk(mem, ipAt)).toBe(true)
        const at = ipAt + ipv4.headerLen(mem, ipAt)
        if (icmp.checksum(mem, at) !== 0xffff) expect(made).toEqual(full)
      }),
      { numRuns: 1000 },
    )
  })

  it('that become all zeros carry ones', () => {
    const ip = { src: '192.0.2.1', dst: '10.0.0.5' }
    const made = frame({ ip, icmp: { type: 0, id: 20000, seq: 0 } })
    translateId(made, 0)
    expect(made).toEqual(frame({ ip, icmp: { type: 0, id: 0, seq: 0 } }))
    expect(icmp.checksum(viewOf(made).mem, viewOf(made).ipAt + 20)).toBe(0xffff)
  })
})

describe('a falling TTL', () => {
  it('leaves the header as it would be built, from 255 to 0', () => {
    for (const id of [0, 1, 0x1234, 0xfffe, 0xffff]) {
      const spec = (ttl: number): FrameSpec => ({
        ip: { src: '10.0.0.5', dst: '192.0.2.1', id, ttl },
        udp: { sport: 5000, dport: 53 },
      })
      const made = frame(spec(255))
      const { mem, ipAt } = viewOf(made)
      for (let ttl = 254; ttl >= 0; ttl--) {
        ipv4.decrementTtl(mem, ipAt)
        expect(made).toEqual(frame(spec(ttl)))
      }
    }
  })
})
