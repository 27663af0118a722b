// This shard's side of the expectation table: announcing what is expected (nf_conntrack_expect.c:
// nf_ct_expect_related), and taking it back. What the states are, and who may change which, is in expectation-table.ts;
// how a new connection is matched, in expectation-matching.shard.ts. No function waits for another thread, and none
// allocates.
//
// Two masters never expect what one packet could match: a shard that publishes looks, writes its slot, takes a ticket,
// looks again, and gives way to a lower ticket before anything is in force. Since the ticket is taken in a slot that
// others see as busy, of two that overlap the later sees the earlier.
//
// Owner: the shard; slots by the rules of the table.

import { CELL } from '../counters/counters.ts'
import { EXPECT_REFUSED, type ExpectRefusal } from '../counters/expect-refusals.ts'
import { HOST_LIMIT } from '../counters/host-limits.ts'
import { counters } from '../counters/own-counters.shard.ts'
import type { Generation, Handle, HelperId, Row, Seconds } from '../memory/brand.ts'
import { now } from '../memory/clock.ts'
import type { Addr, Port } from '../wire/address.ts'
import { baseOf, KEY_MASK } from './connection-table.ts'
import { dstOf, insideHostOf, portsWordOf, srcOf, stateWordOf } from './connections.shard.ts'
import type { ExpectEnd } from './event-table.ts'
import { expectEnd, expectNew } from './events.shard.ts'
import { attachExpectationLists, list, newestOf, olderThan, unlist } from './expectation-lists.shard.ts'
import {
  bucketOf,
  epoch,
  field,
  free,
  insideBucket,
  isOver,
  isStanding,
  release,
  shard,
  table,
  ticketOf,
} from './expectation-slots.shard.ts'
import {
  BUCKET,
  type Bucket,
  bucketOfSlot,
  deadlineWord,
  EXPECTATION,
  generationAfter,
  generationIn,
  generationOf,
  handleOf,
  held,
  INACTIVE,
  isKept,
  portReserved,
  type Reservation,
  type Slot,
  STATE,
  slotOf,
  stands,
  stateOf,
  unheld,
  WIDTH,
} from './expectation-table.ts'
import { fault } from './fault-points.ts'
import { HOST } from './host-table.ts'
import { countUp, mayHave } from './hosts.shard.ts'
import type { Direction, KeyWord } from './terms.ts'

/** What is announced; the words of a slot (expectation-table.ts) that its publisher says. */
export interface Draft {
  key: KeyWord
  src: Addr
  /** 0: anyone; -1: `src` only; or a netmask. */
  srcMask: number
  /** 0: any. */
  srcPort: Port
  dst: Addr
  dstPort: Port
  savedAddress: Addr
  savedPort: Port
  flags: number
  helper: HelperId
  childHelper: HelperId
  class: number
  maxExpected: number
  timeout: Seconds
  /** A connection of this shard, and the generation of its row; row 0 for none. */
  masterRow: Row
  masterGeneration: Generation
  direction: Direction
  reservation: Reservation
}

/** How often to look at a slot that another shard is just writing, before it counts as an overlap. */
const PATIENCE = 1000
const CAUSE = { evicted: 0, withdrawn: 1, masterEnded: 2 } as const satisfies Record<string, ExpectEnd>

/** On a dead shard's memory: the lists by master, oldest first. What it held the coordinator has settled before. */
export function recoverExpectations(): void {
  attachExpectationLists(table)
  const own: Slot[] = []
  for (let slot = 0; slot < table.slots; slot++) {
    const word = table.word(slot)
    if (isKept(word) && table.fields[slot * WIDTH + EXPECTATION.masterShard] === shard) own.push(slot)
  }
  own.sort((a, b) => ticketOf(a * WIDTH) - ticketOf(b * WIDTH))
  for (const slot of own)
    list(handleOf(slot, generationOf(table.word(slot))), table.fields[slot * WIDTH + EXPECTATION.masterRow]!)
}

/** Why there is no expectation; to be read at once after expect() or refuseExpectation() has returned handle 0. */
export let expectRefusal: ExpectRefusal = 'overlap'

/** No expectation is made, for this reason, which is counted: the handle to return. */
export function refuseExpectation(reason: ExpectRefusal): Handle {
  expectRefusal = reason
  counters[CELL.expectationsRefused + EXPECT_REFUSED[reason]]! += 1
  return 0
}

// --- announcing ---

/**
 * Publishes what the draft says: in force when this returns. Returns its handle; 0 if it is refused (expectRefusal).
 * The same tuple, mask, master and class once more: the one that stands waits anew. One more than `maxExpected`: the
 * oldest of that master and class goes. The draft's reservation is this module's from now on: refused or refreshed, it
 * has been given back.
 */
export function expect(draft: Draft): Handle {
  table.beginChange(shard)
  const handle = settleDraft(draft)
  table.endChange(shard)
  return handle
}

function settleDraft(draft: Draft): Handle {
  const { masterRow, masterGeneration } = draft
  let count = 0
  let oldest = 0
  for (let at = newestOf(masterRow, masterGeneration); at !== 0; ) {
    const older = olderThan(at, masterRow, masterGeneration)
    if (isSameAnnouncement(at, draft)) {
      if (refresh(at, draft)) return at
      // With other contents, the old one is replaced.
      end(at, CAUSE.withdrawn)
    }
    if (field(at, 'class') === draft.class && !isOver(at)) {
      count++
      if (isStanding(at)) oldest = at
    }
    at = older
  }
  const bucket = bucketOf(draft.key, draft.dst, draft.dstPort)
  if (isOverlapped(bucket, draft, -1, 0)) return refuseDraft(draft, 'overlap')
  const evicts = count >= draft.maxExpected
  const host = masterRow === 0 ? 0 : insideHostOf(masterRow)
  if (!evicts && host !== 0 && !mayHave(host, HOST_LIMIT.expectations, HOST.expectations))
    return refuseDraft(draft, 'host-limit')
  if (evicts && oldest === 0) return refuseDraft(draft, 'class-limit')
  if (!hasRoom(bucket) && !(evicts && bucketOfSlot(slotOf(oldest)) === bucket)) return refuseDraft(draft, 'bucket-full')
  // Just claimed by another shard: it is not over yet.
  if (evicts && !end(oldest, CAUSE.evicted)) return refuseDraft(draft, 'class-limit')
  return publish(bucket, draft)
}

function publish(bucket: Bucket, draft: Draft): Handle {
  if (!table.countUp()) return refuseDraft(draft, 'global-limit')
  fault('expectation counted, no slot')
  const slot = takeSlot(bucket)
  if (slot < 0) {
    table.countDown(1)
    return refuseDraft(draft, 'bucket-full')
  }
  const generation = generationOf(table.word(slot))
  const handle = handleOf(slot, generation)
  fault('slot busy, nothing in it')
  const ticket = table.nextTicket()
  const { masterRow } = draft
  const host = masterRow === 0 ? 0 : countUp(insideHostOf(masterRow), HOST.expectations) + 1
  table.fields[slot * WIDTH + EXPECTATION.host] = host
  write(slot * WIDTH, draft, generation, ticket)
  fault('slot written, not settled')
  table.settle(slot, held(STATE.settling, generation, shard, epoch))
  fault('slot settled, not in force')
  const reason: ExpectRefusal | undefined = isOverlapped(bucket, draft, slot, ticket)
    ? 'overlap'
    : draft.reservation !== 0 && !hangInside(handle, draft)
      ? 'bucket-full'
      : undefined
  if (reason) {
    free(slot, generation)
    return refuseDraft(draft, reason)
  }
  fault('slot hung by its inside end')
  // Reported before it is in force, hence before any shard can report that it has matched it.
  expectNew(table.fields, slot * WIDTH)
  table.settle(slot, unheld((draft.flags & INACTIVE) !== 0 ? STATE.inactive : STATE.pending, generation))
  fault('slot pending, not listed')
  list(handle, draft.masterRow)
  counters[CELL.expectationsCreated]! += 1
  return handle
}

function refuseDraft(draft: Draft, reason: ExpectRefusal): Handle {
  if (draft.reservation !== 0) release(portReserved(draft.reservation))
  return refuseExpectation(reason)
}

function hasRoom(bucket: Bucket): boolean {
  for (let slot = bucket * BUCKET; slot < (bucket + 1) * BUCKET; slot++)
    if (stateOf(table.word(slot)) === STATE.free) return true
  return false
}

/** A slot of the bucket, BUSY by this shard; -1 if there is none. */
function takeSlot(bucket: Bucket): Slot {
  for (let slot = bucket * BUCKET; slot < (bucket + 1) * BUCKET; slot++) {
    const word = table.word(slot)
    if (stateOf(word) !== STATE.free) continue
    if (table.change(slot, word, held(STATE.busy, generationAfter(generationOf(word)), shard, epoch))) return slot
  }
  return -1
}

function write(base: number, draft: Draft, generation: Generation, ticket: number): void {
  const { fields } = table
  fields[base + EXPECTATION.key] = draft.key
  fields[base + EXPECTATION.src] = draft.src
  fields[base + EXPECTATION.srcMask] = draft.srcMask
  fields[base + EXPECTATION.srcPort] = draft.srcPort
  fields[base + EXPECTATION.dst] = draft.dst
  fields[base + EXPECTATION.dstPort] = draft.dstPort
  fields[base + EXPECTATION.savedAddress] = draft.savedAddress
  fields[base + EXPECTATION.savedPort] = draft.savedPort
  fields[base + EXPECTATION.flags] = draft.flags & ~INACTIVE
  fields[base + EXPECTATION.helper] = draft.helper
  fields[base + EXPECTATION.childHelper] = draft.childHelper
  fields[base + EXPECTATION.class] = draft.class
  fields[base + EXPECTATION.maxExpected] = draft.maxExpected
  fields[base + EXPECTATION.timeout] = draft.timeout
  // The deadline alone may be changed by another thread, in a slot's earlier use: hence the atomic store.
  Atomics.store(fields, base + EXPECTATION.deadline, deadlineWord(now + draft.timeout, generation))
  fields[base + EXPECTATION.ticket] = ticket
  fields[base + EXPECTATION.masterShard] = shard
  fields[base + EXPECTATION.masterRow] = draft.masterRow
  fields[base + EXPECTATION.masterGeneration] = draft.masterGeneration
  fields[base + EXPECTATION.direction] = draft.direction
  fields[base + EXPECTATION.reservation] = draft.reservation
  const master = baseOf(draft.masterRow)
  const has = draft.masterRow !== 0
  fields[base + EXPECTATION.masterSrc] = has ? srcOf(master, 0) : 0
  fields[base + EXPECTATION.masterDst] = has ? dstOf(master, 0) : 0
  fields[base + EXPECTATION.masterPorts] = has ? portsWordOf(master, 0) : 0
  fields[base + EXPECTATION.masterKey] = has ? stateWordOf(master) & KEY_MASK : 0
}

/**
 * Another master's slot in the bucket could match what the draft's would. With a slot of its own and a ticket: one that
 * came before. A slot that stays busy counts: its holder may be dead.
 */
function isOverlapped(bucket: Bucket, draft: Draft, own: Slot, ticket: number): boolean {
  for (let slot = bucket * BUCKET; slot < (bucket + 1) * BUCKET; slot++) {
    if (slot === own) continue
    let word = table.word(slot)
    if (own >= 0) for (let i = 0; i < PATIENCE && stateOf(word) === STATE.busy; i++) word = table.word(slot)
    if (stateOf(word) === STATE.free) continue
    if (stateOf(word) === STATE.busy) {
      if (own >= 0) return true
      continue
    }
    if (!overlaps(slot * WIDTH, draft)) continue
    if (own >= 0 && ((ticketOf(slot * WIDTH) - ticket) | 0) > 0) continue
    const after = table.word(slot)
    if (generationOf(after) === generationOf(word) && stateOf(after) !== STATE.free) return true
  }
  return false
}

function overlaps(base: number, draft: Draft): boolean {
  const { fields } = table
  if (fields[base + EXPECTATION.key] !== draft.key || fields[base + EXPECTATION.dst] !== draft.dst) return false
  if (fields[base + EXPECTATION.dstPort] !== draft.dstPort) return false
  const port = fields[base + EXPECTATION.srcPort]!
  if (port !== 0 && draft.srcPort !== 0 && port !== draft.srcPort) return false
  const bits = fields[base + EXPECTATION.srcMask]! & draft.srcMask
  if (((fields[base + EXPECTATION.src]! ^ draft.src) & bits) !== 0) return false
  return !(
    fields[base + EXPECTATION.masterShard] === shard &&
    fields[base + EXPECTATION.masterRow] === draft.masterRow &&
    fields[base + EXPECTATION.masterGeneration] === draft.masterGeneration
  )
}

/** Lets the inside endpoint find its reservation, should it send first; false if its bucket is full. */
function hangInside(handle: Handle, draft: Draft): boolean {
  const first = insideBucket(draft.key & 0xff, draft.savedAddress, draft.savedPort)
  for (let at = first; at < first + BUCKET; at++) {
    const before = Atomics.load(table.inside, at)
    if (before !== 0 && !isOver(before)) continue
    if (Atomics.compareExchange(table.inside, at, before, handle) === before) return true
  }
  return false
}

// --- what stands ---

function isSameAnnouncement(handle: Handle, draft: Draft): boolean {
  const { fields } = table
  const base = slotOf(handle) * WIDTH
  return (
    fields[base + EXPECTATION.key] === draft.key &&
    fields[base + EXPECTATION.src] === draft.src &&
    fields[base + EXPECTATION.srcMask] === draft.srcMask &&
    fields[base + EXPECTATION.srcPort] === draft.srcPort &&
    fields[base + EXPECTATION.dst] === draft.dst &&
    fields[base + EXPECTATION.dstPort] === draft.dstPort &&
    fields[base + EXPECTATION.class] === draft.class
  )
}

/** The expectation waits anew; false if it differs from the draft, is over, or is being matched. */
function refresh(handle: Handle, draft: Draft): boolean {
  const { fields } = table
  const base = slotOf(handle) * WIDTH
  const isTheSame =
    fields[base + EXPECTATION.savedAddress] === draft.savedAddress &&
    fields[base + EXPECTATION.savedPort] === draft.savedPort &&
    fields[base + EXPECTATION.reservation] === draft.reservation &&
    fields[base + EXPECTATION.childHelper] === draft.childHelper &&
    fields[base + EXPECTATION.helper] === draft.helper &&
    fields[base + EXPECTATION.flags] === (draft.flags & ~INACTIVE)
  const before = Atomics.load(fields, base + EXPECTATION.deadline)
  if (!isTheSame || !isStanding(handle)) return false
  const after = deadlineWord(now + draft.timeout, generationIn(handle))
  if (Atomics.compareExchange(fields, base + EXPECTATION.deadline, before, after) !== before) return false
  if (!activate(handle, (draft.flags & INACTIVE) === 0)) return false
  fault('slot refreshed')
  // The one that stands names the port already.
  if (draft.reservation !== 0) release(portReserved(draft.reservation))
  counters[CELL.expectationsRefreshed]! += 1
  return true
}

/**
 * From now on the expectation lets its connection in, or doesn't any longer; false if it is over or being matched.
 * Called by its master's shard alone.
 */
export function activate(handle: Handle, active: boolean): boolean {
  if (!isOurs(handle)) return false
  const slot = slotOf(handle)
  const generation = generationIn(handle)
  const wanted = unheld(active ? STATE.pending : STATE.inactive, generation)
  const word = table.word(slot)
  if (word === wanted) return true
  return stands(word) && generationOf(word) === generation && table.change(slot, word, wanted)
}

/** Takes an expectation back, with its reservation; false if it is over or being matched. For its master's shard. */
export function withdraw(handle: Handle): boolean {
  if (!isOurs(handle)) return false
  table.beginChange(shard)
  const done = end(handle, CAUSE.withdrawn)
  table.endChange(shard)
  return done
}

/** True if this shard has published the expectation. Asked because a helper may pass any number for a handle. */
const isOurs = (handle: Handle): boolean =>
  handle > 0 && slotOf(handle) < table.slots && field(handle, 'masterShard') === shard

/** A connection of this shard is gone: what it still expects goes too. */
export function endMaster(row: Row, generation: Generation): void {
  if (newestOf(row, generation) === 0) return
  table.beginChange(shard)
  for (let at = newestOf(row, generation); at !== 0; ) {
    const older = olderThan(at, row, generation)
    end(at, CAUSE.masterEnded)
    at = older
  }
  table.endChange(shard)
}

/** Ends an expectation; false if it is over or being matched. Between beginChange() and endChange(). */
function end(handle: Handle, cause: ExpectEnd): boolean {
  const slot = slotOf(handle)
  const word = table.word(slot)
  if (!stands(word) || generationOf(word) !== generationIn(handle)) return false
  if (!table.change(slot, word, held(STATE.ending, generationIn(handle), shard, epoch))) return false
  fault('slot ending')
  const reservation: Reservation = table.fields[slot * WIDTH + EXPECTATION.reservation]!
  expectEnd(table.fields, slot * WIDTH, cause)
  free(slot, generationIn(handle))
  if (reservation !== 0) release(portReserved(reservation))
  unlist(slot)
  counters[CELL.expectationsRemoved + cause]! += 1
  return true
}
