import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type FrameSpec, frame } from '../../src/testing/builder.ts'
import { transportChecksumOk } from '../../src/wire/checksum.ts'
import * as tcp from '../../src/wire/tcp.ts'
import { atEnd, viewOf } from './memory.ts'

const ip = { src: '10.0.0.5', dst: '192.0.2.1' }

/** A segment with these options: where its header begins. */
function segment(options: readonly number[], flags = 'S'): { mem: DataView; ipAt: number; at: number } {
  const { mem, ipAt } = viewOf(frame({ ip, tcp: { sport: 5000, dport: 80, flags, options: Uint8Array.from(options) } }))
  return { mem, ipAt, at: ipAt + 20 }
}

describe('a TCP header', () => {
  const bytes = Uint8Array.of(
    ...[0x13, 0x88, 0x00, 0x50], // ports 5000 and 80
    ...[0xff, 0xff, 0xff, 0xfe, 0x80, 0x00, 0x00, 0x01], // sequence and acknowledgement number
    ...[0x50, 0xd2, 0xfa, 0xf0, 0x12, 0x34, 0x00, 0x07], // data offset, flags, window, checksum, urgent pointer
  )

  it('is read field by field; sequence numbers are signed', () => {
    const { mem } = atEnd(bytes)
    expect({
      ports: tcp.ports(mem, 0),
      srcPort: tcp.srcPort(mem, 0),
      dstPort: tcp.dstPort(mem, 0),
      seq: tcp.seq(mem, 0),
      ack: tcp.ack(mem, 0),
      headerLen: tcp.headerLen(mem, 0),
      flags: tcp.flags(mem, 0),
      window: tcp.window(mem, 0),
      checksum: tcp.checksum(mem, 0),
      urgent: tcp.urgent(mem, 0),
    }).toEqual({
      ports: 0x50008813,
      srcPort: 5000,
      dstPort: 80,
      seq: -2,
      ack: -0x7fffffff,
      headerLen: 20,
      flags: tcp.SYN | tcp.ACK | tcp.ECE | tcp.CWR,
      window: 64240,
      checksum: 0x3412,
      urgent: 7,
    })
  })

  it('is written to the same bytes, with the checksum left open', () => {
    const { mem } = atEnd(new Uint8Array(20).fill(0xee))
    tcp.emit(mem, 0, 5000, 80, tcp.SYN | tcp.ACK | tcp.ECE | tcp.CWR)
    tcp.setSeq(mem, 0, 0xfffffffe)
    tcp.setAck(mem, 0, -0x7fffffff)
    tcp.setWindow(mem, 0, 64240)
    tcp.setChecksum(mem, 0, 0x3412)
    tcp.setUrgent(mem, 0, 7)
    expect(new Uint8Array(mem.buffer)).toEqual(bytes)
  })

  it('takes sequence numbers signed or unsigned', () => {
    const { mem } = atEnd(bytes)
    tcp.setSeq(mem, 0, 0xffffffff)
    tcp.setAck(mem, 0, -1)
    expect([tcp.seq(mem, 0), tcp.ack(mem, 0)]).toEqual([-1, -1])
  })

  const fits = [
    // data offset in words, bytes there, fits
    [5, 20, true],
    [5, 19, false],
    [4, 20, false],
    [0, 60, false],
    [15, 60, true],
    [15, 59, false],
  ] as const
  for (const [words, there, expected] of fits)
    it(`of ${words * 4} bytes ${expected ? 'fits' : 'does not fit'} where ${there} are there`, () => {
      const { mem, end } = atEnd(new Uint8Array(there))
      if (there > 12) mem.setUint8(12, words << 4)
      expect(tcp.fits(mem, 0, end)).toBe(expected)
    })
})

describe('TCP options', () => {
  const LINUX = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7]

  it('of a usual SYN are found by kind', () => {
    const { mem, at } = segment(LINUX)
    expect(tcp.optionsFault(mem, at)).toBe(false)
    expect(tcp.mss(mem, at)).toBe(1460)
    expect(tcp.windowScale(mem, at)).toBe(7)
    expect(tcp.findOption(mem, at, tcp.OPTION_SACK_PERMITTED)).toBe(at + 24)
    expect(tcp.findOption(mem, at, tcp.OPTION_TIMESTAMPS)).toBe(at + 26)
    expect(tcp.findOption(mem, at, tcp.OPTION_SACK)).toBe(0)
  })

  const values = [
    // what                              options                     mss   window scale
    ['none', [], 0, -1],
    ['a window scale of 0', [3, 3, 0, 0], 0, 0],
    ['a window scale of 15, which counts as 14', [3, 3, 15, 0], 0, 14],
    ['a maximum segment size of a wrong length', [2, 3, 5, 0], 0, -1],
    ['a window scale of a wrong length', [3, 4, 7, 0], 0, -1],
    ['behind the end of the list', [0, 2, 4, 5, 0xb4, 0, 0, 0], 0, -1],
    ['behind a malformed one', [8, 0, 2, 4, 5, 0xb4, 0, 0], 0, -1],
    ['the first of two', [2, 4, 0, 100, 2, 4, 0, 200], 100, -1],
  ] as const
  for (const [what, options, mss, windowScale] of values)
    it(`${what}: MSS ${mss}, window scale ${windowScale}`, () => {
      const { mem, at } = segment(options)
      expect(tcp.mss(mem, at)).toBe(mss)
      expect(tcp.windowScale(mem, at)).toBe(windowScale)
    })

  const faults = [
    ['none', [], false],
    ['padding', [1, 1, 1, 1], false],
    ['garbage behind the end of the list', [0, 8, 0, 0], false],
    ['an unknown kind with a good length', [200, 4, 0, 0], false],
    ['a length of 0', [2, 0, 0, 0], true],
    ['a length of 1', [2, 1, 0, 0], true],
    ['a length beyond the header', [1, 2, 4, 5], true],
    ['a kind without a length', [1, 1, 1, 2], true],
  ] as const
  for (const [what, options, fault] of faults)
    it(`${what}: ${fault ? 'at fault' : 'in order'}`, () => {
      const { mem, at } = segment(options)
      expect(tcp.optionsFault(mem, at)).toBe(fault)
    })

  it('of SACK give their blocks edge by edge', () => {
    const { mem, at } = segment([1, 1, 5, 18, 0, 0, 0, 1, 0, 0, 0, 9, 0xff, 0xff, 0xff, 0xf0, 0, 0, 0, 2], 'A')
    const sack = tcp.findOption(mem, at, tcp.OPTION_SACK)
    const blocks = Array.from({ length: tcp.sackBlocks(mem, sack) }, (_, i) => [
      tcp.sackLeft(mem, tcp.sackBlock(sack, i)),
      tcp.sackRight(mem, tcp.sackBlock(sack, i)),
    ])
    expect(blocks).toEqual([
      [1, 9],
      [-16, 2],
    ])
  })

  it('of SACK with a length that is no whole number of blocks give only whole ones', () => {
    const { mem, at } = segment([5, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], 'A')
    expect(tcp.sackBlocks(mem, tcp.findOption(mem, at, tcp.OPTION_SACK))).toBe(0)
  })
})

describe('clamping the maximum segment size', () => {
  const placed = (mss: number, shift: number): number[] => [
    ...new Array(shift).fill(1),
    ...[2, 4, mss >> 8, mss & 0xff],
  ]

  it('lowers it and keeps the checksum right, at even and odd places, with data or without', () => {
    const value = fc.integer({ min: 1, max: 0xffff })
    fc.assert(
      fc.property(value, value, fc.nat(3), fc.string(), (announced, maximum, shift, payload) => {
        const built = (mss: number): Uint8Array =>
          frame({
            ip,
            tcp: { sport: 5000, dport: 80, flags: 'S', options: Uint8Array.from(placed(mss, shift)) },
            payload,
          })
        const made = built(announced)
        const { mem, ipAt } = viewOf(made)
        expect(tcp.clampMss(mem, ipAt + 20, maximum)).toBe(maximum < announced)
        expect(made).toEqual(built(Math.min(announced, maximum)))
        expect(transportChecksumOk(mem, ipAt)).toBe(true)
      }),
    )
  })

  it('leaves a partial checksum as it is: it does not cover the options', () => {
    const spec = (mss: number): FrameSpec => ({
      ip,
      tcp: { sport: 5000, dport: 80, flags: 'SA', options: Uint8Array.from(placed(mss, 1)) },
      partialChecksum: true,
    })
    const made = frame(spec(1460))
    const { mem, ipAt } = viewOf(made)
    expect(tcp.clampMss(mem, ipAt + 20, 1400, true)).toBe(true)
    expect(made).toEqual(frame(spec(1400)))
  })

  const leftAlone = [
    ['a segment without SYN', placed(1460, 0), 'A'],
    ['a SYN without the option', [1, 1, 1, 1], 'S'],
    ['one that is smaller', placed(536, 0), 'S'],
    ['one of a wrong length', [2, 3, 0xff, 0], 'S'],
  ] as const
  for (const [what, options, flags] of leftAlone)
    it(`leaves alone ${what}`, () => {
      const { mem, at } = segment(options, flags)
      const before = new Uint8Array(mem.buffer).slice()
      expect(tcp.clampMss(mem, at, 1000)).toBe(false)
      expect(new Uint8Array(mem.buffer)).toEqual(before)
    })
})
