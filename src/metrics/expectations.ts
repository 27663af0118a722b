// What the coordinator knows of the expectation table, which is all shards' and none's, as metrics. Read when asked, as
// all are; what each shard announces, matches and refuses are its own counters (counters/counters.ts).

import { Counter, Gauge, type Registry } from 'prom-client'

/** Answered by coordinator/expectations/expectation-gc.ts. */
export interface KeptExpectations {
  /** Now. */
  readonly count: number
  readonly limit: number
  /** Expectations that ended unmatched, by cause. */
  readonly ended: Readonly<Record<string, number>>
  /** Of what failed workers left behind. */
  readonly mended: Readonly<Record<string, number>>
}

export function registerExpectations(registry: Registry, kept: KeptExpectations): void {
  const registers = [registry]
  const now: Gauge = new Gauge({
    name: 'natloom_expectations',
    help: 'Announced connections that are waited for now',
    registers,
    collect(): void {
      now.set(kept.count)
    },
  })
  const limit: Gauge = new Gauge({
    name: 'natloom_expectations_limit',
    help: 'Announced connections that may be waited for at a time',
    registers,
    collect(): void {
      limit.set(kept.limit)
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
        for (const [value, so] of Object.entries(kept[key])) counter.inc({ [label]: value }, so)
      },
    })
  }
}
