// Failures of helpers as a metric: a helper that fails so takes its shard's thread along, so the coordinator counts
// them. Read at each scrape. What helpers do while all is well, and what they throw, are counters of the shards
// (counters/counters.ts).

import { Counter, type Registry } from 'prom-client'

/** Implemented by coordinator/helpers/helper-manager.ts. */
export interface HelperFailures {
  /** Of each helper that ever was in force, for each reason, also if it is 0. */
  failures(): readonly { readonly helper: string; readonly why: string; readonly count: number }[]
}

export const HELPER_FAILURES = {
  name: 'natloom_helper_failures_total',
  help: 'Failures of helpers that took a thread along, by why; the helper is unloaded, the thread replaced',
}

export function registerHelperFailures(registry: Registry, helpers: HelperFailures): void {
  const counter = new Counter({
    ...HELPER_FAILURES,
    labelNames: ['helper', 'why'],
    registers: [registry],
    collect() {
      counter.reset()
      for (const { helper, why, count } of helpers.failures()) counter.inc({ helper, why }, count)
    },
  })
}
