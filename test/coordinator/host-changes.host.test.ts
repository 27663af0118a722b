// What others change on the host while `natloom run` forwards, of what it has set there or has looked at when it
// started: what is set again, what is said, and that nothing leaves untranslated meanwhile.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { INSIDE_INTERFACE, OUTSIDE_INTERFACE, SERVER } from '../../src/lab/world/topology.ts'
import { Socket } from '../host/sockets-inside.ts'
import { testNamespace } from '../leftovers.ts'
import { eventually } from '../patience.ts'
import { type Natloom, Network } from './network.ts'

const RANGE = '/proc/sys/net/ipv4/ip_local_port_range'
const POOL = '203.0.113.50'
const wan = OUTSIDE_INTERFACE
const lan = INSIDE_INTERFACE

let network: Network
let natloom: Natloom
const gateway = () => network.gateway.host
const ip = (args: string) => gateway().ip(args)
const sh = (command: string): string => gateway().exec('sh', '-c', command)
const addressSeen = async () => (await network.lan.ask('askByUdp', SERVER, 7, '')).trim()
const health = (): { ok: boolean; reasons: string[] } =>
  JSON.parse(gateway().exec('curl', '-s', 'http://127.0.0.1:9464/healthz'))
const metrics = (): string => gateway().exec('curl', '-s', 'http://127.0.0.1:9464/metrics')

beforeAll(async () => {
  network = new Network()
  await network.outside.ask('serveUdpEcho', 7)
  sh('echo 1 > /proc/sys/net/ipv4/ip_forward')
})
afterAll(() => network?.close())

describe('on an address that NAT shares with the host', () => {
  beforeAll(async () => {
    natloom = await network.forwarding()
  })
  afterAll(() => natloom?.stop())

  it('the kernel’s port range is moved out of NAT’s ports again', async () => {
    sh(`echo 32768 60999 > ${RANGE}`)
    expect(await natloom.logged('somebody has changed')).toMatchObject({ what: 'port-range', was: '32768-60999' })
    expect(sh(`cat ${RANGE}`)).toMatch(/60992\s+65535/)
    expect(metrics()).toContain('natloom_host_settings_restored_total{what="port-range"} 1')
  })

  it('the state file is written again', async () => {
    sh(`rm ${network.statePath}`)
    expect(await natloom.logged('somebody has changed')).toMatchObject({ what: 'state-file' })
    expect(JSON.parse(sh(`cat ${network.statePath}`))).toMatchObject({ nftTables: expect.anything() })
  })

  it('a queueing discipline that somebody configures is honoured, and bypassed when it is gone', async () => {
    sh(`tc qdisc add dev ${wan} root tbf rate 1gbit burst 256kb latency 50ms`)
    expect(await natloom.logged('honoured from now on')).toMatchObject({ interface: wan, kind: 'tbf' })
    expect(await addressSeen()).toBe('203.0.113.1')
    const sent = Number(/Sent \d+ bytes (\d+) pkt/.exec(sh(`tc -s qdisc show dev ${wan}`))?.[1])
    expect(sent).toBeGreaterThan(0)
    sh(`tc qdisc del dev ${wan} root`)
    await natloom.logged('bypassed from now on')
  })

  it('a rule of the kernel’s own NAT that takes the same ports is said, and that it is gone', async () => {
    sh(`nft 'table ip other { chain post { type nat hook postrouting priority 100; oifname "${wan}" masquerade; }; }'`)
    expect(await natloom.logged('"kernel-nat"')).toMatchObject({ level: 'warn', check: 'kernel-nat' })
    expect(metrics()).toContain('natloom_host_findings{check="kernel-nat",severity="error"} 1')
    sh('nft delete table ip other')
    expect(await natloom.logged('so no longer')).toMatchObject({ check: 'kernel-nat' })
  })
})

describe('an interface', () => {
  beforeEach(async () => {
    natloom = await network.forwarding()
  })
  afterEach(() => natloom?.stop())

  for (const [side, name, address] of [
    ['inside', lan, '10.0.0.1/24'],
    ['outside', wan, '203.0.113.1/24'],
  ] as const)
    it(`of the ${side} that is renamed passes nothing untranslated, and is served again by its own name`, async () => {
      const listener = Socket.packet(network.outside.host, 'eth0')
      const sender = Socket.udp(network.lan.host).to(SERVER, 9)
      const up = (as: string) => {
        ip(`link set ${as} up`)
        ip(`addr replace ${address} dev ${as}`)
        ip(`route replace default via ${SERVER}`)
      }
      ip(`link set ${name} down`)
      ip(`link set ${name} name renamed0`)
      up('renamed0')
      await natloom.logged('renamed to renamed0')
      await eventually('it is not healthy', () => health().reasons.includes(`interface ${name} is renamed0 now`))
      for (let i = 0; i < 20; i++) sender.send(`while it has another name ${i}`)
      ip('link set renamed0 down')
      ip(`link set renamed0 name ${name}`)
      up(name)
      await natloom.logged('the interface is back')
      await eventually('it is healthy', () => health().ok)
      expect(await addressSeen()).toBe('203.0.113.1')
      expect(listener.received().filter((frame) => frame.includes('while it has another name'))).toEqual([])
      listener.close()
      sender.close()
    })

  it('that becomes a bridge’s port is said, and is no more healthy until it is none', async () => {
    ip('link add br7 type bridge')
    ip(`link set ${wan} master br7`)
    await natloom.logged('the bridge br7 takes all frames of the interface now')
    expect(health().reasons).toContain(`the bridge br7 takes all frames of interface ${wan}`)
    ip(`link set ${wan} nomaster`)
    await natloom.logged('has its frames again')
    ip('link del br7')
    await eventually('it is healthy', () => health().ok)
    expect(await addressSeen()).toBe('203.0.113.1')
  })

  it('that is moved to another namespace and back is served again, though its index is the same', async () => {
    const elsewhere = testNamespace('elsewhere')
    const indexOf = () => ip(`-o link show ${wan}`).split(':')[0]
    const index = indexOf()
    ip(`link set ${wan} netns ${elsewhere.name}`)
    await natloom.logged('the interface is gone')
    elsewhere.ip(`link set ${wan} netns ${gateway().name}`)
    elsewhere.delete()
    ip(`link set ${wan} up`)
    ip(`addr add 203.0.113.1/24 dev ${wan}`)
    ip(`route replace default via ${SERVER}`)
    await natloom.logged('the interface is back')
    expect(indexOf()).toBe(index)
    await eventually('it is healthy', () => health().ok)
    expect(await addressSeen()).toBe('203.0.113.1')
  })

  it('may get another MTU and another hardware address, which its neighbours learn', async () => {
    ip(`link set ${wan} mtu 1400`)
    ip(`link set ${wan} address 02:00:00:00:77:01`)
    expect(await addressSeen()).toBe('203.0.113.1')
    const mtu = Number(/mtu (\d+)/.exec(ip(`link show ${wan}`))?.[1])
    expect(mtu).toBe(1400)
    ip(`link set ${wan} mtu 1500`)
  })
})

describe('a pool', () => {
  beforeAll(async () => {
    network.outside.host.ip(`route replace ${POOL}/32 dev eth0`)
    natloom = await network.forwarding({ NATLOOM_NAT_POOL: POOL })
  })
  afterAll(() => natloom?.stop())

  it('has the routes of its addresses again that somebody has removed', async () => {
    expect(await addressSeen()).toBe(POOL)
    ip('route flush table local proto 99')
    expect(await natloom.logged('somebody has changed')).toMatchObject({ what: 'pool-route' })
    expect(ip('route show table local proto 99')).toContain(POOL)
    network.outside.host.ip('neigh flush dev eth0')
    expect(await addressSeen()).toBe(POOL)
  })
})

it('the port range that somebody has wished for meanwhile is in force when natloom has ended', () => {
  expect(sh(`cat ${RANGE}`)).toMatch(/32768\s+60999/)
})
