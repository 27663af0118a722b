// Whether natloom's nft rules are still in force: looked at when another program has changed the ruleset, and every few
// seconds; what somebody has removed is made again (host/rule-tables.ts), logged and counted. Main thread. Owner: the
// only caller of Host.lookAtRules.

import type { Logger } from 'pino'
import type { Host } from '../host/host.ts'
import type { HostRulesState } from '../metrics/host-rules.ts'

export class HostRules implements HostRulesState {
  readonly #host: Pick<Host, 'lookAtRules'>
  readonly #log: Pick<Logger, 'warn' | 'error'>
  #restored = 0
  #inForce = true
  #failure = ''
  #isSeen = true

  constructor(host: Pick<Host, 'lookAtRules'>, log: Pick<Logger, 'warn' | 'error'>) {
    this.#host = host
    this.#log = log
  }

  get restored(): number {
    return this.#restored
  }

  get inForce(): boolean | undefined {
    return this.#isSeen ? this.#inForce : undefined
  }

  /** `by`: the program that has changed the ruleset, where that is known. Throws what Host.lookAtRules throws. */
  look(by = 'somebody'): void {
    this.#isSeen = false
    const found = this.#host.lookAtRules()
    this.#isSeen = true
    if (!found) return
    const { inForce, restored, failure = '' } = found
    this.#inForce = inForce
    this.#restored += restored.length
    if (restored.length > 0) this.#log.warn({ tables: restored, by }, 'natloom’s nft rules were changed: made again')
    if (failure !== '' && failure !== this.#failure)
      this.#log.error({ by, failure, inForce }, 'natloom’s nft rules were changed and can’t be made again')
    this.#failure = failure
  }

  /** For /healthz, as the last look that succeeded has found them. */
  faults(): string[] {
    if (this.#inForce) return []
    return [`the nft rules are gone (${this.#failure}): the kernel forwards untranslated what natloom carries`]
  }
}
