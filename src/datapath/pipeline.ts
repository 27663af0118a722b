// One packet's way through natloom, to be read from top to bottom. A burst goes through it in stages, each for all
// packets before the next, so that the memory a stage touches is in cache when the next needs it:
//
//   receive        the driver lists what has arrived on one port
//   parse, hash    what each packet is, what is wrong with it, its tuple; then their hashes parse.ts
//   touch          the index cells; the rows that they name; the routes that those need     (here)
//   settle         one by one: verdict                                                      (here)
//     flow           the connection of its tuple, or a new one                              admit.ts, nat/bindings.ts
//     fragment       the tuple by the datagram's record, then as a flow                     fragments.ts
//     ICMP error     the connection of the packet it quotes                                 icmp-error.ts
//     forward        time to live, route, size; track; count; translate; send               forward.ts, conntrack/track.ts
//   flush          the driver sends
//   release        the frames go back to the link
//
// Where netfilter's hooks are: PRE_ROUTING, which translates the destination, lies between settle's lookup and
// forward's route; POST_ROUTING, which translates the source, before send. natloom writes both at once, after the
// route is known, by the row's two tuples.
//
// A verdict is an integer (conntrack/verdict.ts), a drop is the number of its reason: nothing here throws or allocates.

import { CONN_SHIFT, TUPLE_WORDS } from '../conntrack/connection-table.ts'
import { connectionIndex, findConnection, hot, matches } from '../conntrack/connections.ts'
import { hasExpired } from '../conntrack/track.ts'
import { hashTuple, INSIDE } from '../conntrack/tuple.ts'
import { ACCEPT, NOT_OURS, QUEUED, REPEAT } from '../conntrack/verdict.ts'
import type { Driver } from '../io/driver.ts'
import { CELL } from '../memory/counters.ts'
import { DROP } from '../memory/drop-reasons.ts'
import { counters } from '../memory/own-counters.ts'
import { endConnection } from '../nat/bindings.ts'
import * as ethernet from '../wire/ethernet.ts'
import * as ipv4 from '../wire/ipv4.ts'
import * as tcp from '../wire/tcp.ts'
import { admitFromInside, admitFromOutside, NONE_OF_OURS } from './admit.ts'
import { HOST_UNREACHABLE, sendError } from './answer.ts'
import { mem, resetScratch } from './arena.ts'
import {
  AT,
  beginBurst,
  DST,
  FIRST_FRAGMENT,
  FLOW,
  FRAGMENT,
  HASH,
  ICMP_ERROR,
  IP,
  KEY,
  KIND,
  LATER_FRAGMENT,
  LENGTH,
  PORTS,
  REF,
  SRC,
  side,
} from './burst.ts'
import { forward } from './forward.ts'
import * as fragments from './fragments.ts'
import { handleIcmpError } from './icmp-error.ts'
import { hashBurst, parseBurst, parseTransport } from './parse.ts'
import { hops, placeOf, portMacHigh, portMacLow } from './route.ts'
import { sideOf } from './send.ts'
import { checkWaiting } from './waiting.ts'

const DROPS = CELL.drops
const FRAGMENT_OVERLAP = DROP['fragment-overlap']
const FRAGMENT_ORPHAN = DROP['fragment-orphan']
const FRAGMENT_TABLE_FULL = DROP['fragment-table-full']
const NEIGHBOUR_UNREACHABLE = DROP['neighbour-unreachable']
/** A connection that ended under a packet is looked up once more; twice would be a loop. */
const LOOKUPS = 2

let driver: Driver

export function seatPipeline(seated: Driver): void {
  driver = seated
}

/** One burst from one port, all the way; returns how many packets it had. */
export function runBurst(fromPort: number): number {
  const received = driver.receive(fromPort, AT, LENGTH)
  if (received > 0) {
    countReceived(sideOf[fromPort]!, received)
    process(fromPort, received)
    driver.flush()
    resetScratch()
  }
  driver.release(fromPort)
  return received
}

/** Once a packet: not again when its wait for a neighbour is over. */
function countReceived(bySide: number, received: number): void {
  let bytes = 0
  for (let i = 0; i < received; i++) bytes += Math.max(0, LENGTH[i]! - ethernet.HEADER_LEN)
  counters[CELL.receivedPackets + bySide]! += received
  counters[CELL.receivedBytes + bySide]! += bytes
}

/** Packets whose wait for a neighbour is over go through from the start, or their senders are told. */
export function runWaiting(): void {
  checkWaiting((fromPort, count, resolved) => {
    if (resolved) process(fromPort, count)
    else reject(fromPort, count)
    driver.flush()
    resetScratch()
  })
}

function process(fromPort: number, count: number): void {
  beginBurst(fromPort, sideOf[fromPort]!)
  parseBurst(count, portMacHigh(fromPort), portMacLow(fromPort))
  hashBurst(count)
  touchIndex(count)
  suggestRows(count)
  touchRows(count)
  touchRoutes(count)
  for (let i = 0; i < count; i++) {
    const verdict = settle(i)
    if (verdict !== ACCEPT) countVerdict(verdict)
  }
}

/** Loads the index cell where each probe begins; the sum only keeps the loads from being optimised away. */
function touchIndex(count: number): void {
  const { cells, mask } = connectionIndex
  let sink = 0
  for (let i = 0; i < count; i++) sink ^= cells[(HASH[i]! & mask) << 1]!
  SINK[0] = sink
}

/** The first candidate of each packet. */
function suggestRows(count: number): void {
  const index = connectionIndex
  for (let i = 0; i < count; i++) {
    const cell = KIND[i] === FLOW ? index.first(HASH[i]!) : -1
    REF[i] = cell < 0 ? 0 : index.refAt(cell)
  }
}

/**
 * A load from each row. In a loop of nothing else: the processor overlaps the misses of as many iterations as its
 * window holds (measured at a million flows: 55 ns a packet in one loop with the search, 29 in two).
 */
function touchRows(count: number): void {
  let sink = 0
  for (let i = 0; i < count; i++) sink ^= hot[(REF[i]! >> 1) << CONN_SHIFT]!
  SINK[0] = sink
}

/** The route cache's place for where each packet will go, if its row is the right one. */
function touchRoutes(count: number): void {
  let sink = 0
  for (let i = 0; i < count; i++) {
    const ref = REF[i]!
    sink ^= hops[placeOf(hot[((ref >> 1) << CONN_SHIFT) + (1 - (ref & 1)) * TUPLE_WORDS]!)]!
  }
  SINK[0] = sink
}

/** Where the touches of all stages end. */
const SINK = new Int32Array(1)

function settle(i: number): number {
  const kind = KIND[i]!
  if (kind === FLOW) {
    const ref = REF[i]!
    const row = ref >> 1
    // An earlier packet of the burst may have ended the row or reused it: the tuple is compared here, not before.
    if (ref !== 0 && matches(row, ref & 1, SRC[i]!, DST[i]!, PORTS[i]!, KEY[i]!) && !hasExpired(row)) {
      const verdict = forward(i, row, ref & 1)
      if (verdict !== REPEAT) return verdict
      endConnection(row)
    }
    return flow(i)
  }
  if (kind === FRAGMENT) return fragment(i)
  if (kind === ICMP_ERROR) return handleIcmpError(i)
  return kind
}

/** Looks the tuple up, and admits a new connection if there is none. */
function flow(i: number): number {
  for (let lookups = 0; lookups < LOOKUPS; lookups++) {
    let ref = findConnection(SRC[i]!, DST[i]!, PORTS[i]!, KEY[i]!, HASH[i]!)
    if (ref !== 0 && hasExpired(ref >> 1)) {
      endConnection(ref >> 1)
      ref = 0
    }
    const row = ref !== 0 ? ref >> 1 : side === INSIDE ? admitFromInside(i) : admitFromOutside(i)
    if (row <= 0) return row === NONE_OF_OURS ? NOT_OURS : ~row
    const verdict = forward(i, row, ref & 1)
    if (verdict !== REPEAT) return verdict
    endConnection(row)
  }
  return DROP['tcp-state']
}

/** A piece of a datagram: the first shows the ports and makes a record, the others follow it. */
function fragment(i: number): number {
  const offset = ipv4.fragmentWord(mem, IP[i]!) & ipv4.OFFSET_MASK
  if (offset === 0) return firstFragment(i)
  // Only a forger begins a fragment inside the transport header (RFC 3128), which the first one had to hold whole.
  if (offset << 3 < tcp.MIN_HEADER_LEN && (KEY[i]! & 0xff) === ipv4.PROTO_TCP) return FRAGMENT_OVERLAP
  const record = fragments.findRecord(i)
  if (record === 0) return FRAGMENT_ORPHAN
  PORTS[i] = fragments.portsOf(record)
  const first = fragments.verdictOf(record)
  fragments.countFragment(record, i)
  if (first === NOT_OURS) return NOT_OURS
  KIND[i] = LATER_FRAGMENT
  HASH[i] = hashTuple(SRC[i]!, DST[i]!, PORTS[i]!, KEY[i]!)
  const ref = findConnection(SRC[i]!, DST[i]!, PORTS[i]!, KEY[i]!, HASH[i]!)
  return ref === 0 || hasExpired(ref >> 1) ? FRAGMENT_ORPHAN : forward(i, ref >> 1, ref & 1)
}

function firstFragment(i: number): number {
  const kind = parseTransport(i, KEY[i]! & 0xff, false)
  if (kind !== FLOW) return kind === ICMP_ERROR ? DROP['icmp-embedded'] : kind
  const record = fragments.recordFirst(i, PORTS[i]!)
  if (record === 0) return FRAGMENT_TABLE_FULL
  fragments.countFragment(record, i)
  KIND[i] = FIRST_FRAGMENT
  HASH[i] = hashTuple(SRC[i]!, DST[i]!, PORTS[i]!, KEY[i]!)
  const verdict = flow(i)
  // Without the first the others are orphans anyway: what nobody asked for doesn't fill the table.
  if (verdict >= 0) fragments.forget(record)
  else fragments.setVerdict(record, verdict)
  return verdict
}

/** The neighbour does not answer: tells the senders of packets that have waited. */
function reject(fromPort: number, count: number): void {
  beginBurst(fromPort, sideOf[fromPort]!)
  parseBurst(count, portMacHigh(fromPort), portMacLow(fromPort))
  for (let i = 0; i < count; i++) {
    if (KIND[i]! < QUEUED) sendError(i, HOST_UNREACHABLE, 0)
    countVerdict(NEIGHBOUR_UNREACHABLE)
  }
}

function countVerdict(verdict: number): void {
  if (verdict >= 0) counters[DROPS + verdict]! += 1
  else if (verdict === NOT_OURS) counters[CELL.notOurs + side]! += 1
}
