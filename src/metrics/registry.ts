// The shards' counters as Prometheus metrics. Nothing is copied between scrapes: each metric reads its cells from
// shared memory when it is asked. The list of metrics, their help and labels is counters/counters.ts; here each gets
// the label `shard`. Authority: Prometheus' text exposition format; names as `promtool check metrics` wants them.

import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client'
import { CELL, METRICS, type Metric, type MetricKey } from '../counters/counters.ts'
import { type ExpectationCounts, registerExpectations } from './expectations.ts'
import { type HelperFailures, registerHelperFailures } from './helpers.ts'
import { type HostPortsState, registerHostPorts } from './host-ports.ts'
import { type HostRulesState, registerHostRules } from './host-rules.ts'
import { type HostSettingsState, registerHostSettings } from './host-settings.ts'
import { type InterfaceDrops, registerInterfaceDrops } from './interface-drops.ts'
import { registerSupervision, type Supervised } from './supervision.ts'
import { version } from './version.ts'

/** prom-client's own gauges that end in _total, which is a counter's ending. */
const MISNAMED = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total']

/** A worker thread of the dataplane. */
export interface CountedWorker extends Supervised {
  /** Label `shard`: its number, or `dispatcher`. */
  readonly shard: string
  /** Its counters in shared memory, as counterBlock() lays them out. */
  readonly counters: Float64Array
}

/** What the coordinator keeps beside its workers. */
export interface CoordinatorParts {
  readonly expectations: ExpectationCounts
  readonly hostRules: HostRulesState
  readonly hostPorts: HostPortsState
  readonly helpers: HelperFailures
  readonly hostSettings: HostSettingsState
  readonly interfaceDrops: InterfaceDrops
}

export function createRegistry(
  workers: readonly CountedWorker[],
  { expectations, hostRules, hostPorts, helpers, hostSettings, interfaceDrops }: CoordinatorParts,
): Registry {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  for (const name of MISNAMED) registry.removeSingleMetric(name)

  const build = { version, node: process.version }
  new Gauge({
    name: 'natloom_build_info',
    help: 'Always 1; the labels are the versions of natloom and Node.js',
    labelNames: Object.keys(build),
    registers: [registry],
  }).set(build, 1)

  for (const [key, metric] of Object.entries(METRICS)) register(registry, metric, CELL[key as MetricKey], workers)
  registerInterfaceDrops(registry, interfaceDrops)
  registerSupervision(registry, workers)
  registerExpectations(registry, expectations)
  registerHostRules(registry, hostRules)
  registerHostPorts(registry, hostPorts)
  registerHelperFailures(registry, helpers)
  registerHostSettings(registry, hostSettings)
  return registry
}

function register(registry: Registry, metric: Metric, first: number, workers: readonly CountedWorker[]): void {
  const { name, help, cells } = metric
  const labelNames = ['shard', ...Object.keys(cells[0] ?? {})]
  const each = (report: (labels: Record<string, string>, value: number) => void) => {
    for (const { shard, counters } of workers)
      for (const [i, labels] of cells.entries()) report({ shard, ...labels }, counters[first + i]!)
  }
  if (metric.type === 'counter') {
    const counter = new Counter({
      name,
      help,
      labelNames,
      registers: [registry],
      collect() {
        counter.reset()
        each((labels, value) => counter.inc(labels, value))
      },
    })
  } else {
    const gauge = new Gauge({
      name,
      help,
      labelNames,
      registers: [registry],
      collect: () => each((labels, value) => gauge.set(labels, value)),
    })
  }
}
