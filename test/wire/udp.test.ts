import { describe, expect, it } from 'vitest'
import * as udp from '../../src/wire/udp.ts'
import { atEnd } from './memory.ts'

const DATAGRAM = Uint8Array.of(0x13, 0x88, 0x00, 0x35, 0x00, 0x0a, 0x12, 0x34, 1, 2)

describe('a UDP header', () => {
  it('is read field by field', () => {
    const { mem } = atEnd(DATAGRAM)
    expect(udp.ports(mem, 0)).toBe(0x35008813)
    expect(udp.srcPort(mem, 0)).toBe(5000)
    expect(udp.dstPort(mem, 0)).toBe(53)
    expect(udp.length(mem, 0)).toBe(10)
    expect(udp.checksum(mem, 0)).toBe(0x3412)
  })

  it('is written to the same bytes, with the checksum left open', () => {
    const { mem } = atEnd(Uint8Array.of(...new Array(8).fill(0xee), 1, 2))
    udp.emit(mem, 0, 5000, 53, 2)
    expect(udp.checksum(mem, 0)).toBe(0)
    udp.setChecksum(mem, 0, 0x3412)
    expect(new Uint8Array(mem.buffer)).toEqual(DATAGRAM)
  })

  const table = [
    // length field, bytes there, fits
    [10, 10, true],
    [8, 8, true],
    [8, 10, true],
    [7, 10, false],
    [0, 10, false],
    [11, 10, false],
    [8, 7, false],
  ] as const
  for (const [length, there, expected] of table)
    it(`with a length of ${length} ${expected ? 'fits' : 'does not fit'} where ${there} bytes are there`, () => {
      const { mem, end } = atEnd(new Uint8Array(there))
      udp.setLength(mem, 0, length)
      expect(udp.fits(mem, 0, end)).toBe(expected)
    })
})
