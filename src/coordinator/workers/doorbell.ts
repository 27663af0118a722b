// The main thread's end of the doorbell, a word that shards raise when they want something of the coordinator
// (memory/control-words.ts). Several rings before the main thread looks count as one. Waiting for a ring doesn't block
// the event loop (Atomics.waitAsync) and doesn't keep the process alive.

import type { ControlWords } from '../../memory/control-words.ts'

export class Doorbell {
  readonly #words: ControlWords
  #isHeard = true

  /** Calls `rung` after each ring from now on. */
  constructor(words: ControlWords, rung: () => void) {
    this.#words = words
    this.#listen(rung)
  }

  stop(): void {
    this.#isHeard = false
    // Wakes the pending wait, which then ends.
    this.#words.ring()
  }

  async #listen(rung: () => void): Promise<void> {
    for (let heard = this.#words.rings(); this.#isHeard; ) {
      await this.#words.nextRing(heard)
      heard = this.#words.rings()
      if (this.#isHeard) rung()
    }
  }
}
