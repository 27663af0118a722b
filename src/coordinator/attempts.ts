// Steps that the gateway takes again and again while it runs, and that may fail: a failure keeps no other step from
// being taken, is logged when it is news, and is known until the step has succeeded: to /healthz as a sentence, to
// metrics by the part of the gateway's work that it concerns. Main thread.

import type { Logger } from 'pino'
import { reasonOf } from '../host/errors.ts'
import type { HostPart } from '../metrics/host-settings.ts'

export interface Step {
  /** What is so when it fails, as the beginning of a sentence; no other step of the same object has it. */
  readonly fault: string
  /** Left out if the step has nothing to do with the host. */
  readonly part?: HostPart
  /** Does it, or throws. */
  act(): void
}

export class Attempts {
  readonly #log: Pick<Logger, 'error'>
  /** By the fault of a step: why it has failed last. */
  readonly #failing = new Map<string, { readonly reason: string; readonly part: HostPart | undefined }>()

  constructor(log: Pick<Logger, 'error'>) {
    this.#log = log
  }

  /** True if the step succeeds. Logs a failure unless it is the step's last one over again. */
  take({ fault, part, act }: Step): boolean {
    try {
      act()
      this.#failing.delete(fault)
      return true
    } catch (error) {
      const reason = reasonOf(error)
      const isNews = this.#failing.get(fault)?.reason !== reason
      this.#failing.set(fault, { reason, part })
      if (isNews) this.#log.error({ err: error }, `${fault}, will be tried again`)
      return false
    }
  }

  /** For /healthz. */
  faults(): string[] {
    return [...this.#failing].map(([fault, { reason }]) => `${fault} (${reason})`)
  }

  /** How many steps that concern a part fail now. */
  failing(part: HostPart): number {
    return [...this.#failing.values()].filter((each) => each.part === part).length
  }
}
