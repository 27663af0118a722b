// Asking the coordinator for one more port block, before the last of an address and space is used up (externals.ts:
// request words). Owner: the shard; a request may be made by another one in its name.

import type { Entry, Shard } from '../memory/brand.ts'
import { now } from '../memory/clock.ts'
import { ASKS_AGAIN_AFTER } from './block-list.ts'
import { listedCount, listFor } from './blocks.shard.ts'
import type { Externals, Space } from './externals.ts'

/** With fewer blocks that have a usable port, the shard asks for one more. */
const FEWEST_BLOCKS = 2

let externals: Externals
let shard: Shard = 0
/** True if there are other shards, which may have a block to give: with one shard there is nobody to ask. */
let hasOthers = false
let callCoordinator: () => void = () => {}

/** `callOut` makes the coordinator look for requests. */
export function attachRequests(shared: Externals, shardNumber: Shard, shards: number, callOut: () => void): void {
  externals = shared
  shard = shardNumber
  hasOthers = shards > 1
  callCoordinator = callOut
  // A predecessor may have asked and died before it called.
  if (hasOthers) callCoordinator()
}

/** Asks for one more block, before the last is used up, so that the answer comes in time. */
export function askIfShort(entry: Entry, space: Space): void {
  if (hasOthers && listedCount(entry, space) < FEWEST_BLOCKS) askForBlock(entry, space)
}

function askForBlock(entry: Entry, space: Space): void {
  const of = listFor(entry, space)
  if (now - of.askedAt < ASKS_AGAIN_AFTER) return
  of.askedAt = now
  // Also if that is asked already: whoever asked may have died before anybody could find the request.
  externals.ask(shard, entry, space)
  callCoordinator()
}

/**
 * A shard, this one or another, has no port left for an inside endpoint that is announced here: asks for a block in its
 * name. False if there is none to be had.
 */
export function askFor(owner: Shard, entry: Entry, space: Space): boolean {
  if (!hasOthers || externals.isDenied(owner, entry, space)) return false
  if (owner === shard) askForBlock(entry, space)
  else if (!externals.isAsking(owner, entry, space)) {
    externals.ask(owner, entry, space)
    callCoordinator()
  }
  return true
}

/**
 * After takePort() had none: another block has been asked for and may come. Also if it has come already: the leases are
 * looked at once a turn, and until then a granted block isn't among ours.
 */
export const isLeasePending = (entry: Entry, space: Space): boolean =>
  hasOthers && !externals.isDenied(shard, entry, space)
