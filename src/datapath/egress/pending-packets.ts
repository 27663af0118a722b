// Packets that wait for their next hop to answer ARP. They are copied out as received, before tracking or translation
// has touched them, and go through the pipeline from the start once the neighbour is known; if it does not answer,
// their senders are told (ICMP 3/1, RFC 1812 4.3.3.1). The kernel does the asking: the watcher is told by a request
// ring, and its answer comes with the next version of the forwarding information base. Owner: this thread.

import { HOST, type HostRow } from '../../conntrack/host-table.ts'
import { countIn, mayHave, rowFor } from '../../conntrack/hosts.shard.ts'
import { INSIDE, QUEUED, type Verdict } from '../../conntrack/terms.ts'
import { CELL } from '../../counters/counters.ts'
import { DROP } from '../../counters/drop-reasons.ts'
import { HOST_LIMIT } from '../../counters/host-limits.ts'
import { counters } from '../../counters/own-counters.shard.ts'
import { BURST } from '../../io/driver.ts'
import type { Milliseconds, Shard } from '../../memory/brand.ts'
import { nowMs } from '../../memory/clock.ts'
import { NEIGHBOUR } from '../../routing/fib.ts'
import type { Addr, Ports } from '../../wire/address.ts'
import { NOT_LENT } from '../handover/handover-rings.ts'
import {
  AT,
  IDENTIFICATION,
  type Ingress,
  ingress,
  KIND,
  KNOWN_PORTS,
  LATER_FRAGMENT,
  LENGTH,
  type LinkPort,
  PORTS,
  PORTS_KNOWN,
  type RouteLine,
  SRC,
  side,
  TOKEN,
} from '../packet/burst.ts'
import { identificationOf } from '../packet/identification.ts'
import { bytesToKeep, dropKept, type KeptFrames, keepFrame, noFrames, pagesFree, pagesToKeep } from './kept-pages.ts'
import {
  gatewayOf,
  neighbourState,
  ROUTE_PORT,
  requestNeighbour,
  routeCache,
  routeLookup,
  routePort,
  version,
} from './route-cache.ts'

/** What may wait for one neighbour: as much as Linux keeps (neighbour.c, unres_qlen_bytes). */
const MOST_BYTES = 212_992
/** Neighbours that may be waited for at once. Only a scan asks for more. */
const MOST_NEIGHBOURS = 256
/** What a packet counts for its sender, in packets of full size: if it asks for a neighbour, and for each page. */
const NEIGHBOUR_COST = 4
const PAGE_COST = 2
/** The kernel gives a neighbour up after about 3.6 s; milliseconds. */
const PATIENCE = 5000
const CHECK_EVERY = 100

interface PendingQueue {
  readonly port: LinkPort
  readonly gateway: Addr
  /** An address behind the gateway, to look the route up again. */
  readonly destination: Addr
  readonly since: Milliseconds
  /** The kernel was seen asking: a failure seen after that answers our request, not an older one. */
  asked: boolean
  readonly frames: KeptFrames
  /** By frame: its length, how it came, and of a fragment its ports and the identification that it leaves with. */
  readonly length: number[]
  readonly ingress: Ingress[]
  readonly ports: Ports[]
  readonly identification: number[]
  /** By frame that counts for an inside host: the host's row, and how much. */
  readonly hosts: HostRow[]
  readonly costs: number[]
}

const NOTHING_KEPT = noFrames()
const queues = new Map<number, PendingQueue>()
/** How many of the queues have a page. */
let queuesWithPages = 0
let shard: Shard = 0
let wakeWatcher: () => void = () => {}
let checkedVersion = 0
let checkAgainAt = 0

export function attachPendingPackets(ownShard: Shard, wake: () => void): void {
  queues.clear()
  queuesWithPages = 0
  checkedVersion = 0
  checkAgainAt = 0
  shard = ownShard
  wakeWatcher = wake
}

/** True if packets wait, and the routes have changed since the last look, or it is time to look again. */
export const isTimeToCheckPending = (): boolean =>
  queues.size > 0 && (version !== checkedVersion || nowMs >= checkAgainAt)

/** How many neighbours are waited for. */
export const neighboursAwaited = (): number => queues.size

/** Lets packet i wait for the next hop of a route; QUEUED, or why it can't. */
export function waitForNeighbour(i: number, line: RouteLine, destination: Addr): Verdict {
  const port = routePort(line)
  const gateway = gatewayOf(destination)
  const name = port * 2 ** 32 + (gateway >>> 0)
  let queue = queues.get(name)
  const cost = (queue ? 0 : NEIGHBOUR_COST) + PAGE_COST * pagesToKeep(queue ? queue.frames : NOTHING_KEPT, LENGTH[i]!)
  if (side === INSIDE && cost > 0 && !mayHave(SRC[i]!, HOST_LIMIT['waiting-packets'], HOST.waiting, cost))
    return DROP['neighbour-queue-full']
  if (!queue) {
    if (queues.size >= MOST_NEIGHBOURS || !requestNeighbour(shard, port, gateway)) return DROP['neighbour-queue-full']
    wakeWatcher()
    queue = {
      port,
      gateway,
      destination,
      since: nowMs,
      asked: false,
      frames: noFrames(),
      length: [],
      ingress: [],
      ports: [],
      identification: [],
      hosts: [],
      costs: [],
    }
    queues.set(name, queue)
  }
  const { frames } = queue
  const isFirst = frames.pages.length === 0
  if (!hasRoom(frames, LENGTH[i]!) || !keepFrame(frames, AT[i]!, LENGTH[i]!)) return DROP['neighbour-queue-full']
  if (isFirst) queuesWithPages++
  queue.length.push(LENGTH[i]!)
  // A fragment's record was asked, and is not to be asked again when it goes on.
  const isFragment = KIND[i]! <= LATER_FRAGMENT
  queue.ingress.push(isFragment ? ingress | PORTS_KNOWN : ingress)
  queue.ports.push(PORTS[i]!)
  queue.identification.push(isFragment ? identificationOf(i) : 0)
  if (side === INSIDE && cost > 0) {
    const host = rowFor(SRC[i]!)
    countIn(host, HOST.waiting, cost)
    queue.hosts.push(host)
    queue.costs.push(cost)
  }
  counters[CELL.neighbourWaits + side]! += 1
  return QUEUED
}

/**
 * Whether another frame may wait with these. A page is set aside for each neighbour that may still be waited for, so
 * that floods to one or many leave room for the others; and no neighbour takes more than half of what is left.
 */
function hasRoom(frames: KeptFrames, length: number): boolean {
  if (frames.bytes + bytesToKeep(length) > MOST_BYTES) return false
  const own = frames.pages.length
  const more = pagesToKeep(frames, length)
  const setAside = MOST_NEIGHBOURS - queuesWithPages - (own === 0 ? 1 : 0)
  return more === 0 || own + more <= pagesFree - setAside
}

/**
 * Lets the packets go on whose neighbour is known or given up: `resume` gets those that came by one ingress as a burst
 * in AT and LENGTH, and whether their neighbour is known.
 */
export function checkPending(resume: (cameBy: Ingress, count: number, resolved: boolean) => void): void {
  checkedVersion = version
  checkAgainAt = nowMs + CHECK_EVERY
  for (const [name, queue] of queues) {
    const line = routeLookup(queue.destination)
    const state = neighbourState(line)
    const resolved = routeCache[line + ROUTE_PORT]! >= 0
    if (state === NEIGHBOUR.pending) queue.asked = true
    const failed = (state === NEIGHBOUR.failed && queue.asked) || nowMs - queue.since > PATIENCE
    if (!resolved && !failed) continue
    // The queue leaves the map first: a packet that must wait again begins a new one.
    queues.delete(name)
    if (queue.frames.pages.length > 0) queuesWithPages--
    release(queue, resolved, resume)
  }
}

function release(
  queue: PendingQueue,
  resolved: boolean,
  resume: (cameBy: Ingress, count: number, ok: boolean) => void,
): void {
  for (const [i, host] of queue.hosts.entries()) countIn(host, HOST.waiting, -queue.costs[i]!)
  const pending = queue.frames.at.length
  for (let first = 0; first < pending; ) {
    const cameBy = queue.ingress[first]!
    let count = 0
    while (first + count < pending && queue.ingress[first + count] === cameBy && count < BURST) {
      AT[count] = queue.frames.at[first + count]!
      LENGTH[count] = queue.length[first + count]!
      TOKEN[count] = NOT_LENT
      KNOWN_PORTS[count] = queue.ports[first + count]!
      IDENTIFICATION[count] = queue.identification[first + count]!
      count++
    }
    resume(cameBy, count, resolved)
    first += count
  }
  dropKept(queue.frames)
}
