// The coordinator's ear: shards ring when they want something of it (memory/control-words.ts). Several rings before it
// looks are one.

import type { ControlWords } from '../../memory/control-words.ts'

export class Doorbell {
  readonly #words: ControlWords
  #isHeard = true

  /** Calls `rung` after each ring from now on. Doesn't keep the process alive. */
  constructor(words: ControlWords, rung: () => void) {
    this.#words = words
    this.#listen(rung)
  }

  stop(): void {
    this.#isHeard = false
    // Lets the listener go.
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
