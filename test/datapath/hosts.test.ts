// Quotas a host (RFC 6888 REQ-4 and 5) in one shard: what counts for whom, what is refused and how that is told, and
// that what a host has is what its rows say, also after a crash. Several shards: hosts.long.test.ts.

import { describe, expect, it } from 'vitest'
import { compileQuotas } from '../../src/conntrack/host-quotas.ts'
import { HOST } from '../../src/conntrack/host-table.ts'
import { hostOf, type ListedHost } from '../../src/coordinator/api/host-list.ts'
import { HostGc, type LimitedHost } from '../../src/coordinator/hosts/host-gc.ts'
import { HOST_LIMIT, type HostLimitName } from '../../src/counters/host-limits.ts'
import { parseAddress } from '../../src/wire/address.ts'
import { Gateway, type GatewayOptions } from './gateway.ts'
import { quotas } from './host-quotas.ts'
import { EXTERNAL, LAN, SERVER, WAN } from './network.ts'
import { echo, fromOf, printed, tcpSegment, udp } from './packets.ts'
import { connectionsOf } from './tables.ts'

const [ONE, OTHER] = ['10.0.0.5', '10.0.0.6']
const PROHIBITED = 'IP 10.0.0.1 > 10.0.0.5: ICMP host 192.0.2.7 unreachable - admin prohibited filter, length 36'
const TCP = 6
const FORWARD = { protocol: TCP, address: null, port: 8080, toAddress: parseAddress(ONE), toPort: 80 }

const flow = (host: string, port: number, server = `${SERVER}:80`) => udp(`${host}:${port}`, server)
/** Hosts as the API lists them. */
function listOf({ hosts, settings, clock }: Gateway): ListedHost[] {
  const words = compileQuotas(settings.limits)
  const rows = Array.from({ length: hosts.hosts + 1 }, (_, row) => row)
  return rows
    .filter((row) => (row === hosts.others ? !hosts.isIdle(row) : hosts.names[row] !== 0))
    .map((row) => hostOf(hosts, row, words, Math.floor(clock / 1000)))
    .sort((a, b) => b.connections.used - a.connections.used)
}
const used = (gateway: Gateway, host: string) => {
  const found = listOf(gateway).find((each) => each.host === host)
  return [found?.connections.used ?? 0, found?.ports.used ?? 0, found?.resting ?? 0]
}
const limited = (gateway: Gateway, name: HostLimitName) => gateway.counter('hostsLimited', HOST_LIMIT[name])
/** Until every connection of UDP is over, and then every quarantine. */
function passAll(gateway: Gateway): void {
  gateway.pass(301)
  gateway.pass(121)
}
const start = (options: GatewayOptions) => Gateway.start({ nat: { parity: false }, ...options })

describe('connections of a host', () => {
  it('are as many as its limit; its sender is told, and others go on', async () => {
    const gateway = await start({ limits: quotas({ connections: 5 }) })
    for (let port = 1; port <= 5; port++) expect(gateway.fate(LAN, flow(ONE, port))).toBe('sent')
    expect(gateway.fate(LAN, flow(ONE, 6))).toBe('host-limit')
    expect(printed(gateway.toLan())).toEqual([PROHIBITED])
    expect(gateway.fate(LAN, flow(OTHER, 6))).toBe('sent')
    expect([limited(gateway, 'connections'), limited(gateway, 'ports')]).toEqual([1, 0])
    // What is there goes on.
    expect(gateway.fate(LAN, flow(ONE, 1))).toBe('sent')
    gateway.check()
    gateway.pass(400)
    expect(used(gateway, ONE)[0]).toBe(0)
    expect(gateway.fate(LAN, flow(ONE, 6))).toBe('sent')
  })

  it('leave nothing behind where they were refused: no port, no mapping', async () => {
    const gateway = await start({ limits: quotas({ connections: 0 }) })
    for (const packet of [flow(ONE, 1), echo(ONE, SERVER, 7), tcpSegment(`${ONE}:1`, `${SERVER}:80`, 'S')])
      expect(gateway.fate(LAN, packet)).toBe('host-limit')
    expect(gateway.tables.mappings.mappings.used).toBe(0)
    expect([0, 1, 2].map((space) => gateway.counter('portsUsed', space))).toEqual([0, 0, 0])
    gateway.check()
  })

  it('that outsiders have half-opened make room for more of them and for its own, and count in no second', async () => {
    const other = { ...FORWARD, port: 8081, toAddress: parseAddress(OTHER) }
    const limits = quotas({ connections: 32, 'new-connections': 40 })
    const gateway = await start({ limits, forwards: [FORWARD, other] })
    const syn = (port: number, to = 8080) => tcpSegment(`${SERVER}:${port}`, `${EXTERNAL}:${to}`, 'S')
    for (let port = 1; port <= 4; port++) expect(gateway.fate(WAN, syn(port, 8081))).toBe('sent')
    for (let port = 1; port <= 100; port++) expect(gateway.fate(WAN, syn(port))).toBe('sent')
    expect([used(gateway, ONE)[0], used(gateway, OTHER)[0]]).toEqual([30, 4])
    expect(limited(gateway, 'connections')).toBe(0)
    expect([1, 2, 3].map((port) => gateway.fate(LAN, flow(ONE, port)))).toEqual(['sent', 'sent', 'sent'])
    expect(used(gateway, ONE)[0]).toBe(32)
    gateway.check()
  })

  it('are those that outsiders open to it, too, which leave it a sixteenth', async () => {
    const gateway = await start({ limits: quotas({ connections: 32 }), forwards: [FORWARD] })
    const syn = (port: number) => tcpSegment(`${SERVER}:${port}`, `${EXTERNAL}:8080`, 'S')
    for (let port = 1; port <= 30; port++) {
      expect(gateway.fate(WAN, syn(port))).toBe('sent')
      // Assured, or the next one recycles it.
      expect(gateway.fate(LAN, tcpSegment(`${ONE}:80`, `${SERVER}:${port}`, 'SA'))).toBe('sent')
      expect(gateway.fate(WAN, tcpSegment(`${SERVER}:${port}`, `${EXTERNAL}:8080`, 'A'))).toBe('sent')
    }
    expect(gateway.fate(WAN, syn(31))).toBe('host-limit')
    // Nobody outside is told.
    expect(gateway.toWan()).toEqual([])
    expect([1, 2, 3].map((port) => gateway.fate(LAN, flow(ONE, port)))).toEqual(['sent', 'sent', 'host-limit'])
    expect(used(gateway, OTHER)[0]).toBe(0)
    gateway.check()
  })

  it('count for both ends of a hairpin', async () => {
    const gateway = await start({ limits: quotas({ connections: 100 }), forwards: [FORWARD] })
    expect(gateway.hairpin(tcpSegment(`${OTHER}:1000`, `${EXTERNAL}:8080`, 'S'))).toHaveLength(1)
    expect([used(gateway, ONE)[0], used(gateway, OTHER)[0]]).toEqual([1, 1])
    gateway.check()
  })

  it('count where nothing is translated', async () => {
    const gateway = await start({ limits: quotas({ connections: 2 }), nat: { translate: false } })
    const fates = [1, 2, 3].map((port) => gateway.fate(LAN, flow(ONE, port)))
    expect(fates).toEqual(['sent', 'sent', 'host-limit'])
    gateway.check()
  })
})

describe('ports of a host', () => {
  it('count as long as nobody else may have them: in quarantine too', async () => {
    const gateway = await start({ limits: quotas({ ports: 3 }) })
    for (let port = 1; port <= 3; port++) expect(gateway.fate(LAN, flow(ONE, port, `${SERVER}:53`))).toBe('sent')
    expect(gateway.fate(LAN, flow(ONE, 4))).toBe('host-limit')
    // A port that it has serves as many flows as it likes.
    expect(gateway.fate(LAN, flow(ONE, 3, `${SERVER}:54`))).toBe('sent')
    gateway.pass(40)
    expect(used(gateway, ONE)).toEqual([1, 3, 2])
    expect(gateway.fate(LAN, flow(ONE, 4))).toBe('host-limit')
    gateway.check()
    gateway.pass(121)
    expect(used(gateway, ONE)).toEqual([1, 1, 0])
    expect(gateway.fate(LAN, flow(ONE, 4))).toBe('sent')
    expect(limited(gateway, 'ports')).toBe(2)
    gateway.check()
  })

  it('are of all protocols together', async () => {
    const gateway = await start({ limits: quotas({ ports: 2 }) })
    expect(gateway.fate(LAN, flow(ONE, 1))).toBe('sent')
    expect(gateway.fate(LAN, echo(ONE, SERVER, 7))).toBe('sent')
    expect(gateway.fate(LAN, tcpSegment(`${ONE}:1`, `${SERVER}:80`, 'S'))).toBe('host-limit')
  })
})

describe('new connections a second', () => {
  it('are as many as the limit in each second, and no more behind a full one until a second is over', async () => {
    const gateway = await start({ limits: quotas({ 'new-connections': 10 }) })
    let port = 0
    const opened = (tries: number) =>
      Array.from({ length: tries }, () => gateway.fate(LAN, flow(ONE, ++port))).filter((fate) => fate === 'sent').length
    expect(opened(20)).toBe(10)
    expect(limited(gateway, 'new-connections')).toBe(10)
    expect(gateway.fate(LAN, flow(OTHER, 1))).toBe('sent')
    gateway.jump(1)
    expect(opened(20)).toBe(0)
    gateway.jump(0.5)
    expect(opened(20)).toBe(5)
    gateway.jump(2)
    expect(opened(20)).toBe(10)
    gateway.check()
  })
})

describe('rules', () => {
  it('are by inside address: the first that matches decides, and what it leaves out is the default', async () => {
    const limits = quotas(
      { connections: 2, ports: 1 },
      [`${ONE}/32`, { connections: 4 }],
      ['10.0.0.0/24', { connections: 3, ports: 100 }],
    )
    const gateway = await start({ limits })
    const opened = (host: string, port: (i: number) => number) =>
      [1, 2, 3, 4, 5].filter((i) => gateway.fate(LAN, flow(host, port(i), `${SERVER}:${100 + i}`)) === 'sent').length
    expect(opened(ONE, () => 1)).toBe(4)
    expect(opened(OTHER, (i) => i)).toBe(3)
    expect(listOf(gateway).map(({ host, connections, ports }) => [host, connections.limit, ports.limit])).toEqual([
      [ONE, 4, 1],
      [OTHER, 3, 100],
    ])
  })
})

describe('hosts without a row of their own', () => {
  it('share what one may have, and leave those that have a row alone', async () => {
    const gateway = await start({ limits: quotas({ connections: 4 }), hosts: 16 })
    const hosts = Array.from({ length: 40 }, (_, i) => `10.0.0.${100 + i}`)
    const fates = hosts.map((host) => gateway.fate(LAN, flow(host, 1)))
    expect(fates.slice(0, 20)).toEqual(hosts.slice(0, 20).map(() => 'sent'))
    expect(fates.slice(20)).toEqual(hosts.slice(20).map(() => 'host-limit'))
    expect(gateway.fate(LAN, flow(hosts[0]!, 2))).toBe('sent')
    expect(used(gateway, 'others').slice(0, 2)).toEqual([4, 4])
    gateway.check()
    passAll(gateway)
    expect(used(gateway, 'others').slice(0, 2)).toEqual([0, 0])
    gateway.check()
  })
})

describe('a row of the table', () => {
  const gcOf = (gateway: Gateway, heard: LimitedHost[] = []) =>
    new HostGc({
      table: gateway.hosts,
      now: () => Math.floor(gateway.clock / 1000),
      turns: () => gateway.counter('turns'),
      limited: (host) => heard.push(host),
    })
  const names = ({ hosts }: Gateway) => [...hosts.names].filter((name) => name !== 0).length

  it('is given back when its host has nothing, and every shard has ended a turn since that was seen', async () => {
    const gateway = await start({ limits: quotas({ connections: 10 }) })
    const gc = gcOf(gateway)
    gateway.inside(flow(ONE, 1))
    for (let i = 0; i < 3; i++) gc.look()
    expect(names(gateway)).toBe(1)
    gateway.pass(301)
    // The port rests, and is the host's as long.
    for (let i = 0; i < 3; i++) gc.look()
    expect(names(gateway)).toBe(1)
    gateway.pass(121)
    gc.look()
    gc.look()
    expect(names(gateway)).toBe(1)
    gateway.turn()
    gc.look()
    expect(names(gateway)).toBe(0)
    expect(gateway.fate(LAN, flow(ONE, 1))).toBe('sent')
    gateway.check()
  })

  it('is kept if its host comes back in between', async () => {
    const gateway = await start({ limits: quotas({ connections: 10 }) })
    const gc = gcOf(gateway)
    gateway.inside(flow(ONE, 1))
    passAll(gateway)
    gc.look()
    expect(gateway.hosts.marks.some((mark) => mark > 0)).toBe(true)
    gateway.inside(flow(ONE, 2))
    gc.look()
    expect(names(gateway)).toBe(1)
    expect(used(gateway, ONE)[0]).toBe(1)
    gateway.check()
  })

  it('says who has met a limit, once a minute', async () => {
    const heard: LimitedHost[] = []
    const gateway = await start({ limits: quotas({ connections: 1 }) })
    const gc = gcOf(gateway, heard)
    gateway.inside(flow(ONE, 1))
    for (let port = 2; port <= 8; port++) gateway.inside(flow(ONE, port))
    gc.look()
    gateway.inside(flow(ONE, 9))
    gc.look()
    expect(heard).toEqual([{ host: ONE, limit: 'connections', refused: 7 }])
    gateway.pass(61)
    gc.look()
    gc.look()
    expect(heard.slice(1)).toEqual([{ host: ONE, limit: 'connections', refused: 1 }])
  })
})

describe('a shard on the memory of one that crashed', () => {
  it('counts what each host has of its rows anew', async () => {
    const gateway = await start({ limits: quotas({ connections: 5 }), hosts: 16 })
    for (let port = 1; port <= 5; port++) gateway.inside(flow(ONE, port))
    const first = connectionsOf(gateway.tables).length
    // What the dead shard had just begun to count, or forgotten to.
    const row = [...gateway.hosts.names].indexOf(parseAddress(ONE))
    gateway.hosts.counts[gateway.hosts.line(row, 0) + HOST.connections] = 77
    gateway.hosts.counts[gateway.hosts.line(row, 0) + HOST.ports] = 0
    await gateway.restart()
    gateway.turn()
    expect(used(gateway, ONE)).toEqual([first, first, 0])
    gateway.check()
    expect(gateway.fate(LAN, flow(ONE, 6))).toBe('host-limit')
    passAll(gateway)
    expect(used(gateway, ONE)).toEqual([0, 0, 0])
    expect(fromOf(gateway.inside(flow(ONE, 6))[0]!)).toContain(EXTERNAL)
    gateway.check()
  })
})
