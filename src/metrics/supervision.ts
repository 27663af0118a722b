// Each worker's restarts and the age of its heartbeat as metrics: a worker can't count them itself, the coordinator
// does. Read at each scrape.

import { Counter, Gauge, type Registry } from 'prom-client'

/** Implemented by coordinator/workers/supervisor.ts. */
export interface Supervised {
  readonly shard: string
  /** How often its thread was replaced. */
  restarts(): number
  /** Milliseconds since its last turn. */
  heartbeatAge(): number
}

export const RESTARTS = {
  name: 'natloom_shard_restarts_total',
  help: "Threads that failed and were replaced; the shard's connections went on",
}
export const HEARTBEAT_AGE = {
  name: 'natloom_shard_heartbeat_age_seconds',
  help: 'Time since the shard turned last; below a tenth of a second while all is well',
}

export function registerSupervision(registry: Registry, workers: readonly Supervised[]): void {
  const common = { labelNames: ['shard'], registers: [registry] }
  const restarts = new Counter({
    ...RESTARTS,
    ...common,
    collect() {
      restarts.reset()
      for (const worker of workers) restarts.inc({ shard: worker.shard }, worker.restarts())
    },
  })
  const age = new Gauge({
    ...HEARTBEAT_AGE,
    ...common,
    collect() {
      for (const worker of workers) age.set({ shard: worker.shard }, worker.heartbeatAge() / 1000)
    },
  })
}
