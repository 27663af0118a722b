// Sockets that the host opens in NAT's range while `natloom run` forwards: they work at once, NAT keeps off their
// ports, and a port that both have is NAT's.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseMetrics } from '../../src/lab/gateway/metrics-text.ts'
import { SERVER } from '../../src/lab/world/topology.ts'
import { Socket } from '../host/sockets-inside.ts'
import { eventually } from '../patience.ts'
import { type Natloom, Network } from './network.ts'

const OUTSIDE_ADDRESS = '203.0.113.1'
const RESOLVER_PORTS = 300

let network: Network
let natloom: Natloom
beforeAll(async () => {
  network = new Network()
  await network.outside.ask('serveUdpEcho', 53)
  await network.gateway.ask('serveTcpEcho', 30_000)
  natloom = await network.forwarding({ NATLOOM_NAT_PRESERVE_PORTS: 'true' })
})
afterAll(async () => {
  await natloom?.stop()
  await network?.close()
})

const gateway = () => network.gateway.host
const ofHost = (port: number): Socket => Socket.udp(gateway(), port).to(SERVER, 53)
const ofLan = (port: number): Socket => Socket.udp(network.lan.host, port).to(SERVER, 53)
const asked = (socket: Socket, text: string): string[] => {
  socket.send(text)
  return socket.wait().received()
}
const metric = (name: string, labels: Readonly<Record<string, string>>): number => {
  const samples = parseMetrics(gateway().exec('curl', '-s', 'http://127.0.0.1:9464/metrics'))
  const isOf = (of: Readonly<Record<string, string>>) =>
    Object.entries(labels).every(([key, value]) => of[key] === value)
  return samples.filter((each) => each.name === name && isOf(each.labels)).reduce((sum, { value }) => sum + value, 0)
}
const bound = (protocol: string): number => metric('natloom_host_ports_bound', { protocol })
const contested = (): number => metric('natloom_host_ports_contested', { protocol: 'udp' })
const rules = (): string => gateway().exec('nft', 'list', 'table', 'ip', 'natloom')

describe('a socket of the host in NAT’s range', () => {
  it('has its answers at once, on whatever port it is, and none of them is a drop', () => {
    const before = metric('natloom_dropped_packets_total', {})
    for (let i = 0; i < RESOLVER_PORTS; i++) {
      const socket = ofHost(16_400 + ((i * 7919) % 44_000))
      expect(asked(socket, `query ${i}`)).toEqual([`${OUTSIDE_ADDRESS} query ${i}`])
      socket.close()
    }
    expect(metric('natloom_dropped_packets_total', {})).toBe(before)
  })

  it('accepts connections from outside, with all that follows', async () => {
    const { name } = await network.outside.ask('open', OUTSIDE_ADDRESS, 30_000)
    for (const text of ['one', 'two']) expect(await network.outside.ask('echo', name, text)).toBe(text)
  })

  it('has a port that NAT does not choose, though it is the inside port and such are preserved', async () => {
    await eventually('the resolver’s ports are free again', () => bound('udp') === 0)
    const socket = ofHost(30_100)
    await eventually('the port is known to be the host’s', () => bound('udp') === 1)
    expect(bound('tcp')).toBeGreaterThan(0)
    const flow = ofLan(30_100)
    expect(asked(flow, 'from inside')).toEqual([`${OUTSIDE_ADDRESS} from inside`])
    expect(asked(socket, 'from the host')).toEqual([`${OUTSIDE_ADDRESS} from the host`])
    expect(contested()).toBe(0)
    socket.close()
    flow.close()
    await eventually('the port is free again', () => bound('udp') === 0)
  })
})

describe('a port that NAT has given out, and on which the host opens a socket', () => {
  it('is NAT’s: it is said and counted, and the host’s socket gets nothing of the flow; until it closes', async () => {
    const flow = ofLan(31_000)
    expect(asked(flow, 'first')).toEqual([`${OUTSIDE_ADDRESS} first`])
    const socket = Socket.udp(gateway(), 31_000)
    expect(await natloom.logged('a port that NAT has given out')).toMatchObject({ protocol: 17, port: 31_000 })
    expect(contested()).toBe(1)
    expect(rules()).toContain(`ip daddr ${OUTSIDE_ADDRESS} udp dport 31000 drop`)
    socket.received()
    for (const text of ['second', 'third']) expect(asked(flow, text)).toEqual([`${OUTSIDE_ADDRESS} ${text}`])
    expect(socket.received()).toEqual([])
    socket.close()
    await eventually('the port is NAT’s alone again', () => contested() === 0)
    expect(rules()).not.toContain('31000')
    expect(asked(flow, 'fourth')).toEqual([`${OUTSIDE_ADDRESS} fourth`])
    flow.close()
  })

  /** A connection of NAT's to the server, its external port, and whether it goes on. */
  const connection = async () => {
    const { name, seen } = await network.lan.ask('open', SERVER, 7)
    const goesOn = async () => {
      for (const text of ['still there?', 'and now?']) expect(await network.lan.ask('echo', name, text)).toBe(text)
    }
    return { port: Number(seen.split(':')[1]), goesOn }
  }

  it('is no more a listener’s: it resets no connection of NAT’s, found already or not', async () => {
    await network.outside.ask('serveTcpEcho', 7)
    // Most of these are between two looks at the host's sockets, when no look has found the listener.
    for (const at of ['0.0.0.0', OUTSIDE_ADDRESS, '0.0.0.0', OUTSIDE_ADDRESS]) {
      const { port, goesOn } = await connection()
      await network.gateway.ask('serveTcpEcho', port, at)
      await goesOn()
      expect(await natloom.logged('a port that NAT has given out')).toMatchObject({ protocol: 6, port })
      expect(rules()).toMatch(new RegExp(`tcp dport .*\\b${port}\\b.* drop`))
      await goesOn()
    }
  })

  it('is no connection’s of the host, which would reset one of NAT’s between the same ends', async () => {
    for (let times = 0; times < 4; times++) {
      const { port, goesOn } = await connection()
      await network.gateway.ask('beginFrom', port, SERVER, 7)
      await goesOn()
    }
  })
})
