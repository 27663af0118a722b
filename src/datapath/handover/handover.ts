// Hands packets to the shard that owns them, and takes what other threads hand over, by rings (handover-rings.ts).
// Frames of up to 2 KB are copied into the ring's slot; larger ones stay where they are, lent, until the other shard is
// done with them. A frame that was handed over three times, or that meets a full ring, is dropped: no thread waits for
// another. Owner: this thread, its outbox and its inbox.

import type { Side, Verdict } from '../../conntrack/terms.ts'
import { HANDED_OVER } from '../../conntrack/terms.ts'
import { CELL } from '../../counters/counters.ts'
import { DROP } from '../../counters/drop-reasons.ts'
import { counters } from '../../counters/own-counters.shard.ts'
import { BURST, type Driver, VIRTIO_NET_HEADER } from '../../io/driver.ts'
import type { Shard } from '../../memory/brand.ts'
import type { Ports } from '../../wire/address.ts'
import { fault } from '../fault-points.ts'
import { MOST_BURSTS } from '../overload/received.ts'
import { Shares } from '../overload/shares.ts'
import { choose, KEPT, sharesQueues } from '../overload/shed.ts'
import {
  AT,
  type At,
  fromRing,
  IDENTIFICATION,
  type Ingress,
  KIND,
  KNOWN_PORTS,
  LATER_FRAGMENT,
  LENGTH,
  mayHandOver,
  onward,
  onwardBuilt,
  PORTS,
  TOKEN,
} from '../packet/burst.ts'
import { identificationOf } from '../packet/identification.ts'
import { copyBytes } from '../packet/packet-memory.ts'
import { ENTRY, type HandoverRings, handoverFrameBytes, Inbox, NOT_LENT, Outbox, SLOT_BYTES } from './handover-rings.ts'

const HANDOVER_LOOP = DROP['handover-loop']
const HANDOVER_FULL = DROP['handover-full']

// Why a packet is handed over: the kinds of the metric handovers, in its order.
/** The packet's flow belongs to another shard. */
export const BY_FLOW = 0
/** A datagram's fragments come together in one shard, which may be another than its flow's. */
export const BY_FRAGMENT = 1
/** A fragment whose ports are known by now goes to its flow's shard. */
export const BY_KNOWN_FRAGMENT = 2
/** The packet embedded in an ICMP error belongs to another shard. */
export const BY_ICMP_ERROR = 3
/** The second half of a hairpin. */
export const BY_HAIRPIN = 4
/** Every packet that the dispatcher takes. */
export const BY_DISPATCH = 5

/** Where packets waited, among the cells of the metric overloads. */
const FROM_THREADS = 1

/** From a slot's begin to its frame, so that the IPv4 header begins at a multiple of four. */
const FRAME_AT = 8 + VIRTIO_NET_HEADER
const MOST_COPIED = SLOT_BYTES - FRAME_AT

let driver: Driver
let rings: HandoverRings
let outbox: Outbox
let inbox: Inbox | undefined
let wake: (shard: Shard) => void = () => {}
/** The entries in hand: the producer of their ring, and how many they are. */
let listedFrom = 0
let listedCount = 0
/** Of the packets in hand, which entry of the listed ones each of them is. */
const PLACE = new Int32Array(BURST)
/** By producer: who may have how much of its ring to this thread. */
let shares: readonly Shares[] = []

/**
 * Takes an end of the rings: a shard's, or as number `shards` the dispatcher's, which only gives. `isSuccessor`: a
 * thread that died had it before; what that left half done is dropped, what it had been lent is given back.
 */
export function attachHandover(
  withDriver: Driver,
  itsRings: HandoverRings,
  end: Shard,
  isSuccessor: boolean,
  wakeShard: (shard: Shard) => void,
): void {
  driver = withDriver
  rings = itsRings
  wake = wakeShard
  if (driver.sharedLength < handoverFrameBytes(rings.shards))
    throw new RangeError(
      `shared packet memory of ${driver.sharedLength} bytes: ${handoverFrameBytes(rings.shards)} wanted`,
    )
  outbox = new Outbox(rings, end)
  inbox = end < rings.shards ? new Inbox(rings, end) : undefined
  shares = Array.from({ length: inbox?.producers ?? 0 }, (_, producer) => sharesOf(producer))
  TOKEN.fill(NOT_LENT)
  if (isSuccessor) succeed(inbox)
}

const sharesOf = (producer: Shard): Shares =>
  new Shares({ slots: rings.slots(producer), holds: (packets) => inbox!.waiting(producer) >= packets })

function succeed(box: Inbox | undefined): void {
  const dropped = box?.takeOver((token) => driver.giveBack(token))
  counters[CELL.handoversLost]! += dropped ?? 0
  fault("predecessor's entries dropped")
  driver.reclaim(rings.tokensLent())
  outbox.ringAll(wakeSleeper)
}

/**
 * Hands packet i over as it lies in the packet memory now, as if it had come by `asFrom`; HANDED_OVER or a drop reason.
 */
export function handOver(i: number, owner: Shard, asFrom: Side, flags: number, why: number): Verdict {
  if (!mayHandOver()) return HANDOVER_LOOP
  return give(i, owner, onward(asFrom, flags), why)
}

/** Gives packet i to a shard, which will see it come by `cameBy`; HANDED_OVER or a drop reason. */
export function give(i: number, owner: Shard, cameBy: Ingress, why: number): Verdict {
  if (!outbox.hasRoom(owner)) return HANDOVER_FULL
  const at = AT[i]!
  const length = LENGTH[i]!
  if (length <= MOST_COPIED) {
    copyOut(owner, at, length, cameBy, PORTS[i]!)
  } else if (TOKEN[i] !== NOT_LENT) {
    inbox?.passOn(listedFrom, listedCount, PLACE[i]!, owner, outbox.nextOf(owner))
    outbox.put(owner, at, length, cameBy, PORTS[i]!)
    outbox.lend(owner, TOKEN[i]!)
    TOKEN[i] = NOT_LENT
    fault('frame passed on')
  } else {
    // A frame that has waited was copied out: it lies in no ring that it could be lent from.
    const token = fromRing && i < BURST ? driver.lend(at) : NOT_LENT
    if (token === NOT_LENT) return HANDOVER_FULL
    fault('frame lent')
    outbox.put(owner, at, length, cameBy, PORTS[i]!)
    outbox.lend(owner, token)
  }
  if (KIND[i]! <= LATER_FRAGMENT) outbox.identify(owner, identificationOf(i))
  counters[CELL.handovers + why]! += 1
  return HANDED_OVER
}

/**
 * Hands over an ICMP error that this shard has built; false if there is no room. Its bytes are copied at once. It is a
 * packet of its own: how often the packet that it is about was handed over doesn't count, and no error is made about
 * it.
 */
export function handOverBuilt(at: At, length: number, owner: Shard, asFrom: Side, flags: number): boolean {
  if (length > MOST_COPIED || !outbox.hasRoom(owner)) return false
  copyOut(owner, at, length, onwardBuilt(asFrom, flags), 0)
  counters[CELL.handovers + BY_HAIRPIN]! += 1
  return true
}

function copyOut(owner: Shard, at: At, length: number, cameBy: Ingress, ports: Ports): void {
  const frame = driver.sharedAt + outbox.slotFor(owner) + FRAME_AT
  copyBytes(at - VIRTIO_NET_HEADER, frame - VIRTIO_NET_HEADER, length + VIRTIO_NET_HEADER)
  outbox.put(owner, frame, length, cameBy, ports)
}

/** Makes what this burst has put into rings visible to other shards. */
export const publishHandOvers = (): void => outbox.publish(wakeSleeper)

function wakeSleeper(shard: Shard): void {
  counters[CELL.wakes]! += 1
  wake(shard)
}

/**
 * Takes what other threads have handed over: `process` is called with each burst in AT, LENGTH, TOKEN and KNOWN_PORTS,
 * and with how it came. Returns how many packets.
 */
export function takeHandedOver(process: (cameBy: Ingress, count: number) => void): number {
  if (inbox === undefined || !inbox.hasMail()) return 0
  let taken = 0
  for (let producer = 0; producer < inbox.producers; producer++) taken += takeFrom(inbox, producer, process)
  counters[CELL.handoversReceived]! += taken
  return taken
}

/** A burst of one ring; in an overload as many as are needed to keep about one burst of them. */
function takeFrom(box: Inbox, producer: Shard, process: (cameBy: Ingress, count: number) => void): number {
  const its = shares[producer]!
  let taken = 0
  let kept = 0
  let bursts = 0
  do {
    const count = box.receive(producer, BURST)
    if (count === 0) return taken
    fault('entries listed')
    listedFrom = producer
    listedCount = count
    const cameBy = list(box, producer, count)
    const chosen = chooseListed(its, cameBy, count)
    if (chosen > 0) process(cameBy, chosen)
    for (let i = 0; i < chosen; i++) giveBackLent(i)
    fault('lent frames given back')
    box.release(producer)
    taken += count
    kept += chosen
  } while (its.isSharing && kept < BURST && ++bursts < MOST_BURSTS)
  return taken
}

/** Lists entries as the burst in hand; returns how they came. */
function list(box: Inbox, producer: Shard, count: number): Ingress {
  const { entries } = rings
  let cameBy: Ingress = 0
  for (let i = 0; i < count; i++) {
    const entry = box.entry(producer, count, i)
    PLACE[i] = i
    AT[i] = entries[entry + ENTRY.at]!
    LENGTH[i] = entries[entry + ENTRY.length]!
    TOKEN[i] = entries[entry + ENTRY.lent]! - 1
    KNOWN_PORTS[i] = entries[entry + ENTRY.ports]!
    IDENTIFICATION[i] = entries[entry + ENTRY.identification]!
    cameBy = entries[entry + ENTRY.ingress]!
  }
  return cameBy
}

/** Of more than this thread can carry, each sender's share; what was lent of the rest is given back. How many stay. */
function chooseListed(its: Shares, cameBy: Ingress, count: number): number {
  if (!sharesQueues || (count < BURST && !its.isSharing)) return count
  const overloads = its.overloads
  const isShared = its.begins(count)
  counters[CELL.overloads + FROM_THREADS]! += its.overloads - overloads
  if (!isShared) return count
  const kept = choose(its, cameBy, count)
  for (let i = 0, next = 0; i < count; i++) {
    if (next === kept || KEPT[next] !== i) {
      giveBackLent(i)
      continue
    }
    AT[next] = AT[i]!
    LENGTH[next] = LENGTH[i]!
    KNOWN_PORTS[next] = KNOWN_PORTS[i]!
    IDENTIFICATION[next] = IDENTIFICATION[i]!
    PLACE[next] = i
    const token = TOKEN[i]!
    TOKEN[i] = NOT_LENT
    TOKEN[next] = token
    next++
  }
  return kept
}

function giveBackLent(i: number): void {
  if (TOKEN[i] === NOT_LENT) return
  driver.giveBack(TOKEN[i]!)
  TOKEN[i] = NOT_LENT
}

/** Says that this shard is about to sleep; false if it must not, because something has come. */
export const fallAsleep = (): boolean => inbox === undefined || inbox.fallAsleep()
export const wakeUp = (): void => inbox?.wakeUp()

/** The most entries that waited in one ring since the last call. */
export function fullestRing(): number {
  const fullest = inbox?.fullest ?? 0
  if (inbox) inbox.fullest = 0
  return fullest
}
