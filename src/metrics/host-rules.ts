// Whether the nft rules that hide natloom's packets from the kernel are in force, as metrics. Read at each scrape.

import { Counter, Gauge, type Registry } from 'prom-client'

/** Implemented by coordinator/host-rules.ts. */
export interface HostRulesState {
  /** How often a table that somebody had changed or removed was made again. */
  readonly restored: number
  /** Undefined if the last look failed. */
  readonly inForce: boolean | undefined
}

export const RULES_RESTORED = {
  name: 'natloom_host_rules_restored_total',
  help: 'Tables of nft rules that somebody else had changed or removed, and that natloom made again',
}
export const RULES_IN_FORCE = {
  name: 'natloom_host_rules_in_force',
  help: '1 while the nft rules are in force that hide from the kernel what natloom carries, else 0',
}

export function registerHostRules(registry: Registry, rules: HostRulesState): void {
  const registers = [registry]
  const restored: Counter = new Counter({
    ...RULES_RESTORED,
    registers,
    collect(): void {
      restored.reset()
      restored.inc(rules.restored)
    },
  })
  const inForce: Gauge = new Gauge({
    ...RULES_IN_FORCE,
    registers,
    collect(): void {
      if (rules.inForce === undefined) inForce.remove()
      else inForce.set(rules.inForce ? 1 : 0)
    },
  })
}
