// One shard's thread of the model of hosts (host-threads.ts): begins and ends connections of hosts at random, each as a
// shard does, and notes the most that a host has had.

import { workerData } from 'node:worker_threads'
import { UNLIMITED } from '../../src/conntrack/host-quotas.ts'
import { HOST, HostTable } from '../../src/conntrack/host-table.ts'
import { attach } from '../../src/memory/attached.ts'
import { Region } from '../../src/memory/region.ts'
import {
  AT_WORK,
  BEGUN,
  HOSTS,
  type HostThread,
  LIMIT,
  MOST,
  NAMES,
  REFUSED,
  SHIFT,
  turnsWord,
} from './host-threads.ts'

const { shard, shards, operations, ...data } = workerData as HostThread
const unused = new Region()
attach({
  packetMemory: new ArrayBuffer(0),
  counters: unused,
  connections: unused,
  mappings: unused,
  permissions: unused,
  sequences: unused,
  gone: unused,
  events: unused,
  capacity: 1,
  mappingCapacity: 1,
})
const hosts = await import('../../src/conntrack/hosts.shard.ts')
const { attachHashKey } = await import('../../src/memory/siphash.ts')
const { attachRandom, random32 } = await import('../../src/memory/random.ts')
const { INSIDE } = await import('../../src/conntrack/terms.ts')

const table = new HostTable(new Region(data.table), { hosts: HOSTS, shards })
const state = new Int32Array(data.state)
attachHashKey(1, 2)
attachRandom(shard, 1)
const connections = { all: LIMIT, shard: LIMIT }
hosts.attachHosts(table, shard, { ...UNLIMITED, defaults: { ...UNLIMITED.defaults, connections } })

/** Connections that this thread has begun, and whether each counts in the row of all hosts without one. */
const open: { readonly host: number; readonly asOthers: boolean }[] = []

function begin(host: number): void {
  if (!hosts.hasConnectionsLeft(host, INSIDE)) {
    Atomics.add(state, REFUSED, 1)
    return
  }
  const row = hosts.countConnection(host, false)
  const asOthers = hosts.isOthers(row)
  open.push({ host, asOthers })
  Atomics.add(state, BEGUN, 1)
  const has = table.sum(row, HOST.connections)
  for (let most = Atomics.load(state, MOST); has > most; most = Atomics.load(state, MOST))
    Atomics.compareExchange(state, MOST, most, has)
}

function end(at: number): void {
  const { host, asOthers } = open[at]!
  open[at] = open.at(-1)!
  open.pop()
  hosts.countDown(host, HOST.connections, asOthers)
}

for (let i = 0; i < operations; i++) {
  // Tides: hosts fill up to their limits, and all of them go.
  const rises = (i >> 9) % 2 === 0
  const first = Math.floor(Atomics.load(state, BEGUN) / SHIFT)
  const host = 1 + ((first + (random32() % AT_WORK)) % NAMES)
  if (open.length === 0 || random32() % 4 < (rises ? 3 : 1)) begin(host)
  else end(random32() % open.length)
  if (i % 16 === 0) Atomics.add(state, turnsWord(shard), 1)
}
while (open.length > 0) end(open.length - 1)
