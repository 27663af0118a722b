// What a capture is to its readers, and the bytes of its file, which are read in order and in pieces, so that a capture
// of any size can be read. Owner: the code that opened the file closes it.

import { closeSync, openSync, readSync } from 'node:fs'
import { PcapError } from './errors.ts'

export interface Captured {
  /** From 1 on, as capture tools count. */
  readonly number: number
  /** Time: seconds since 1970, and nanoseconds of that second. */
  readonly seconds: number
  readonly nanoseconds: number
  /** The LINKTYPE_... number of the interface that it was captured on. */
  readonly link: number
  /** What was captured of the frame; valid until the next one is read. */
  readonly bytes: Buffer
  /** How long the frame was on the wire. */
  readonly originalLength: number
}

export interface Capture {
  readonly format: 'pcap' | 'pcapng'
  /** Whether any time is finer than a microsecond. In pcapng that is known as far as the file has been read. */
  readonly hasNanoseconds: boolean
  /** The next frame, undefined at the end. Throws PcapError. */
  next(): Captured | undefined
  close(): void
}

/** The largest frame: more than any link carries, so that a larger number is damage. */
export const MOST_BYTES = 1 << 20

const BUFFER = 1 << 18

/** The bytes of a file, taken in order. */
export class FileBytes {
  readonly path: string
  /** Where in the file the byte lies that take() returns next. */
  offset = 0
  readonly #file: number
  #buffer = Buffer.alloc(BUFFER)
  #from = 0
  #to = 0

  constructor(path: string) {
    this.path = path
    try {
      this.#file = openSync(path, 'r')
    } catch (error) {
      throw new PcapError('PCAP_UNREADABLE', `${path} can't be read: ${reasonOf(error)}`, { cause: error })
    }
  }

  /** The next `count` bytes, fewer at the end; valid until the next call. */
  take(count: number): Buffer {
    const bytes = this.peek(count)
    this.#from += bytes.length
    this.offset += bytes.length
    return bytes
  }

  /** As take(), but the next call returns these bytes again. */
  peek(count: number): Buffer {
    if (this.#to - this.#from < count) this.#fill(count)
    return this.#buffer.subarray(this.#from, Math.min(this.#from + count, this.#to))
  }

  #fill(count: number): void {
    const larger = count > this.#buffer.length ? Buffer.alloc(count + BUFFER) : this.#buffer
    this.#buffer.copy(larger, 0, this.#from, this.#to)
    this.#buffer = larger
    this.#to -= this.#from
    this.#from = 0
    while (this.#to < count) {
      const got = this.#read(this.#to)
      if (got === 0) return
      this.#to += got
    }
  }

  #read(at: number): number {
    try {
      return readSync(this.#file, this.#buffer, at, this.#buffer.length - at, null)
    } catch (error) {
      throw new PcapError('PCAP_UNREADABLE', `${this.path} can't be read: ${reasonOf(error)}`, { cause: error })
    }
  }

  /** The error for a file that ends too early. */
  truncated(what: string, needed: number, found: number): PcapError {
    return new PcapError(
      'PCAP_TRUNCATED',
      `${this.path} is cut off in ${what} at byte ${this.offset}: ${needed} bytes should follow, ${found} do. ` +
        'Copy it again, or let the capture end before the file is taken',
    )
  }

  close(): void {
    closeSync(this.#file)
  }
}

/** Why a file can't be used, in words. */
export const reasonOf = (error: unknown): string => {
  const { code } = error as NodeJS.ErrnoException
  if (code === 'ENOENT') return 'there is no such file'
  if (code === 'EISDIR') return 'it is a directory'
  return code === 'EACCES' ? 'permission denied' : String((error as Error).message)
}
