// The pipeline that every packet goes through, to be read from top to bottom. A burst goes through it in stages, each
// for all packets before the next, so that the memory a stage touches is in cache when the next needs it:
//
//   receive        the driver lists what has arrived on one port, or a ring what another shard has handed over; of more
//                  than this shard can carry, each sender's share                           overload/shed.ts
//   parse, hash    what each packet is, what is wrong with it, its tuple; then the hashes   packet/parse.ts
//   touch          the index cells; the rows that they name; the routes that those need     (here)
//   settle         one by one: the verdict                                                  (here)
//     flow           the connection of its tuple, or a new one                              admit.ts, related.ts
//     fragment       the tuple by its datagram's record, then as a flow                     fragments.ts
//     ICMP error     the connection of the packet embedded in it                            icmp/icmp-error.ts
//     forward        time to live, route, size; track, count, translate, send               forward.ts, egress/
//     help           of helped connections: between tracking and translation                helped/helped.ts
//     hand over      no connection here, and the ownership rule names another shard         handover/handover.ts
//   flush          the driver sends, other shards see what is in their rings
//   release        the frames go back to the link
//
// Where netfilter's hooks are: PRE_ROUTING, which translates the destination, lies between settle's lookup and
// forward's route; POST_ROUTING, which translates the source, before send. natloom writes both at once, after the
// route is known, by the row's two tuples.
//
// A verdict is an integer (conntrack/terms.ts), a drop is the number of its reason: nothing here throws or allocates.

import { baseOf, EXPECTED, TUPLE_WORDS } from '../conntrack/connection-table.ts'
import { connectionIndex, findConnection, hot, matches, stateWordOf, windows } from '../conntrack/connections.shard.ts'
import { packetsWanted } from '../conntrack/events.shard.ts'
import { withoutReopening } from '../conntrack/tcp.shard.ts'
import type { Ref, Verdict } from '../conntrack/terms.ts'
import { ACCEPT, directionOf, INSIDE, QUEUED, REPEAT, refOf, rowOf } from '../conntrack/terms.ts'
import { hasExpired } from '../conntrack/track.shard.ts'
import { DROP } from '../counters/drop-reasons.ts'
import { BURST, type Driver } from '../io/driver.ts'
import type { Row } from '../memory/brand.ts'
import { endConnection } from '../nat/bindings.shard.ts'
import { refusal } from '../nat/refusal.ts'
import * as ipv4 from '../wire/ipv4.ts'
import { PROTO_TCP } from '../wire/ipv4.ts'
import { admitFromInside, admitFromOutside, mayOpenAnew } from './admit.ts'
import { checkPending } from './egress/pending-packets.ts'
import { portMacHigh, portMacLow, routeCache, routeCacheLineOf } from './egress/route-cache.ts'
import { sideOf } from './egress/transmit.ts'
import { forward } from './forward.ts'
import { firstHandedOver, laterHandedOver, releaseWaiting, settleFragment, toRelease } from './fragments.ts'
import { publishHandOvers, takeHandedOver } from './handover/handover.ts'
import { releaseHeld } from './helped/held-bytes.ts'
import { answerHeldSyns } from './icmp/held-syns.ts'
import { handleIcmpError } from './icmp/icmp-error.ts'
import { HOST_UNREACHABLE, sendError } from './icmp/local-replies.ts'
import { learnSenders } from './overload/learn.ts'
import { attachRingShares, beginRing, chooseReceived, goesOn } from './overload/received.ts'
import { chosen } from './overload/shed.ts'
import {
  AT,
  beginBurst,
  DST,
  FIRST_FRAGMENT,
  FLOW,
  FRAGMENT,
  HASH,
  ICMP_ERROR,
  type Ingress,
  IP,
  ingressOf,
  KEY,
  KIND,
  KNOWN_PORTS,
  LATER_FRAGMENT,
  LENGTH,
  type LinkPort,
  PORTS,
  PORTS_KNOWN,
  port,
  REF,
  SRC,
  side,
} from './packet/burst.ts'
import { countReceived, countVerdict } from './packet/counting.ts'
import { mem, resetScratch } from './packet/packet-memory.ts'
import { hashBurst, parseBurst } from './packet/parse.ts'
import { freeReleased } from './packet/waiting-fragments.ts'
import { notePacket, reportPacket } from './packet-events.ts'

const NEIGHBOUR_UNREACHABLE = DROP['neighbour-unreachable']
/** A connection that ended under a packet is looked up once more; twice would be a loop. */
const LOOKUPS = 2

let driver: Driver

export function attachPipeline(withDriver: Driver): void {
  driver = withDriver
  attachRingShares(withDriver)
}

/**
 * Receives and processes a burst from one port, in an overload as many as are needed to keep about one burst of them;
 * returns how many packets were received.
 */
export function runBurst(fromPort: LinkPort): number {
  beginRing()
  let received = 0
  do received += receiveBurst(fromPort)
  while (goesOn)
  return received
}

function receiveBurst(fromPort: LinkPort): number {
  const received = driver.receive(fromPort, AT, LENGTH)
  const from = sideOf[fromPort]!
  if (received > 0) countReceived(from, received)
  const count = chooseReceived(fromPort, from, received)
  if (count > 0) {
    process(ingressOf(fromPort, from), count, true)
    endBurst()
  }
  driver.release(fromPort)
  return received
}

/** Processes what other threads have handed over; returns how many packets. */
export const runHandedOver = (): number => takeHandedOver(processHandedOver)

function processHandedOver(cameBy: Ingress, count: number): void {
  process(cameBy, count, false)
  endBurst()
}

/** Lets go what the burst has sent, and publishes what it has handed over; only then its frames may be given back. */
function endBurst(): void {
  // Here, not in process(): what V8 inlines there is bounded.
  if (chosen !== 0) learnSenders()
  driver.flush()
  publishHandOvers()
  resetScratch()
  freeReleased()
}

/** Packets whose neighbour is known by now go through from the start; if it does not answer, their senders are told. */
export function runPending(): void {
  checkPending((cameBy, count, resolved) => {
    if (resolved) process(cameBy, count, false)
    else reject(cameBy, count)
    endBurst()
  })
}

/** Bytes that helpers have held for too long go on. */
export function runHeld(): void {
  releaseHeld()
  endBurst()
}

/** SYNs that nobody has asked for are answered, if nobody has opened their connection since. */
export function runHeldSyns(): void {
  answerHeldSyns()
  endBurst()
}

function process(cameBy: Ingress, count: number, isFromRing: boolean): void {
  beginBurst(cameBy, isFromRing)
  parseBurst(count, portMacHigh(port), portMacLow(port))
  if ((cameBy & PORTS_KNOWN) !== 0) fillKnownPorts(count)
  hashBurst(count)
  touchIndex(count)
  suggestRows(count)
  touchRows(count)
  touchRoutes(count)
  const reportsPackets = packetsWanted()
  for (let i = 0; i < count; i++) {
    if (reportsPackets) notePacket(i)
    const verdict = settle(i)
    if (verdict !== ACCEPT) countVerdict(i, verdict)
    if (reportsPackets) reportPacket(i, verdict)
    if (toRelease !== 0) releaseWaiting()
  }
}

/** Fragments whose record was looked up before bring their ports along. */
function fillKnownPorts(count: number): void {
  for (let i = 0; i < count; i++) {
    if (KIND[i] !== FRAGMENT) continue
    PORTS[i] = KNOWN_PORTS[i]!
    KIND[i] = (ipv4.fragmentWord(mem, IP[i]!) & ipv4.OFFSET_MASK) === 0 ? FIRST_FRAGMENT : LATER_FRAGMENT
  }
}

/** A load from the index cell where each packet's probe begins. */
function touchIndex(count: number): void {
  const { cells, mask } = connectionIndex
  let sink = 0
  for (let i = 0; i < count; i++) sink ^= cells[(HASH[i]! & mask) << 1]!
  SINK[0] = sink
}

// Where the rows begin that suggestRows() has found, and their window lines: worked out there, so that touchRows() has
// nothing to do but load. Only TCP has something in its window line: for others it is row 0's, which is in cache.
const ROW_AT = new Int32Array(BURST)
const WINDOWS_AT = new Int32Array(BURST)

/** The first candidate of each packet's connection, into REF. */
function suggestRows(count: number): void {
  const index = connectionIndex
  for (let i = 0; i < count; i++) {
    const cell = KIND[i] === FLOW ? index.first(HASH[i]!) : -1
    const ref = cell < 0 ? 0 : index.refAt(cell)
    REF[i] = ref
    const base = baseOf(rowOf(ref))
    ROW_AT[i] = base
    // All bits set for TCP, none for others: a branch would be guessed wrong too often.
    const isTcp = (((KEY[i]! & 0xff) ^ PROTO_TCP) - 1) >> 31
    WINDOWS_AT[i] = base & isTcp
  }
}
function touchRows(count: number): void {
  let sink = 0
  for (let i = 0; i < count; i++) sink ^= hot[ROW_AT[i]!]! ^ windows[WINDOWS_AT[i]!]!
  SINK[0] = sink
}

/** A load from the route cache for where each packet will go, if its row is the right one. */
function touchRoutes(count: number): void {
  let sink = 0
  for (let i = 0; i < count; i++)
    sink ^= routeCache[routeCacheLineOf(hot[ROW_AT[i]! + (1 - directionOf(REF[i]!)) * TUPLE_WORDS]!)]!
  SINK[0] = sink
}

/** Takes the sums of the touches, so that the loads are not optimised away. */
const SINK = new Int32Array(1)

function settle(i: number): Verdict {
  const kind = KIND[i]!
  if (kind === FLOW) {
    const ref = REF[i]!
    const row = rowOf(ref)
    // An earlier packet of the burst may have ended the row or reused it: the tuple is compared here, not before.
    if (ref !== 0 && matches(ref, KEY[i]!, SRC[i]!, DST[i]!, PORTS[i]!) && !hasExpired(row)) {
      const verdict = forward(i)
      if (verdict !== REPEAT) return verdict
      if (!mayOpenAnew(i)) return withoutReopening(forward, i)
      endConnection(row)
    }
    return flow(i)
  }
  if (kind === FRAGMENT) return settleFragment(i, flow)
  if (kind === ICMP_ERROR) return handleIcmpError(i)
  if (kind === FIRST_FRAGMENT) return firstHandedOver(i, flow)
  if (kind === LATER_FRAGMENT) return laterHandedOver(i)
  // What is left is a verdict already.
  return kind as Verdict
}

/** Looks the tuple up, and admits a new connection if there is none. */
function flow(i: number): Verdict {
  for (let lookups = 0; lookups < LOOKUPS; lookups++) {
    let ref: Ref = findConnection(KEY[i]!, SRC[i]!, DST[i]!, PORTS[i]!, HASH[i]!)
    if (ref !== 0 && hasExpired(rowOf(ref))) {
      endConnection(rowOf(ref))
      ref = 0
    }
    const row = ref !== 0 ? rowOf(ref) : side === INSIDE ? admitFromInside(i) : admitFromOutside(i)
    if (row === 0) return refusal
    REF[i] = ref !== 0 ? ref : refOf(row, 0)
    const verdict = forward(i)
    if (verdict >= 0 && ref === 0) endUnlessExpected(row)
    if (verdict !== REPEAT) return verdict
    if (!mayOpenAnew(i)) return withoutReopening(forward, i)
    endConnection(row)
  }
  return DROP['tcp-state']
}

/**
 * The packet that has made the connection is dropped: nothing has begun. One that was expected stays, since its
 * expectation is gone, and what its sender sends again must find it.
 */
function endUnlessExpected(row: Row): void {
  if ((stateWordOf(baseOf(row)) & EXPECTED) === 0) endConnection(row)
}

/** The neighbour does not answer: tells the senders of the packets that have waited for it. */
function reject(cameBy: Ingress, count: number): void {
  beginBurst(cameBy, false)
  parseBurst(count, portMacHigh(port), portMacLow(port))
  if ((cameBy & PORTS_KNOWN) !== 0) fillKnownPorts(count)
  for (let i = 0; i < count; i++) {
    if (KIND[i]! < QUEUED) sendError(i, HOST_UNREACHABLE, 0)
    countVerdict(i, NEIGHBOUR_UNREACHABLE)
  }
}
