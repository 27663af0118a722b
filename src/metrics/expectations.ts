// The expectation table, which all shards share, as metrics: what the coordinator knows of it, read at each scrape.
// What each shard announces, matches and refuses are its own counters (counters/counters.ts).

import { Counter, Gauge, type Registry } from 'prom-client'

/** Implemented by coordinator/expectations/expectation-gc.ts. */
export interface ExpectationCounts {
  /** In force now. */
  readonly count: number
  readonly limit: number
  /** Expectations that the coordinator has ended, by cause. */
  readonly ended: Readonly<Record<string, number>>
  /** Repairs of what failed workers left half done, by kind. */
  readonly mended: Readonly<Record<string, number>>
}

export function registerExpectations(registry: Registry, expectations: ExpectationCounts): void {
  const registers = [registry]
  const now: Gauge = new Gauge({
    name: 'natloom_expectations',
    help: 'Announced connections that are waited for now',
    registers,
    collect(): void {
      now.set(expectations.count)
    },
  })
  const limit: Gauge = new Gauge({
    name: 'natloom_expectations_limit',
    help: 'Announced connections that may be waited for at a time',
    registers,
    collect(): void {
      limit.set(expectations.limit)
    },
  })
  count('ended', 'cause', 'Expectations that ended unmatched and not by the shard of their master, by cause')
  count('mended', 'what', 'Slots, counts and reserved ports put in order after a worker had failed')

  function count(key: 'ended' | 'mended', label: string, help: string): void {
    const counter: Counter = new Counter({
      name: `natloom_expectations_${key}_total`,
      help,
      labelNames: [label],
      registers,
      collect(): void {
        counter.reset()
        for (const [value, total] of Object.entries(expectations[key])) counter.inc({ [label]: value }, total)
      },
    })
  }
}
