// Packets that wait for their next hop to answer ARP. They are copied out as received, before tracking or translation
// has touched them, and go through the pipeline from the start once the neighbour is known; if it does not answer,
// their senders are told (ICMP 3/1, RFC 1812 4.3.3.1). The kernel does the asking: the watcher is told by a request
// ring, and its answer comes with the next version of the forwarding information base. Owner: this thread.

import { QUEUED } from '../../conntrack/terms.ts'
import { CELL } from '../../counters/counters.ts'
import { DROP } from '../../counters/drop-reasons.ts'
import { counters } from '../../counters/own-counters.shard.ts'
import { BURST } from '../../io/driver.ts'
import { nowMs } from '../../memory/clock.ts'
import { NEIGHBOUR } from '../../routing/fib.ts'
import type { Addr } from '../../wire/address.ts'
import { NOT_LENT } from '../handover/handover-rings.ts'
import { AT, ingress, KNOWN_PORTS, LENGTH, TOKEN } from '../packet/burst.ts'
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
/** Neighbours that may be waited for at once: more are asked for by somebody who scans. */
const MOST_NEIGHBOURS = 256
/** The kernel gives a neighbour up after about 3.6 s; milliseconds. */
const PATIENCE = 5000
const CHECK_EVERY = 100

interface PendingQueue {
  readonly port: number
  readonly gateway: Addr
  /** An address behind it, to ask the routes again. */
  readonly destination: Addr
  readonly since: number
  /** The kernel was seen asking: a failure after that is an answer to our request, not to an older one. */
  asked: boolean
  readonly frames: KeptFrames
  /** Their lengths, how they came, and of fragments that were handed over their ports. */
  readonly length: number[]
  readonly ingress: number[]
  readonly ports: number[]
}

const queues = new Map<number, PendingQueue>()
/** How many of them have a page. */
let keepers = 0
let shard = 0
let wakeWatcher: () => void = () => {}
let checkedVersion = 0
let checkAgainAt = 0

export function attachPendingPackets(shardNumber: number, wake: () => void): void {
  queues.clear()
  keepers = 0
  checkedVersion = 0
  checkAgainAt = 0
  shard = shardNumber
  wakeWatcher = wake
}

/** Somebody waits, and the routes have changed since, or it is time to look whether patience is over. */
export const isTimeToCheckPending = (): boolean =>
  queues.size > 0 && (version !== checkedVersion || nowMs >= checkAgainAt)

/** Lets packet i wait for the next hop of a route cache line; QUEUED, or why it can't. */
export function waitForNeighbour(i: number, line: number, destination: Addr): number {
  const port = routePort(line)
  const gateway = gatewayOf(destination)
  const name = port * 2 ** 32 + (gateway >>> 0)
  let queue = queues.get(name)
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
    }
    queues.set(name, queue)
  }
  const { frames } = queue
  const isFirst = frames.pages.length === 0
  if (!hasRoom(frames, LENGTH[i]!) || !keepFrame(frames, AT[i]!, LENGTH[i]!)) return DROP['neighbour-queue-full']
  if (isFirst) keepers++
  queue.length.push(LENGTH[i]!)
  queue.ingress.push(ingress)
  queue.ports.push(KNOWN_PORTS[i]!)
  counters[CELL.neighbourWaits]! += 1
  return QUEUED
}

/**
 * Another frame may wait with these. Each neighbour that may still be waited for has a page set aside, so whoever floods
 * one or many leaves room for the others; and of what is left, nobody takes more than is left to the next one.
 */
function hasRoom(frames: KeptFrames, length: number): boolean {
  if (frames.bytes + bytesToKeep(length) > MOST_BYTES) return false
  const own = frames.pages.length
  const more = pagesToKeep(frames, length)
  const setAside = MOST_NEIGHBOURS - keepers - (own === 0 ? 1 : 0)
  return more === 0 || own + more <= pagesFree - setAside
}

/**
 * Looks whether anybody's waiting is over: `resume` gets the frames that came by one ingress as a burst in AT and
 * LENGTH, and whether their neighbour is there.
 */
export function checkPending(resume: (itsIngress: number, count: number, resolved: boolean) => void): void {
  checkedVersion = version
  checkAgainAt = nowMs + CHECK_EVERY
  for (const [name, queue] of queues) {
    const line = routeLookup(queue.destination)
    const state = neighbourState(line)
    const resolved = routeCache[line + ROUTE_PORT]! >= 0
    if (state === NEIGHBOUR.pending) queue.asked = true
    const failed = (state === NEIGHBOUR.failed && queue.asked) || nowMs - queue.since > PATIENCE
    if (!resolved && !failed) continue
    // Gone from the map first: a packet that must wait again begins a new queue.
    queues.delete(name)
    if (queue.frames.pages.length > 0) keepers--
    release(queue, resolved, resume)
  }
}

function release(
  queue: PendingQueue,
  resolved: boolean,
  resume: (itsIngress: number, count: number, ok: boolean) => void,
): void {
  const pending = queue.frames.at.length
  for (let first = 0; first < pending; ) {
    const itsIngress = queue.ingress[first]!
    let count = 0
    while (first + count < pending && queue.ingress[first + count] === itsIngress && count < BURST) {
      AT[count] = queue.frames.at[first + count]!
      LENGTH[count] = queue.length[first + count]!
      TOKEN[count] = NOT_LENT
      KNOWN_PORTS[count] = queue.ports[first + count]!
      count++
    }
    resume(itsIngress, count, resolved)
    first += count
  }
  dropKept(queue.frames)
}
