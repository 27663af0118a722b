// What the gateway's own kernel does beside `natloom run`: its sockets in NAT's range, shaping of what comes in, frames
// of VLANs. It forwards by itself (ip_forward), so what is not hidden from it leaves untranslated.

import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import {
  GATEWAY_OUTSIDE,
  HOST_INTERFACE,
  INSIDE_HOSTS,
  INSIDE_INTERFACE,
  OUTSIDE_INTERFACE,
  SERVER,
} from '../../src/lab/world/topology.ts'
import { frame } from '../../src/testing/builder.ts'
import { tagged } from '../contract/frames.ts'
import { Socket } from '../host/sockets-inside.ts'
import { type Natloom, Network } from './network.ts'

/** A thousand ports of NAT's range, in no order; the factor has no divisor in common with the range's length. */
const PORTS = Array.from({ length: 1000 }, (_, i) => 16384 + ((i * 40009) % 44608))

let network: Network
let natloom: Natloom | undefined
let digest: string

beforeAll(async () => {
  network = new Network()
  const { outside, gateway } = network
  gateway.host.exec('sysctl', '-qw', 'net.ipv4.ip_forward=1')
  await outside.ask('serveUdpEcho', 7)
  await outside.ask('serveTcpEcho', 7)
  digest = await outside.ask('serveHttp', 80)
  outside.host.exec('nft', 'add table ip watch; add chain ip watch input { type filter hook prerouting priority 0; }')
  outside.host.exec('nft', 'add rule ip watch input ip saddr 10.0.0.0/8 counter')
})
afterEach(async () => {
  await natloom?.stop()
  natloom = undefined
  expect(network.outside.host.exec('nft', 'list', 'table', 'ip', 'watch')).toContain('packets 0 ')
})
afterAll(() => network?.close())

/** A counter of the gateway's own kernel (proc_net_snmp): `Tcp OutRsts`. */
function kernelCounter(protocol: string, name: string): number {
  const lines = network.gateway.host.exec('cat', '/proc/net/snmp').split('\n')
  const [names, values] = lines.filter((line) => line.startsWith(`${protocol}:`)).map((line) => line.split(' '))
  return Number(values[names.indexOf(name)])
}
const answersOfTheKernel = () => [kernelCounter('Tcp', 'OutRsts'), kernelCounter('Icmp', 'OutDestUnreachs')]

describe('sockets of the gateway itself in NAT’s range', () => {
  it('get the answers to a thousand queries from random ports, as a resolver sends them', async () => {
    natloom = await network.forwarding()
    expect(await network.gateway.ask('queryFromPorts', SERVER, 7, PORTS)).toBe(PORTS.length)
  })

  it('are reached by whole connections from either side, also if opened after the start', async () => {
    natloom = await network.forwarding()
    await network.gateway.ask('serveTcpEcho', 30000)
    for (const host of [network.lan, network.outside]) {
      const { name } = await host.ask('open', GATEWAY_OUTSIDE, 30000)
      expect(await host.ask('echo', name, 'hello')).toBe('hello')
    }
  })
})

describe('with what comes in shaped by an IFB', () => {
  it('traffic is translated, and the kernel answers none of it', async () => {
    const on = (command: string) => network.gateway.host.exec('sh', '-c', command)
    on(
      'ip link add ifb0 type ifb && ip link set ifb0 up && tc qdisc add dev ifb0 root tbf rate 1gbit burst 1m limit 9m',
    )
    for (const name of [OUTSIDE_INTERFACE, INSIDE_INTERFACE])
      on(
        `tc qdisc add dev ${name} ingress && tc filter add dev ${name} parent ffff: protocol all prio 1 ` +
          'u32 match u32 0 0 action mirred egress redirect dev ifb0',
      )
    natloom = await network.forwarding()
    const before = answersOfTheKernel()
    expect((await network.lan.ask('askByUdp', SERVER, 7, '')).trim()).toBe(GATEWAY_OUTSIDE)
    const { name } = await network.lan.ask('open', SERVER, 7)
    expect(await network.lan.ask('echo', name, 'hello')).toBe('hello')
    expect(await network.lan.ask('download', `http://${SERVER}/`)).toBe(digest)
    expect(answersOfTheKernel()).toEqual(before)
    const [{ stats64 }] = JSON.parse(network.gateway.host.ip('-s -j link show ifb0'))
    expect(stats64.tx.bytes).toBeGreaterThan(10_000_000)
    for (const name of [OUTSIDE_INTERFACE, INSIDE_INTERFACE]) on(`tc qdisc del dev ${name} ingress`)
    on('ip link del ifb0')
  })
})

describe('frames of VLANs on an interface without VLANs', () => {
  it('are translated if they only say a priority (VLAN 0), and are nobody’s otherwise', async () => {
    natloom = await network.forwarding()
    const [link] = JSON.parse(network.gateway.host.ip(`-j link show ${INSIDE_INTERFACE}`)) as { address: string }[]
    const wire = Socket.packet(network.lan.host, HOST_INTERFACE)
    const server = Socket.udp(network.outside.host, 9000)
    const send = (vlan: number, payload: string) => {
      const ip = { src: INSIDE_HOSTS[0]!, dst: SERVER }
      const whole = frame({ eth: { dst: link!.address }, ip, udp: { sport: 5000, dport: 9000 }, payload })
      wire.send(tagged(whole, vlan))
    }
    send(5, 'of VLAN 5')
    send(0, 'of VLAN 0')
    expect(server.wait().received()).toEqual(['of VLAN 0'])
    wire.close()
    server.close()
  })
})
