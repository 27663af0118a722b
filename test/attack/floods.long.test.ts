// Every flood that hosts are held against (floods.ts), in virtual time through one shard with the quotas
// that hosts have by default: ten times as many packets as the table has rows, at 20,000 a second. Meanwhile another
// host's connections go on and new ones of each kind begin; afterwards nothing is left of any of it.

import { describe, expect, it } from 'vitest'
import { hostsFor } from '../../src/conntrack/host-table.ts'
import { loadConfig } from '../../src/control/config.ts'
import { hostQuotas } from '../../src/coordinator/host-limits.ts'
import { HostGc } from '../../src/coordinator/hosts/host-gc.ts'
import { HELPER_CUT_OFFS } from '../../src/counters/counters.ts'
import { HOST_LIMIT, type HostLimitName } from '../../src/counters/host-limits.ts'
import { BUILTIN } from '../../src/helpers/builtin.ts'
import { fragments, frame } from '../../src/testing/builder.ts'
import { parseAddress } from '../../src/wire/address.ts'
import { Gateway } from '../datapath/gateway.ts'
import { Dialogue } from '../datapath/helped/dialogue.ts'
import { EXTERNAL, HOST, LAN, LAN_ADDRESS, MAC, route, SERVER, WAN } from '../datapath/network.ts'
import { decode, echo, echoReply, fromOf, icmpError, tcpSegment, toOf, udp } from '../datapath/packets.ts'
import { answer, LONGER } from './answers.ts'
import {
  FLOODS,
  type Flood,
  type FloodName,
  FORGED_INSIDE,
  FORWARDED_TCP,
  FORWARDED_UDP,
  frameOf,
  type Packet,
  type Places,
  SILENT_NEIGHBOURS,
} from './floods.ts'

const ROWS = 1024
const PORTS = [16384, 24575] as const
const TIMES = 10
const A_MILLISECOND = 20
/** Packets of the flood between two looks at what others get. */
const LOOK_EVERY = 500
const OTHER = '10.0.0.6'
const INSIDE_SERVER = '10.0.0.7'
const PLACES: Places = { attacker: HOST, server: SERVER, gatewayInside: LAN_ADDRESS, gatewayOutside: EXTERNAL }
const FROM_INSIDE = { src: MAC.host, dst: MAC.lan }
const FROM_OUTSIDE = { src: MAC.server, dst: MAC.wan }

const start = async (): Promise<Gateway> => {
  const { config } = loadConfig({
    env: {
      ...{ NATLOOM_CONFIG: '/dev/null', NATLOOM_INSIDE: 'lan0', NATLOOM_OUTSIDE: 'wan0', NATLOOM_WORKERS: '1' },
      ...{ NATLOOM_CAPACITY_CONNECTIONS: String(ROWS), NATLOOM_CAPACITY_EXPECTATIONS: '64' },
      ...{ NATLOOM_NAT_PORTS_FROM: String(PORTS[0]), NATLOOM_NAT_PORTS_TO: String(PORTS[1]) },
    },
  })
  const forward = (protocol: number, port: number) => ({
    ...{ protocol, address: null, port },
    ...{ toAddress: parseAddress(INSIDE_SERVER), toPort: port },
  })
  const gateway = await Gateway.start({
    connections: ROWS,
    ports: PORTS,
    hosts: hostsFor(ROWS),
    limits: hostQuotas(config),
    forwards: [forward(6, FORWARDED_TCP), forward(17, FORWARDED_UDP)],
    routes: [
      route(FORGED_INSIDE.address, FORGED_INSIDE.length),
      route(SILENT_NEIGHBOURS.address, SILENT_NEIGHBOURS.length, { port: WAN }),
    ],
  })
  await gateway.help(BUILTIN.ftp!(), undefined, 'pass')
  return gateway
}

/** What leaves a gateway that somebody answers comes back in the next burst. */
class Flooding {
  readonly #gateway: Gateway
  readonly #flood: Flood
  #next = 0

  constructor(gateway: Gateway, flood: Flood) {
    this.#gateway = gateway
    this.#flood = flood
    for (const packets of flood.opening(PLACES)) for (const packet of packets) this.#send([packet])
  }

  /** Some packets, in so many milliseconds as they take. */
  run(packets: number): void {
    for (const end = this.#next + packets; this.#next < end; ) {
      this.#gateway.pass(0.001)
      this.#send(Array.from({ length: A_MILLISECOND }, () => this.#flood.packet(this.#next++, PLACES)))
    }
  }

  #send(packets: readonly Packet[]): void {
    for (const side of ['inside', 'outside'] as const) {
      const own = packets.filter((packet) => packet.side === side)
      const [port, eth] = side === 'inside' ? [LAN, FROM_INSIDE] : [WAN, FROM_OUTSIDE]
      this.#gateway.burst(
        port,
        own.map((packet) => frameOf(packet, eth)),
      )
    }
    const toWan = this.#gateway.toWan().filter((bytes) => decode(bytes).dport === 21)
    const toLan = this.#gateway.toLan().filter((bytes) => decode(bytes).dst === INSIDE_SERVER)
    this.#answer(WAN, FROM_OUTSIDE, toWan)
    this.#answer(LAN, FROM_INSIDE, toLan)
    // To strangers, who take no notice.
    this.#gateway.toWan()
    this.#gateway.toLan()
  }

  #answer(port: number, eth: { src: string; dst: string }, heard: readonly Uint8Array[]): void {
    const said = heard.flatMap((bytes) => {
      const copy = new Uint8Array(bytes.length + LONGER)
      copy.set(bytes)
      const length = answer(new DataView(copy.buffer), 0)
      copy.set(macOf(eth.dst), 0)
      copy.set(macOf(eth.src), 6)
      return length === 0 ? [] : [copy.subarray(0, length)]
    })
    this.#gateway.burst(port, said)
  }
}

const macOf = (text: string): number[] => text.split(':').map((byte) => Number.parseInt(byte, 16))

/** A host that does nothing wrong: connections that stand, and new ones, each with the count of those that failed. */
class Bystander {
  readonly #gateway: Gateway
  readonly #standing: { readonly protocol: 'udp' | 'tcp'; readonly from: string; readonly outside: string }[] = []
  readonly failed: Record<string, number> = {}
  tried = 0
  #port = 10_000

  constructor(gateway: Gateway) {
    this.#gateway = gateway
    for (let i = 0; i < 4; i++) {
      const from = `${OTHER}:${5000 + i}`
      const [out] = gateway.inside(udp(from, `${SERVER}:7`))
      this.#standing.push({ protocol: 'udp', from, outside: fromOf(out!) })
      const opened = this.#open(6000 + i, 80)
      this.#standing.push({ protocol: 'tcp', from: `${OTHER}:${6000 + i}`, outside: opened! })
    }
    // Of UDP what lasts is assured.
    for (let second = 0; second < 4; second++) {
      this.goOn()
      gateway.pass(1)
    }
    expect(this.failed).toEqual({})
  }

  #hold(what: string, isSo: boolean): void {
    this.tried++
    if (!isSo) this.failed[what] = (this.failed[what] ?? 0) + 1
  }

  /** Packets of all that stands, both ways. */
  goOn(): void {
    for (const { protocol, from, outside } of this.#standing) {
      const [there, back] =
        protocol === 'udp'
          ? [udp(from, `${SERVER}:7`), udp(`${SERVER}:7`, outside)]
          : [tcpSegment(from, `${SERVER}:80`, 'A'), tcpSegment(`${SERVER}:80`, outside, 'A')]
      this.#hold(`established ${protocol} out`, this.#gateway.inside(there).map(fromOf).join() === outside)
      this.#hold(`established ${protocol} back`, this.#gateway.outside(back).map(toOf).join() === from)
    }
  }

  #opensFrom = (host: string, port: number): boolean => this.#open(port, 443, host) !== undefined

  /** A real client's handshake with the server behind the port forward. */
  #reachesForward(port: number): boolean {
    const gateway = this.#gateway
    const [client, server] = [`${SERVER}:${port}`, `${INSIDE_SERVER}:${FORWARDED_TCP}`]
    const segments = ['S', 'A'].map((flags) => tcpSegment(client, `${EXTERNAL}:${FORWARDED_TCP}`, flags))
    return (
      gateway.outside(segments[0]!).map(toOf).join() === server &&
      gateway.inside(tcpSegment(server, client, 'SA')).length === 1 &&
      gateway.outside(segments[1]!).length === 1
    )
  }

  /** A handshake from this port; the endpoint that the server sees. */
  #open(port: number, to: number, host = OTHER): string | undefined {
    const [from, server] = [`${host}:${port}`, `${SERVER}:${to}`]
    const [syn] = this.#gateway.inside(tcpSegment(from, server, 'S'))
    if (!syn) return undefined
    const outside = fromOf(syn)
    if (this.#gateway.outside(tcpSegment(server, outside, 'SA')).length !== 1) return undefined
    return this.#gateway.inside(tcpSegment(from, server, 'A')).length === 1 ? outside : undefined
  }

  /** One of each kind that a host may begin. */
  begin(): void {
    const gateway = this.#gateway
    const port = this.#port++
    this.#hold('new TCP', this.#open(port, 443) !== undefined)

    this.#hold('new TCP of the flooded server', this.#opensFrom(INSIDE_SERVER, port))
    this.#hold('new client of the port forward', this.#reachesForward(port))

    const [query] = gateway.inside(udp(`${OTHER}:${port}`, `${SERVER}:53`))
    this.#hold('new UDP', query !== undefined && gateway.outside(udp(`${SERVER}:53`, fromOf(query))).length === 1)

    const [ping] = gateway.inside(echo(OTHER, SERVER, port))
    const pong = ping && echoReply(SERVER, EXTERNAL, decode(ping).icmpId)
    this.#hold('ping', pong !== undefined && gateway.outside(pong).length === 1)

    const long = frame({
      eth: { src: MAC.host, dst: MAC.lan },
      ...udp(`${OTHER}:5000`, `${SERVER}:7`, { ip: { id: port }, payload: new Uint8Array(1600) }),
    })
    this.#hold(
      'fragments out',
      fragments(long, 800).every((piece) => gateway.inside(piece).length === 1),
    )

    const { from, outside } = this.#standing[0]!
    const [sent] = gateway.inside(udp(from, `${SERVER}:7`))
    const isTold = sent !== undefined && gateway.outside(icmpError('198.51.100.1', EXTERNAL, sent)).length === 1
    this.#hold(`ICMP error about ${outside}`, isTold)

    const isExpired = gateway.inside(udp(from, `${SERVER}:7`, { ip: { ttl: 1 } })).length === 0
    this.#hold('told that its TTL ran out', isExpired && gateway.toLan().length === 1)

    // Of a table so small a host may have sixteen connections edited.
    if (port % 2 === 0) this.#hold('PORT rewritten', this.#announces(port))
    gateway.toLan()
    gateway.toWan()
  }

  #announces(port: number): boolean {
    const options = { clientIsn: 1000, clientPort: port, insideHost: OTHER }
    const dialogue = new Dialogue(this.#gateway, { ...options, handshake: false })
    try {
      dialogue.open()
      for (const segment of dialogue.answer()) dialogue.client.take(segment)
      dialogue.say(dialogue.client, 0, 0)
      dialogue.tell(dialogue.server, '220 ready\r\n')
      dialogue.tell(dialogue.client, `PORT 10,0,0,6,100,${port & 255}\r\n`)
    } catch {
      // Its SYN didn't leave.
      return false
    }
    return /PORT 203,0,113,1/.test(dialogue.server.received)
  }
}

/** All that a gateway counts of what there is, without zeros. */
function left(gateway: Gateway): Record<string, number> {
  const sum = (key: Parameters<Gateway['counter']>[0], cells = 1) =>
    Array.from({ length: cells }, (_, cell) => gateway.counter(key, cell)).reduce((a, b) => a + b)
  const { connections, mappings, permissions } = gateway.tables
  const counts = {
    connections: sum('connections', 4),
    'rows of connections': connections.connections.used,
    mappings: sum('mappings', 4),
    'rows of mappings': mappings.mappings.used,
    permissions: sum('permissions'),
    'rows of permissions': permissions.permissions.used,
    ports: sum('portsUsed', 3),
    'ports in quarantine': sum('portsResting', 3),
    helped: sum('helped'),
    'fragments that wait': sum('fragmentsWaiting'),
    hosts: gateway.hosts.names.filter((name) => name !== 0).length,
    expectations: gateway.expectations.count(),
  }
  return Object.fromEntries(Object.entries(counts).filter(([, count]) => count !== 0))
}

function passAll(gateway: Gateway): void {
  const hostGc = new HostGc({
    table: gateway.hosts,
    now: () => Math.floor(gateway.clock / 1000),
    turns: () => gateway.counter('turns'),
    limited() {},
  })
  // The longest life of a connection, and then the quarantine of ports.
  gateway.pass(7450)
  gateway.pass(122)
  for (let look = 0; look < 3; look++) {
    hostGc.look()
    gateway.pass(1)
  }
}

const limited = (gateway: Gateway, name: HostLimitName) => gateway.counter('hostsLimited', HOST_LIMIT[name])
const connectionsLimited = (gateway: Gateway) => limited(gateway, 'connections') + limited(gateway, 'new-connections')
const recycled = (gateway: Gateway) =>
  [0, 1, 2, 3, 4].reduce((sum, state) => sum + gateway.counter('connectionsRecycled', state), 0)
const cutOff = (gateway: Gateway) =>
  HELPER_CUT_OFFS.reduce((sum, _, reason) => sum + gateway.counter('helperCutOffs', reason), 0)

/** What each flood meets before it has taken everything: it would be no flood if it met nothing. */
const MEETS: Readonly<Record<FloodName, (gateway: Gateway) => number>> = {
  'syn-inside': connectionsLimited,
  'syn-forged': connectionsLimited,
  'syn-forward': recycled,
  'syn-ftp': connectionsLimited,
  'udp-inside': connectionsLimited,
  'udp-forward': recycled,
  // Its records replace its own oldest ones: what it sends goes through.
  'fragments-inside': (gateway) => gateway.counter('sentPackets', 1),
  'fragments-outside': recycled,
  'fragments-orphan': (gateway) => gateway.drops()['fragment-table-full'] ?? 0,
  'icmp-echo': connectionsLimited,
  'icmp-errors': (gateway) => gateway.counter('icmpErrorsSuppressed'),
  expectations: (gateway) => limited(gateway, 'expectations') + limited(gateway, 'sequence-edits'),
  'silent-neighbours': (gateway) => gateway.drops()['neighbour-queue-full'] ?? 0,
  gaps: (gateway) => gateway.counter('helperHolds') + cutOff(gateway),
}

describe('a flood', () => {
  it.each(FLOODS.map((flood) => [flood.name, flood] as const))(
    'of %s leaves others what they have and need',
    async (name, flood) => {
      const gateway = await start()
      const bystander = new Bystander(gateway)
      const flooding = new Flooding(gateway, flood)
      for (let sent = 0; sent < TIMES * ROWS; sent += LOOK_EVERY) {
        flooding.run(LOOK_EVERY)
        bystander.goOn()
        bystander.begin()
      }
      expect(bystander.failed).toEqual({})
      expect(MEETS[name](gateway)).toBeGreaterThan(500)
      gateway.check()
      passAll(gateway)
      expect(left(gateway)).toEqual({})
      gateway.check()
    },
  )
})
