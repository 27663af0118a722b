// Keeps the kernel's dispatch true to the leases: the programs that send a packet to its shard have them compiled in
// (ownership/ownership-rule.ts), so they are replaced when leases change, ten times a second at most. A packet that an older
// program sends to the wrong shard is handed on by that one: late is slower, not wrong.

import { Throttle, type Timers } from '../throttle.ts'

const EVERY_MS = 100

export interface KernelDispatchOptions {
  /** Changes with every change of leases (nat/externals.ts). */
  version(): number
  /** Compiles the programs anew and sets them. What it throws is told, and it is tried again at the next change. */
  replace(): void
  failed(error: unknown): void
}

export class KernelDispatch {
  readonly #options: KernelDispatchOptions
  readonly #throttle: Throttle
  /** What the programs in force were compiled by. */
  #version: number | undefined

  constructor(options: KernelDispatchOptions, timers?: Timers) {
    this.#options = options
    this.#throttle = new Throttle(EVERY_MS, () => this.#replace(), timers)
  }

  /** Leases may have changed. */
  follow(): void {
    if (this.#options.version() !== this.#version) this.#throttle.ask()
  }

  stop(): void {
    this.#throttle.stop()
  }

  #replace(): void {
    const { version, replace, failed } = this.#options
    // Asked first: what changes while it is compiled is compiled once more.
    const compiled = version()
    try {
      replace()
      this.#version = compiled
    } catch (error) {
      failed(error)
    }
  }
}
