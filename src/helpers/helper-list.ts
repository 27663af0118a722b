// The list of helpers in force, as text (JSON; helpers/load.ts says of what), how far each shard has followed it, and
// which helper's code each shard runs at the moment. Shards have modules of their own and can't be given functions:
// they are told names, and import for themselves.
//
//   version word     means                                   stored by
//   0                there was no list yet                   nobody
//   odd              the text is being written               coordinator
//   even             the text is the list of this version    coordinator
// A reader copies the text and looks whether the version is still the same; each new list has a new version.
//
//   running word              means                                              stored by
//   0                         the shard runs natloom's own code, or none         the shard, after each call
//   id | entry point          it is in this helper's code, entered there         the shard, before each call
// A thread that does not come back from a helper leaves the word as it is: so the coordinator sees, when the thread has
// ended, whose fault that was (coordinator/helpers/helper-manager.ts). It clears the word before the next thread
// begins.
//
// Owner: the coordinator the version and the text; each shard its running word and its own report (the version it has
// followed, and what went wrong with it), stored in the order fault, version.

import { CACHE_LINE_WORDS, type Region } from '../memory/region.ts'

const VERSION = 0
const LENGTH = 1
const FAULT_LENGTH = 1
/** Beside the report, on the shard's own cache line. */
const RUNNING = 2
/** Bytes. Pages that nobody writes to cost nothing. */
const TEXT_BYTES = 1 << 18
const FAULT_BYTES = 1 << 10

/** Where natloom calls a helper's code, as the running word has it. */
export const ENTRY = { import: 0x100, state: 0x200, help: 0x300, expected: 0x400 } as const
export type Entry = (typeof ENTRY)[keyof typeof ENTRY]
const ENTRY_NAMES: Readonly<Record<number, string>> = {
  [ENTRY.import]: 'the import of its module',
  [ENTRY.state]: 'state()',
  [ENTRY.help]: 'help()',
  [ENTRY.expected]: 'expected()',
}

export class HelperList {
  readonly #words: Int32Array
  readonly #text: Uint8Array
  readonly #reports: Int32Array
  readonly #faults: Uint8Array

  constructor(region: Region, shards: number) {
    this.#words = region.i32(CACHE_LINE_WORDS)
    this.#text = region.u8(TEXT_BYTES)
    this.#reports = region.i32(shards * CACHE_LINE_WORDS)
    this.#faults = region.u8(shards * FAULT_BYTES)
  }

  /** A plain load: it may be seen a turn late. */
  version(): number {
    return this.#words[VERSION]!
  }

  /** Undefined while it is being written. */
  read(): { readonly version: number; readonly text: string } | undefined {
    const version = Atomics.load(this.#words, VERSION)
    if ((version & 1) !== 0) return undefined
    const text = textOf(this.#text, 0, this.#words[LENGTH]!)
    return Atomics.load(this.#words, VERSION) === version ? { version, text } : undefined
  }

  // --- the coordinator's side ---

  /** The version of the new list. @throws RangeError if there is no room for it. */
  publish(text: string): number {
    const bytes = Buffer.from(text)
    if (bytes.length > TEXT_BYTES)
      throw new RangeError(`the list of helpers takes ${bytes.length} bytes, there are ${TEXT_BYTES}`)
    const version = Atomics.load(this.#words, VERSION) + 2
    Atomics.store(this.#words, VERSION, version - 1)
    this.#text.set(bytes)
    this.#words[LENGTH] = bytes.length
    Atomics.store(this.#words, VERSION, version)
    return version
  }

  /** What the shard has reported last. */
  reportOf(shard: number): { readonly version: number; readonly fault: string } {
    for (;;) {
      const version = Atomics.load(this.#reports, shard * CACHE_LINE_WORDS + VERSION)
      const fault = textOf(this.#faults, shard * FAULT_BYTES, this.#reports[shard * CACHE_LINE_WORDS + FAULT_LENGTH]!)
      if (Atomics.load(this.#reports, shard * CACHE_LINE_WORDS + VERSION) === version) return { version, fault }
    }
  }

  /** Which helper's code the shard runs, or did not come back from; undefined if none. `entry`: for people. */
  running(shard: number): { readonly id: number; readonly entry: string } | undefined {
    const word = Atomics.load(this.#reports, shard * CACHE_LINE_WORDS + RUNNING)
    return word === 0 ? undefined : { id: word & 0xff, entry: ENTRY_NAMES[word & ~0xff]! }
  }

  /** No thread of the shard lives any more. */
  clearRunning(shard: number): void {
    Atomics.store(this.#reports, shard * CACHE_LINE_WORDS + RUNNING, 0)
  }

  /** Resolves with true once the shard has followed this version or a later one; with false if not within this time. */
  async followed(shard: number, version: number, withinMs: number): Promise<boolean> {
    const until = performance.now() + withinMs
    for (;;) {
      const reported = Atomics.load(this.#reports, shard * CACHE_LINE_WORDS + VERSION)
      if (((reported - version) | 0) >= 0) return true
      const left = until - performance.now()
      if (left <= 0) return false
      const waiting = Atomics.waitAsync(this.#reports, shard * CACHE_LINE_WORDS + VERSION, reported, left)
      if (waiting.async) await waiting.value
    }
  }

  // --- a shard's side ---

  /** The shard's running word, as a view of one word. */
  runningWordOf(shard: number): Int32Array {
    const at = shard * CACHE_LINE_WORDS + RUNNING
    return this.#reports.subarray(at, at + 1)
  }

  /** The shard has followed this version; `fault` is empty, or says what it could not do. */
  report(shard: number, version: number, fault: string): void {
    const bytes = Buffer.from(fault).subarray(0, FAULT_BYTES)
    this.#faults.set(bytes, shard * FAULT_BYTES)
    this.#reports[shard * CACHE_LINE_WORDS + FAULT_LENGTH] = bytes.length
    Atomics.store(this.#reports, shard * CACHE_LINE_WORDS + VERSION, version)
    Atomics.notify(this.#reports, shard * CACHE_LINE_WORDS + VERSION)
  }
}

/** Copied first: it may change under a decoder's hands. */
const textOf = (bytes: Uint8Array, at: number, length: number): string =>
  Buffer.from(bytes.slice(at, at + length)).toString()
