// Runs a fresh shard's code before its first packet: V8 compiles a function when it is first called, and how fast a
// call is depends on what has passed there, so that the first packet of a cold shard takes many times as long as the
// later ones (measured with bench/start.ts). Synthetic flows go through the shard's own tables, by the paths that first
// packets take: a new flow of each protocol, its replies, established packets, both ends of a TCP connection, and, if
// FTP's helper is in force, a control connection and the data connection that it announces. What all shards share is
// replaced meanwhile (world.ts), the driver swallows what is sent, and afterwards every table is as new
// (nat/clear.shard.ts) and every count is zero.
//
// Not for a shard that goes on with a dead one's tables, because they hold connections. Owner: the thread, before its
// first turn.

import { baseOf } from '../../conntrack/connection-table.ts'
import { findConnection, portsWordOf } from '../../conntrack/connections.shard.ts'
import { EXPECTATION, stands, WIDTH } from '../../conntrack/expectation-table.ts'
import { dstPortIn, hashTuple, INSIDE, keyWord, portsOf, portsWord, rowOf } from '../../conntrack/terms.ts'
import { CELL } from '../../counters/counters.ts'
import { DROP_REASONS } from '../../counters/drop-reasons.ts'
import { counters } from '../../counters/own-counters.shard.ts'
import { HelperList } from '../../helpers/helper-list.ts'
import type { HelperEntry } from '../../helpers/load.ts'
import type { Driver } from '../../io/driver.ts'
import type { Row } from '../../memory/brand.ts'
import { Region } from '../../memory/region.ts'
import { clearTables, endConnections } from '../../nat/clear.shard.ts'
import { offsetOf } from '../../nat/sequence-edits.shard.ts'
import { htons, ntohs, type PortHost, type Ports, type ProtocolNumber } from '../../wire/address.ts'
import * as icmp from '../../wire/icmp.ts'
import { PROTO_ICMP, PROTO_TCP, PROTO_UDP } from '../../wire/ipv4.ts'
import * as tcp from '../../wire/tcp.ts'
import { ownerOfInside } from '../handover/packet-owner.ts'
import { clearGone } from '../helped/gone-bytes.shard.ts'
import type { Dataplane, ShardMemory, ShardSettings, Wakers, Warmed, WarmUp } from '../shard-contract.ts'
import { CLIENT, EXTERNAL, echoFrame, SERVER, tcpFrame, udpFrame } from './frames.ts'
import { type World, worldOf } from './world.ts'

/** What the shard's module lends: this folder is below it. */
export interface WarmedShard extends Pick<Dataplane, 'turn' | 'followHelpers'> {
  attach(memory: ShardMemory, settings: ShardSettings, driver: Driver, wakers: Wakers): void
}

const FTP = 'ftp'
const FTP_DATA_PORT = 20
const SERVICE = 53
const FIRST_PORT = 20_000
const PAYLOAD = 64
const FIRST_MS = 1000
const { SYN, ACK, FIN, RST, PSH } = tcp

const NOBODY: Wakers = { watcher() {}, shard() {}, coordinator() {} }

/** Attaches the shard to a world of its own, and leaves it for the caller to attach to the real one. */
export async function warmUp(
  shard: WarmedShard,
  memory: ShardMemory,
  settings: ShardSettings,
  { driver, inject, mayGoOn }: WarmUp,
): Promise<void> {
  const helpers = builtinsOf(memory, settings)
  const world = worldOf(memory, settings, helpers)
  shard.attach(world.memory, world.settings, driver, NOBODY)
  await shard.followHelpers()
  const flows = new Flows(shard, world, inject)
  const ftpPort = helpers.find(({ name }) => name === FTP)?.bindings[0]?.tuple.dstPort
  let rounds = 0
  // One round at the least, since the first of all costs most.
  do {
    flows.udp()
    flows.tcp()
    flows.echo()
    if (ftpPort !== undefined) flows.ftp(ftpPort)
    endConnections()
    rounds++
  } while (mayGoOn({ rounds, ...counted() }))
  world.helperList.publish('[]')
  await shard.followHelpers()
  clearTables()
  clearGone()
  counters.fill(0)
}

/** The built-in helpers in force. A user's is not for synthetic packets: it may tell the world of what it sees. */
function builtinsOf({ helperList }: ShardMemory, { shards }: ShardSettings): HelperEntry[] {
  const text = new HelperList(new Region(helperList), shards).read()?.text || '[]'
  return (JSON.parse(text) as HelperEntry[]).filter(({ name, module }) => name === module)
}

function counted(): Omit<Warmed, 'rounds'> {
  const sum = (first: number, cells: number): number =>
    counters.subarray(first, first + cells).reduce((total, count) => total + count, 0)
  return {
    sent: sum(CELL.sentPackets, 2),
    dropped: sum(CELL.drops, DROP_REASONS.length),
    rewritten: counters[CELL.helperRewrites]!,
    expected: counters[CELL.expectationsMatched]!,
  }
}

class Flows {
  readonly #shard: WarmedShard
  readonly #world: World
  readonly #inject: WarmUp['inject']
  #now = FIRST_MS
  #port: PortHost = FIRST_PORT

  constructor(shard: WarmedShard, world: World, inject: WarmUp['inject']) {
    this.#shard = shard
    this.#world = world
    this.#inject = inject
  }

  udp(): void {
    const from = this.#ownPort(PROTO_UDP)
    const out = () => this.#say(udpFrame(this.#out, from, SERVICE, PAYLOAD), this.#out.port)
    out()
    const external = this.#externalPort(PROTO_UDP, portsWord(from, SERVICE))
    if (external === undefined) return
    for (let i = 0; i < 2; i++) {
      this.#say(udpFrame(this.#back, SERVICE, external, PAYLOAD), this.#back.port)
      out()
    }
  }

  tcp(): void {
    const closed = this.#connect(SERVICE)
    closed?.client(PSH | ACK, 'a request')
    closed?.server(PSH | ACK, 'its answer')
    closed?.client(FIN | ACK)
    closed?.server(FIN | ACK)
    closed?.client(ACK)
    const reset = this.#connect(SERVICE)
    reset?.server(RST | ACK)
  }

  echo(): void {
    const id = this.#ownPort(PROTO_ICMP)
    const { port } = this.#out
    this.#say(echoFrame(this.#out, icmp.ECHO_REQUEST, htons(id)), port)
    const external = this.#externalPort(PROTO_ICMP, portsOf(htons(id), icmp.ECHO_REQUEST))
    if (external !== undefined) this.#say(echoFrame(this.#back, icmp.ECHO_REPLY, htons(external)), this.#back.port)
  }

  ftp(port: PortHost): void {
    const control = this.#connect(port)
    if (control === undefined) return
    const data = this.#ownPort(PROTO_TCP)
    control.server(PSH | ACK, '220 ready\r\n')
    control.client(ACK)
    control.client(PSH | ACK, `PORT 198,18,0,2,${data >> 8},${data & 0xff}\r\n`)
    control.server(PSH | ACK, '200 PORT command successful.\r\n')
    const announced = this.#announcedPort()
    if (announced === undefined) return
    const syn = { from: FTP_DATA_PORT, to: announced, flags: SYN, seq: 1, ack: 0 }
    this.#say(tcpFrame(this.#back, syn), this.#back.port)
    const answer = { from: data, to: FTP_DATA_PORT, flags: SYN | ACK, seq: 1, ack: 2 }
    this.#say(tcpFrame(this.#out, answer), this.#out.port)
  }

  /** The three segments of a TCP handshake; how to go on. Undefined if the shard didn't open the connection. */
  #connect(to: PortHost): Conversation | undefined {
    const from = this.#ownPort(PROTO_TCP)
    const sequence = { client: 1000, server: 5000 }
    const client = (flags: number, text = '') => {
      const segment = { from, to, flags, seq: sequence.client, ack: sequence.server, text }
      this.#say(tcpFrame(this.#out, segment), this.#out.port)
      sequence.client += text.length + ((flags & (SYN | FIN)) !== 0 ? 1 : 0)
    }
    client(SYN)
    const ports = portsWord(from, to)
    const external = this.#externalPort(PROTO_TCP, ports)
    if (external === undefined) return undefined
    const server = (flags: number, text = '') => {
      // The server acknowledges what it has got, and a helper may have changed the length of that.
      const ack = sequence.client + offsetOf(this.#row(PROTO_TCP, ports), 0)
      const segment = { from: to, to: external, flags, seq: sequence.server, ack, text }
      this.#say(tcpFrame(this.#back, segment), this.#back.port)
      sequence.server += text.length + ((flags & (SYN | FIN)) !== 0 ? 1 : 0)
    }
    server(SYN | ACK)
    client(ACK)
    return { client, server }
  }

  get #out() {
    return { port: this.#world.lan, src: CLIENT, dst: SERVER }
  }
  get #back() {
    return { port: this.#world.wan, src: SERVER, dst: EXTERNAL }
  }

  #say(frame: Uint8Array, port: number): void {
    this.#inject(port, frame)
    this.#now++
    while (this.#shard.turn(this.#now) > 0);
  }

  /** A port of the client, by which its flows are this shard's. */
  #ownPort(protocol: ProtocolNumber): PortHost {
    do this.#port++
    while (ownerOfInside(protocol, CLIENT, htons(this.#port)) !== this.#world.settings.shard)
    return this.#port
  }

  #row(protocol: ProtocolNumber, ports: Ports): Row {
    const key = keyWord(protocol, INSIDE)
    return rowOf(findConnection(key, CLIENT, SERVER, ports, hashTuple(key, CLIENT, SERVER, ports)))
  }

  /** Where the flow's replies go. */
  #externalPort(protocol: ProtocolNumber, ports: Ports): PortHost | undefined {
    const row = this.#row(protocol, ports)
    return row === 0 ? undefined : ntohs(dstPortIn(portsWordOf(baseOf(row), 1)))
  }

  /** The external port that the helper has told the server. */
  #announcedPort(): PortHost | undefined {
    const { expectations } = this.#world
    for (let slot = 0; slot < expectations.slots; slot++)
      if (stands(expectations.word(slot))) return ntohs(expectations.fields[slot * WIDTH + EXPECTATION.dstPort]!)
    return undefined
  }
}

interface Conversation {
  client(flags: number, text?: string): void
  server(flags: number, text?: string): void
}
