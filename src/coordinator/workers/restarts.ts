// How often a thread that failed is replaced before the gateway gives up: so many in a time, in a window that slides.
// All threads count together: what fails in one (a packet that no code is prepared for) soon fails in the next.

export interface RestartLimitOptions {
  readonly restarts: number
  readonly withinSeconds: number
}

export class RestartLimit {
  readonly #options: RestartLimitOptions
  readonly #now: () => number
  /** When the last ones were, oldest first. */
  #times: number[] = []

  /** `now` in milliseconds of a clock that never goes back. */
  constructor(options: RestartLimitOptions, now: () => number) {
    this.#options = options
    this.#now = now
  }

  /** Counts one more, unless it is one too many. */
  allows(): boolean {
    const { restarts, withinSeconds } = this.#options
    const now = this.#now()
    this.#times = this.#times.filter((time) => now - time < withinSeconds * 1000)
    if (this.#times.length >= restarts) return false
    this.#times.push(now)
    return true
  }

  /** For whoever has to be told. */
  get text(): string {
    const { restarts, withinSeconds } = this.#options
    return restarts === 0 ? 'none is replaced' : `${restarts} were replaced within ${withinSeconds} s already`
  }
}
