// eBPF instructions as they are written down in a program, and steps that give them names. Authority: RFC 9669,
// linux/bpf.h. Pure: a program is data until assemble() (ebpf-assembler.ts) makes bytes of it.
//
// Eleven registers of 64 bits: R0 is what calls and the program return, R1 to R5 are arguments and lost in a call, R6
// to R9 are kept, R10 is the end of 512 bytes of stack and can't be written. Operations on 32 bits (`op32`, `when32`)
// leave the upper half zero. This machine and the classic one (ownership/bpf-assembler.ts) have nothing in common but
// the name: there two registers and jumps of 255 instructions that need detours, here registers named in each
// instruction and one length of jump. So each has the notation that its programs read best in.

export interface Register {
  readonly register: number
}

const register = (number: number): Register => ({ register: number })
export const R0 = register(0)
export const R1 = register(1)
export const R2 = register(2)
export const R3 = register(3)
export const R4 = register(4)
export const R5 = register(5)
export const R6 = register(6)
export const R7 = register(7)
export const R8 = register(8)
export const R9 = register(9)
export const R10 = register(10)

/** A register, or a number that stands in the instruction: 32 bits, extended by its sign to 64. */
export type Operand = Register | number
/** How many bytes are loaded or stored. */
export type Size = 1 | 2 | 4 | 8

// Classes, the low three bits of an opcode.
export const LDX = 0x01
export const ST = 0x02
export const STX = 0x03
export const ALU = 0x04
export const JMP = 0x05
export const JMP32 = 0x06
export const ALU64 = 0x07

/** In arithmetic and jumps: the second operand is a register. */
export const SOURCE_REGISTER = 0x08
export const MEM = 0x60
export const ATOMIC = 0xc0
/** BPF_LD | BPF_IMM | BPF_DW: two slots of an instruction, for 64 bits. */
export const LD_IMM64 = 0x18
/** BPF_END to big-endian; on the hosts that natloom runs on, from one byte order to the other. */
export const TO_BIG_ENDIAN = ALU | 0xd0 | SOURCE_REGISTER
export const CALL = JMP | 0x80
export const EXIT = JMP | 0x90
export const JUMP = JMP | 0x00

export const SIZES: Readonly<Record<Size, number>> = { 1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18 }
export const OPERATIONS = {
  '+=': 0x00,
  '-=': 0x10,
  '*=': 0x20,
  '|=': 0x40,
  '&=': 0x50,
  '<<=': 0x60,
  '>>=': 0x70,
  '^=': 0xa0,
  '=': 0xb0,
} as const
export const CONDITIONS = {
  '==': 0x10,
  '>': 0x20,
  '>=': 0x30,
  '&': 0x40,
  '!=': 0x50,
  's>': 0x60,
  's>=': 0x70,
  '<': 0xa0,
  '<=': 0xb0,
  's<': 0xc0,
  's<=': 0xd0,
} as const
export const ATOMICS = { '+=': 0x00, '|=': 0x40 } as const
export type Operation = keyof typeof OPERATIONS
/** Comparisons are unsigned, those with an s signed; & asks whether both have a bit in common. */
export type Condition = keyof typeof CONDITIONS

/** src of LD_IMM64: the number is a map's descriptor; or it is one, and the value at an offset is meant. */
const PSEUDO_MAP_FD = 1
export const PSEUDO_MAP_VALUE = 2

/** One instruction; `to` is the label that it jumps to, `upper` the second half of an LD_IMM64's number. */
export interface Instruction {
  readonly opcode: number
  readonly dst: number
  readonly src: number
  readonly offset: number
  readonly imm: number
  readonly to?: string
  readonly upper?: number
}
export interface Label {
  readonly label: string
}
export type Line = Instruction | Label

/** Lines that belong together, under the name that a listing shows. */
export interface Step {
  readonly name: string
  readonly lines: readonly Line[]
}

export const step = (name: string, ...lines: readonly (Line | readonly Line[])[]): Step => ({
  name,
  lines: lines.flat(),
})

export const label = (name: string): Label => ({ label: name })

function withOperand(opcode: number, dst: Register, operand: Operand): Instruction {
  return typeof operand === 'number'
    ? { opcode, dst: dst.register, src: 0, offset: 0, imm: operand }
    : { opcode: opcode | SOURCE_REGISTER, dst: dst.register, src: operand.register, offset: 0, imm: 0 }
}

/** dst op operand */
export const op = (dst: Register, operation: Operation, operand: Operand): Instruction =>
  withOperand(ALU64 | OPERATIONS[operation], dst, operand)
export const op32 = (dst: Register, operation: Operation, operand: Operand): Instruction =>
  withOperand(ALU | OPERATIONS[operation], dst, operand)
/** Turns the low 16 or 32 bits of a register from the network's byte order into numbers, or back. */
export const swap = (dst: Register, bits: 16 | 32): Instruction => ({
  ...{ opcode: TO_BIG_ENDIAN, dst: dst.register, src: 0, offset: 0, imm: bits },
})

/** dst = the bytes at base + offset, the rest of dst zero */
export const load = (size: Size, dst: Register, base: Register, offset: number): Instruction => ({
  ...{ opcode: LDX | MEM | SIZES[size], dst: dst.register, src: base.register, offset, imm: 0 },
})
/** the bytes at base + offset = operand */
export const store = (size: Size, base: Register, offset: number, operand: Operand): Instruction =>
  typeof operand === 'number'
    ? { opcode: ST | MEM | SIZES[size], dst: base.register, src: 0, offset, imm: operand }
    : { opcode: STX | MEM | SIZES[size], dst: base.register, src: operand.register, offset, imm: 0 }
/** the bytes at base + offset op= source, in one step among all processors */
export const atomic = (
  size: 4 | 8,
  base: Register,
  offset: number,
  operation: keyof typeof ATOMICS,
  source: Register,
): Instruction => ({
  ...{ opcode: STX | ATOMIC | SIZES[size], dst: base.register, src: source.register, offset },
  imm: ATOMICS[operation],
})

export const when = (a: Register, condition: Condition, b: Operand, to: string): Instruction => ({
  ...withOperand(JMP | CONDITIONS[condition], a, b),
  to,
})
export const when32 = (a: Register, condition: Condition, b: Operand, to: string): Instruction => ({
  ...withOperand(JMP32 | CONDITIONS[condition], a, b),
  to,
})
export const jump = (to: string): Instruction => ({ opcode: JUMP, dst: 0, src: 0, offset: 0, imm: 0, to })
export const call = (helper: number): Instruction => ({ opcode: CALL, dst: 0, src: 0, offset: 0, imm: helper })
export const exit = (): Instruction => ({ opcode: EXIT, dst: 0, src: 0, offset: 0, imm: 0 })

/** dst = a map, as the argument of a call */
export const loadMap = (dst: Register, fd: number): Instruction => ({
  ...{ opcode: LD_IMM64, dst: dst.register, src: PSEUDO_MAP_FD, offset: 0, imm: fd, upper: 0 },
})
/** dst = the address of what the one value of a map has at `at` */
export const loadMapValue = (dst: Register, fd: number, at: number): Instruction => ({
  ...{ opcode: LD_IMM64, dst: dst.register, src: PSEUDO_MAP_VALUE, offset: 0, imm: fd, upper: at },
})
