// What a running gateway serves to others: its API to programs on this host, its metrics and health to monitoring. Main
// thread; every answer is read from shared memory at the moment it is asked for.

import { type CountedWorker, createRegistry } from '../metrics/registry.ts'
import { type Health, MetricsServer } from '../metrics/server.ts'
import { ApiServer } from './api/api.ts'
import { connectionList } from './api/connection-list.ts'
import { dropList } from './api/drop-list.ts'
import { expectationList } from './api/expectation-list.ts'
import { hostList } from './api/host-list.ts'
import type { ExpectationGc } from './expectations/expectation-gc.ts'
import type { HelperManager } from './helpers/helper-manager.ts'
import type { HostWatch } from './host-watch.ts'
import type { HostSockets } from './leases/host-sockets.ts'
import type { GatewayMemory } from './memory.ts'
import type { Shards } from './workers/shards.ts'

export interface ApiSources {
  readonly memory: GatewayMemory
  readonly helpers: HelperManager
  /** Second of the shards' clock. */
  clock(): number
}

/** Resolves once the API answers at this unix socket. Throws ApiError. */
export const serveApi = (socket: string, { memory, helpers, clock }: ApiSources): Promise<ApiServer> =>
  ApiServer.start({
    socket,
    connections: () => connectionList(memory, clock, (id) => helpers.nameOf(id)),
    expectations: () => expectationList({ memory, helpers: helpers.list(), clock }),
    hosts: () => hostList(memory, clock),
    drops: () => dropList(memory, clock()),
    helpers,
  })

export interface MetricsSources {
  readonly memory: GatewayMemory
  readonly shards: Shards
  readonly expectationGc: ExpectationGc
  readonly hostWatch: HostWatch
  readonly hostPorts: HostSockets
  readonly helpers: HelperManager
  health(): Health
}

/** Resolves once metrics and health are answered at this `address:port`. Throws MetricsError. */
export function serveMetrics(listen: string, sources: MetricsSources): Promise<MetricsServer> {
  const { memory, shards, expectationGc, hostWatch, health, ...parts } = sources
  const host = { hostRules: hostWatch.rules, hostSettings: hostWatch }
  const registry = createRegistry(countedWorkers(memory, shards), {
    ...parts,
    ...host,
    expectations: expectationGc,
    interfaceDrops: memory,
  })
  return MetricsServer.start({ listen, registry, health })
}

/** The shards and, behind them, the dispatcher. */
function countedWorkers({ counters, dispatcher }: GatewayMemory, supervisor: Shards): CountedWorker[] {
  const counted = (shard: string, counters: Float64Array, worker: number): CountedWorker => ({
    shard,
    counters,
    restarts: () => supervisor.restarts(worker),
    heartbeatAge: () => supervisor.heartbeatAge(worker),
  })
  const shards = counters.map((each, shard) => counted(String(shard), each, shard))
  return dispatcher ? [...shards, counted('dispatcher', dispatcher.counters, shards.length)] : shards
}
