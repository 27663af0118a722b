// pcapng (draft-ietf-opsawg-pcapng): blocks in sections, each section with a byte order and interfaces of its own, each
// interface with its link type and clock. Read are the blocks with packets, and those that are needed to understand
// them; other blocks (name resolution, statistics, comments) are passed over.

import { type Capture, type Captured, type FileBytes, MOST_BYTES } from './capture.ts'
import { PcapError } from './errors.ts'

/** A palindrome, so that it is the same in either byte order. */
export const SECTION_HEADER = 0x0a0d0d0a
const INTERFACE = 1
/** The obsolete packet block, which some programs still write. */
const PACKET = 2
const SIMPLE_PACKET = 3
const ENHANCED_PACKET = 6

const BYTE_ORDER = 0x1a2b3c4d
/** What every block has around its contents: type and length before, the length again behind. */
const AROUND = 12
const MOST_BLOCK = 16 << 20

const OPTION_END = 0
const OPTION_RESOLUTION = 9
const OPTION_OFFSET = 14
const MICROSECOND = 6

interface Interface {
  readonly link: number
  readonly snaplen: number
  /** How many ticks of its clock make a second. */
  readonly ticks: bigint
  /** Seconds to be added to each time. */
  readonly offset: bigint
}

export function readPcapng(file: FileBytes): Capture {
  const reader = new Reader(file)
  return {
    format: 'pcapng',
    get hasNanoseconds() {
      return reader.hasNanoseconds
    },
    next: () => reader.next(),
    close: () => file.close(),
  }
}

class Reader {
  hasNanoseconds = false
  readonly #file: FileBytes
  #isLittle = true
  #interfaces: Interface[] = []
  #number = 0
  /** The time of the last packet that had one, for simple packet blocks, which have none. */
  #time = { seconds: 0, nanoseconds: 0 }

  constructor(file: FileBytes) {
    this.#file = file
  }

  next(): Captured | undefined {
    for (;;) {
      const front = this.#file.peek(AROUND)
      if (front.length === 0) return undefined
      if (front.length < AROUND) throw this.#file.truncated('a block', AROUND, front.length)
      const isSection = front.readUInt32BE() === SECTION_HEADER
      if (isSection) this.#beginSection(front)
      const type = this.#u32(front, 0)
      const block = this.#block(this.#u32(front, 4))
      if (type === INTERFACE) this.#addInterface(block)
      else if (type === ENHANCED_PACKET) return this.#enhanced(block)
      else if (type === PACKET) return this.#obsolete(block)
      else if (type === SIMPLE_PACKET) return this.#simple(block)
    }
  }

  #beginSection(front: Buffer): void {
    if (front.readUInt32LE(8) === BYTE_ORDER) this.#isLittle = true
    else if (front.readUInt32BE(8) === BYTE_ORDER) this.#isLittle = false
    else throw this.#damaged('a section without a byte order')
    this.#interfaces = []
  }

  /** Takes a block of this length; returns what it has between its two lengths. */
  #block(length: number): Buffer {
    if (length < AROUND || length % 4 !== 0 || length > MOST_BLOCK) throw this.#damaged(`a block of ${length} bytes`)
    const whole = this.#file.peek(length)
    if (whole.length < length) throw this.#file.truncated('a block', length, whole.length)
    if (this.#u32(whole, length - 4) !== length) throw this.#damaged('a block whose two lengths differ')
    return this.#file.take(length).subarray(8, length - 4)
  }

  #addInterface(block: Buffer): void {
    if (block.length < 8) throw this.#damaged('the description of an interface')
    let exponent = MICROSECOND
    let offset = 0n
    for (const [code, value] of this.#options(block, 8)) {
      if (code === OPTION_RESOLUTION && value.length >= 1) exponent = value[0]!
      if (code === OPTION_OFFSET && value.length >= 8)
        offset = this.#isLittle ? value.readBigInt64LE() : value.readBigInt64BE()
    }
    const isBinary = (exponent & 0x80) !== 0
    const ticks = isBinary ? 2n ** BigInt(exponent & 0x7f) : 10n ** BigInt(exponent)
    if (ticks > 1_000_000n) this.hasNanoseconds = true
    this.#interfaces.push({ link: this.#u16(block, 0), snaplen: this.#u32(block, 4), ticks, offset })
  }

  *#options(block: Buffer, from: number): Generator<readonly [code: number, value: Buffer]> {
    for (let at = from; at + 4 <= block.length; ) {
      const code = this.#u16(block, at)
      const length = this.#u16(block, at + 2)
      if (code === OPTION_END || at + 4 + length > block.length) return
      yield [code, block.subarray(at + 4, at + 4 + length)]
      at += 4 + Math.ceil(length / 4) * 4
    }
  }

  #enhanced(block: Buffer): Captured {
    if (block.length < 20) throw this.#damaged('a packet')
    return this.#packet(block, this.#u32(block, 0), 4)
  }

  #obsolete(block: Buffer): Captured {
    if (block.length < 20) throw this.#damaged('a packet')
    return this.#packet(block, this.#u16(block, 0), 4)
  }

  /** Reads time, lengths and bytes of a packet, which both kinds of block have alike from `at` on. */
  #packet(block: Buffer, index: number, at: number): Captured {
    const described = this.#interfaces[index]
    if (!described) throw this.#damaged(`a packet of interface ${index}, which is not described`)
    const time = (BigInt(this.#u32(block, at)) << 32n) | BigInt(this.#u32(block, at + 4))
    this.#time = {
      seconds: Number(time / described.ticks + described.offset),
      nanoseconds: Number(((time % described.ticks) * 1_000_000_000n) / described.ticks),
    }
    return this.#captured(block, described, this.#u32(block, at + 8), this.#u32(block, at + 12), at + 16)
  }

  #simple(block: Buffer): Captured {
    const described = this.#interfaces[0]
    if (!described || block.length < 4) throw this.#damaged('a packet of an interface that is not described')
    const original = this.#u32(block, 0)
    return this.#captured(
      block,
      described,
      Math.min(original, described.snaplen || original, block.length - 4),
      original,
      4,
    )
  }

  #captured(block: Buffer, { link }: Interface, length: number, originalLength: number, at: number): Captured {
    this.#number++
    if (length > MOST_BYTES || at + length > block.length) throw this.#damaged(`a packet of ${length} bytes`)
    return { number: this.#number, ...this.#time, link, bytes: block.subarray(at, at + length), originalLength }
  }

  #damaged(what: string): PcapError {
    return new PcapError(
      'PCAP_DAMAGED',
      `${this.#file.path} is damaged at about byte ${this.#file.offset}, behind frame ${this.#number}: ${what}. ` +
        'What comes before it is sound; repair the file or cut it there',
    )
  }

  #u16(from: Buffer, at: number): number {
    return this.#isLittle ? from.readUInt16LE(at) : from.readUInt16BE(at)
  }

  #u32(from: Buffer, at: number): number {
    return this.#isLittle ? from.readUInt32LE(at) : from.readUInt32BE(at)
  }
}
