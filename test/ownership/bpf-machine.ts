// A classic BPF machine, as far as programs that dispatch packets need one: what the kernel's would do, and an error
// where it would refuse the program. Authority: linux/bpf_common.h, net/core/filter.c.

const CLASS = { 0: 'ld', 1: 'ldx', 2: 'st', 4: 'alu', 5: 'jmp', 6: 'ret', 7: 'misc' } as const

/** A load past the packet's end. */
class PastEnd extends Error {}

/** What the program returns for a packet. */
export function runBpf(program: Uint8Array, packet: Uint8Array): number {
  try {
    return run(new DataView(program.buffer, program.byteOffset, program.length), packet)
  } catch (error) {
    if (error instanceof PastEnd) return 0
    throw error
  }
}

function run(program: DataView, packet: Uint8Array): number {
  let a = 0
  let x = 0
  const memory: (number | undefined)[] = []
  const load = (at: number, bytes: number): number => {
    if (at + bytes > packet.length) throw new PastEnd()
    return packet.subarray(at, at + bytes).reduce((value, byte) => value * 256 + byte, 0)
  }
  const remembered = (k: number): number => {
    const value = memory[k]
    if (value === undefined || k > 15) throw new Error(`memory word ${k} was never stored`)
    return value
  }

  for (let at = 0; ; at++) {
    if (at * 8 >= program.byteLength) throw new Error('the program has no end')
    const code = program.getUint16(at * 8, true)
    const jt = program.getUint8(at * 8 + 2)
    const jf = program.getUint8(at * 8 + 3)
    const k = program.getUint32(at * 8 + 4, true)
    const operand = code & 0x08 ? x : k
    switch (CLASS[(code & 7) as keyof typeof CLASS]) {
      case 'ld':
        a = loaded(code, k)
        break
      case 'ldx':
        x = (code & 0xe0) === 0xa0 ? 4 * (load(k, 1) & 15) : remembered(k)
        break
      case 'st':
        memory[k] = a
        break
      case 'alu':
        a = computed(code & 0xf0, a, operand)
        break
      case 'jmp':
        at += (code & 0xf0) === 0 ? k : holds(code & 0xf0, a, operand) ? jt : jf
        break
      case 'ret':
        return code & 0x10 ? a : k
      case 'misc':
        if (code & 0x80) a = x
        else x = a
        break
      default:
        throw new Error(`code ${code} is no instruction`)
    }
  }

  function loaded(code: number, k: number): number {
    const bytes = [4, 2, 1][(code & 0x18) >> 3]!
    const mode = code & 0xe0
    if (mode === 0x00) return k
    if (mode === 0x20) return load(k, bytes)
    if (mode === 0x40) return load(x + k, bytes)
    if (mode === 0x60) return remembered(k)
    throw new Error(`code ${code} is no load`)
  }
}

function computed(operation: number, a: number, b: number): number {
  const results: Readonly<Record<number, () => number>> = {
    0: () => a + b,
    32: () => Math.imul(a, b),
    64: () => a | b,
    80: () => a & b,
    96: () => a << b,
    112: () => a >>> b,
    144: () => a % b,
    160: () => a ^ b,
  }
  const result = results[operation]
  if (!result) throw new Error(`${operation} is no operation`)
  return result() >>> 0
}

function holds(condition: number, a: number, b: number): boolean {
  if (condition === 0x10) return a === b
  if (condition === 0x30) return a >= b
  if (condition === 0x40) return (a & b) !== 0
  throw new Error(`${condition} is no condition`)
}
