import { describe, expect, it } from 'vitest'
import {
  atomic,
  call,
  exit,
  type Instruction,
  jump,
  type Line,
  label,
  load,
  loadMap,
  loadMapValue,
  op,
  op32,
  R0,
  R1,
  R2,
  R6,
  R10,
  step,
  store,
  swap,
  when,
  when32,
} from '../../src/offload/ebpf.ts'
import { AssemblyError, assemble, disassemble } from '../../src/offload/ebpf-assembler.ts'

const bytesOf = (...lines: Line[]): string =>
  Buffer.from(assemble([step('a step', ...lines)]).code)
    .toString('hex')
    .replaceAll(/(.{16})(?=.)/g, '$1 ')

const listed = (...lines: Line[]): string[] => disassemble(assemble([step('a step', ...lines)]))

function codeOf(...lines: (Line | readonly Line[])[]): string {
  try {
    assemble([step('the wrong step', ...lines)])
  } catch (error) {
    if (!(error instanceof AssemblyError)) throw error
    expect(error.message).toContain("'the wrong step'")
    return error.code
  }
  return 'none'
}

describe('instructions, as RFC 9669 writes them', () => {
  it.each<[string, Instruction, string, string]>([
    ['a move of a number', op(R1, '=', -1), 'b7010000ffffffff', 'r1 = 0xffffffff'],
    ['a move of a register', op(R6, '=', R1), 'bf16000000000000', 'r6 = r1'],
    ['an addition', op(R2, '+=', 14), '070200000e000000', 'r2 += 0xe'],
    ['one of 32 bits', op32(R2, '*=', 0xffffffff), '24020000ffffffff', 'w2 *= 0xffffffff'],
    ['a shift', op(R2, '>>=', R1), '7f12000000000000', 'r2 >>= r1'],
    ['a change of byte order', swap(R2, 16), 'dc02000010000000', 'r2 = be16 r2'],
    ['a load', load(4, R2, R6, 16), '6162100000000000', 'r2 = *(u32 *)(r6 + 16)'],
    ['a store of a register', store(8, R10, -8, R2), '7b2af8ff00000000', '*(u64 *)(r10 - 8) = r2'],
    ['a store of a number', store(1, R6, 2, 7), '7206020007000000', '*(u8 *)(r6 + 2) = 7'],
    ['an atomic addition', atomic(8, R6, 64, '+=', R2), 'db26400000000000', 'lock *(u64 *)(r6 + 64) += r2'],
    ['an atomic or', atomic(4, R6, 4, '|=', R2), 'c326040040000000', 'lock *(u32 *)(r6 + 4) |= r2'],
    ['a call', call(23), '8500000017000000', 'call redirect#23'],
    ['an exit', exit(), '9500000000000000', 'exit'],
  ])('%s', (_, instruction, hex, text) => {
    expect(bytesOf(instruction)).toBe(hex)
    expect(listed(instruction)).toEqual(['; a step', `   0: ${text}`])
  })

  it('a map takes the place of two', () => {
    expect(bytesOf(loadMap(R1, 5))).toBe('1811000005000000 0000000000000000')
    expect(bytesOf(loadMapValue(R1, 5, 4096))).toBe('1821000005000000 0000000000100000')
    expect(listed(loadMapValue(R1, 5, 4096), loadMap(R1, 5), exit())).toEqual([
      '; a step',
      '   0: r1 = map_value[fd 5] + 4096',
      '   2: r1 = map[fd 5]',
      '   4: exit',
    ])
  })
})

describe('jumps', () => {
  it('count instructions from the next one on, a map as two', () => {
    const lines = [when(R1, '!=', 3, 'end'), loadMap(R1, 5), label('end'), exit()]
    expect(bytesOf(...lines).split(' ')[0]).toBe('5501020003000000')
    expect(listed(...lines)[1]).toBe('   0: if r1 != 0x3 goto 3')
  })

  it('compare registers, and 32 bits of them, with a sign and without', () => {
    const lines = [when(R1, '<=', R2, 'end'), when32(R1, 's<', 0, 'end'), jump('end'), label('end'), exit()]
    expect(listed(...lines).slice(1)).toEqual([
      '   0: if r1 <= r2 goto 3',
      '   1: if w1 s< 0x0 goto 3',
      '   2: goto 3',
      '   3: exit',
    ])
  })

  it('lead from one step to another', () => {
    const program = assemble([
      step('first', jump('there')),
      step('between', exit()),
      step('second', label('there'), exit()),
    ])
    expect(program.steps).toEqual([
      { at: 0, name: 'first' },
      { at: 1, name: 'between' },
      { at: 2, name: 'second' },
    ])
    expect(disassemble(program)).toEqual([
      '; first',
      '   0: goto 2',
      '; between',
      '   1: exit',
      '; second',
      '   2: exit',
    ])
  })
})

describe('mistakes, found with the step that has them', () => {
  const filler = (count: number): Instruction[] => Array.from({ length: count }, () => op(R0, '=', 0))

  it('labels that are not there, there twice, or behind', () => {
    expect(codeOf(jump('nowhere'))).toBe('label-unknown')
    expect(codeOf(label('a'), exit(), label('a'))).toBe('label-twice')
    expect(codeOf(label('a'), jump('a'))).toBe('jump-backwards')
  })

  it('jumps of more than 16 bits', () => {
    expect(codeOf(jump('end'), filler(0x7fff), label('end'), exit())).toBe('none')
    expect(codeOf(jump('end'), filler(0x8000), label('end'), exit())).toBe('jump-too-far')
    expect(codeOf(when(R1, '==', 0, 'end'), filler(0x8000), label('end'), exit())).toBe('jump-too-far')
  })

  it('offsets of more than 16 bits', () => {
    expect(codeOf(load(4, R1, R6, 0x7fff))).toBe('none')
    expect(codeOf(load(4, R1, R6, 0x8000))).toBe('offset-out-of-range')
    expect(codeOf(store(4, R6, -0x8001, R1))).toBe('offset-out-of-range')
  })

  it('numbers of more than 32 bits, or that their sign would make others', () => {
    expect(codeOf(op(R1, '=', 0x7fffffff), op(R1, '=', -0x80000000), op32(R1, '=', 0xffffffff))).toBe('none')
    for (const wrong of [0x80000000, -0x80000001, 0.5, Number.NaN]) {
      expect(codeOf(op(R1, '=', wrong))).toBe('immediate-out-of-range')
      expect(codeOf(when(R1, '>', wrong, 'end'), label('end'), exit())).toBe('immediate-out-of-range')
      expect(codeOf(store(8, R6, 0, wrong))).toBe('immediate-out-of-range')
    }
    expect(codeOf(op32(R1, '=', 0x100000000))).toBe('immediate-out-of-range')
    expect(codeOf(when32(R1, '==', 0x100000000, 'end'), label('end'), exit())).toBe('immediate-out-of-range')
    expect(codeOf(loadMapValue(R1, 5, 0x100000000))).toBe('immediate-out-of-range')
  })

  it('a stack pointer that is written, and registers that there are none', () => {
    expect(codeOf(op(R10, '+=', 8))).toBe('register')
    expect(codeOf(load(8, R10, R6, 0))).toBe('register')
    expect(codeOf(loadMap(R10, 3))).toBe('register')
    expect(codeOf(op(R0, '=', { register: 11 }))).toBe('register')
    expect(codeOf(store(8, R10, -8, R1))).toBe('none')
  })
})
