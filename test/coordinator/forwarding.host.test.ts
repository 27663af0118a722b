// `natloom run` between real hosts: what goes through it, and what stays the gateway's own.

import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Connection, Drops } from '../../src/control/api-client.ts'
import {
  GATEWAY_INSIDE,
  GATEWAY_OUTSIDE,
  HOST_INTERFACE,
  INSIDE_INTERFACE,
  REMOTE,
  SERVER,
} from '../../src/lab/world/topology.ts'
import { type EndHost, type Natloom, Network } from './network.ts'

/** A port within NAT's range on which the host has a socket before natloom starts. */
const HOST_PORT = 20000

let network: Network
let natloom: Natloom
let digest: { readonly outside: string; readonly gateway: string }

beforeAll(async () => {
  network = new Network()
  const { outside, gateway } = network
  // The gateway's kernel forwards by itself: natloom has to keep it from doing so.
  gateway.host.exec('sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward')
  digest = { outside: await outside.ask('serveHttp', 80), gateway: await gateway.ask('serveHttp', 8080) }
  await outside.ask('serveTcpEcho', 7)
  await outside.ask('serveUdpEcho', 7)
  await outside.ask('serveUdpEcho', 53)
  await gateway.ask('serveTcpEcho', HOST_PORT)
  outside.host.exec('nft', 'add table ip watch; add chain ip watch input { type filter hook prerouting priority 0; }')
  outside.host.exec('nft', 'add rule ip watch input ip saddr 10.0.0.0/8 counter')
  await network.lan.ask('serveTcpEcho', 7000)
  await network.lan.ask('serveUdpEcho', 69)
  natloom = await network.forwarding({ NATLOOM_FORWARD: 'tcp :21 10.0.0.2:7000, udp :69 10.0.0.2:69' })
})
afterAll(async () => {
  await natloom?.stop()
  await network?.close()
})

/** A counter of the gateway's own kernel (proc_net_snmp): `Tcp OutRsts`. */
function kernelCounter(protocol: string, name: string): number {
  const lines = network.gateway.host.exec('cat', '/proc/net/snmp').split('\n')
  const [names, values] = lines.filter((line) => line.startsWith(`${protocol}:`)).map((line) => line.split(' '))
  return Number(values[names.indexOf(name)])
}

const interfaceNumber = ({ host }: EndHost, name: string): number =>
  Number.parseInt(host.ip(`-o link show ${name}`), 10)

describe('through the gateway', () => {
  for (const target of [SERVER, REMOTE])
    it(`hosts inside reach ${target} by ping`, () => {
      expect(network.lan.host.exec('ping', '-c', '2', '-i', '0.1', '-W', '60', target)).toContain('2 received')
    })

  it('ten megabytes come by HTTP as they are', async () => {
    expect(await network.lan.ask('download', `http://${REMOTE}/`)).toBe(digest.outside)
  })

  it('a TCP server sees the outside address, with a port of NAT’s', async () => {
    const { seen } = await network.lan.ask('open', SERVER, 7)
    const [address, port] = seen.split(':')
    expect(address).toBe(GATEWAY_OUTSIDE)
    expect(Number(port)).toSatisfy((port: number) => port >= 16384 && port <= 60991)
  })

  for (const port of [7, 53])
    it(`datagrams to port ${port} are answered, and seen from the outside address`, async () => {
      expect(await network.lan.ask('askByUdp', SERVER, port, 'question')).toBe(`${GATEWAY_OUTSIDE} question`)
    })

  it('nothing goes by the kernel: it neither forwards nor answers for what is translated', () => {
    const outside = network.outside.host
    // The case that misleads nft's fib (src/host/nft.ts).
    expect(interfaceNumber(network.lan, HOST_INTERFACE)).toBe(interfaceNumber(network.gateway, INSIDE_INTERFACE))
    expect(outside.exec('nft', 'list', 'table', 'ip', 'watch')).toContain('packets 0')
    expect(kernelCounter('Tcp', 'OutRsts')).toBe(0)
    expect(kernelCounter('Icmp', 'OutDestUnreachs')).toBe(0)
  })
})

describe('a forwarded port', () => {
  it('leads clients outside to the server inside, which sees who they are', async () => {
    const { name, seen } = await network.outside.ask('open', GATEWAY_OUTSIDE, 21)
    expect(seen.split(':')[0]).toBe(SERVER)
    expect(await network.outside.ask('echo', name, 'to the server inside')).toBe('to the server inside')
    expect(await network.outside.ask('askByUdp', GATEWAY_OUTSIDE, 69, 'read')).toBe(`${SERVER} read`)
  })

  it('leads clients inside there, too, by the outside address', async () => {
    const { name, seen } = await network.lan.ask('open', GATEWAY_OUTSIDE, 21)
    expect(seen.split(':')[0]).toBe(GATEWAY_OUTSIDE)
    expect(await network.lan.ask('echo', name, 'and back')).toBe('and back')
  })

  it('is none of the kernel’s, which has nobody there to answer', () => {
    expect(kernelCounter('Tcp', 'OutRsts')).toBe(0)
    expect(kernelCounter('Icmp', 'OutDestUnreachs')).toBe(0)
  })
})

describe('the API', () => {
  const main = fileURLToPath(new URL('../../dist/src/control/main.js', import.meta.url))
  const asked = (...command: string[]): string =>
    execFileSync(process.execPath, [main, ...command, '--socket', network.apiSocket], { encoding: 'utf8' })
  const listed = (...options: string[]): string => asked('conntrack', '-L', ...options)

  it('lists what goes through, and who owns it: the one shard that there is', async () => {
    const { seen } = await network.lan.ask('open', SERVER, 7)
    const connections: Connection[] = JSON.parse(listed('-o', 'json'))
    const [address, port] = seen.split(':')
    const mine = connections.filter(({ reply }) => reply.destinationPort === Number(port))
    expect(mine).toHaveLength(1)
    expect(mine[0]).toMatchObject({
      shard: 0,
      protocol: 6,
      state: 'ESTABLISHED',
      origin: 'inside',
      seenReply: true,
      assured: true,
      original: { source: '10.0.0.2', destination: SERVER, destinationPort: 7, owner: 0 },
      reply: { source: SERVER, destination: address, sourcePort: 7, owner: 0 },
    })
    expect(mine[0]?.timeout).toBeGreaterThan(7200)
    expect(mine[0]?.reply.packets).toBeGreaterThanOrEqual(2)
  })

  it('lists it as Linux does, with the shard', () => {
    expect(listed()).toMatch(
      /^ipv4 {5}2 tcp {6}6 \d+ ESTABLISHED src=10\.0\.0\.2 dst=\S+ sport=\d+ dport=7 .* \[ASSURED\] .* shard=0$/m,
    )
    expect(listed()).toMatch(
      /^ipv4 {5}2 icmp {5}1 \d+ src=10\.0\.0\.2 .* type=8 code=0 id=\d+ .* type=0 code=0 id=\d+ /m,
    )
  })

  it('says what was dropped, by which interface it came, and whose it was; and so do the metrics', () => {
    const probe = `ping -c 3 -i 0.1 -W 60 -t 1 ${SERVER} || true`
    expect(network.lan.host.exec('sh', '-c', probe)).toContain('Time to live exceeded')
    const dropped: Drops[] = JSON.parse(asked('drops', '-o', 'json'))
    const last = { protocol: 1, destination: SERVER, sourcePort: null }
    const mine = dropped.filter(({ reason }) => reason === 'ttl-expired')
    expect(mine).toMatchObject([{ side: 'inside', packets: 3, sources: [{ source: '10.0.0.2', last }] }])
    const name = mine[0]!.interface
    expect(asked('drops').split('\n')).toEqual(
      expect.arrayContaining([
        `${name} inside ttl-expired packets=3`,
        expect.stringMatching(/ ttl-expired src=10\.0\.0\.2 recent=\d ago=\d+ last=icmp dst=[\d.]+$/),
      ]),
    )
    expect(network.gateway.host.exec('curl', '-s', 'http://127.0.0.1:9464/metrics').split('\n')).toContain(
      `natloom_interface_dropped_packets_total{interface="${name}",side="inside",reason="ttl-expired"} 3`,
    )
  })
})

describe('the gateway’s own traffic goes on', () => {
  it('it reaches both sides by ping', () => {
    for (const target of [SERVER, '10.0.0.2'])
      expect(network.gateway.host.exec('ping', '-c', '1', '-W', '60', target)).toContain('1 received')
  })

  it('it is an HTTP client', async () => {
    expect(await network.gateway.ask('download', `http://${SERVER}/`)).toBe(digest.outside)
  })

  it('it is a server for both sides', async () => {
    expect(await network.lan.ask('download', `http://${GATEWAY_INSIDE}:8080/`)).toBe(digest.gateway)
    expect(await network.outside.ask('download', `http://${GATEWAY_OUTSIDE}:8080/`)).toBe(digest.gateway)
  })

  it('on a port of NAT’s range too, if it listened there before', async () => {
    const { name } = await network.outside.ask('open', GATEWAY_OUTSIDE, HOST_PORT)
    expect(await network.outside.ask('echo', name, 'is this the host?')).toBe('is this the host?')
  })

  it('and it is healthy, as its metrics say', async () => {
    const health = JSON.parse(network.gateway.host.exec('curl', '-s', 'http://127.0.0.1:9464/healthz'))
    expect(health).toMatchObject({ ok: true, detail: { shards: 1, notTurning: [], externalAddresses: 1 } })
    const metrics = network.gateway.host.exec('curl', '-s', 'http://127.0.0.1:9464/metrics')
    // All of the 697 blocks of 64 ports, also the one in which the host has a socket: that port alone is not given.
    expect(metrics).toContain('natloom_ports_leased{shard="0",protocol="tcp"} 44608')
    expect(metrics).toContain('natloom_host_ports_bound{protocol="tcp"} 1')
    expect(metrics).toContain('natloom_ports_leased{shard="0",protocol="icmp"} 44608')
  })
})
