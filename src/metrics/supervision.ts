// What the coordinator knows of each shard and the shard can't count itself, as metrics. Read when asked, as all are.

import { Counter, Gauge, type Registry } from 'prom-client'

/** The coordinator's side of it: coordinator/supervisor.ts. */
export interface Supervised {
  /** How often the shard's thread was replaced. */
  restarts(shard: number): number
  /** Milliseconds since the shard turned last. */
  heartbeatAge(shard: number): number
}

export const RESTARTS = {
  name: 'natloom_shard_restarts_total',
  help: "Threads that failed and were replaced; the shard's connections went on",
}
export const HEARTBEAT_AGE = {
  name: 'natloom_shard_heartbeat_age_seconds',
  help: 'Time since the shard turned last; below a tenth of a second while all is well',
}

export function registerSupervision(registry: Registry, shards: number, supervised: Supervised): void {
  const numbers = Array.from({ length: shards }, (_, shard) => shard)
  const common = { labelNames: ['shard'], registers: [registry] }
  const restarts = new Counter({
    ...RESTARTS,
    ...common,
    collect() {
      restarts.reset()
      for (const shard of numbers) restarts.inc({ shard }, supervised.restarts(shard))
    },
  })
  const age = new Gauge({
    ...HEARTBEAT_AGE,
    ...common,
    collect() {
      for (const shard of numbers) age.set({ shard }, supervised.heartbeatAge(shard) / 1000)
    },
  })
}
