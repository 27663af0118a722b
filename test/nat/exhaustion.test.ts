// When ports or rows run out: RFC 5508 REQ-8 and RFC 6888 REQ-11. The sender is told (ICMP 3/13); what is over or not
// assured makes room, the oldest first; nothing that is in use is evicted. Who goes for whom is in recycling.test.ts.

import { describe, expect, it } from 'vitest'
import { moveFreeBlock } from '../../src/coordinator/leases/free-blocks.ts'
import { BUILTIN } from '../../src/helpers/builtin.ts'
import { frame } from '../../src/testing/builder.ts'
import { Cluster, toOwner } from '../datapath/cluster.ts'
import { Gateway } from '../datapath/gateway.ts'
import { Dialogue } from '../datapath/helped/dialogue.ts'
import { EXTERNAL, HOST, LAN, MAC, SERVER, WAN } from '../datapath/network.ts'
import { echo, fromOf, printed, tcpSegment, udp } from '../datapath/packets.ts'
import { connectionsOf, mappingsOf } from '../datapath/tables.ts'

const TO = `${SERVER}:80`
const ONE_BLOCK = [20_480, 20_543] as const
const PROHIBITED = 'IP 10.0.0.1 > 10.0.0.5: ICMP host 192.0.2.7 unreachable - admin prohibited filter'
const at = (port: number): string => `${HOST}:${port}`

/** A TCP connection from an inside port, as far as it is to come; its external end. */
function tcp(gateway: Gateway, port: number, upTo: 'syn' | 'established' | 'closed'): string {
  const external = fromOf(gateway.inside(tcpSegment(at(port), TO, 'S'))[0]!)
  if (upTo === 'syn') return external
  gateway.outside(tcpSegment(TO, external, 'SA'))
  gateway.inside(tcpSegment(at(port), TO, 'A'))
  if (upTo === 'closed') gateway.outside(tcpSegment(TO, external, 'R'))
  return external
}

/** UDP from an inside port to a server that answers, so long that it is assured; its external end. */
function assured(gateway: Gateway, ...ports: readonly number[]): string[] {
  const externals = ports.map((port) => fromOf(gateway.inside(udp(at(port), TO))[0]!))
  for (const external of externals) gateway.outside(udp(TO, external))
  gateway.pass(3)
  for (const port of ports) gateway.inside(udp(at(port), TO))
  return externals
}

/** Inside ports of the connections that are left. */
const left = (gateway: Gateway): number[] =>
  connectionsOf(gateway.tables).map(({ original }) => Number(/^[^:]*:(\d+)/.exec(original)![1]))

describe('no port left', () => {
  for (const [what, open] of [
    ['UDP', (port: number) => udp(at(port), TO)],
    ['ICMP', (port: number) => echo(HOST, SERVER, port)],
  ] as const)
    it(`${what}: the sender is told, and ports rest before they are given again`, async () => {
      const gateway = await Gateway.start({ ports: ONE_BLOCK, nat: { parity: false } })
      for (let port = 1; port <= 64; port++) expect(gateway.fate(LAN, open(port))).toBe('sent')
      expect(gateway.fate(LAN, open(65))).toBe('no-port')
      expect(printed(gateway.toLan())).toEqual([`${PROHIBITED}, length 36`])
      expect(gateway.fate(LAN, open(1))).toBe('sent')
      gateway.pass(301)
      expect(gateway.counter('portsUsed', what === 'UDP' ? 1 : 2)).toBe(0)
      gateway.pass(60)
      if (what === 'UDP') expect(gateway.fate(LAN, open(65))).toBe('no-port')
      gateway.pass(60)
      expect(gateway.fate(LAN, open(65))).toBe('sent')
      gateway.check()
    })

  it('of one kind leaves the others alone', async () => {
    const gateway = await Gateway.start({ ports: ONE_BLOCK })
    for (let port = 1; port <= 64; port++) gateway.inside(udp(at(port), TO))
    expect(gateway.fate(LAN, udp(at(65), TO))).toBe('no-port')
    expect(gateway.fate(LAN, tcpSegment(at(65), TO, 'S'))).toBe('sent')
    expect(gateway.fate(LAN, echo(HOST, SERVER, 65))).toBe('sent')
  })

  it('TCP: the oldest closed connections make room, then the oldest unreplied ones, then nobody', async () => {
    const gateway = await Gateway.start({ ports: ONE_BLOCK })
    const kinds = (port: number) => (port % 10 === 1 ? 'closed' : port % 10 === 2 ? 'syn' : 'established')
    for (let port = 1; port <= 64; port++) tcp(gateway, port, kinds(port))
    const ports = Array.from({ length: 64 }, (_, i) => i + 1)
    const goInOrder = [
      ...ports.filter((port) => kinds(port) === 'closed'),
      ...ports.filter((port) => kinds(port) === 'syn'),
    ]
    const gone: number[] = []
    for (const port of goInOrder) {
      tcp(gateway, 1000 + port, 'established')
      gone.push(port)
      expect(ports.filter((each) => !left(gateway).includes(each))).toEqual(gone.toSorted((a, b) => a - b))
    }
    expect(gateway.counter('connectionsRecycled', 0)).toBe(7)
    expect(gateway.counter('connectionsRecycled', 1)).toBe(7)
    expect(gateway.fate(LAN, tcpSegment(at(2000), TO, 'S'))).toBe('no-port')
    expect(printed(gateway.toLan())).toEqual([`${PROHIBITED}, length 48`])
    expect(gateway.counter('connections', 0)).toBe(64)
    gateway.check()
  })

  it('TCP: a connection that was closed in time goes before an older SYN, an established one never', async () => {
    const gateway = await Gateway.start({ ports: ONE_BLOCK })
    for (let port = 1; port <= 64; port++) tcp(gateway, port, port === 64 ? 'closed' : port < 3 ? 'syn' : 'established')
    const [first] = connectionsOf(gateway.tables)
    gateway.outside(tcpSegment(TO, first!.reply.split(' > ')[1]!, 'SA'))
    gateway.inside(tcpSegment(at(1), TO, 'A'))
    tcp(gateway, 100, 'established')
    expect(left(gateway)).not.toContain(64)
    tcp(gateway, 101, 'established')
    expect(left(gateway)).not.toContain(2)
    expect(gateway.fate(LAN, tcpSegment(at(102), TO, 'S'))).toBe('no-port')
    expect(left(gateway)).toContain(1)
    gateway.check()
  })

  it('TCP: connections that share their port with a live one are not ended for nothing', async () => {
    const gateway = await Gateway.start({ ports: ONE_BLOCK })
    for (let port = 1; port <= 64; port++) tcp(gateway, port, 'established')
    // Their ports are held by the established ones.
    for (let port = 1; port <= 3; port++) gateway.inside(tcpSegment(at(port), `${SERVER}:81`, 'S'))
    expect(gateway.fate(LAN, tcpSegment(at(65), TO, 'S'))).toBe('no-port')
    expect(gateway.counter('connections', 0)).toBe(67)
    gateway.check()
  })
})

describe('no row left for a mapping', () => {
  it('is as no port: the sender is told, and no port is lost', async () => {
    const gateway = await Gateway.start({ mappings: 4, nat: { parity: false } })
    for (let port = 1; port <= 4; port++) expect(gateway.fate(LAN, udp(at(port), TO))).toBe('sent')
    for (let port = 5; port <= 9; port++) expect(gateway.fate(LAN, udp(at(port), TO))).toBe('no-port')
    expect(printed(gateway.toLan())[0]).toBe(`${PROHIBITED}, length 36`)
    expect(gateway.fate(LAN, udp(at(1), `${SERVER}:81`))).toBe('sent')
    expect(gateway.counter('portsUsed', 1)).toBe(4)
    gateway.check()
    gateway.pass(400)
    expect(gateway.counter('portsUsed', 1)).toBe(0)
    expect(gateway.fate(LAN, udp(at(9), TO))).toBe('sent')
    gateway.check()
  })

  it('TCP: the oldest closed connection makes room, then the oldest unreplied one, then nobody', async () => {
    const gateway = await Gateway.start({ mappings: 3 })
    tcp(gateway, 1, 'established')
    tcp(gateway, 2, 'syn')
    tcp(gateway, 3, 'closed')
    for (const [port, goes] of [
      [10, 3],
      [11, 2],
    ] as const) {
      tcp(gateway, port, 'established')
      expect(left(gateway)).not.toContain(goes)
      gateway.check()
    }
    expect(gateway.fate(LAN, tcpSegment(at(12), TO, 'S'))).toBe('no-port')
    expect(left(gateway).toSorted((a, b) => a - b)).toEqual([1, 10, 11])
    gateway.check()
  })

  it('of one that was announced: its first packet is dropped, and let in when there is a row', async () => {
    const d = await Dialogue.begin({ mappings: 2, timeouts: { udpUnreplied: 30 } }, (gateway) =>
      gateway.help(BUILTIN.ftp!()),
    )
    expect(d.gateway.fate(LAN, udp(at(1), TO))).toBe('sent')
    d.tell(d.server, '220 ready\r\n')
    d.tell(d.client, 'PORT 10,0,0,5,156,64\r\n')
    const [high, low] = /,(\d+),(\d+)\r\n$/.exec(d.server.received)!.slice(1).map(Number)
    const syn = tcpSegment(`${SERVER}:20`, `${EXTERNAL}:${high! * 256 + low!}`, 'S')
    expect(d.gateway.fate(WAN, syn)).toBe('no-port')
    d.gateway.check()
    d.gateway.pass(60)
    expect(d.gateway.fate(WAN, syn)).toBe('sent')
    d.gateway.check()
  })
})

describe('no row left', () => {
  it('the oldest flow that is not assured makes room, answered or not; an assured one never does', async () => {
    const gateway = await Gateway.start({ connections: 8 })
    assured(gateway, 2, 4)
    for (const port of [1, 3, 5, 6, 7, 8]) {
      const [out] = gateway.inside(udp(at(port), TO))
      if (port % 2 === 0) gateway.outside(udp(TO, fromOf(out!)))
    }
    for (const [port, goes] of [
      [10, 1],
      [12, 3],
      [14, 5],
      [16, 6],
      [18, 7],
      [20, 8],
    ] as const) {
      const [out] = gateway.inside(udp(at(port), TO))
      gateway.outside(udp(TO, fromOf(out!)))
      expect(left(gateway)).not.toContain(goes)
      gateway.check()
    }
    gateway.pass(3)
    for (const port of [10, 12, 14, 16, 18, 20]) gateway.inside(udp(at(port), TO))
    expect(gateway.fate(LAN, udp(at(22), TO))).toBe('table-full')
    expect(printed(gateway.toLan())).toEqual([`${PROHIBITED}, length 36`])
    expect(left(gateway).toSorted((a, b) => a - b)).toEqual([2, 4, 10, 12, 14, 16, 18, 20])
    gateway.check()
  })

  it('closed TCP connections go before anything unreplied, of which the oldest goes first', async () => {
    const gateway = await Gateway.start({ connections: 4 })
    gateway.inside(udp(at(1), TO))
    tcp(gateway, 2, 'syn')
    tcp(gateway, 3, 'closed')
    tcp(gateway, 4, 'established')
    for (const goes of [3, 1, 2]) {
      tcp(gateway, 10 + goes, 'established')
      expect(left(gateway)).not.toContain(goes)
      gateway.check()
    }
    expect(gateway.fate(LAN, udp(at(20), TO))).toBe('table-full')
  })

  it('an endpoint keeps its mapping though its only connection makes room for the next (RFC 4787 REQ-1)', async () => {
    const gateway = await Gateway.start({ connections: 2 })
    assured(gateway, 1)
    const external = fromOf(gateway.inside(udp(at(2), `${SERVER}:1000`))[0]!)
    for (let port = 1001; port < 1010; port++) {
      expect(fromOf(gateway.inside(udp(at(2), `${SERVER}:${port}`))[0]!)).toBe(external)
      expect(mappingsOf(gateway.tables)).toMatchObject([{ ended: false }, { holders: 1, rows: 1, ended: false }])
      gateway.check()
    }
    gateway.pass(5)
    expect(gateway.fate(WAN, udp(`${SERVER}:1009`, external))).toBe('sent')
  })

  it('a caller from outside is refused if the mapping he calls would have to go for him', async () => {
    const gateway = await Gateway.start({ connections: 2 })
    assured(gateway, 1)
    const external = fromOf(gateway.inside(udp(at(2), TO))[0]!)
    expect(gateway.fate(WAN, udp(`${SERVER}:81`, external))).toBe('no-mapping')
    expect(gateway.toWan()).toEqual([])
    gateway.check()
  })

  it('from outside: refused, and nobody is told', async () => {
    const gateway = await Gateway.start({ connections: 1 })
    const [external] = assured(gateway, 1)
    expect(gateway.fate(WAN, udp(`${SERVER}:81`, external!))).toBe('table-full')
    expect(gateway.toWan()).toEqual([])
    gateway.check()
  })
})

describe('a shard among others without a port left', () => {
  const SPACE = 1
  /** Shard 0 has no block of UDP ports, shard 1 has this many; an inside port whose flow to TO is shard 0's. */
  async function short(blocksOfOther: number): Promise<{ cluster: Cluster; ports: number[] }> {
    const cluster = await Cluster.start({ shards: 2 })
    const { externals } = cluster
    let left = blocksOfOther
    for (let block = 0; block < externals.blocksPerSpace; block++) {
      const lessee = externals.ownerOfBlock(0, SPACE, block)
      if (lessee === 0 || (lessee === 1 && left-- <= 0)) externals.takeBack(0, SPACE, block)
    }
    const eth = { src: MAC.host, dst: MAC.lan }
    const isFirsts = (port: number) => toOwner(frame({ eth, ...udp(at(port), TO) }), LAN, cluster) === 0
    const ports = Array.from({ length: 64 }, (_, i) => 30_000 + i).filter(isFirsts)
    expect(ports.length).toBeGreaterThan(3)
    cluster.turn()
    return { cluster, ports }
  }

  it('drops silently while the coordinator is asked, also until it has seen the block that it got', async () => {
    const { cluster, ports } = await short(3)
    expect(cluster.inside(udp(at(ports[0]!), TO))).toEqual([])
    expect(cluster.externals.requests()).toEqual([{ shard: 0, entry: 0, space: SPACE }])
    expect([cluster.drops(), cluster.taken(LAN)]).toEqual([{ 'port-lease-pending': 1 }, []])
    expect(moveFreeBlock(cluster.externals, 0, SPACE, 0)).toBe(true)
    cluster.externals.answer(0, 0, SPACE, true)
    expect(cluster.inside(udp(at(ports[1]!), TO))).toHaveLength(1)
    expect([cluster.drops(), cluster.taken(LAN)]).toEqual([{ 'port-lease-pending': 1 }, []])
    cluster.check()
  })

  it('tells the sender when the coordinator has none, and waits again when leases have changed', async () => {
    const { cluster, ports } = await short(2)
    cluster.inside(udp(at(ports[0]!), TO))
    expect(moveFreeBlock(cluster.externals, 0, SPACE, 0)).toBe(false)
    cluster.externals.answer(0, 0, SPACE, false)
    cluster.inside(udp(at(ports[1]!), TO))
    expect(cluster.drops()).toEqual({ 'port-lease-pending': 1, 'no-port': 1 })
    expect(printed(cluster.taken(LAN))).toEqual([`${PROHIBITED}, length 36`])
    cluster.externals.lease(0, SPACE, 1000, 1)
    cluster.inside(udp(at(ports[2]!), TO))
    expect(cluster.drops()).toEqual({ 'port-lease-pending': 2, 'no-port': 1 })
    expect(cluster.taken(LAN)).toEqual([])
    cluster.check()
  })
})
