// Quotas a host across shards: whatever shard its flows hash to, a host gets no less than 90 % of a limit and no more
// than 110 %, and others nothing less. With what is the default, one host gets a quarter of each table at most.

import { describe, expect, it } from 'vitest'
import type { HostQuotas } from '../../src/conntrack/host-quotas.ts'
import { HOST } from '../../src/conntrack/host-table.ts'
import { loadConfig } from '../../src/control/config.ts'
import { hostQuotas } from '../../src/coordinator/host-limits.ts'
import { HOST_LIMIT, type HostLimitName } from '../../src/counters/host-limits.ts'
import { ownerOf } from '../../src/ownership/ownership-rule.ts'
import { fragments, frame } from '../../src/testing/builder.ts'
import { parseAddress, swap32 } from '../../src/wire/address.ts'
import { Cluster } from './cluster.ts'
import { quotas } from './host-quotas.ts'
import { MAC, SERVER } from './network.ts'
import { udp } from './packets.ts'

const UDP = 17
const ETH = { src: MAC.host, dst: MAC.lan }
const PAYLOAD = new Uint8Array(120)
const [ONE, OTHER] = ['10.0.0.5', '10.0.0.6']
const LIMIT = 100
const HASHES = ['any shard', 'one shard'] as const
type Hash = (typeof HASHES)[number]

/** Ports of a host's flows, as many as asked for, that belong to any shard or all to shard 0. */
function portsOf(cluster: Cluster, host: string, hash: Hash, count: number): number[] {
  const ports: number[] = []
  const numbers = { protocol: UDP, source: swap32(parseAddress(host)), destination: swap32(parseAddress(SERVER)) }
  for (let sourcePort = 1024; ports.length < count; sourcePort++) {
    const packet = { ...numbers, sourcePort, destinationPort: 80 }
    if (hash === 'any shard' || ownerOf(0, packet, cluster.leases, cluster.rules) === 0) ports.push(sourcePort)
  }
  return ports
}

const opened = (cluster: Cluster, host: string, hash: Hash, count: number): number =>
  portsOf(cluster, host, hash, count).filter(
    (port) => cluster.inside(udp(`${host}:${port}`, `${SERVER}:80`)).length > 0,
  ).length

const has = ({ hosts }: Cluster, host: string, word: number): number => {
  const row = hosts.names.indexOf(parseAddress(host))
  return row < 0 ? 0 : hosts.sum(row, word)
}

/** The same in one shard. */
const hasIn = ({ hosts }: Cluster, shard: number, host: string, word: number): number =>
  hosts.counts[hosts.line(hosts.names.indexOf(parseAddress(host)), shard) + word]!
const sum = ({ shards }: Cluster, of: (shard: number) => number): number =>
  Array.from({ length: shards }, (_, shard) => of(shard)).reduce((total, each) => total + each, 0)
const ownerOfFragment = (cluster: Cluster, host: string, fragment: number): number => {
  const numbers = { protocol: UDP, source: swap32(parseAddress(host)), destination: swap32(parseAddress(SERVER)) }
  return ownerOf(0, { ...numbers, sourcePort: 0, destinationPort: 0, fragment }, cluster.leases, cluster.rules)
}

describe.each([1, 4, 16])('with %i shards', (shards) => {
  const start = (limits: HostQuotas) => Cluster.start({ shards, limits, nat: { parity: false } })

  for (const limit of ['connections', 'ports', 'new-connections'] satisfies HostLimitName[])
    it.each(HASHES)(`${limit} of a host are as many as its limit, its flows in %s`, async (hash) => {
      const cluster = await start(quotas({ [limit]: LIMIT }))
      // Of ports a shard has so many only: a sixteenth of 2,048 in 16 shards.
      expect(opened(cluster, ONE, hash, 125)).toBe(LIMIT)
      expect(opened(cluster, OTHER, 'any shard', 60)).toBe(60)
      expect(cluster.drops()).toEqual({ 'host-limit': 25 })
      expect([has(cluster, ONE, HOST.connections), has(cluster, OTHER, HOST.connections)]).toEqual([LIMIT, 60])
      cluster.check()
      await cluster.restart(0)
      cluster.turn()
      expect(has(cluster, ONE, HOST.connections)).toBe(LIMIT)
      cluster.check()
      // What a crash has left in quarantine is nobody's, the rest goes by.
      cluster.pass(302)
      cluster.pass(122)
      for (const host of [ONE, OTHER])
        expect([HOST.connections, HOST.ports, HOST.resting].map((word) => has(cluster, host, word))).toEqual([0, 0, 0])
      expect(opened(cluster, ONE, hash, 125)).toBe(LIMIT)
      cluster.check()
    })

  it.each(HASHES)('fragmented packets of a host are followed as many as its limit says, of %s', async (hash) => {
    const cluster = await start(quotas({ 'fragment-records': LIMIT }))
    const first = (host: string, id: number) =>
      fragments(frame({ eth: ETH, ...udp(`${host}:5000`, `${SERVER}:80`, { ip: { id } }), payload: PAYLOAD }), 48)[0]!
    const ids = (host: string, count: number): number[] => {
      const wanted: number[] = []
      for (let fragment = 1; wanted.length < count; fragment++)
        if (hash === 'any shard' || ownerOfFragment(cluster, host, fragment) === 0) wanted.push(fragment)
      return wanted
    }
    const send = (host: string, count: number) =>
      ids(host, count).filter((id) => cluster.inside(first(host, id)).length > 0).length
    // What is not followed any more has gone on all the same.
    expect(send(ONE, 125)).toBe(125)
    expect(send(OTHER, 60)).toBe(60)
    expect([has(cluster, ONE, HOST.fragments), has(cluster, OTHER, HOST.fragments)]).toEqual([LIMIT, 60])
    const lost = hasIn(cluster, 0, ONE, HOST.fragments)
    if (hash === 'one shard') expect(lost).toBe(LIMIT)
    await cluster.restart(0)
    cluster.turn()
    expect(has(cluster, ONE, HOST.fragments)).toBe(LIMIT - lost)
    cluster.pass(33)
    expect([has(cluster, ONE, HOST.fragments), has(cluster, OTHER, HOST.fragments)]).toEqual([0, 0])
    cluster.check()
  })

  it('a forged source of fragments is no host, whichever shard its flow belongs to', async () => {
    const cluster = await start(quotas({ 'fragment-records': LIMIT }))
    for (let port = 1; port <= 64; port++) {
      const forged = udp(`198.51.100.9:${port}`, `${SERVER}:80`, { ip: { id: port } })
      for (const piece of fragments(frame({ eth: ETH, ...forged, payload: PAYLOAD }), 48)) cluster.inside(piece)
    }
    expect(cluster.hosts.names.every((name) => name === 0)).toBe(true)
    cluster.check()
  })

  it.each(HASHES)('connections of a host that helpers read are as many as its limit, its flows in %s', async (hash) => {
    const cluster = await start(quotas({ 'helped-connections': LIMIT }))
    cluster.help(() => ({
      name: 'reading',
      tuple: { proto: 'udp', dstPort: 80 },
      state: () => ({}),
      help() {},
    }))
    expect(opened(cluster, ONE, hash, 125)).toBe(125)
    expect(opened(cluster, OTHER, 'any shard', 60)).toBe(60)
    expect([has(cluster, ONE, HOST.helped), has(cluster, OTHER, HOST.helped)]).toEqual([LIMIT, 60])
    const limit = HOST_LIMIT['helped-connections']
    expect(sum(cluster, (shard) => cluster.counter(shard, 'hostsLimited', limit))).toBe(25)
    expect(sum(cluster, (shard) => cluster.counter(shard, 'helped'))).toBe(LIMIT + 60)
    const lost = cluster.counter(0, 'helped')
    await cluster.restart(0)
    cluster.turn()
    expect(has(cluster, ONE, HOST.helped) + has(cluster, OTHER, HOST.helped)).toBe(LIMIT + 60 - lost)
    cluster.pass(302)
    expect([has(cluster, ONE, HOST.helped), has(cluster, OTHER, HOST.helped)]).toEqual([0, 0])
    cluster.check()
  })

  it('shards that ask at once pass a limit by one each, less one', async () => {
    const cluster = await start(quotas({}))
    const { hosts } = cluster
    opened(cluster, ONE, 'any shard', 1)
    const row = hosts.names.indexOf(parseAddress(ONE))
    const asked = Array.from({ length: shards }, () => hosts.sum(row, HOST.connections) < 2)
    for (const [shard, mayBegin] of asked.entries())
      if (mayBegin) hosts.counts[hosts.line(row, shard) + HOST.connections]! += 1
    expect(hosts.sum(row, HOST.connections)).toBe(2 + shards - 1)
  })
})

describe('by default', () => {
  const settings = (workers: number, env: Readonly<Record<string, string>> = {}) =>
    loadConfig({
      env: {
        ...{ NATLOOM_CONFIG: '/dev/null', NATLOOM_INSIDE: 'lan0', NATLOOM_OUTSIDE: 'wan0' },
        ...{ NATLOOM_WORKERS: String(workers), ...env },
      },
    }).config

  it.each([1, 4, 16, 32])('2,000 connections of a normal host meet no limit of %i shards', (workers) => {
    // As few as a gateway has by default.
    const config = settings(workers, { NATLOOM_CAPACITY_CONNECTIONS: '16384', NATLOOM_DISPATCH: 'thread' })
    const { defaults } = hostQuotas(config)
    for (const limit of ['connections', 'ports', 'new-connections'] as const)
      expect(defaults[limit].all).toBeGreaterThan(2000)
    // In a shard come so many of 2,000 by the hash, with as many standard deviations to spare.
    const mean = 2000 / workers
    expect(defaults.connections.shard).toBeGreaterThan(mean + 6 * Math.sqrt(mean))
  })

  it.each([1, 4])('one host gets a quarter of the rows of %i shards, and of each shard', async (shards) => {
    const config = settings(shards, { NATLOOM_CAPACITY_CONNECTIONS: '1024' })
    const { defaults } = hostQuotas(config)
    const limits = quotas({ connections: defaults.connections.all })
    const cluster = await Cluster.start({
      shards,
      limits: { ...limits, defaults: { ...limits.defaults, connections: defaults.connections } },
      nat: { parity: false },
    })
    const inOne = portsOf(cluster, ONE, 'one shard', 300)
    for (const port of inOne) cluster.inside(udp(`${ONE}:${port}`, `${SERVER}:80`))
    expect(has(cluster, ONE, HOST.connections)).toBe(1024 / shards / 4)
    expect(opened(cluster, ONE, 'any shard', 600)).toBeLessThanOrEqual(256)
    expect(has(cluster, ONE, HOST.connections)).toBe(256)
    cluster.check()
  })
})
