// A queue of bytes: added at the end, dropped from the front, read anywhere between. How many bytes all queues of the
// shard hold together is counted, so that it can be bounded. Owner: this thread.

const FIRST_CAPACITY = 512
/** One for all: most queues of a helped connection stay empty, and each buffer costs a hundred bytes of heap. */
const EMPTY = Buffer.alloc(0)

/** Bytes in all queues. */
export let bytesKept = 0

export class ByteQueue {
  #bytes = EMPTY
  #from = 0
  #to = 0

  get length(): number {
    return this.#to - this.#from
  }

  /** Adds `length` bytes of `source` from `at`. */
  add(source: Uint8Array, at: number, length: number): void {
    this.#makeRoom(length)
    this.#bytes.set(source.subarray(at, at + length), this.#to)
    this.#to += length
    bytesKept += length
  }

  /** Adds a text, a byte each character (latin1). */
  addText(text: string): void {
    this.#makeRoom(text.length)
    this.#bytes.write(text, this.#to, 'latin1')
    this.#to += text.length
    bytesKept += text.length
  }

  /** Moves the first `length` bytes to the end of another queue. */
  moveTo(other: ByteQueue, length: number): void {
    other.add(this.#bytes, this.#from, length)
    this.drop(length)
  }

  /** Forgets the first `length` bytes. */
  drop(length: number): void {
    this.#from += length
    bytesKept -= length
    if (this.#from !== this.#to) return
    this.#from = 0
    this.#to = 0
    // A connection that is silent for hours must not keep the room that it needed once.
    if (this.#bytes.length > FIRST_CAPACITY) this.#bytes = EMPTY
  }

  clear(): void {
    this.drop(this.length)
  }

  /** Its bytes from one place to another, a character each. */
  text(from = 0, to = this.length): string {
    return this.#bytes.toString('latin1', this.#from + from, this.#from + to)
  }

  /** Copies `length` bytes from the queue's byte `from` on to `target`. */
  copyTo(target: Uint8Array, at: number, from: number, length: number): void {
    target.set(this.#bytes.subarray(this.#from + from, this.#from + from + length), at)
  }

  /** Whether the queue's bytes from `from` on are those of `other` from `at`. */
  equals(other: Uint8Array, at: number, from: number, length: number): boolean {
    for (let i = 0; i < length; i++) if (this.#bytes[this.#from + from + i] !== other[at + i]) return false
    return true
  }

  #makeRoom(length: number): void {
    if (this.#to + length <= this.#bytes.length) return
    const kept = this.length
    const capacity = Math.max(FIRST_CAPACITY, 2 ** Math.ceil(Math.log2(kept + length)))
    // With the dropped bytes in front there may be room enough without a larger buffer.
    const target =
      capacity <= this.#bytes.length && kept + length <= this.#bytes.length ? this.#bytes : Buffer.alloc(capacity)
    this.#bytes.copy(target, 0, this.#from, this.#to)
    this.#bytes = target
    this.#from = 0
    this.#to = kept
  }
}
