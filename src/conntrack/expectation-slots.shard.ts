// What announcing (expectations.shard.ts) and matching (expectation-matching.shard.ts) have in common: the table that
// this shard works on, and its slots. Owner: the shard; slots by the rules of the table.

import type { Generation, Handle, PortIndex, Shard } from '../memory/brand.ts'
import { hash4 } from '../memory/siphash.ts'
import type { Addr, Port, ProtocolNumber } from '../wire/address.ts'
import { attachExpectationLists } from './expectation-lists.shard.ts'
import {
  BUCKET,
  type Bucket,
  EXPECTATION,
  type ExpectationFields,
  type ExpectationTable,
  generationIn,
  generationOf,
  PERMANENT,
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
import { countIn } from './hosts.shard.ts'
import type { KeyWord } from './terms.ts'

const DESTINATION = 0x600
const INSIDE_END = 0x700

export let table: ExpectationTable
export let shard: Shard = 0
export let epoch = 0
export let release: (port: PortIndex) => void = () => {}

/** `giveBack` takes one reservation of a port back. */
export function attachExpectations(
  shared: ExpectationTable,
  shardNumber: Shard,
  shardEpoch: number,
  giveBack: (port: PortIndex) => void,
): void {
  table = shared
  shard = shardNumber
  epoch = shardEpoch
  release = giveBack
  attachExpectationLists(shared)
}

/** How many expectations stand, in all shards: while it is 0, no new connection needs to ask. */
export const expectCount = (): number => table.count()

/** A word of a slot that this shard has claimed, or of a handle that is known to stand. */
export const field = <Name extends keyof ExpectationFields>(handle: Handle, name: Name): ExpectationFields[Name] =>
  table.fields[slotOf(handle) * WIDTH + EXPECTATION[name]]! as ExpectationFields[Name]

/** Whether the expectation stands: it is neither over nor being matched. */
export function isStanding(handle: Handle): boolean {
  const word = table.word(slotOf(handle))
  return stands(word) && generationOf(word) === generationIn(handle)
}

export const isPermanent = (handle: Handle): boolean => (field(handle, 'flags') & PERMANENT) !== 0

/** The bucket of a destination. */
export const bucketOf = (key: KeyWord, dst: Addr, dstPort: Port): Bucket =>
  hash4(dst, dstPort, key, DESTINATION) & (table.buckets - 1)

/** Where the bucket of an inside endpoint begins. */
export const insideBucket = (protocol: ProtocolNumber, address: Addr, port: Port): number =>
  (hash4(address, port, protocol, INSIDE_END) & (table.buckets - 1)) * BUCKET

/** True if the expectation has gone, and its slot may hold another one. */
export function isOver(handle: Handle): boolean {
  const word = table.word(slotOf(handle))
  return stateOf(word) === STATE.free || generationOf(word) !== generationIn(handle)
}

export const ticketOf = (base: number): number => table.fields[base + EXPECTATION.ticket]!

/**
 * Frees a slot that this shard holds. The caller gives the reservation back afterwards: a crash may leave one, and
 * never gives one back twice.
 */
export function free(slot: Slot, generation: Generation): void {
  fault('slot about to be freed')
  const host = table.fields[slot * WIDTH + EXPECTATION.host]!
  table.settle(slot, unheld(STATE.free, generation))
  fault('slot free, still counted')
  table.countDown(1)
  if (host !== 0) countIn(host - 1, HOST.expectations, -1)
  fault('slot free, its port reserved')
}
