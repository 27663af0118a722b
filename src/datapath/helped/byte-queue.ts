// A queue of bytes: added at the end, dropped from the front, read anywhere between. It is a chain of blocks
// (byte-pool.ts), and an empty one has none, so what all queues of the shard take is what their blocks take.
// Owner: this thread.

import { BLOCK_BYTES, giveBlock, linkBlock, memoryOf, NO_BLOCK, nextBlock, placeOf, takeBlock } from './byte-pool.ts'

/** Who the blocks are counted for. */
interface Account {
  blocks: number
}

export class ByteQueue {
  readonly #account: Account
  #first = NO_BLOCK
  #last = NO_BLOCK
  /** Where it begins in the first block. */
  #from = 0
  length = 0

  constructor(account: Account) {
    this.#account = account
  }

  /** Bytes that its blocks take. */
  get kept(): number {
    return Math.ceil((this.#from + this.length) / BLOCK_BYTES) * BLOCK_BYTES
  }

  /** Adds `length` bytes of `source` from `at`. */
  add(source: Uint8Array, at: number, length: number): void {
    for (let done = 0; done < length; ) {
      const begin = this.#placeBehind()
      const count = Math.min(length - done, BLOCK_BYTES - begin)
      const target = memoryOf(this.#last)
      const to = placeOf(this.#last) + begin
      for (let i = 0; i < count; i++) target[to + i] = source[at + done + i]!
      this.length += count
      done += count
    }
  }

  /** Adds a text, a byte each character (latin1). */
  addText(text: string): void {
    for (let done = 0; done < text.length; ) {
      const begin = this.#placeBehind()
      const count = Math.min(text.length - done, BLOCK_BYTES - begin)
      memoryOf(this.#last).write(text.slice(done, done + count), placeOf(this.#last) + begin, count, 'latin1')
      this.length += count
      done += count
    }
  }

  /** Adds bytes of another queue, from its byte `from` on. */
  addFrom(other: ByteQueue, from: number, length: number): void {
    other.#pieces(from, length, (memory, at, count) => this.add(memory, at, count))
  }

  /** Moves the first `length` bytes to the end of another queue. */
  moveTo(other: ByteQueue, length: number): void {
    for (let left = length; left > 0; ) {
      const count = Math.min(left, BLOCK_BYTES - this.#from)
      other.add(memoryOf(this.#first), placeOf(this.#first) + this.#from, count)
      this.drop(count)
      left -= count
    }
  }

  /** Forgets the first `length` bytes. */
  drop(length: number): void {
    this.#from += length
    this.length -= length
    if (this.length === 0) {
      this.#giveAll()
      return
    }
    while (this.#from >= BLOCK_BYTES) {
      const block = this.#first
      this.#first = nextBlock(block)
      this.#give(block)
      this.#from -= BLOCK_BYTES
    }
  }

  clear(): void {
    this.drop(this.length)
  }

  /** Its bytes from one place to another, a character each. */
  text(from = 0, to = this.length): string {
    // Lines of control connections mostly lie in one block.
    if (to > from && this.#from + to <= BLOCK_BYTES) {
      const place = placeOf(this.#first) + this.#from
      return memoryOf(this.#first).toString('latin1', place + from, place + to)
    }
    let text = ''
    this.#pieces(from, to - from, (memory, at, count) => {
      text += memory.toString('latin1', at, at + count)
    })
    return text
  }

  /** Copies `length` bytes from the queue's byte `from` on to `target`. */
  copyTo(target: Uint8Array, at: number, from: number, length: number): void {
    let to = at
    this.#pieces(from, length, (memory, begin, count) => {
      for (let i = 0; i < count; i++) target[to + i] = memory[begin + i]!
      to += count
    })
  }

  /** Whether the queue's bytes from `from` on are those of `other` from `at`. */
  equals(other: Uint8Array, at: number, from: number, length: number): boolean {
    let isSame = true
    let to = at
    this.#pieces(from, length, (memory, begin, count) => {
      for (let i = 0; i < count && isSame; i++) isSame = memory[begin + i] === other[to + i]
      to += count
    })
    return isSame
  }

  /** Calls `visit` with each stretch of [from, from + length) that lies in one block. */
  #pieces(from: number, length: number, visit: (memory: Buffer, at: number, count: number) => void): void {
    let block = this.#first
    let begin = this.#from + from
    for (; begin >= BLOCK_BYTES && block !== NO_BLOCK; begin -= BLOCK_BYTES) block = nextBlock(block)
    for (let left = length; left > 0; block = nextBlock(block)) {
      const count = Math.min(left, BLOCK_BYTES - begin)
      visit(memoryOf(block), placeOf(block) + begin, count)
      left -= count
      begin = 0
    }
  }

  /** Where in its last block the next byte comes; a block more if that is full. */
  #placeBehind(): number {
    const begin = (this.#from + this.length) % BLOCK_BYTES
    if (this.#first === NO_BLOCK) {
      this.#first = this.#take()
      this.#last = this.#first
      this.#from = 0
      return 0
    }
    if (begin !== 0) return begin
    const block = this.#take()
    linkBlock(this.#last, block)
    this.#last = block
    return 0
  }

  #take(): number {
    this.#account.blocks++
    return takeBlock()
  }

  #give(block: number): void {
    this.#account.blocks--
    giveBlock(block)
  }

  #giveAll(): void {
    for (let block = this.#first; block !== NO_BLOCK; ) {
      const next = nextBlock(block)
      this.#give(block)
      block = next
    }
    this.#first = NO_BLOCK
    this.#last = NO_BLOCK
    this.#from = 0
  }
}
