import type { Timers } from '../../src/coordinator/interfaces/throttle.ts'

/** A virtual clock with timers: a test moves it on. */
export class Story implements Timers {
  #now = 0
  #due: { at: number; act: () => void }[] = []

  now(): number {
    return this.#now
  }
  after(milliseconds: number, act: () => void): () => void {
    const entry = { at: this.#now + milliseconds, act }
    this.#due.push(entry)
    return () => {
      this.#due = this.#due.filter((other) => other !== entry)
    }
  }
  goOn(milliseconds: number): void {
    this.#now += milliseconds
    const due = this.#due.filter(({ at }) => at <= this.#now)
    this.#due = this.#due.filter(({ at }) => at > this.#now)
    for (const { act } of due) act()
  }
}
