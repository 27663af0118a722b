// Tells which workers still turn. A live worker raises its heartbeat at least every 50 ms, whether it is busy or
// sleeps. A worker whose heartbeat was the same at several looks in a row is silent: wedged (a helper's endless loop, a
// system call that does not return) or starved. Looks are counted instead of time, so that a suspended machine doesn't
// look like a dead worker. Reads heartbeats only; each worker writes its own (memory/control-words.ts).

import type { ControlWords } from '../../memory/control-words.ts'

/** Silent for so many looks, a worker counts as dead. */
const SILENT_LOOKS = 5
/** The same before its first turn: it loads its code and, on the memory of a failed thread, rebuilds its indices. */
const SILENT_LOOKS_AT_START = 10
/** Milliseconds between two looks. */
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

  /** A new thread begins for this worker. */
  begin(worker: number): void {
    this.#last[worker] = 0
    this.#silent[worker] = 0
  }

  /** The workers that were silent for the last five looks or, before their first turn, for ten. */
  silent(): number[] {
    return [...this.#silent.keys()].filter((worker) => this.looks(worker) >= this.#limit(worker))
  }

  /** For how many looks in a row the worker has been silent. */
  looks(worker: number): number {
    return this.#silent[worker]!
  }

  #limit(worker: number): number {
    return this.#last[worker] === 0 ? SILENT_LOOKS_AT_START : SILENT_LOOKS
  }
}
