// Keeps the forwarding information base equal to the kernel's tables. Authority: rtnetlink(7), ip-neighbour(8),
// RFC 1122 section 2.3.2 (ARP). Owner: one thread, which is the only writer of the Fib.
//
// Links, addresses and routes are listed anew after every notification about one of them, because the kernel removes
// routes without a notification when a link goes down or their source address is deleted. Neighbours change far more
// often and are followed one by one. If notifications were lost, everything is listed anew. Changes that come in a
// burst are published together.
//
// Life of a neighbour           published as   by
//   asked for by a shard        pending        the shard's request; the kernel is told to use it (NTF_USE)
//   answered                    resolved       the kernel's notification
//   3 probes unanswered         failed         the kernel's notification; asked for again, it is pending again
//   resolved, and still there   resolved       NTF_USE every 30 s: the kernel sees none of our packets, and would
//                                              neither check the MAC nor keep the entry
//   forgotten by the kernel     unknown        the kernel's notification
// Never: a state that was set here outlives the next listing; a change of the kernel has to be undone at the stop.

import { constants } from 'node:os'
import { drain, errno, POLLIN, pollArray, SystemCallError } from '../io/syscalls.ts'
import { type Fib, FibCapacityError, type FibNeighbour, type FibOptions, NEIGHBOUR } from '../routing/fib.ts'
import type { Addr } from '../wire/address.ts'
import { reasonOf } from './errors.ts'
import {
  fibPorts,
  fibRoutes,
  type HostTables,
  type LinkReport,
  linkReports,
  neighbourState,
  readTables,
} from './host-tables.ts'
import type { Message } from './netlink.ts'
import { NETLINK_ROUTE, NetlinkError, NetlinkSocket } from './netlink-socket.ts'
import {
  GROUPS,
  listNeighbours,
  type Neighbour,
  neighbourOf,
  RTM_DELNEIGH,
  RTM_NEWNEIGH,
  useNeighbour,
} from './rtnetlink.ts'
import { RulesetWatch } from './ruleset-watch.ts'

/** Tables are listed and published at most once in this time, so that a burst of changes costs a few rounds of it. */
const PACE_MS = 10
/**
 * Listing and publishing take at most one part in so many of the thread's time: there may be many routes that change.
 */
const SHARE = 4
const KEEP_ALIVE_MS = 30_000
const LONGEST_WAIT_MS = 200

export type WatcherReport =
  /** Our interfaces or their addresses have changed, by port number; also reported once at the start. */
  | { readonly kind: 'changed'; readonly links: readonly LinkReport[] }
  /**
   * A snapshot doesn't fit into the memory, and the one before it stays in force. Reported once until one fits again.
   */
  | { readonly kind: 'overflow'; readonly message: string }
  /** Another program has changed the nft ruleset. */
  | { readonly kind: 'ruleset'; readonly by: string }

/** What `workers/netlink.ts` is given. */
export interface NetlinkThreadData {
  readonly fib: { readonly buffer: SharedArrayBuffer; readonly options: FibOptions }
  readonly ports: readonly string[]
  /** The netlink port by which the gateway changes its nft rules: those changes aren't reported. */
  readonly rulesPort: number
  readonly wakeFd: number
  /** The shards' eventfds. */
  readonly shardFds: readonly number[]
  /** One i32: 1 asks the thread to end. Signal `wakeFd` after storing it. */
  readonly stop: SharedArrayBuffer
}

export interface WatcherOptions {
  readonly fib: Fib
  /** Interface names by port number. */
  readonly ports: readonly string[]
  /** The netlink port by which the gateway changes its nft rules: those changes aren't reported. */
  readonly rulesPort: number
  /** An eventfd: readable when a shard has asked for a neighbour, or the thread should stop. */
  readonly wakeFd: number
  /** Monotonic milliseconds. */
  readonly now: () => number
  /** Called after each publication. */
  readonly published: () => void
  readonly report: (report: WatcherReport) => void
}

type Known = FibNeighbour & { readonly index: number; readonly learned: boolean }

/**
 * To a shard REACHABLE, STALE, DELAY and PROBE, which alternate all the time, are the same while the MAC is the same.
 */
function sameToShards(a: Known | undefined, b: Known | undefined): boolean {
  if (!a || !b) return a === b
  if (a.port !== b.port || a.state !== b.state) return false
  return a.state !== NEIGHBOUR.resolved || a.mac.every((byte, i) => byte === b.mac[i])
}

const keyOf = (index: number, address: Addr): number => index * 2 ** 32 + (address >>> 0)

export class Watcher {
  readonly #options: WatcherOptions
  readonly #events: NetlinkSocket
  readonly #kernel: NetlinkSocket
  readonly #ruleset: RulesetWatch
  readonly #pollSet: Uint8Array
  readonly #pollView: DataView
  #tables: HostTables
  /** By port number: the index of the interface that had the port's name last, 0 if none had or it is gone. */
  #indexes: number[] = []
  #neighbours = new Map<number, Known>()
  #stale = false
  #unpublished = true
  /** When the next round may begin. */
  #roundAt = Number.NEGATIVE_INFINITY
  #keepAliveAt: number
  #reported = ''
  #overflow = false

  /** Lists everything and publishes the first snapshot. Throws NetlinkError or SystemCallError. */
  constructor(options: WatcherOptions) {
    this.#options = options
    // Listening begins before the first listing, so that no change between them is missed.
    this.#events = new NetlinkSocket(NETLINK_ROUTE, GROUPS)
    this.#kernel = new NetlinkSocket(NETLINK_ROUTE)
    this.#ruleset = new RulesetWatch(options.rulesPort)
    this.#pollSet = new Uint8Array(24) // three struct pollfd: fd i32, events i16, revents i16
    this.#pollView = new DataView(this.#pollSet.buffer)
    for (const [index, fd] of [this.#events.fd, options.wakeFd, this.#ruleset.fd].entries()) {
      this.#pollView.setInt32(index * 8, fd, true)
      this.#pollView.setInt16(index * 8 + 4, POLLIN, true)
    }
    this.#keepAliveAt = options.now() + KEEP_ALIVE_MS
    this.#tables = this.#readTables()
    this.#listNeighbours()
    this.#publish()
  }

  /** Waits for notifications, requests and due work, at most 200 ms, and handles them. */
  turn(): void {
    this.#wait()
    if (this.#pollView.getInt16(14, true) !== 0) {
      drain(this.#options.wakeFd)
      this.#options.fib.takeRequests((port, address) => this.#resolve(port, address))
    }
    const by = this.#ruleset.take()
    if (by !== undefined) this.#options.report({ kind: 'ruleset', by })
    if (this.#events.receive((message) => this.#notified(message)) === 'lost') this.#stale = true
    const now = this.#options.now()
    if (now >= this.#keepAliveAt) this.#keepAlive(now)
    if ((this.#stale || this.#unpublished) && now >= this.#roundAt) this.#round(now)
  }

  close(): void {
    this.#events.close()
    this.#kernel.close()
    this.#ruleset.close()
  }

  #round(began: number): void {
    if (this.#stale) this.#refresh()
    if (this.#unpublished) this.#publish()
    const now = this.#options.now()
    this.#roundAt = now + Math.max(PACE_MS, (now - began) * (SHARE - 1))
  }

  #wait(): void {
    const now = this.#options.now()
    const due = this.#stale || this.#unpublished ? this.#roundAt : this.#keepAliveAt
    const wait = Math.min(Math.max(Math.ceil(due - now), 0), LONGEST_WAIT_MS)
    if (pollArray(this.#pollSet, 3, wait) < 0) {
      if (errno() !== constants.errno.EINTR) throw new SystemCallError('poll', errno())
      this.#pollView.setInt16(14, 0, true)
    }
  }

  #notified(message: Message): void {
    if (message.type !== RTM_NEWNEIGH && message.type !== RTM_DELNEIGH) {
      this.#stale = true
      return
    }
    const neighbour = neighbourOf(message)
    if (!neighbour) return
    if (message.type === RTM_NEWNEIGH) {
      this.#learn(neighbour)
    } else if (this.#neighbours.delete(keyOf(neighbour.index, neighbour.address))) {
      this.#unpublished = true
    }
  }

  #portOf(index: number): number {
    return this.#tables.links.findIndex((link) => link?.index === index)
  }

  #learn(neighbour: Neighbour): void {
    const key = keyOf(neighbour.index, neighbour.address)
    const before = this.#neighbours.get(key)
    const known = this.#known(neighbour)
    if (known) this.#neighbours.set(key, known)
    else this.#neighbours.delete(key)
    if (!sameToShards(before, known)) this.#unpublished = true
  }

  /** Undefined for neighbours of other interfaces, and for entries that the kernel doesn't resolve. */
  #known({ index, address, state: nud, mac, learned }: Neighbour): Known | undefined {
    const port = this.#portOf(index)
    const state = neighbourState(nud)
    if (port < 0 || state === NEIGHBOUR.unknown) return undefined
    return { port, address, state, mac, index, learned }
  }

  #resolve(port: number, address: Addr): void {
    const link = this.#tables.links[port]
    if (!link) return
    const key = keyOf(link.index, address)
    const before = this.#neighbours.get(key)?.state
    if (before === NEIGHBOUR.resolved || before === NEIGHBOUR.pending) return
    const state = this.#use(link.index, address, true) ? NEIGHBOUR.pending : NEIGHBOUR.failed
    this.#neighbours.set(key, { port, address, state, mac: new Uint8Array(6), index: link.index, learned: true })
    this.#unpublished = true
  }

  /** False if the kernel refuses: the interface is down, or its table is full. */
  #use(index: number, address: Addr, create: boolean): boolean {
    try {
      useNeighbour(this.#kernel, index, address, create)
      return true
    } catch (error) {
      if (error instanceof NetlinkError) return false
      throw error
    }
  }

  #keepAlive(now: number): void {
    this.#keepAliveAt = now + KEEP_ALIVE_MS
    for (const { state, learned, index, address } of this.#neighbours.values())
      if (state === NEIGHBOUR.resolved && learned) this.#use(index, address, false)
  }

  #listNeighbours(): void {
    const before = this.#neighbours
    this.#neighbours = new Map()
    for (const neighbour of listNeighbours(this.#kernel)) {
      const known = this.#known(neighbour)
      if (known) this.#neighbours.set(keyOf(known.index, known.address), known)
    }
    for (const key of new Set([...before.keys(), ...this.#neighbours.keys()]))
      if (!sameToShards(before.get(key), this.#neighbours.get(key))) this.#unpublished = true
  }

  #readTables(): HostTables {
    const tables = readTables(this.#kernel, this.#options.ports, this.#indexes)
    const stillThere = (port: number) => (tables.renamed[port] === undefined ? 0 : this.#indexes[port]!)
    this.#indexes = tables.links.map((link, port) => link?.index ?? stillThere(port))
    return tables
  }

  #refresh(): void {
    this.#stale = false
    const tables = this.#readTables()
    if (JSON.stringify(tables) !== JSON.stringify(this.#tables)) this.#unpublished = true
    this.#tables = tables
    this.#listNeighbours()
  }

  #publish(): void {
    this.#unpublished = false
    try {
      this.#options.fib.publish({
        ports: fibPorts(this.#tables),
        routes: fibRoutes(this.#tables),
        neighbours: [...this.#neighbours.values()],
      })
      this.#overflow = false
      this.#options.published()
    } catch (error) {
      if (!(error instanceof FibCapacityError)) throw error
      if (!this.#overflow) this.#options.report({ kind: 'overflow', message: reasonOf(error) })
      this.#overflow = true
    }
    const links = linkReports(this.#options.ports, this.#tables)
    const text = JSON.stringify(links)
    if (text === this.#reported) return
    this.#reported = text
    this.#options.report({ kind: 'changed', links })
  }
}

/** Reads once what there is of these interfaces now. Throws NetlinkError. */
export function readHost(names: readonly string[]): LinkReport[] {
  const socket = new NetlinkSocket(NETLINK_ROUTE)
  try {
    return linkReports(names, readTables(socket, names))
  } finally {
    socket.close()
  }
}
