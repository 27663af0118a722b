import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { frame } from '../../src/testing/builder.ts'
import { transportChecksumOk } from '../../src/wire/checksum.ts'
import * as virtioNet from '../../src/wire/virtio-net.ts'
import { tcpSpec, udpSpec } from './arbitraries.ts'
import { viewOf } from './memory.ts'

const ip = { src: '10.0.0.5', dst: '192.0.2.1' }
const header = (made: Uint8Array): number[] => [...new Uint8Array(made.buffer, 0, virtioNet.HEADER_LEN)]

describe('a virtio-net header', () => {
  it('lies before the Ethernet header, in the fields and byte order of virtio 1.2', () => {
    const { mem, at } = viewOf(frame({ ip, tcp: { sport: 1, dport: 2 } }))
    virtioNet.setFlags(mem, at, virtioNet.NEEDS_CHECKSUM)
    virtioNet.setGsoType(mem, at, virtioNet.GSO_TCPV4 | virtioNet.GSO_ECN)
    virtioNet.setHeaderLength(mem, at, 0x0102)
    virtioNet.setGsoSize(mem, at, 0x0304)
    virtioNet.setChecksumStart(mem, at, 0x0506)
    virtioNet.setChecksumOffset(mem, at, 0x0708)
    expect([...new Uint8Array(mem.buffer, 0, 10)]).toEqual([1, 0x81, 2, 1, 4, 3, 6, 5, 8, 7])
    expect([
      virtioNet.flags(mem, at),
      virtioNet.gsoType(mem, at),
      virtioNet.headerLength(mem, at),
      virtioNet.gsoSize(mem, at),
      virtioNet.checksumStart(mem, at),
      virtioNet.checksumOffset(mem, at),
    ]).toEqual([1, 0x81, 0x0102, 0x0304, 0x0506, 0x0708])
  })

  const types = [
    [virtioNet.GSO_NONE, 0],
    [virtioNet.GSO_TCPV4, 1],
    [virtioNet.GSO_UDP, 3],
    [virtioNet.GSO_TCPV6, 4],
    [virtioNet.GSO_UDP_L4, 5],
    [virtioNet.GSO_ECN, 0x80],
  ]
  it('numbers the kinds of super-packet as virtio 1.2 does', () => {
    for (const [type, number] of types) expect(type).toBe(number)
  })

  it('cleared asks for nothing, and the frame behind it is untouched', () => {
    const { mem, at } = viewOf(frame({ ip, tcp: { sport: 1, dport: 2 } }))
    const before = new Uint8Array(mem.buffer).slice(10)
    new Uint8Array(mem.buffer, 0, 10).fill(0xff)
    virtioNet.clear(mem, at)
    expect([...new Uint8Array(mem.buffer, 0, 10)]).toEqual(new Array(10).fill(0))
    expect(new Uint8Array(mem.buffer, 10)).toEqual(before)
  })
})

describe('completing a partial checksum', () => {
  it('gives the frame that has it in full, and a cleared header', () => {
    fc.assert(
      fc.property(fc.oneof(tcpSpec(), udpSpec()), (spec) => {
        const made = frame({ ...spec, partialChecksum: true })
        const { mem, at, ipAt } = viewOf(made)
        expect(virtioNet.completeChecksum(mem, at, made.length)).toBe(true)
        expect(transportChecksumOk(mem, ipAt)).toBe(true)
        const field = 14 + (made[14]! & 0xf) * 4 + (spec.tcp ? 16 : 6)
        const full = frame(spec)
        if (full[field] === 0 && full[field + 1] === 0) full.fill(0xff, field, field + 2)
        expect(made).toEqual(full)
        expect(header(made)).toEqual(new Array(10).fill(0))
      }),
    )
  })

  it('writes a computed zero as ones', () => {
    const spec = { ip, udp: { sport: 1, dport: 2 }, payload: Uint8Array.of(0, 0) }
    const full = viewOf(frame(spec))
    spec.payload = Uint8Array.of(full.mem.getUint8(full.ipAt + 26), full.mem.getUint8(full.ipAt + 27))
    const made = frame({ ...spec, partialChecksum: true })
    const { mem, at, ipAt } = viewOf(made)
    expect(virtioNet.completeChecksum(mem, at, made.length)).toBe(true)
    expect(mem.getUint16(ipAt + 26)).toBe(0xffff)
  })

  it('has nothing to do where none is owed', () => {
    const made = frame({ ip, udp: { sport: 1, dport: 2 } })
    const { mem, at } = viewOf(made)
    virtioNet.setFlags(mem, at, virtioNet.DATA_VALID)
    const before = new Uint8Array(made.buffer).slice()
    expect(virtioNet.completeChecksum(mem, at, made.length)).toBe(true)
    expect(new Uint8Array(made.buffer)).toEqual(before)
  })

  const refused = [
    ['a start beyond the frame', (mem: DataView, at: number) => virtioNet.setChecksumStart(mem, at, 60000)],
    ['a field beyond the frame', (mem: DataView, at: number) => virtioNet.setChecksumOffset(mem, at, 60000)],
    ['a field half beyond it', (mem: DataView, at: number) => virtioNet.setChecksumOffset(mem, at, 7)],
    ['a super-packet', (mem: DataView, at: number) => virtioNet.setGsoType(mem, at, virtioNet.GSO_UDP_L4)],
  ] as const
  for (const [what, damage] of refused)
    it(`refuses ${what} and leaves the frame as it is`, () => {
      const made = frame({ ip, udp: { sport: 1, dport: 2 }, partialChecksum: true })
      const { mem, at } = viewOf(made)
      damage(mem, at)
      const before = new Uint8Array(made.buffer).slice()
      expect(virtioNet.completeChecksum(mem, at, made.length)).toBe(false)
      expect(new Uint8Array(made.buffer)).toEqual(before)
    })
})
