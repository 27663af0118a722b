// Runs an action soon after it was asked for, but at most once in a given time. What is asked for in between runs once,
// at the end of that time: however often leases change, the kernel gets at most ten new dispatch programs a second.

/** A source of time: Node's timers, or a test's virtual ones. */
export interface Timers {
  now(): number
  /** Returns a function that cancels the timer. */
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

  /** Cancels a run that is still due. */
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

export const NODE_TIMERS: Timers = {
  now: () => performance.now(),
  after(milliseconds, act) {
    const timer = setTimeout(act, milliseconds)
    return () => clearTimeout(timer)
  },
}
