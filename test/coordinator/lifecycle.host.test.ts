// How `natloom run` begins and ends, and what it leaves behind: nothing, unless it is killed.

import { existsSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { AF_UNIX, bind, close, MSG_DONTWAIT, recv, SOCK_CLOEXEC, SOCK_DGRAM, socket } from '../../src/io/syscalls.ts'
import { GATEWAY_OUTSIDE, OUTSIDE_INTERFACE, SERVER } from '../../src/lab/world/topology.ts'
import { eventually } from '../patience.ts'
import { type Natloom, Network } from './network.ts'

const POOL_ADDRESS = '203.0.113.50'

let network: Network
let portRange: string
const started: Natloom[] = []

beforeAll(async () => {
  network = new Network()
  portRange = network.hostPortRange()
  await network.outside.ask('serveUdpEcho', 7)
})
afterEach(async () => {
  for (const natloom of started.splice(0)) {
    natloom.kill('SIGKILL')
    await natloom.ended()
  }
})
afterAll(() => network?.close())

function start(env: Readonly<Record<string, string>> = {}): Natloom {
  const natloom = network.natloom(env)
  started.push(natloom)
  return natloom
}
async function forwarding(env: Readonly<Record<string, string>> = {}): Promise<Natloom> {
  const natloom = start(env)
  await natloom.logged('"forwarding"')
  return natloom
}

const on = (...command: [string, ...string[]]) => network.gateway.host.exec(...command)
const poolRoutes = () => on('ip', 'route', 'show', 'table', 'local', 'proto', '99')
const health = () => JSON.parse(on('curl', '-s', 'http://127.0.0.1:9464/healthz'))
const addressSeen = async () => (await network.lan.ask('askByUdp', SERVER, 7, '')).trim()

function expectNothingLeft(): void {
  expect(network.rules()).toBe('')
  expect(network.hostPortRange()).toBe(portRange)
  expect(poolRoutes()).toBe('')
  expect(existsSync(network.statePath)).toBe(false)
  expect(existsSync(network.apiSocket)).toBe(false)
}

describe('natloom run, asked to stop', () => {
  it('takes back rules, port range and state file', async () => {
    const natloom = await forwarding()
    expect(await addressSeen()).toBe(GATEWAY_OUTSIDE)
    expect(network.hostPortRange()).not.toBe(portRange)
    expect(existsSync(network.statePath)).toBe(true)
    expect(await natloom.stop()).toBe(0)
    expectNothingLeft()
  })

  it('takes back the routes of a pool, whose addresses are NAT’s alone', async () => {
    const natloom = await forwarding({ NATLOOM_NAT_POOL: POOL_ADDRESS })
    expect(poolRoutes()).toContain(POOL_ADDRESS)
    expect(network.hostPortRange()).toBe(portRange)
    expect(await addressSeen()).toBe(POOL_ADDRESS)
    expect(await natloom.stop()).toBe(0)
    expectNothingLeft()
  })
})

describe('natloom run, before the first packet', () => {
  it('has counted nothing, in any shard: their warm-up leaves no trace', async () => {
    const natloom = await forwarding({ NATLOOM_WORKERS: '3' })
    const counted = on('curl', '-s', 'http://127.0.0.1:9464/metrics')
      .split('\n')
      .filter((line) => /^natloom_(connections|mappings|dropped|sent|helper|expectations|icmp|ports_used)/.test(line))
      .filter((line) => !line.startsWith('natloom_expectations_limit'))
    expect(counted.length).toBeGreaterThan(100)
    expect(counted.filter((line) => !line.endsWith(' 0'))).toEqual([])
    expect(await addressSeen()).toBe(GATEWAY_OUTSIDE)
    expect(await natloom.stop()).toBe(0)
    expectNothingLeft()
  })
})

describe('natloom run, started by a service manager', () => {
  it('tells it when it forwards, that it lives, and when it stops', async () => {
    const path = `${network.topology.directory}/notify`
    const fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    bind(fd, Buffer.concat([new Uint8Array(Uint16Array.of(AF_UNIX).buffer), Buffer.from(`${path}\0`)]))
    const natloom = await forwarding({ NOTIFY_SOCKET: path, WATCHDOG_USEC: '200000' })
    const told: string[] = []
    const buffer = new Uint8Array(4096)
    const hears = (text: string) =>
      eventually(`the service manager is told ${text}`, () => {
        for (let length = 0; length >= 0; ) {
          length = recv(fd, buffer, MSG_DONTWAIT)
          if (length > 0) told.push(Buffer.from(buffer.subarray(0, length)).toString())
        }
        return told.includes(text)
      })
    await hears('READY=1\nSTATUS=forwarding')
    await hears('WATCHDOG=1')
    expect(await natloom.stop()).toBe(0)
    await hears('STOPPING=1\nSTATUS=stopping: SIGTERM')
    expect(told.filter((text) => text.includes('READY=1'))).toHaveLength(1)
    close(fd)
    expectNothingLeft()
  })
})

describe('natloom run, killed', () => {
  it('leaves the gateway closed, also if a start fails, and the next one takes over and takes all back', async () => {
    const killed = await forwarding()
    killed.kill('SIGKILL')
    expect(await killed.ended()).toBe('SIGKILL')
    expect(network.rules()).toContain('table ip natloom {')

    const failing = start({ NATLOOM_HELPERS: './no-such-helper.js' })
    expect(await failing.ended()).not.toBe(0)
    expect(network.rules()).toContain('table ip natloom {')

    const next = start()
    await next.logged('taking over')
    await next.logged('"forwarding"')
    expect(await addressSeen()).toBe(GATEWAY_OUTSIDE)
    expect(await next.stop()).toBe(0)
    expectNothingLeft()
  })
})

describe('natloom run, where the outside interface has no address', () => {
  it('waits for one', async () => {
    network.gateway.host.ip(`addr flush dev ${OUTSIDE_INTERFACE}`)
    const natloom = start()
    await natloom.logged('no outside address')
    await natloom.logged('"forwarding"')
    expect(health()).toMatchObject({
      ok: false,
      reasons: [
        'there is no external address: nothing is translated',
        `interface ${OUTSIDE_INTERFACE} has no IPv4 address`,
      ],
      detail: { externalAddresses: 0 },
    })
    network.gateway.host.ip(`addr add ${GATEWAY_OUTSIDE}/24 dev ${OUTSIDE_INTERFACE}`)
    network.gateway.host.ip(`route add default via ${SERVER}`)
    await natloom.logged('translating to the outside address')
    expect(await addressSeen()).toBe(GATEWAY_OUTSIDE)
    expect(health()).toMatchObject({ ok: true })
    expect(await natloom.stop()).toBe(0)
    expectNothingLeft()
  })
})

describe('natloom run, refused', () => {
  const HOST_LACKS_SOMETHING = 3
  const refusal = async (env: Readonly<Record<string, string>>): Promise<string> => {
    const natloom = start(env)
    expect(await natloom.ended()).toBe(HOST_LACKS_SOMETHING)
    expectNothingLeft()
    return natloom.program.output
  }

  it('names the interface that is missing', async () => {
    expect(await refusal({ NATLOOM_OUTSIDE: 'wan7' })).toContain('there is no interface wan7')
  })

  it('names the interface that has no Ethernet header', async () => {
    expect(await refusal({ NATLOOM_OUTSIDE: 'lo' })).toContain('interface lo has no Ethernet header')
  })

  it('names the rules by which the kernel would give out the same ports', async () => {
    on('nft', 'add table ip other; add chain ip other post { type nat hook postrouting priority 100; }')
    on('nft', `add rule ip other post oifname ${OUTSIDE_INTERFACE} masquerade`)
    const masquerading = network.rules()
    const natloom = start()
    expect(await natloom.ended()).toBe(HOST_LACKS_SOMETHING)
    expect(natloom.program.output).toMatch(/ip other post, handle \d+: masquerade/)
    expect(network.rules()).toBe(masquerading)

    const told = await forwarding({ NATLOOM_NAT_SHARED_WITH_KERNEL_NAT: 'true' })
    expect(await told.stop()).toBe(0)
    on('nft', 'delete table ip other')
  })

  it('names the forwards of ports on which the host itself listens', async () => {
    await network.gateway.ask('serveTcpEcho', 2121)
    expect(await refusal({ NATLOOM_FORWARD: 'udp :2121 10.0.0.2:7, tcp :2121 10.0.0.2:7' })).toContain(
      'the host itself has sockets on ports that are to be forwarded:\\n  tcp :2121 -> 10.0.0.2:7\\nstop that server',
    )
  })

  it.each(['persistent', 'pair'])('changes nothing where another gateway has the rules, owned as %s', async (way) => {
    const natloom = await forwarding({ NATLOOM_LAB_RULES: way })
    const before = network.rules()
    const second = start({ NATLOOM_STATE_PATH: `${network.topology.directory}/second.json`, NATLOOM_LAB_RULES: way })
    expect(await second.ended()).toBe(HOST_LACKS_SOMETHING)
    expect(second.program.output).toMatch(/natloom: a natloom named natloom runs here already \(process \d+\)/m)
    expect(second.program.output).not.toContain('not taken back')
    expect(network.rules()).toBe(before)
    expect(await addressSeen()).toBe(GATEWAY_OUTSIDE)
    expect(await natloom.stop()).toBe(0)
  })

  it('takes everything back if it fails late: the metrics’ port is taken', async () => {
    await network.gateway.ask('serveHttp', 9999)
    expect(await refusal({ NATLOOM_METRICS_LISTEN: '127.0.0.1:9999' })).toContain('127.0.0.1:9999 is taken')
  })

  it('leaves a running one alone', async () => {
    const natloom = await forwarding()
    const second = start()
    expect(await second.ended()).toBe(HOST_LACKS_SOMETHING)
    expect(second.program.output).toContain('a natloom named natloom runs here already')
    expect(await addressSeen()).toBe(GATEWAY_OUTSIDE)
    expect(await natloom.stop()).toBe(0)
  })
})
