// How many failed threads are replaced before the gateway gives up: at most `restarts` within a sliding window of
// `withinSeconds`. All threads count together, because a packet that makes one shard fail soon makes the next one fail.

export interface RestartLimitOptions {
  readonly restarts: number
  readonly withinSeconds: number
}

export class RestartLimit {
  readonly #options: RestartLimitOptions
  readonly #now: () => number
  /** Times of the replacements within the window, oldest first. */
  #times: number[] = []

  /** `now` returns milliseconds of a monotonic clock. */
  constructor(options: RestartLimitOptions, now: () => number) {
    this.#options = options
    this.#now = now
  }

  /** Whether one more thread may be replaced. If so, it is counted. */
  allows(): boolean {
    const { restarts, withinSeconds } = this.#options
    const now = this.#now()
    this.#times = this.#times.filter((time) => now - time < withinSeconds * 1000)
    if (this.#times.length >= restarts) return false
    this.#times.push(now)
    return true
  }

  /** The limit as an error message names it. */
  get text(): string {
    const { restarts, withinSeconds } = this.#options
    return restarts === 0 ? 'none is replaced' : `${restarts} were replaced within ${withinSeconds} s already`
  }
}
