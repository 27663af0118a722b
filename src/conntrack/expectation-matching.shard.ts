// Matching a new connection against what is expected (nf_conntrack_expect.c: nf_ct_find_expectation), and an inside
// endpoint against what is reserved for it. A match covers destination, port and protocol exactly, the source by its
// mask, and takes the newest. Owner: the shard; slots by the rules of the table (expectation-table.ts).

import { CELL } from '../counters/counters.ts'
import { counters } from '../counters/own-counters.shard.ts'
import type { Handle, PortIndex } from '../memory/brand.ts'
import { now } from '../memory/clock.ts'
import type { Addr, Port, Ports, ProtocolNumber } from '../wire/address.ts'
import { connections, generationOf as generationOfRow } from './connections.shard.ts'
import { expectMatch } from './events.shard.ts'
import { unlist } from './expectation-lists.shard.ts'
import { bucketOf, epoch, free, insideBucket, isOver, shard, table, ticketOf } from './expectation-slots.shard.ts'
import {
  BUCKET,
  type Bucket,
  EXPECTATION,
  generationIn,
  generationOf,
  handleOf,
  held,
  portReserved,
  type Reservation,
  STATE,
  secondsLeft,
  slotOf,
  stateOf,
  unheld,
  WIDTH,
} from './expectation-table.ts'
import { fault } from './fault-points.ts'
import { dstPortIn, type KeyWord, srcPortIn } from './terms.ts'

/** How often to look again when another shard has claimed what was found. */
const TRIES = 4

/**
 * The newest expectation that a packet matches, claimed for this shard; 0 if there is none. To be settled within the
 * same packet by consume() or putBack(). Ask only if expectCount() > 0.
 */
export function claim(key: KeyWord, src: Addr, dst: Addr, ports: Ports): Handle {
  const bucket = bucketOf(key, dst, dstPortIn(ports))
  for (let tries = 0; tries < TRIES; tries++) {
    const handle = newestMatch(bucket, key, src, dst, ports)
    if (handle === 0) return 0
    const generation = generationIn(handle)
    const from = unheld(STATE.pending, generation)
    if (!table.change(slotOf(handle), from, held(STATE.claimed, generation, shard, epoch))) continue
    fault('slot claimed')
    return handle
  }
  return 0
}

function newestMatch(bucket: Bucket, key: KeyWord, src: Addr, dst: Addr, ports: Ports): Handle {
  let best: Handle = 0
  let bestTicket = 0
  for (let slot = bucket * BUCKET; slot < (bucket + 1) * BUCKET; slot++) {
    const word = table.word(slot)
    const base = slot * WIDTH
    if (stateOf(word) !== STATE.pending || !matches(base, key, src, dst, ports)) continue
    if (best !== 0 && ((ticketOf(base) - bestTicket) | 0) < 0) continue
    best = handleOf(slot, generationOf(word))
    bestTicket = ticketOf(base)
  }
  return best
}

function matches(base: number, key: KeyWord, src: Addr, dst: Addr, ports: Ports): boolean {
  const { fields } = table
  if (fields[base + EXPECTATION.dst] !== dst || fields[base + EXPECTATION.dstPort] !== dstPortIn(ports)) return false
  if (fields[base + EXPECTATION.key] !== key) return false
  if (((fields[base + EXPECTATION.src]! ^ src) & fields[base + EXPECTATION.srcMask]!) !== 0) return false
  const srcPort = fields[base + EXPECTATION.srcPort]!
  if (srcPort !== 0 && srcPort !== srcPortIn(ports)) return false
  return secondsLeft(fields[base + EXPECTATION.deadline]!, now) > 0 && hasMaster(base)
}

/** A master of this shard is looked at. When another shard's ends, that shard ends the expectation (endMaster). */
function hasMaster(base: number): boolean {
  const row = table.fields[base + EXPECTATION.masterRow]!
  if (row === 0 || table.fields[base + EXPECTATION.masterShard] !== shard) return true
  const generation = table.fields[base + EXPECTATION.masterGeneration]!
  return connections.isLive(row) && generationOfRow(row) === generation
}

/** The connection has come: the expectation is over. Its reservation is the caller's from now on, to be given back. */
export function consume(handle: Handle): void {
  expectMatch(table.fields, slotOf(handle) * WIDTH)
  table.beginChange(shard)
  free(slotOf(handle), generationIn(handle))
  table.endChange(shard)
  unlist(slotOf(handle))
  counters[CELL.expectationsMatched]! += 1
}

/** The expectation stands again: it wasn't the right one, or it is permanent and the connection `hasCome`. */
export function putBack(handle: Handle, hasCome = false): void {
  if (hasCome) expectMatch(table.fields, slotOf(handle) * WIDTH)
  table.settle(slotOf(handle), unheld(STATE.pending, generationIn(handle)))
  fault('slot put back')
  if (hasCome) counters[CELL.expectationsMatched]! += 1
}

/** The port that is reserved for an inside endpoint, -1 if none is. */
export function reservedFor(protocol: ProtocolNumber, address: Addr, port: Port): PortIndex {
  const first = insideBucket(protocol, address, port)
  for (let at = first; at < first + BUCKET; at++) {
    const handle = Atomics.load(table.inside, at)
    if (handle === 0 || isOver(handle)) continue
    const base = slotOf(handle) * WIDTH
    const { fields } = table
    const reservation: Reservation = fields[base + EXPECTATION.reservation]!
    if (
      reservation !== 0 &&
      fields[base + EXPECTATION.savedAddress] === address &&
      fields[base + EXPECTATION.savedPort] === port &&
      (fields[base + EXPECTATION.key]! & 0xff) === protocol &&
      !isOver(handle)
    )
      return portReserved(reservation)
  }
  return -1
}
