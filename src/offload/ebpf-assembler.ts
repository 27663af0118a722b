// Bytes of eBPF programs out of their steps, and listings out of the bytes. Authority: RFC 9669 (3 Instruction
// Encoding), linux/bpf.h (struct bpf_insn). Pure.
//
// What can be wrong with a program that its author can see is found here, with the step that has it: the verifier
// would find most of it too, but says only at which instruction.

import {
  ALU,
  ALU64,
  ATOMIC,
  ATOMICS,
  CALL,
  CONDITIONS,
  EXIT,
  type Instruction,
  JMP,
  JMP32,
  JUMP,
  LD_IMM64,
  LDX,
  type Line,
  MEM,
  OPERATIONS,
  PSEUDO_MAP_VALUE,
  SIZES,
  SOURCE_REGISTER,
  ST,
  STX,
  type Step,
  TO_BIG_ENDIAN,
} from './ebpf.ts'

/** struct bpf_insn: u8 opcode, u8 registers (dst low, src high), s16 offset, s32 immediate; in the host's order. */
export const INSTRUCTION_BYTES = 8
const STACK_POINTER = 10

export type AssemblyErrorCode =
  | 'label-unknown'
  | 'label-twice'
  | 'jump-too-far'
  | 'jump-backwards'
  | 'offset-out-of-range'
  | 'immediate-out-of-range'
  | 'register'

/** A mistake in a program, with the step that has it. */
export class AssemblyError extends Error {
  override readonly name = 'AssemblyError'
  readonly code: AssemblyErrorCode
  constructor(code: AssemblyErrorCode, step: string, message: string) {
    super(`in the step '${step}': ${message}`)
    this.code = code
  }
}

export interface Assembled {
  /** An array of struct bpf_insn. */
  readonly code: Uint8Array
  /** Where each step begins: the number of its first instruction. */
  readonly steps: readonly { readonly at: number; readonly name: string }[]
}

const isLabel = (line: Line): line is { readonly label: string } => 'label' in line
const width = (line: Line): number => (isLabel(line) ? 0 : line.upper === undefined ? 1 : 2)

/** Throws AssemblyError. */
export function assemble(steps: readonly Step[]): Assembled {
  const places = new Map<string, number>()
  const begins: { at: number; name: string }[] = []
  let length = 0
  for (const { name, lines } of steps) {
    begins.push({ at: length, name })
    for (const line of lines) {
      if (isLabel(line)) {
        if (places.has(line.label))
          throw new AssemblyError('label-twice', name, `the label ${line.label} is there twice`)
        places.set(line.label, length)
      }
      length += width(line)
    }
  }
  const code = new Uint8Array(length * INSTRUCTION_BYTES)
  const into = new DataView(code.buffer)
  let at = 0
  for (const { name, lines } of steps)
    for (const line of lines) {
      if (isLabel(line)) continue
      const offset = line.to === undefined ? line.offset : jumpOffset(name, line.to, at, places)
      check(name, line)
      encode(into, at, { ...line, offset })
      at += width(line)
    }
  return { code, steps: begins }
}

function jumpOffset(step: string, to: string, at: number, places: ReadonlyMap<string, number>): number {
  const place = places.get(to)
  if (place === undefined) throw new AssemblyError('label-unknown', step, `there is no label ${to}`)
  const offset = place - at - 1
  if (offset > 0x7fff)
    throw new AssemblyError('jump-too-far', step, `${to} is ${offset} instructions away, a jump spans 32767`)
  // The verifier takes bounded loops only, and no program here has one.
  if (offset < 0) throw new AssemblyError('jump-backwards', step, `${to} is before the jump that leads to it`)
  return offset
}

function check(step: string, { opcode, dst, src, offset, imm, to, upper }: Instruction): void {
  const kind = opcode & 7
  for (const register of [dst, src])
    if (register < 0 || register > STACK_POINTER)
      throw new AssemblyError('register', step, `there is no register r${register}`)
  if (dst === STACK_POINTER && (kind === ALU || kind === ALU64 || kind === LDX || opcode === LD_IMM64))
    throw new AssemblyError('register', step, 'r10, the stack pointer, can only be read')
  if (to === undefined && (offset < -0x8000 || offset > 0x7fff))
    throw new AssemblyError('offset-out-of-range', step, `an offset has 16 bits, and ${offset} has more`)
  // What is extended to 64 bits by its sign would become another number.
  const isExtended = kind === ALU64 || kind === JMP || (kind === ST && (opcode & 0x18) === SIZES[8])
  const most = isExtended && opcode !== CALL ? 0x7fffffff : 0xffffffff
  for (const number of [imm, upper ?? 0])
    if (!Number.isInteger(number) || number < -0x80000000 || number > most)
      throw new AssemblyError('immediate-out-of-range', step, `${number} is not within -2147483648 .. ${most}`)
}

function encode(into: DataView, at: number, { opcode, dst, src, offset, imm, upper }: Instruction): void {
  const put = (place: number, operation: number, number: number): void => {
    into.setUint8(place, operation)
    into.setInt32(place + 4, number, true)
  }
  const place = at * INSTRUCTION_BYTES
  put(place, opcode, imm)
  into.setUint8(place + 1, dst | (src << 4))
  into.setInt16(place + 2, offset, true)
  if (upper !== undefined) put(place + INSTRUCTION_BYTES, 0, upper)
}

// --- listings ---

const inverse = (names: Readonly<Record<string, number>>): Map<number, string> =>
  new Map(Object.entries(names).map(([name, code]) => [code, name]))
const operationNames = inverse(OPERATIONS)
const conditionNames = inverse(CONDITIONS)
const atomicNames = inverse(ATOMICS)
const sizeNames = inverse({ u8: SIZES[1], u16: SIZES[2], u32: SIZES[4], u64: SIZES[8] })

/** What the kernel calls the functions that programs here use (linux/bpf.h, enum bpf_func_id). */
export const HELPER = {
  l4_csum_replace: 11,
  tail_call: 12,
  redirect: 23,
  skb_pull_data: 39,
  redirect_peer: 155,
} as const
const helperNames = inverse(HELPER)

/** A line an instruction, in the notation of the kernel's verifier, below the names of the steps. */
export function disassemble({ code, steps }: Assembled): string[] {
  const from = new DataView(code.buffer, code.byteOffset, code.byteLength)
  const lines: string[] = []
  const names = new Map<number, string[]>()
  for (const { at, name } of steps) names.set(at, [...(names.get(at) ?? []), name])
  for (let i = 0; i < code.length / INSTRUCTION_BYTES; i++) {
    for (const name of names.get(i) ?? []) lines.push(`; ${name}`)
    const at = i * INSTRUCTION_BYTES
    const registers = from.getUint8(at + 1)
    const instruction = {
      opcode: from.getUint8(at),
      dst: registers & 15,
      src: registers >> 4,
      offset: from.getInt16(at + 2, true),
      imm: from.getInt32(at + 4, true),
    }
    const isWide = instruction.opcode === LD_IMM64
    const upper = isWide ? from.getInt32(at + INSTRUCTION_BYTES + 4, true) : 0
    lines.push(`${String(i).padStart(4)}: ${text(instruction, i, upper)}`)
    if (isWide) i++
  }
  return lines
}

const signed = (offset: number): string => (offset < 0 ? `- ${-offset}` : `+ ${offset}`)
const bits = (number: number): string => `0x${(number >>> 0).toString(16)}`

function text(instruction: Instruction, at: number, upper: number): string {
  const { opcode, dst, src, offset, imm } = instruction
  const kind = opcode & 7
  const memory = (register: number): string => `*(${sizeNames.get(opcode & 0x18)} *)(r${register} ${signed(offset)})`
  if (opcode === LD_IMM64)
    return src === PSEUDO_MAP_VALUE ? `r${dst} = map_value[fd ${imm}] + ${upper}` : `r${dst} = map[fd ${imm}]`
  if (opcode === TO_BIG_ENDIAN) return `r${dst} = be${imm} r${dst}`
  if (opcode === CALL) return `call ${helperNames.get(imm) ?? '?'}#${imm}`
  if (opcode === EXIT) return 'exit'
  if (opcode === JUMP) return `goto ${at + 1 + offset}`
  if (kind === LDX && (opcode & 0xe0) === MEM) return `r${dst} = ${memory(src)}`
  if (kind === ST) return `${memory(dst)} = ${imm}`
  if (kind === STX && (opcode & 0xe0) === MEM) return `${memory(dst)} = r${src}`
  if (kind === STX && (opcode & 0xe0) === ATOMIC) return `lock ${memory(dst)} ${atomicNames.get(imm) ?? '?'} r${src}`
  const half = kind === ALU || kind === JMP32 ? 'w' : 'r'
  const second = (opcode & SOURCE_REGISTER) !== 0 ? `${half}${src}` : bits(imm)
  if (kind === ALU || kind === ALU64) return `${half}${dst} ${operationNames.get(opcode & 0xf0) ?? '?'} ${second}`
  return `if ${half}${dst} ${conditionNames.get(opcode & 0xf0) ?? '?'} ${second} goto ${at + 1 + offset}`
}
