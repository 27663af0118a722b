// What /healthz says (metrics/server.ts): why the gateway does not forward all that it should, as sentences for people,
// and the state of its parts. The answer is 503 while there is a reason. A part that can be unwell adds a check of its
// own; nothing is kept between two looks. Main thread.

import type { LinkReport } from '../host/host-tables.ts'
import type { Health } from '../metrics/server.ts'
import { masterOf } from './interfaces/links.ts'

/** What is wrong with a part at this moment, a sentence for each fault; empty while all is well. */
export type HealthCheck = () => readonly string[]

export interface HealthParts {
  /** How many shards there are. */
  readonly shards: number
  /** Names of the workers that don't turn. */
  notTurning(): readonly string[]
  /** How many external addresses are leased. */
  externalAddresses(): number
  /** The watcher's last report, by port number. */
  links(): readonly LinkReport[]
}

export class GatewayHealth {
  readonly #parts: HealthParts
  readonly #checks: HealthCheck[]

  constructor(parts: HealthParts) {
    this.#parts = parts
    this.#checks = [
      () => parts.notTurning().map((worker) => `${worker} does not turn`),
      () => (parts.externalAddresses() === 0 ? ['there is no external address: nothing is translated'] : []),
      () => parts.links().flatMap(linkFaults),
    ]
  }

  /** The check is asked at each look from now on. */
  add(check: HealthCheck): void {
    this.#checks.push(check)
  }

  /** Whether every worker's heartbeat moves. */
  isTurning(): boolean {
    return this.#parts.notTurning().length === 0
  }

  reasons(): string[] {
    return this.#checks.flatMap((check) => check())
  }

  now(): Health {
    const { shards, notTurning, externalAddresses, links } = this.#parts
    return {
      reasons: this.reasons(),
      detail: {
        shards,
        notTurning: notTurning(),
        externalAddresses: externalAddresses(),
        interfaces: links().map(({ name, up }) => ({ name, up })),
      },
    }
  }
}

function linkFaults(link: LinkReport): string[] {
  const { name, present, renamedTo, enabled, up, addresses } = link
  const master = masterOf(link)
  if (!present) return [renamedTo === undefined ? `interface ${name} is gone` : `interface ${name} is ${renamedTo} now`]
  if (master) return [`the ${master.kind} ${master.name} takes all frames of interface ${name}`]
  const down = enabled ? `interface ${name} has no carrier` : `interface ${name} is down`
  return [...(up ? [] : [down]), ...(addresses.length > 0 ? [] : [`interface ${name} has no IPv4 address`])]
}
