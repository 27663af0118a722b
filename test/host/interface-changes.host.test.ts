// What the rules hide while the interfaces change their names and are made anew, before anything in natloom has heard
// of it: nothing that came by an interface of ours, or leaves by one, is the kernel's to forward, under no name and
// with no index.

import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Host } from '../../src/host/host.ts'
import { type Namespace, veth } from '../../src/lab/world/namespace.ts'
import { testFolder, testNamespace } from '../leftovers.ts'
import { inside } from './inside.ts'
import { Socket } from './sockets-inside.ts'

const ADDRESSES = { lan: '10.0.0', wan: '203.0.113', third: '198.51.100' } as const
type Neighbour = keyof typeof ADDRESSES

let gateway: Namespace
let host: Host
let hosts: Record<Neighbour, Namespace>

const ip = (command: string) => gateway.ip(command)
const indexOf = (name: string) => Number(ip(`-o link show ${name}`).split(':')[0])

/** The interface `name` of the gateway is up, leads to the neighbour and has the gateway's address there. */
function configure(neighbour: Neighbour, name: string): void {
  ip(`addr replace ${ADDRESSES[neighbour]}.1/24 dev ${name}`)
  ip(`link set ${name} up`)
}

/** A link to the neighbour by an interface `name`, with this index if one is given. */
function connect(neighbour: Neighbour, name: string): void {
  const namespace = hosts[neighbour]
  veth(gateway, name, namespace, 'eth0')
  namespace.ip(`addr add ${ADDRESSES[neighbour]}.5/24 dev eth0`)
  namespace.ip(`route add default via ${ADDRESSES[neighbour]}.1`)
  configure(neighbour, name)
}

function renameTo(neighbour: Neighbour, before: string, name: string): void {
  ip(`link set ${before} down`)
  ip(`link set ${before} name ${name}`)
  configure(neighbour, name)
}

/** Whether the kernel forwards from one to the other; what it carries in any case is sent after it and waited for. */
function forwards(from: Neighbour, to: Neighbour): boolean {
  const listener = Socket.udp(hosts[to], 5000)
  const marker = Socket.udp(hosts.third, 9)
  const sender = Socket.udp(hosts[from])
  sender.to(`${ADDRESSES[to]}.5`, 5000).send('probe')
  sender.to(`${ADDRESSES.third}.5`, 9).send('marker')
  marker.wait()
  const arrived = listener.received().some((text) => text.endsWith('probe'))
  for (const each of [listener, marker, sender]) each.close()
  return arrived
}

beforeEach(() => {
  gateway = testNamespace('changing')
  gateway.exec('sysctl', '-q', '-w', 'net.ipv4.ip_forward=1')
  hosts = { lan: testNamespace('lan'), wan: testNamespace('wan'), third: testNamespace('third') }
  connect('lan', 'lan0')
  connect('wan', 'wan0')
  connect('third', 'vpn0')
  host = new Host({
    inside: ['lan0'],
    outside: ['wan0'],
    shared: [],
    pool: [],
    natPorts: { from: 16384, to: 60991 },
    protocols: [],
    forwarded: [],
    hostPortRange: null,
    statePath: `${testFolder('changing')}/state.json`,
  })
  inside(gateway, () => host.prepare())
})
afterEach(() => {
  inside(gateway, () => host.undo())
  for (const namespace of [gateway, ...Object.values(hosts)]) namespace.delete()
})

const bothWays = (): boolean[] => [forwards('lan', 'wan'), forwards('wan', 'lan')]

describe.each([
  ['inside', 'lan', 'lan0'],
  ['outside', 'wan', 'wan0'],
] as const)('an interface of the %s', (_, neighbour, name) => {
  it('is hidden under its new name at once, and for as long as it has it', () => {
    expect(bothWays()).toEqual([true, true])
    inside(gateway, () => host.apply())
    renameTo(neighbour, name, 'renamed0')
    expect(bothWays()).toEqual([false, false])
    inside(gateway, () => host.update())
    expect(bothWays()).toEqual([false, false])
    renameTo(neighbour, 'renamed0', name)
    expect(bothWays()).toEqual([false, false])
  })

  it('is hidden when it is made anew, with another index, at once', () => {
    inside(gateway, () => host.apply())
    const index = indexOf(name)
    ip(`link del ${name}`)
    connect(neighbour, name)
    expect(indexOf(name)).not.toBe(index)
    expect(bothWays()).toEqual([false, false])
    inside(gateway, () => host.update())
    renameTo(neighbour, name, 'renamed0')
    expect(bothWays()).toEqual([false, false])
  })

  it('leaves nothing hidden to another one that gets its index when it is gone', () => {
    inside(gateway, () => host.apply())
    const index = indexOf(name)
    ip(`link del ${name}`)
    inside(gateway, () => host.update())
    const elsewhere = hosts[neighbour]
    ip(`link add other0 index ${index} type veth peer name eth0 netns ${elsewhere.name}`)
    elsewhere.ip(`addr add ${ADDRESSES[neighbour]}.5/24 dev eth0`)
    elsewhere.ip('link set eth0 up')
    elsewhere.ip(`route add default via ${ADDRESSES[neighbour]}.1`)
    configure(neighbour, 'other0')
    expect(indexOf('other0')).toBe(index)
    expect(forwards(neighbour, 'third')).toBe(true)
    inside(gateway, () => host.update())
    expect(forwards(neighbour, 'third')).toBe(true)
  })
})
