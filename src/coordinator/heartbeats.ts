// Which shards still turn. A shard that is alive raises its heartbeat at least every 50 ms, asleep or busy; one whose
// heartbeat was the same at several looks in a row is wedged (a helper's endless loop, a system call that does not
// return) or starved. Looks are counted, not time, so that a suspended machine doesn't look like a dead shard.

import type { ControlWords } from '../memory/control-words.ts'

/** What is called a shard's end, in looks. */
const SILENT_LOOKS = 5
/** Time between two looks. */
export const LOOK_EVERY_MS = 1000

export class Heartbeats {
  readonly #words: ControlWords
  readonly #last: Int32Array
  readonly #silent: Int32Array

  constructor(words: ControlWords, shards: number) {
    this.#words = words
    this.#last = new Int32Array(shards)
    this.#silent = new Int32Array(shards)
  }

  /** Looks at every shard; to be called every LOOK_EVERY_MS. */
  look(): void {
    for (let shard = 0; shard < this.#last.length; shard++) {
      const heartbeat = this.#words.heartbeat(shard)
      this.#silent[shard] = heartbeat === this.#last[shard] ? this.#silent[shard]! + 1 : 0
      this.#last[shard] = heartbeat
    }
  }

  /** The shards that were silent at the last five looks. */
  silent(): number[] {
    return [...this.#silent.keys()].filter((shard) => this.#silent[shard]! >= SILENT_LOOKS)
  }
}
