// Handing packets to the shard that owns them, and taking what others hand over (rule 8; datapath/handover/handover-rings.ts).
// Frames of up to 2 KB are copied into the ring's place; larger ones stay where they are, lent, until the other is done.
// A frame that has been handed over three times, or that finds a full ring, is dropped: nobody waits for anybody.
// Owner: this thread its outbox and inbox.

import type { Side } from '../../conntrack/terms.ts'
import { HANDED_OVER } from '../../conntrack/terms.ts'
import { CELL } from '../../counters/counters.ts'
import type { DropReason } from '../../counters/drop-reasons.ts'
import { DROP } from '../../counters/drop-reasons.ts'
import { counters } from '../../counters/own-counters.shard.ts'
import { BURST, type Driver, VIRTIO_NET_HEADER } from '../../io/driver.ts'
import type { Ports } from '../../wire/address.ts'
import { fault } from '../fault-points.ts'
import {
  AT,
  fromRing,
  ingress,
  KNOWN_PORTS,
  LENGTH,
  mayHandOver,
  onward,
  onwardBuilt,
  PORTS,
  TOKEN,
} from '../packet/burst.ts'
import { copyBytes } from '../packet/packet-memory.ts'
import { ENTRY, type HandoverRings, handoverFrameBytes, Inbox, NOT_LENT, Outbox, SLOT_BYTES } from './handover-rings.ts'

const HANDOVER_LOOP = DROP['handover-loop']
const HANDOVER_FULL = DROP['handover-full']

// Why a packet is handed over: the kinds of the metric handovers, in its order.
/** Its flow is another shard's. */
export const BY_FLOW = 0
/** Fragments come together first. */
export const BY_FRAGMENT = 1
/** A fragment whose ports are known now goes to its flow. */
export const BY_KNOWN_FRAGMENT = 2
/** The packet that an ICMP error quotes is another shard's. */
export const BY_ICMP_ERROR = 3
/** The second half of a hairpin. */
export const BY_HAIRPIN = 4
/** Every packet that a dispatcher takes. */
export const BY_DISPATCH = 5

/** From a place's begin to its frame, so that the IPv4 header lies on four bytes. */
const FRAME_AT = 8 + VIRTIO_NET_HEADER
const MOST_COPIED = SLOT_BYTES - FRAME_AT

let driver: Driver
let rings: HandoverRings
let outbox: Outbox
let inbox: Inbox | undefined
let wake: (shard: number) => void = () => {}
/** The entries in hand: whose ring they are of, and how many. */
let listedFrom = 0
let listedCount = 0

/**
 * Takes this thread's place at the rings: a shard's, or as number `shards` the dispatcher's, who only gives.
 * `isSuccessor`: a thread that died had the place; what it left half done is dropped, what was lent is given back.
 */
export function attachHandover(
  withDriver: Driver,
  itsRings: HandoverRings,
  slot: number,
  isSuccessor: boolean,
  wakeShard: (shard: number) => void,
): void {
  driver = withDriver
  rings = itsRings
  wake = wakeShard
  if (driver.sharedLength < handoverFrameBytes(rings.shards))
    throw new RangeError(
      `shared packet memory of ${driver.sharedLength} bytes: ${handoverFrameBytes(rings.shards)} wanted`,
    )
  outbox = new Outbox(rings, slot)
  inbox = slot < rings.shards ? new Inbox(rings, slot) : undefined
  TOKEN.fill(NOT_LENT)
  if (isSuccessor) succeed(inbox)
}

function succeed(box: Inbox | undefined): void {
  const dropped = box?.takeOver((token) => driver.giveBack(token))
  counters[CELL.handoversLost]! += dropped ?? 0
  fault("predecessor's entries dropped")
  driver.reclaim(rings.tokensLent())
  outbox.ringAll(wakeSleeper)
}

/** Hands packet i over as it lies in the packet memory now; the verdict, or why not. */
export function handOver(i: number, owner: number, toSide: Side, flags: number, reason: DropReason): number {
  if (!mayHandOver()) return HANDOVER_LOOP
  return give(i, owner, onward(toSide, flags), reason)
}

/** Gives packet i to a shard, marked as having come by `itsWay`. */
export function give(i: number, owner: number, itsIngress: number, reason: DropReason): number {
  if (!outbox.hasRoom(owner)) return HANDOVER_FULL
  const at = AT[i]!
  const length = LENGTH[i]!
  if (length <= MOST_COPIED) {
    copyOut(owner, at, length, itsIngress, PORTS[i]!)
  } else if (TOKEN[i] !== NOT_LENT) {
    inbox?.passOn(listedFrom, listedCount, i, owner, outbox.nextOf(owner))
    outbox.put(owner, at, length, itsIngress, PORTS[i]!, TOKEN[i]!)
    TOKEN[i] = NOT_LENT
    fault('frame passed on')
  } else {
    // What had waited for a neighbour was copied out: there is no ring to leave it in.
    const token = fromRing ? driver.lend(at) : NOT_LENT
    if (token === NOT_LENT) return HANDOVER_FULL
    fault('frame lent')
    outbox.put(owner, at, length, itsIngress, PORTS[i]!, token)
  }
  counters[CELL.handovers + reason]! += 1
  return HANDED_OVER
}

/**
 * Hands over an error that this shard has built; false if there is no room. Its bytes are copied at once. It is a packet
 * of its own: how often the one that it is about was handed over doesn't count, and no error is made about it.
 */
export function handOverBuilt(at: number, length: number, owner: number, toSide: Side, flags: number): boolean {
  if (length > MOST_COPIED || !outbox.hasRoom(owner)) return false
  copyOut(owner, at, length, onwardBuilt(toSide, flags), 0)
  counters[CELL.handovers + BY_HAIRPIN]! += 1
  return true
}

function copyOut(owner: number, at: number, length: number, itsIngress: number, ports: Ports): void {
  const frame = driver.sharedAt + outbox.slotFor(owner) + FRAME_AT
  copyBytes(at - VIRTIO_NET_HEADER, frame - VIRTIO_NET_HEADER, length + VIRTIO_NET_HEADER)
  outbox.put(owner, frame, length, itsIngress, ports, NOT_LENT)
}

/** Shows other shards what this burst has put into their rings. */
export const publishHandOvers = (): void => outbox.publish(wakeSleeper)

function wakeSleeper(shard: number): void {
  counters[CELL.wakes]! += 1
  wake(shard)
}

/**
 * Takes what others have handed over: `process` is called with each burst in AT, LENGTH, TOKEN and KNOWN_PORTS, and with
 * how it came. Returns how many packets.
 */
export function takeHandedOver(process: (itsIngress: number, count: number) => void): number {
  if (inbox === undefined || !inbox.hasMail()) return 0
  let taken = 0
  for (let producer = 0; producer < inbox.producers; producer++) {
    const count = inbox.receive(producer, BURST)
    if (count === 0) continue
    fault('entries listed')
    listedFrom = producer
    listedCount = count
    const itsIngress = list(inbox, producer, count)
    process(itsIngress, count)
    for (let i = 0; i < count; i++) giveBackLent(i)
    fault('lent frames given back')
    inbox.release(producer)
    taken += count
  }
  counters[CELL.handoversReceived]! += taken
  return taken
}

function list(box: Inbox, producer: number, count: number): number {
  const { entries } = rings
  let itsIngress = ingress
  for (let i = 0; i < count; i++) {
    const entry = box.entry(producer, count, i)
    AT[i] = entries[entry + ENTRY.at]!
    LENGTH[i] = entries[entry + ENTRY.length]!
    TOKEN[i] = entries[entry + ENTRY.lent]! - 1
    KNOWN_PORTS[i] = entries[entry + ENTRY.ports]!
    itsIngress = entries[entry + ENTRY.ingress]!
  }
  return itsIngress
}

function giveBackLent(i: number): void {
  if (TOKEN[i] === NOT_LENT) return
  driver.giveBack(TOKEN[i]!)
  TOKEN[i] = NOT_LENT
}

/** This shard is about to sleep: false if it must not, because something has come. */
export const fallAsleep = (): boolean => inbox === undefined || inbox.fallAsleep()
export const wakeUp = (): void => inbox?.wakeUp()

/** The most entries that waited in one ring since the last call. */
export function fullestRing(): number {
  const fullest = inbox?.fullest ?? 0
  if (inbox) inbox.fullest = 0
  return fullest
}
