// What the pipeline's bench works on: memory, routes and leases as in a gateway of so many shards, and the flows that
// each shard owns.

import { ExpectationTable } from '../src/conntrack/expectation-table.ts'
import { UNLIMITED } from '../src/conntrack/host-quotas.ts'
import { HostTable, hostsFor } from '../src/conntrack/host-table.ts'
import { keyWord, portsWord } from '../src/conntrack/terms.ts'
import { DEFAULT_TIMEOUTS } from '../src/conntrack/timeouts.ts'
import { DropTable } from '../src/counters/drop-table.ts'
import { HandoverRings } from '../src/datapath/handover/handover-rings.ts'
import type { ShardMemory, ShardSettings } from '../src/datapath/shard-contract.ts'
import { dropTable, tableBytes } from '../src/datapath/shard-tables.ts'
import { HelperList } from '../src/helpers/helper-list.ts'
import { adviseHugePages } from '../src/io/syscalls.ts'
import { allocate, Region, sharedMemory } from '../src/memory/region.ts'
import { Externals, POOL, SPACES } from '../src/nat/externals.ts'
import { DEFAULT_NAT } from '../src/nat/settings.ts'
import { NO_RULES, ownerOfFlow } from '../src/ownership/ownership-rule.ts'
import { Fib, NEIGHBOUR, ROUTE } from '../src/routing/fib.ts'
import { parseAddress, parseMac, swap32 } from '../src/wire/address.ts'
import { PROTO_TCP, PROTO_UDP } from '../src/wire/ipv4.ts'

const LAN = 0
const WAN = 1
const INSIDE = 0
export const MACS = {
  lan: '02:00:00:00:01:01',
  wan: '02:00:00:00:02:01',
  host: '02:00:00:00:01:05',
  far: '02:00:00:00:02:fe',
}
/** So many flows get one external address, which is few enough for each to have a port of its own. */
const PORTS = 32768

export interface BenchMemory extends Omit<ShardMemory, 'tables'> {
  /** By shard. */
  readonly tables: readonly SharedArrayBuffer[]
}

/** Nanoseconds from a flow's first packet until it is established, the medians; 0 where too few flows are opened. */
export interface SetUp {
  readonly tcp: number
  readonly udp: number
}

export interface PipelineResult {
  readonly flows: number
  readonly nanosecondsPerPacket: number
  readonly nanosecondsToOpen: SetUp
  readonly dropped: number
}

export const settingsOf = (flows: number, shard: number, shards: number): ShardSettings => ({
  shard,
  shards,
  restarted: false,
  epoch: 1,
  ownerKey: 0x5eed,
  sides: [INSIDE, 1],
  hashKey: [0x1234567, 0x89abcdef | 0],
  connections: flows,
  mappings: flows,
  externals: { capacity: shards * (Math.ceil(flows / 2 / PORTS) + 1), blockSize: 64 },
  fib: { ports: 2, shards },
  expectations: 64,
  hosts: hostsFor(flows * shards),
  limits: UNLIMITED,
  tcp: { pickup: false, liberal: false, answerUnsolicited: true },
  timeouts: DEFAULT_TIMEOUTS,
  nat: { ...DEFAULT_NAT, parity: false },
  portForwards: [],
  filter: [],
  icmpErrorsPerSecond: 1000,
})

export function makeMemory(flows: number, shards: number): BenchMemory {
  const settings = settingsOf(flows, 0, shards)
  const fib = allocate((region) => new Fib(region, settings.fib))
  const externals = allocate((region) => new Externals(region, settings.externals))
  for (let i = 0; i < settings.externals.capacity; i++) {
    const entry = externals.view.add(swap32((swap32(parseAddress('203.0.113.0')) + i) | 0), POOL)
    for (let space = 0; space < SPACES; space++)
      for (let block = 16; block < 1024; block++) externals.view.lease(entry, space, block, block % shards)
  }
  const at = { type: ROUTE.unicast, gateway: 0, source: 0, mtu: 0, metric: 0 }
  const link = { up: true, mtu: 1500 }
  fib.view.publish({
    ports: [
      { ...link, address: parseAddress('10.255.255.254'), mac: parseMac(MACS.lan) },
      { ...link, address: parseAddress('198.51.100.1'), mac: parseMac(MACS.wan) },
    ],
    routes: [
      { ...at, destination: parseAddress('10.0.0.0'), length: 8, port: LAN, gateway: parseAddress('10.255.255.253') },
      { ...at, destination: 0, length: 0, port: WAN, gateway: parseAddress('198.51.100.2') },
    ],
    neighbours: [
      { port: LAN, address: parseAddress('10.255.255.253'), state: NEIGHBOUR.resolved, mac: parseMac(MACS.host) },
      { port: WAN, address: parseAddress('198.51.100.2'), state: NEIGHBOUR.resolved, mac: parseMac(MACS.far) },
    ],
  })
  const tables = Array.from({ length: shards }, () => sharedMemory(tableBytes(settings)))
  for (const each of tables) adviseHugePages(each)
  const handover = allocate((region) => new HandoverRings(region, shards))
  const hosts = allocate((region) => new HostTable(region, { hosts: settings.hosts, shards }))
  const helperList = allocate((region) => new HelperList(region, shards))
  const expectations = allocate((region) => new ExpectationTable(region, { capacity: 64, shards: shards }))
  return {
    tables,
    peers: tables,
    fib: fib.buffer,
    externals: externals.buffer,
    handover: handover.buffer,
    expectations: expectations.buffer,
    hosts: hosts.buffer,
    drops: allocate((region) => new DropTable(region, dropTable(settings))).buffer,
    helperList: helperList.buffer,
  }
}

// A flow by its number: TCP and UDP by turns, 32 to an inside address.
export const isTcpId = (id: number): boolean => (id & 1) === 0
export const insideAddressOf = (id: number): number => swap32(0x0a000000 | (1 + (id >> 5)))
export const insidePortOf = (id: number): number => 20000 + (id & 31)

/** The first `count` flows that a shard owns. */
export function ownedBy(shard: number, memory: BenchMemory, settings: ShardSettings, count: number): Int32Array {
  const externals = new Externals(new Region(memory.externals), settings.externals)
  const leases = { shards: settings.shards, key: settings.ownerKey, externals }
  const ids = new Int32Array(count)
  for (let id = 0, found = 0; found < count; id++) {
    const protocol = isTcpId(id) ? PROTO_TCP : PROTO_UDP
    const ports = portsWord(insidePortOf(id), 80)
    const owner = ownerOfFlow(keyWord(protocol, INSIDE), insideAddressOf(id), 0, ports, { leases, rules: NO_RULES })
    if (owner === shard) ids[found++] = id
  }
  return ids
}
