// `natloom run` with three workers: packets come to the shard that owns them, dispatched by the kernel or by a thread.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseMetrics, type Sample, sum, sumBy } from '../../src/lab/gateway/metrics-text.ts'
import { veth } from '../../src/lab/world/namespace.ts'
import { GATEWAY_OUTSIDE, HOST_INTERFACE, OUTSIDE_INTERFACE, REMOTE, SERVER } from '../../src/lab/world/topology.ts'
import { eventually } from '../patience.ts'
import { type Natloom, Network } from './network.ts'

const WORKERS = { NATLOOM_WORKERS: '3', NATLOOM_IO_RING_MEGABYTES: '48' }
const FLOWS = 60

let network: Network
let natloom: Natloom

beforeAll(async () => {
  network = new Network()
  await network.outside.ask('serveUdpEcho', 7)
})
afterAll(() => network?.close())

const samples = (): Sample[] => parseMetrics(network.gateway.host.exec('curl', '-s', 'http://127.0.0.1:9464/metrics'))

/** Sends datagrams from many ports, pings and fragments, and expects a reply to each. */
async function carriesAll(): Promise<void> {
  const answers = Array.from({ length: FLOWS }, () => network.lan.ask('askByUdp', SERVER, 7, 'question'))
  expect(new Set(await Promise.all(answers))).toEqual(new Set([`${GATEWAY_OUTSIDE} question`]))
  const { host } = network.lan
  expect(host.exec('ping', '-c', '2', '-i', '0.1', '-W', '60', REMOTE)).toContain('2 received')
  expect(host.exec('ping', '-c', '2', '-i', '0.1', '-s', '4000', '-W', '60', REMOTE)).toContain('2 received')
}

/** The shards that connections have begun in. */
const shardsAtWork = (now: readonly Sample[]): string[] =>
  [...sumBy(now, 'natloom_connections_inserted_total', 'shard')].flatMap(([shard, count]) => (count > 0 ? [shard] : []))

/** Packets that have reached another shard than their flow's. */
const strays = (): number => sum(samples(), 'natloom_handovers_total', { reason: 'flow' })

/**
 * Until the programs follow the leases some packets reach another shard: they are handed over, and soon there are none.
 */
const carriesAllWithoutStrays = (): Promise<void> =>
  eventually('all is carried, and nothing strays', async () => {
    const before = strays()
    await carriesAll()
    return strays() === before
  })

describe('dispatch by the kernel', () => {
  beforeAll(async () => {
    natloom = await network.forwarding(WORKERS)
  })
  afterAll(() => natloom?.stop())

  it('brings each packet to its owner, and every shard has work', async () => {
    await carriesAllWithoutStrays()
    expect(shardsAtWork(samples())).toEqual(['0', '1', '2'])
  })

  it('does so when a link went down and up', async () => {
    const { host } = network.gateway
    host.ip(`link set ${OUTSIDE_INTERFACE} down`)
    await natloom.logged('the interface is down')
    host.ip(`link set ${OUTSIDE_INTERFACE} up`)
    host.ip(`route replace default via ${SERVER}`)
    await natloom.logged('the interface is up')
    await carriesAllWithoutStrays()
  })

  it('does so over an interface that vanished and is back', async () => {
    const { gateway, outside } = network
    gateway.host.ip(`link del ${OUTSIDE_INTERFACE}`)
    await natloom.logged('no outside address')
    veth(gateway.host, OUTSIDE_INTERFACE, outside.host, HOST_INTERFACE)
    outside.host.ip(`addr add ${SERVER}/24 dev ${HOST_INTERFACE}`)
    gateway.host.ip(`addr add ${GATEWAY_OUTSIDE}/24 dev ${OUTSIDE_INTERFACE}`)
    gateway.host.ip(`route add default via ${SERVER}`)
    await natloom.logged('translating to the outside address')
    await carriesAllWithoutStrays()
  })
})

describe('dispatch by a thread', () => {
  beforeAll(async () => {
    natloom = await network.forwarding({ ...WORKERS, NATLOOM_DISPATCH: 'thread' })
  })
  afterAll(() => natloom?.stop())

  it('brings each packet to its owner, and every shard has work', async () => {
    await carriesAllWithoutStrays()
    expect(shardsAtWork(samples())).toEqual(['0', '1', '2'])
  })
})
