// Which workers still turn. One that is alive raises its heartbeat at least every 50 ms, asleep or busy; one whose
// heartbeat was the same at several looks in a row is wedged (a helper's endless loop, a system call that does not
// return) or starved. Looks are counted, not time, so that a suspended machine doesn't look like a dead worker.

import type { ControlWords } from '../../memory/control-words.ts'

/** What is called a worker's end, in looks. */
const SILENT_LOOKS = 5
/** Before its first turn: it loads its code, and one that goes on with a dead one's memory makes its indices anew. */
const SILENT_LOOKS_AT_START = 10
/** Time between two looks. */
export const LOOK_EVERY_MS = 1000

export class Heartbeats {
  readonly #words: ControlWords
  readonly #last: Int32Array
  readonly #silent: Int32Array

  constructor(words: ControlWords, workers: number) {
    this.#words = words
    this.#last = new Int32Array(workers)
    this.#silent = new Int32Array(workers)
  }

  /** Looks at every worker; to be called every LOOK_EVERY_MS. */
  look(): void {
    for (let worker = 0; worker < this.#last.length; worker++) {
      const heartbeat = this.#words.heartbeat(worker)
      this.#silent[worker] = heartbeat === this.#last[worker] ? this.#silent[worker]! + 1 : 0
      this.#last[worker] = heartbeat
    }
  }

  /** Another worker begins in this place. */
  begin(worker: number): void {
    this.#last[worker] = 0
    this.#silent[worker] = 0
  }

  /** The workers that were silent at the last five looks, before their first turn at ten. */
  silent(): number[] {
    return [...this.#silent.keys()].filter((worker) => this.looks(worker) >= this.#limit(worker))
  }

  /** At so many looks in a row the worker was silent. */
  looks(worker: number): number {
    return this.#silent[worker]!
  }

  #limit(worker: number): number {
    return this.#last[worker] === 0 ? SILENT_LOOKS_AT_START : SILENT_LOOKS
  }
}
