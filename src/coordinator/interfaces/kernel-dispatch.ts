// Keeps the kernel's dispatch programs in step with the leases. The programs send each packet to the shard that owns it
// and have the leases compiled in (ownership/ownership-bpf.ts), so they are replaced after a change, at most ten times
// a second. A shard that gets a packet by an outdated program hands it over to the owner: slower, not wrong.

import { Throttle, type Timers } from './throttle.ts'

const EVERY_MS = 100

export interface KernelDispatchOptions {
  /** A number that every change of leases changes (nat/externals.ts). */
  version(): number
  /** Compiles the programs anew and sets them. If it throws, it is called again at the next change. */
  replace(): void
  /** `replace` has thrown. */
  failed(error: unknown): void
}

export class KernelDispatch {
  readonly #options: KernelDispatchOptions
  readonly #throttle: Throttle
  /** The version of the leases that the programs in force were compiled from. */
  #version: number | undefined

  constructor(options: KernelDispatchOptions, timers?: Timers) {
    this.#options = options
    this.#throttle = new Throttle(EVERY_MS, () => this.#replace(), timers)
  }

  /** To be called after every change of leases; may be called without one. */
  follow(): void {
    if (this.#options.version() !== this.#version) this.#throttle.ask()
  }

  stop(): void {
    this.#throttle.stop()
  }

  #replace(): void {
    const { version, replace, failed } = this.#options
    // Read before the programs are compiled: a change that comes meanwhile has them compiled once more.
    const compiled = version()
    try {
      replace()
      this.#version = compiled
    } catch (error) {
      failed(error)
    }
  }
}
