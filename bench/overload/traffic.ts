// What comes to the gateway of world.ts: the good hosts' datagrams out and back, and a flood, each packet with the
// shard that the kernel's program would give it to; and what of them leaves, told by a mark in the payload.

import { keyWord, portsWord } from '../../src/conntrack/terms.ts'
import { type Leases, NO_RULES, ownerOfFlow, ownerOfFragment } from '../../src/ownership/ownership-rule.ts'
import { frame } from '../../src/testing/builder.ts'
import { parseAddress, swap32 } from '../../src/wire/address.ts'
import * as ipv4 from '../../src/wire/ipv4.ts'
import { PROTO_UDP } from '../../src/wire/ipv4.ts'
import { MACS } from '../pipeline-memory.ts'

const LAN = 0
const WAN = 1
const INSIDE = 0
const OUTSIDE = 1
const IP = 14
const L4 = 34
const MARK = 42
const MARKED = 0x5eedbeef
/** Of a marked packet: whose, which flow, which way, and which packet of that. */
const HOST = 46
const FLOW = 48
const BACK = 50
const NUMBER = 52
const FLOODER = 0xffff
const PAYLOAD = 22
const GOOD_PORT = 20_000
const REMOTE_PORT = 4000
const FLOODER_ADDRESS = parseAddress('10.2.0.1')

/** Whether a flood opens connections, and whether it comes to all shards alike. */
export const FLOODS = {
  /** One inside host, each packet the first of a new flow. */
  'new flows': { opens: true, isSpread: true },
  /** One inside host, one established flow. */
  'one flow': { opens: false, isSpread: false },
  /** One inside host, packets that are dropped: each opens a flow, and its checksum is wrong. */
  dropped: { opens: false, isSpread: true },
  /** One inside host, small fragments that never make a datagram. */
  fragments: { opens: false, isSpread: true },
  /** One inside host that gives each packet another inside address. */
  forged: { opens: true, isSpread: true },
  /** Many outside senders, to the external endpoint of one inside host's flow, which lets nobody else in. */
  'at an endpoint': { opens: false, isSpread: false },
  /** Many outside senders, to ports that nobody has. */
  'at ports': { opens: false, isSpread: true },
} as const
export type FloodName = keyof typeof FLOODS

export interface Packet {
  readonly frame: Uint8Array
  readonly port: number
  readonly shard: number
}

interface Flow {
  readonly host: number
  readonly number: number
  readonly inside: number
  readonly insidePort: number
  readonly remote: number
  external: number
  externalPort: number
  /** Sent, and last number that left, out and back. */
  readonly sent: [number, number]
  readonly last: [number, number]
  /** Since begin(): sent and left, both ways. */
  asked: number
  got: number
  owed: number
}

export interface TrafficOptions {
  readonly seed: number
  readonly hosts: number
  readonly flows: number
}

export class Traffic {
  readonly flows: readonly Flow[]
  /** The flooder's established one. */
  readonly #own: Flow
  #leases: Leases | undefined
  #random: number
  #owed = 0
  #asked = 0
  #got = 0
  #reordered = 0
  #identification = 0
  readonly #template = frame({
    eth: { src: MACS.host, dst: MACS.lan },
    ip: { src: '10.0.0.1', dst: '192.0.2.1' },
    udp: { sport: 1, dport: 1, checksum: 'none' },
    payload: new Uint8Array(PAYLOAD),
  })

  constructor({ seed, hosts, flows }: TrafficOptions) {
    this.#random = seed
    const flow = (host: number, number: number): Flow => ({
      host,
      number,
      inside: swap32(0x0a010001 + host),
      insidePort: GOOD_PORT + number,
      remote: swap32(0xc6330001 + number),
      external: 0,
      externalPort: 0,
      sent: [0, 0],
      last: [0, 0],
      asked: 0,
      got: 0,
      owed: 0,
    })
    const good = Array.from({ length: hosts * flows }, (_, i) => flow(Math.floor(i / flows), i % flows))
    this.#own = { ...flow(FLOODER, 0), inside: FLOODER_ADDRESS }
    this.flows = [...good, this.#own]
  }

  /** Packets are given to their owners, by these leases; without any to one receiver. */
  dispatch(leases: Leases | undefined): void {
    this.#leases = leases
  }

  /** Forgets what was counted. */
  begin(): void {
    for (const flow of this.flows) flow.asked = flow.got = flow.owed = 0
    this.#asked = this.#got = this.#owed = this.#reordered = 0
  }

  outcome(seconds: number) {
    const good = this.flows.filter(({ host }) => host !== FLOODER)
    const shares = new Map<number, [asked: number, got: number]>()
    for (const { host, asked, got } of good) {
      const [a, g] = shares.get(host) ?? [0, 0]
      shares.set(host, [a + asked, g + got])
    }
    const ratio = (got: number, asked: number): number => Number((got / Math.max(1, asked)).toFixed(4))
    const sum = (of: 'asked' | 'got'): number => good.reduce((all, flow) => all + flow[of], 0)
    return {
      goodput: ratio(sum('got'), sum('asked')),
      worst: Math.min(...[...shares.values()].map(([asked, got]) => ratio(got, asked))),
      floodSent: Math.round(this.#asked / seconds),
      floodCarried: Math.round(this.#got / seconds),
      reordered: this.#reordered,
    }
  }

  /** What comes within so many nanoseconds, in some order. */
  arrivals(ns: number, goodRate: number, flood: FloodName | undefined, rate: number): readonly Packet[] {
    const packets: Packet[] = []
    for (const flow of this.flows) {
      if (flow === this.#own) continue
      flow.owed += ns * goodRate * 2 * this.#next()
      for (; flow.owed >= 1; flow.owed--) {
        packets.push(this.good(flow, (flow.sent[0] + flow.sent[1]) % 2 === 1))
        flow.asked++
      }
    }
    const good = packets.length
    this.#owed += ns * rate
    for (; this.#owed >= 1; this.#owed--) {
      packets.push(this.#flood(flood!))
      this.#asked++
    }
    // Each good packet at a place of its own among the flood's; those of one flow stay in order.
    const mixed: Packet[] = []
    let [nextGood, nextFlood] = [0, good]
    while (nextGood < good || nextFlood < packets.length) {
      const left = packets.length - nextFlood + good - nextGood
      mixed.push(packets[this.#next() * left < good - nextGood ? nextGood++ : nextFlood++]!)
    }
    return mixed
  }

  /** A packet of a good flow. */
  good(flow: Flow, back: boolean): Packet {
    const bytes = this.#frame(back ? WAN : LAN)
    const view = viewOf(bytes)
    const number = ++flow.sent[back ? 1 : 0]
    if (back) write(view, flow.remote, REMOTE_PORT, flow.external, flow.externalPort)
    else write(view, flow.inside, flow.insidePort, flow.remote, REMOTE_PORT)
    mark(view, flow.host, flow.number, back, number)
    return this.#packet(bytes, back ? WAN : LAN)
  }

  /** A frame leaves; called by the driver, which is told that the link takes it. */
  leaves(port: number, bytes: Uint8Array): boolean {
    const view = viewOf(bytes)
    if (bytes.length < NUMBER + 4 || view.getUint32(MARK) !== MARKED) return false
    const host = view.getUint16(HOST)
    const back = view.getUint16(BACK) as 0 | 1
    const flow = this.flows.find((one) => one.host === host && one.number === view.getUint16(FLOW))
    if (flow === undefined) {
      this.#got++
      return false
    }
    if (host === FLOODER) this.#got++
    flow.got++
    if (view.getUint32(NUMBER) <= flow.last[back]) this.#reordered++
    flow.last[back] = view.getUint32(NUMBER)
    if (port === WAN && back === 0 && flow.external === 0) {
      flow.external = ipv4.src(view, IP)
      flow.externalPort = view.getUint16(L4)
    }
    return false
  }

  #flood(name: FloodName): Packet {
    const outside = name === 'at an endpoint' || name === 'at ports'
    const bytes = this.#frame(outside ? WAN : LAN)
    const view = viewOf(bytes)
    if (name === 'one flow') return this.good(this.#own, false)
    const stranger = swap32(0x30000000 | Math.floor(this.#next() * 2 ** 24))
    const port = 1024 + Math.floor(this.#next() * 60_000)
    if (name === 'at an endpoint') write(view, stranger, port, this.#own.external, this.#own.externalPort)
    else if (name === 'at ports')
      write(view, stranger, port, this.#own.external, 1024 + Math.floor(this.#next() * 60_000))
    else {
      const forged = swap32(0x0a030000 | Math.floor(this.#next() * 2 ** 16))
      write(view, name === 'forged' ? forged : FLOODER_ADDRESS, port, stranger, 53)
    }
    mark(view, FLOODER, FLOODER, false, 0)
    if (name === 'dropped') view.setUint16(L4 + 6, 0xdead)
    if (name === 'fragments') {
      const isFirst = this.#identification++ % 2 === 0
      ipv4.setId(view, IP, (this.#identification >> 1) & 0xffff)
      ipv4.setTotalLength(view, IP, 20 + 24)
      ipv4.setFragmentWord(view, IP, ipv4.MORE_FRAGMENTS | (isFirst ? 0 : 6))
      ipv4.writeChecksum(view, IP)
    }
    return this.#packet(bytes, outside ? WAN : LAN)
  }

  #frame(port: number): Uint8Array {
    const bytes = Uint8Array.from(this.#template)
    viewOf(bytes).setUint16(4, port === LAN ? 0x0101 : 0x0201)
    return bytes
  }

  #packet(bytes: Uint8Array, port: number): Packet {
    return { frame: bytes, port, shard: this.#leases === undefined ? 0 : this.#ownerOf(bytes, port, this.#leases) }
  }

  #ownerOf(bytes: Uint8Array, port: number, leases: Leases): number {
    if (leases.shards === 1) return 0
    const view = viewOf(bytes)
    const [src, dst] = [ipv4.src(view, IP), ipv4.dst(view, IP)]
    if (ipv4.isFragment(view, IP)) return ownerOfFragment(PROTO_UDP, src, dst, ipv4.id(view, IP), leases)
    const ports = portsWord(view.getUint16(L4), view.getUint16(L4 + 2))
    const key = keyWord(PROTO_UDP, port === LAN ? INSIDE : OUTSIDE)
    return ownerOfFlow(key, src, dst, ports, { leases, rules: NO_RULES })
  }

  /** From 0 to 1 (a linear congruential generator, as in Numerical Recipes). */
  #next(): number {
    this.#random = (Math.imul(this.#random, 1664525) + 1013904223) >>> 0
    return this.#random / 2 ** 32
  }
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

function write(view: DataView, src: number, sport: number, dst: number, dport: number): void {
  ipv4.setSrc(view, IP, src)
  ipv4.setDst(view, IP, dst)
  ipv4.writeChecksum(view, IP)
  view.setUint16(L4, sport)
  view.setUint16(L4 + 2, dport)
}

function mark(view: DataView, host: number, flow: number, back: boolean, number: number): void {
  view.setUint32(MARK, MARKED)
  view.setUint16(HOST, host)
  view.setUint16(FLOW, flow)
  view.setUint16(BACK, back ? 1 : 0)
  view.setUint32(NUMBER, number)
}
