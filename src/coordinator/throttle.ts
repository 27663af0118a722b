// Does something soon after it was asked for, and not more often than once in a time: however often leases change, the
// kernel gets a new program ten times a second at most. What is asked for meanwhile is done once, at the end of the time.

/** Where time comes from; Node's timers, in tests a story. */
export interface Timers {
  now(): number
  after(milliseconds: number, act: () => void): () => void
}

export class Throttle {
  readonly #everyMs: number
  readonly #act: () => void
  readonly #timers: Timers
  #nextAt = Number.NEGATIVE_INFINITY
  #cancel: (() => void) | undefined

  constructor(everyMs: number, act: () => void, timers: Timers = NODE_TIMERS) {
    this.#everyMs = everyMs
    this.#act = act
    this.#timers = timers
  }

  ask(): void {
    if (this.#cancel) return
    const wait = this.#nextAt - this.#timers.now()
    if (wait <= 0) this.#run()
    else this.#cancel = this.#timers.after(wait, () => this.#run())
  }

  /** What was asked for and is still due is not done any more. */
  stop(): void {
    this.#cancel?.()
    this.#cancel = undefined
  }

  #run(): void {
    this.#cancel = undefined
    this.#nextAt = this.#timers.now() + this.#everyMs
    this.#act()
  }
}

const NODE_TIMERS: Timers = {
  now: () => performance.now(),
  after(milliseconds, act) {
    const timer = setTimeout(act, milliseconds)
    return () => clearTimeout(timer)
  },
}
