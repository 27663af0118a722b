// Classic BPF programs, assembled: the machine of which the kernel has an interpreter or compiler wherever it has a
// packet socket. Authority: linux/filter.h, linux/bpf_common.h, net/core/filter.c (bpf_check_classic).
//
// Two registers of 32 bits, A and X, and sixteen words of memory. Loads from the packet are big-endian, and one that
// reaches past its end ends the program with 0. All jumps go forward; a conditional one spans 255 instructions at most,
// so it goes by way of an unconditional one where its target is farther. Owner: the thread that builds the program.

/** Of a program; the kernel takes no longer one (BPF_MAXINSNS). */
export const MAX_INSTRUCTIONS = 4096
/** struct sock_filter: u16 code, u8 jt, u8 jf, u32 k, in the host's order. */
const INSTRUCTION_BYTES = 8

/** A = what the packet has at k, or at X + k: 4, 2 or 1 bytes. */
export const LD_W_ABS = 0x20
export const LD_H_ABS = 0x28
export const LD_B_ABS = 0x30
export const LD_W_IND = 0x40
export const LD_H_IND = 0x48
export const LD_B_IND = 0x50
/** A = k */
export const LD_IMM = 0x00
/** A or X = memory word k */
export const LD_MEM = 0x60
export const LDX_MEM = 0x61
/** X = length in bytes of the IPv4 header at k */
export const LDX_MSH = 0xb1
/** memory word k = A */
export const ST = 0x02
/** X = A */
export const TAX = 0x07
/** A = A op k, or A op X */
export const ADD_X = 0x0c
export const MUL_K = 0x24
export const OR_X = 0x4c
export const AND_K = 0x54
export const LSH_K = 0x64
export const RSH_K = 0x74
export const MOD_K = 0x94
export const XOR_K = 0xa4
export const XOR_X = 0xac
/** Conditions for `when`: A === k, A >= k (unsigned), (A & k) !== 0 */
export const JEQ_K = 0x15
const JGE_K = 0x35
export const JSET_K = 0x45
/** The program's value: k, or A */
export const RET_K = 0x06
export const RET_A = 0x16
const JA = 0x05

const FARTHEST = 255

/** A place in the program, made before it is known where. */
export class Label {
  /** How many instructions follow the place, once that is known. */
  at: number | undefined
  /** The same for the nearest jump that only goes there. */
  byWayOf = 0
}

/** What stands in the program in one line: an instruction, a place, or a jump to places. No place: the next line. */
type Line =
  | Label
  | {
      readonly code: number
      readonly k: number
      readonly to?: Label | undefined
      readonly otherwise?: Label | undefined
    }

/** A case of `choose`: from `first` on, unsigned, until the next one's. */
export interface Case {
  readonly first: number
  readonly to: Label
}

export class Program {
  readonly #lines: Line[] = []

  add(code: number, k = 0): this {
    this.#lines.push({ code, k })
    return this
  }

  place(label: Label): this {
    this.#lines.push(label)
    return this
  }

  jump(to: Label): this {
    this.#lines.push({ code: JA, k: 0, to })
    return this
  }

  when(condition: number, k: number, to: Label | undefined, otherwise?: Label): this {
    this.#lines.push({ code: condition, k, to, otherwise })
    return this
  }

  /** Goes where A belongs, by a binary search; the first case begins at 0, the others in order. */
  choose(cases: readonly Case[]): this {
    const different = cases.filter(({ to }, i) => i === 0 || to !== cases[i - 1]!.to)
    if (different.length === 1) return this.jump(different[0]!.to)
    const middle = different.length >> 1
    const [below, above] = [different.slice(0, middle), different.slice(middle)]
    const placeOf = (half: readonly Case[]): Label => (half.length === 1 ? half[0]!.to : new Label())
    const [lower, upper] = [placeOf(below), placeOf(above)]
    this.when(JGE_K, above[0]!.first, upper, lower)
    if (below.length > 1) this.place(lower).choose(below)
    if (above.length > 1) this.place(upper).choose(above)
    return this
  }

  /** An array of struct sock_filter. Once. Longer than the kernel takes if the program is: look at `instructions`. */
  assemble(): Uint8Array {
    const reversed = this.#assembleBackwards()
    const bytes = new Uint8Array(reversed.length * INSTRUCTION_BYTES)
    const into = new DataView(bytes.buffer)
    reversed.reverse().forEach(([code, jt, jf, k], i) => {
      const at = i * INSTRUCTION_BYTES
      into.setUint16(at, code, true)
      into.setUint8(at + 2, jt)
      into.setUint8(at + 3, jf)
      into.setUint32(at + 4, k, true)
    })
    return bytes
  }

  /** From the last line to the first: where a jump goes to is known before the jump, and so is how far it is. */
  #assembleBackwards(): [code: number, jt: number, jf: number, k: number][] {
    const made: [number, number, number, number][] = []
    const jumpTo = (to: Label): void => {
      made.push([JA, 0, 0, made.length - placeOf(to)])
      to.byWayOf = made.length
    }
    /** Where a conditional jump to a label may go. One more jump may yet come between. */
    const within = (to: Label): void => {
      if (made.length - placeOf(to) >= FARTHEST && made.length - to.byWayOf >= FARTHEST) jumpTo(to)
    }
    const spanTo = (to: Label): number => {
      const straight = made.length - placeOf(to)
      return straight <= FARTHEST ? straight : made.length - to.byWayOf
    }
    for (const line of this.#lines.toReversed()) {
      const next = made.length
      if (line instanceof Label) {
        line.at = next
        line.byWayOf = next
      } else if (line.code === JA) {
        if (placeOf(line.to!) !== next) jumpTo(line.to!)
      } else {
        if (line.to) within(line.to)
        if (line.otherwise) within(line.otherwise)
        const skip = made.length - next
        const isJump = line.to !== undefined || line.otherwise !== undefined
        const jt = line.to ? spanTo(line.to) : isJump ? skip : 0
        const jf = line.otherwise ? spanTo(line.otherwise) : isJump ? skip : 0
        made.push([line.code, jt, jf, line.k >>> 0])
      }
    }
    return made
  }
}

export const instructions = (program: Uint8Array): number => program.length / INSTRUCTION_BYTES

function placeOf(label: Label): number {
  if (label.at === undefined) throw new Error('a jump to a place that is not after it')
  return label.at
}
