// The forwarding information base: links, addresses, routes and neighbours as the kernel has them, in shared memory, so
// that a shard routes a packet without a system call. Authority: RFC 1812 sections 5.2.4 and 5.3; ip-route(8).
// Owner: the netlink watcher's thread is the only writer; every shard reads.
//
// Two whole snapshots lie side by side and the version's lowest bit names the one in force. The writer fills the other
// one and then stores the next version; a reader whose version has moved meanwhile reads again:
//
//   version   in force   being written   a reader of this version is right while the version word
//   v         v & 1      (v + 1) & 1     still reads v: only the publication of v + 2 writes into its snapshot
//
// So a reader is disturbed only by two publications within one lookup, never by one. Never: two writers; a change to
// the snapshot in force.

import type { Region } from '../memory/region.ts'
import { type Addr, isLimitedBroadcast, isMulticast, swap32 } from '../wire/address.ts'
import { NeighbourRequests } from './neighbour-requests.ts'
import { longestMatch, TrieBuilder, trieWords } from './prefix-trie.ts'

/** `refused`: a blackhole, unreachable or prohibit route. */
export const ROUTE = { none: 0, unicast: 1, local: 2, broadcast: 3, multicast: 4, refused: 5 } as const
export const NEIGHBOUR = { unknown: 0, resolved: 1, pending: 2, failed: 3 } as const
export type RouteType = (typeof ROUTE)[keyof typeof ROUTE]
export type NeighbourState = (typeof NEIGHBOUR)[keyof typeof NEIGHBOUR]

/**
 * What `lookup` finds, by index:
 * - `port`: our port, or -1 for another interface
 * - `gateway`: the next hop's address, the destination itself when on-link
 * - `source`: the route's preferred source, else the port's primary address, 0 if neither is known
 * - `mtu`: the smaller of the route's and the link's, 0 if the route has none and the link isn't ours
 * - `neighbour`: of the next hop (NEIGHBOUR)
 * - `mac0..2`: the first 12 bytes of an Ethernet header as loaded (to the next hop, from the port), if it is resolved
 */
export const FOUND = {
  type: 0,
  port: 1,
  gateway: 2,
  source: 3,
  mtu: 4,
  neighbour: 5,
  mac0: 6,
  mac1: 7,
  mac2: 8,
  words: 9,
} as const

export interface FibPort {
  readonly up: boolean
  readonly mtu: number
  /** Primary IPv4 address, 0 for none. */
  readonly address: Addr
  /** Six bytes; zeros while the interface is missing. */
  readonly mac: Uint8Array
}

export interface FibRoute {
  readonly destination: Addr
  /** Bits of the prefix, 0..32. */
  readonly length: number
  readonly type: RouteType
  /** -1: an interface that is not ours, or none. */
  readonly port: number
  /** 0: on-link. */
  readonly gateway: Addr
  /** 0: the port's primary address. */
  readonly source: Addr
  /** 0: the link's. */
  readonly mtu: number
  /** Of routes with one prefix the lowest is used. The local table's come before all others: -1. */
  readonly metric: number
}

export interface FibNeighbour {
  readonly port: number
  readonly address: Addr
  readonly state: Exclude<NeighbourState, typeof NEIGHBOUR.unknown>
  /** Six bytes; read only if resolved. */
  readonly mac: Uint8Array
}

export interface FibSnapshot {
  /** By port number, all of them. */
  readonly ports: readonly FibPort[]
  readonly routes: readonly FibRoute[]
  readonly neighbours: readonly FibNeighbour[]
}

/** A snapshot doesn't fit; the one before it stays in force. Control plane only. */
export class FibCapacityError extends Error {
  override readonly name = 'FibCapacityError'
  readonly code = 'FIB_CAPACITY'
  constructor(what: 'routes' | 'neighbours', wanted: number, capacity: number) {
    super(
      `the host has ${wanted} ${what}, natloom keeps at most ${capacity}: ` +
        'the last set that did fit stays in use until there are fewer or natloom is started with more room for them',
    )
  }
}

export interface FibOptions {
  readonly ports: number
  readonly shards: number
  /** At most this many routes, 4096 by default: of the main and the local table, of any interface. */
  readonly routes?: number
  /** At most this many neighbours on our ports, 4096 by default (the kernel's own limit is 1024: gc_thresh3). */
  readonly neighbours?: number
}

// A port's words.
const UP = 0
const LINK_MTU = 1
const ADDRESS = 2
const MAC_HIGH = 3
const MAC_LOW = 4
// A route's words. The trie's value is the route's number + 1.
const TYPE = 0
const OUT = 1
const GATEWAY = 2
const SOURCE = 3
const MTU = 4
// A neighbour's words; its hash table is probed linearly and at most half full.
const KEY_PORT = 0 // port + 1, 0 in an empty cell
const KEY_ADDRESS = 1
const STATE = 2
const HEADER = 3 // three words
const ROW = 8

const hashOf = (port: number, address: Addr): number => {
  const mixed = Math.imul(address ^ (port << 5), 0x9e3779b1)
  return Math.imul(mixed ^ (mixed >>> 15), 0x85ebca6b) >>> 12
}

export class Fib {
  readonly #version: Int32Array
  readonly #ports: Int32Array
  readonly #routes: Int32Array
  readonly #trie: Int32Array
  readonly #neighbours: Int32Array
  readonly #requests: NeighbourRequests
  readonly #portCount: number
  readonly #routeCapacity: number
  readonly #neighbourCapacity: number
  readonly #trieWords: number
  readonly #mask: number

  constructor(region: Region, options: FibOptions) {
    this.#portCount = options.ports
    this.#routeCapacity = options.routes ?? 4096
    this.#neighbourCapacity = options.neighbours ?? 4096
    this.#trieWords = trieWords(this.#routeCapacity)
    const cells = 2 ** Math.ceil(Math.log2(Math.max(8, this.#neighbourCapacity * 2)))
    this.#mask = cells - 1
    this.#version = region.i32(1)
    this.#ports = region.i32(2 * this.#portCount * ROW)
    this.#routes = region.i32(2 * this.#routeCapacity * ROW)
    this.#trie = region.i32(2 * this.#trieWords)
    this.#neighbours = region.i32(2 * cells * ROW)
    this.#requests = new NeighbourRequests(region, options.shards)
  }

  // --- readers ---

  /** 0 until the first snapshot; another number after every change. */
  version(): number {
    return Atomics.load(this.#version, 0)
  }

  /** Fills FOUND.words words of `out` from one snapshot. No route: type `none`, port -1, the rest 0. */
  lookup(destination: Addr, out: Int32Array): void {
    const isBroadcast = isLimitedBroadcast(destination)
    if (isBroadcast || isMulticast(destination)) {
      nothing(out)
      out[FOUND.type] = isBroadcast ? ROUTE.broadcast : ROUTE.multicast
      return
    }
    // Plain loads may be late on machines that order them weakly, but not by the length of a publication.
    let version = Atomics.load(this.#version, 0)
    for (;;) {
      this.#find(version & 1, destination, out)
      const now = Atomics.load(this.#version, 0)
      if (now === version) return
      version = now
    }
  }

  portUp(port: number): boolean {
    return this.#portWord(port, UP) === 1
  }

  /** Bytes, from the IP header on. */
  portMtu(port: number): number {
    return this.#portWord(port, LINK_MTU)
  }

  /** The primary IPv4 address, 0 for none. */
  portAddress(port: number): Addr {
    return this.#portWord(port, ADDRESS)
  }

  /** The MAC's first four bytes as loaded. */
  portMacHigh(port: number): number {
    return this.#portWord(port, MAC_HIGH)
  }

  /** The MAC's last two bytes as loaded, 0..65535. */
  portMacLow(port: number): number {
    return this.#portWord(port, MAC_LOW)
  }

  /** Asks the kernel to resolve a next hop. False if this shard's ring is full. The caller then signals the watcher. */
  requestNeighbour(shard: number, port: number, address: Addr): boolean {
    return this.#requests.put(shard, port, address)
  }

  // --- the writer ---

  /** Puts a snapshot in force. Throws FibCapacityError if it doesn't fit, and changes nothing then. */
  publish(snapshot: FibSnapshot): void {
    if (snapshot.routes.length > this.#routeCapacity)
      throw new FibCapacityError('routes', snapshot.routes.length, this.#routeCapacity)
    if (snapshot.neighbours.length > this.#neighbourCapacity)
      throw new FibCapacityError('neighbours', snapshot.neighbours.length, this.#neighbourCapacity)
    const next = (this.#version[0] + 1) | 0
    this.#writePorts(next & 1, snapshot.ports)
    this.#writeRoutes(next & 1, snapshot.routes)
    this.#writeNeighbours(next & 1, snapshot)
    Atomics.store(this.#version, 0, next)
  }

  takeRequests(each: (port: number, address: Addr) => void): void {
    this.#requests.take(each)
  }

  #portWord(port: number, word: number): number {
    const side = Atomics.load(this.#version, 0) & 1
    return this.#ports[(side * this.#portCount + port) * ROW + word]
  }

  #find(side: number, destination: Addr, out: Int32Array): void {
    nothing(out)
    const value = longestMatch(this.#trie, side * this.#trieWords, swap32(destination))
    if (value === 0) return
    const routes = this.#routes
    const route = (side * this.#routeCapacity + value - 1) * ROW
    const port = routes[route + OUT]
    const gateway = routes[route + GATEWAY] || destination
    out[FOUND.type] = routes[route + TYPE]
    out[FOUND.port] = port
    out[FOUND.gateway] = gateway
    out[FOUND.source] = routes[route + SOURCE]
    out[FOUND.mtu] = routes[route + MTU]
    if (port >= 0 && out[FOUND.type] === ROUTE.unicast) this.#findNeighbour(side, port, gateway, out)
  }

  #findNeighbour(side: number, port: number, address: Addr, out: Int32Array): void {
    const cells = this.#neighbours
    const mask = this.#mask
    const base = side * (mask + 1)
    // Bounded, for a reader under whom the table is being rewritten.
    for (let probe = 0, cell = hashOf(port, address) & mask; probe <= mask; probe++, cell = (cell + 1) & mask) {
      const row = (base + cell) * ROW
      if (cells[row + KEY_PORT] === 0) return
      if (cells[row + KEY_PORT] !== port + 1 || cells[row + KEY_ADDRESS] !== address) continue
      out[FOUND.neighbour] = cells[row + STATE]
      out[FOUND.mac0] = cells[row + HEADER]
      out[FOUND.mac1] = cells[row + HEADER + 1]
      out[FOUND.mac2] = cells[row + HEADER + 2]
      return
    }
  }

  #writePorts(side: number, ports: readonly FibPort[]): void {
    for (let port = 0; port < this.#portCount; port++) {
      const { up, mtu, address, mac } = ports[port]
      const row = (side * this.#portCount + port) * ROW
      this.#ports[row + UP] = up ? 1 : 0
      this.#ports[row + LINK_MTU] = mtu
      this.#ports[row + ADDRESS] = address
      this.#ports[row + MAC_HIGH] = mac[0] | (mac[1] << 8) | (mac[2] << 16) | (mac[3] << 24)
      this.#ports[row + MAC_LOW] = mac[4] | (mac[5] << 8)
    }
  }

  /** Source and MTU are settled here, not at each lookup: what they derive from lies in the same snapshot. */
  #writeRoutes(side: number, routes: readonly FibRoute[]): void {
    const trie = new TrieBuilder(this.#trie, side * this.#trieWords)
    const best = routes.toSorted((a, b) => a.metric - b.metric)
    for (let number = 0; number < best.length; number++) {
      const { destination, length, type, port, gateway, source, mtu } = best[number]
      const row = (side * this.#routeCapacity + number) * ROW
      const ours = port >= 0 ? (side * this.#portCount + port) * ROW : -1
      const link = ours >= 0 ? this.#ports[ours + LINK_MTU] : 0
      this.#routes[row + TYPE] = type
      this.#routes[row + OUT] = port
      this.#routes[row + GATEWAY] = gateway
      this.#routes[row + SOURCE] = source === 0 && ours >= 0 ? this.#ports[ours + ADDRESS] : source
      this.#routes[row + MTU] = mtu === 0 || (link > 0 && link < mtu) ? link : mtu
      trie.add(swap32(destination), length, number + 1)
    }
  }

  #writeNeighbours(side: number, { ports, neighbours }: FibSnapshot): void {
    const cells = this.#neighbours
    const mask = this.#mask
    const base = side * (mask + 1)
    cells.fill(0, base * ROW, (base + mask + 1) * ROW)
    for (const { port, address, state, mac } of neighbours) {
      let cell = hashOf(port, address) & mask
      while (cells[(base + cell) * ROW + KEY_PORT] !== 0) cell = (cell + 1) & mask
      const row = (base + cell) * ROW
      const own = ports[port].mac
      cells[row + KEY_ADDRESS] = address
      cells[row + STATE] = state
      cells[row + HEADER] = mac[0] | (mac[1] << 8) | (mac[2] << 16) | (mac[3] << 24)
      cells[row + HEADER + 1] = mac[4] | (mac[5] << 8) | (own[0] << 16) | (own[1] << 24)
      cells[row + HEADER + 2] = own[2] | (own[3] << 8) | (own[4] << 16) | (own[5] << 24)
      cells[row + KEY_PORT] = port + 1
    }
  }
}

function nothing(out: Int32Array): void {
  for (let word = 0; word < FOUND.words; word++) out[word] = 0
  out[FOUND.port] = -1
}
