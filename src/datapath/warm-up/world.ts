// The memory that a warm-up works on instead of what all shards share: external addresses, routes, expectations,
// hosts, rings and the list of helpers are its own, so that no port of an external address is taken, no expectation
// stands, nothing is handed over, and nobody is asked for a neighbour. The external entry is leased to the shard here
// and nowhere else. Owner: the thread that warms up; forgotten afterwards.

import { ExpectationTable } from '../../conntrack/expectation-table.ts'
import { UNLIMITED } from '../../conntrack/host-quotas.ts'
import { HostTable } from '../../conntrack/host-table.ts'
import { INSIDE, OUTSIDE } from '../../conntrack/terms.ts'
import { DropTable } from '../../counters/drop-table.ts'
import { HelperList } from '../../helpers/helper-list.ts'
import type { HelperEntry } from '../../helpers/load.ts'
import { allocate } from '../../memory/region.ts'
import { Externals, SHARED, SPACES } from '../../nat/externals.ts'
import { Fib, type FibRoute, NEIGHBOUR, ROUTE } from '../../routing/fib.ts'
import { HandoverRings } from '../handover/handover-rings.ts'
import type { ShardMemory, ShardSettings } from '../shard-contract.ts'
import { dropTable } from '../shard-tables.ts'
import { CLIENT, EXTERNAL, LAN_ADDRESS, LAN_PREFIX, neighbourMac, portMac, ROUTER, WAN_PREFIX } from './frames.ts'

/** NAT's ports here: more than a warm-up takes, since those of UDP and ICMP are in quarantine afterwards. */
const FIRST_PORT = 16_384
const PORTS = 4096
const EXPECTATIONS = 64
const HOSTS = 64
const NO_RULES = { portForwards: [], filter: [] }
const MTU = 1500

export interface World {
  readonly memory: ShardMemory
  /** As the shard's, without port forwards and filter, which are for real traffic. */
  readonly settings: ShardSettings
  /** The driver's ports that lead to the client and to the server. */
  readonly lan: number
  readonly wan: number
  readonly expectations: ExpectationTable
  readonly helperList: HelperList
}

/** `real` is the shard's memory, of which the warm-up uses the shard's own tables. */
export function worldOf(real: ShardMemory, of: ShardSettings, helpers: readonly HelperEntry[]): World {
  const { shards, sides } = of
  const [lan, wan] = [sides.indexOf(INSIDE), sides.indexOf(OUTSIDE)]
  const settings: ShardSettings = { ...of, expectations: EXPECTATIONS, hosts: HOSTS, limits: UNLIMITED, ...NO_RULES }
  const externals = allocate((region) => new Externals(region, of.externals))
  const fib = allocate((region) => new Fib(region, of.fib))
  const handover = allocate((region) => new HandoverRings(region, shards))
  const expectations = allocate((region) => new ExpectationTable(region, { capacity: EXPECTATIONS, shards }))
  const hosts = allocate((region) => new HostTable(region, { hosts: HOSTS, shards }))
  const helperList = allocate((region) => new HelperList(region, shards))
  leaseAll(externals.view, of.shard)
  publishRoutes(fib.view, sides.length, lan, wan)
  helperList.view.publish(JSON.stringify(helpers))
  const memory: ShardMemory = {
    tables: real.tables,
    peers: real.peers,
    externals: externals.buffer,
    fib: fib.buffer,
    handover: handover.buffer,
    expectations: expectations.buffer,
    hosts: hosts.buffer,
    drops: allocate((region) => new DropTable(region, dropTable(of))).buffer,
    helperList: helperList.buffer,
  }
  return { memory, settings, lan, wan, expectations: expectations.view, helperList: helperList.view }
}

function leaseAll(externals: Externals, shard: number): void {
  const entry = externals.add(EXTERNAL, SHARED)
  const first = FIRST_PORT / externals.blockSize
  for (let space = 0; space < SPACES; space++)
    for (let block = first; block < first + PORTS / externals.blockSize; block++)
      externals.lease(entry, space, block, shard)
}

function publishRoutes(fib: Fib, ports: number, lan: number, wan: number): void {
  const route = (destination: number, length: number, extra: Partial<FibRoute>): FibRoute => ({
    ...{ destination, length, type: ROUTE.unicast, port: wan, gateway: 0, source: 0, mtu: 0, metric: 0 },
    ...extra,
  })
  const local = { type: ROUTE.local, port: -1, metric: -1 }
  const addresses = new Map([
    [lan, LAN_ADDRESS],
    [wan, EXTERNAL],
  ])
  const neighbour = (port: number, address: number) => ({
    ...{ port, address, state: NEIGHBOUR.resolved },
    mac: neighbourMac(port),
  })
  fib.publish({
    ports: Array.from({ length: ports }, (_, port) => ({
      ...{ up: true, mtu: MTU, address: addresses.get(port) ?? 0 },
      mac: portMac(port),
    })),
    routes: [
      route(LAN_PREFIX, 24, { port: lan }),
      route(WAN_PREFIX, 24, {}),
      route(0, 0, { gateway: ROUTER }),
      route(LAN_ADDRESS, 32, local),
      route(EXTERNAL, 32, local),
    ],
    neighbours: [neighbour(lan, CLIENT), neighbour(wan, ROUTER)],
  })
}
