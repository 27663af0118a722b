// The filter of a running gateway with two shards, between real hosts: what is denied is told to its sender by the
// kernel's own words for ICMP 3/13, in either direction, and is counted; what is allowed passes.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { GATEWAY_OUTSIDE, SERVER } from '../../src/lab/world/topology.ts'
import { type EndHost, type Natloom, Network } from './network.ts'

let network: Network
let natloom: Natloom

beforeAll(async () => {
  network = new Network()
  await network.outside.ask('serveTcpEcho', 7)
  await network.outside.ask('serveTcpEcho', 25)
  await network.lan.ask('serveTcpEcho', 7000)
  natloom = await network.forwarding({
    NATLOOM_WORKERS: '2',
    NATLOOM_FORWARD: 'tcp :21 10.0.0.2:7000, tcp :22 10.0.0.2:7001',
    NATLOOM_FILTER: 'deny out tcp port 25, deny icmp inside 10.0.0.2, allow in port 7000, deny in',
  })
})
afterAll(async () => {
  await natloom?.stop()
  await network?.close()
})

/** What ping says of one echo request; it ends with 1 if there is no answer. */
const ping = ({ host }: EndHost, ...more: string[]) =>
  host.exec('sh', '-c', `ping -c 1 -W 60 ${more.join(' ')} ${SERVER} || true`)

/** Drops for the filter's sake, of both shards. */
function denied(): number {
  const metrics = network.gateway.host.exec('curl', '-s', 'http://127.0.0.1:9464/metrics')
  const counts = metrics.matchAll(/^natloom_dropped_packets_total\{.*reason="filter-denied".*\} (\d+)$/gm)
  return [...counts].reduce((sum, [, count]) => sum + Number(count), 0)
}

describe('a flow that the filter denies', () => {
  it('from inside to a port: its sender is told at once', async () => {
    const before = denied()
    expect((await network.lan.ask('open', SERVER, 25)).seen).toBe('EHOSTUNREACH')
    expect(denied()).toBeGreaterThan(before)
  })

  it('from outside to a forwarded port, by the port of the server inside', async () => {
    const before = denied()
    expect((await network.outside.ask('open', GATEWAY_OUTSIDE, 22)).seen).toBe('EHOSTUNREACH')
    expect(denied()).toBeGreaterThan(before)
  })

  it('of ICMP, from one inside address and not from others', () => {
    expect(ping(network.lan, '-I', '10.0.0.2')).toContain('Packet filtered')
    expect(ping(network.lan, '-I', '10.0.0.3')).toContain('1 received')
  })
})

describe('a flow that the filter allows', () => {
  it('passes: from inside to another port, from outside to a forwarded one', async () => {
    const before = denied()
    expect((await network.lan.ask('open', SERVER, 7)).seen).toContain(GATEWAY_OUTSIDE)
    expect((await network.outside.ask('open', GATEWAY_OUTSIDE, 21)).seen).toContain(SERVER)
    expect(denied()).toBe(before)
  })
})
