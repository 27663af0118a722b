// The port blocks that this shard leases: how many of a block's ports are usable, and which blocks of a space have any.
// Ports are taken from the blocks listed here (ports.shard.ts); when few are left, the coordinator is asked for one
// more, before the last is used up (externals.ts: request words).
//
//   usable ports   neither taken nor in quarantine; -1 if the block isn't ours. Those that other shards have reserved
//                  and those on which the host has a socket count too: they are met when they are tried
//   taken ports    mappings of ours have them
//   list           of an entry's space: its blocks with usable ports, in no order, so that one is drawn at random
// A block of whose usable ports none can be given for that reason leaves its list until relist().
//
// Owner: this thread. All of it is derived from the port words and the ownership words, and made anew with each lease.

import { CELL } from '../counters/counters.ts'
import { counters } from '../counters/own-counters.shard.ts'
import type { Entry, PortIndex, Seconds, Shard } from '../memory/brand.ts'
import { now } from '../memory/clock.ts'
import { type Block, type BlockIndex, type Externals, SPACES, type Space, TCP_SPACE, VACANT } from './externals.ts'
import { fault } from './fault-points.ts'
import { freedAt, isInQuarantine, isMapped, setFreed, wasFreed } from './port-words.ts'
import {
  attachQuarantine,
  beginQuarantine,
  forgetQuarantine,
  giveUpRoom,
  makeRoomInQuarantine,
} from './quarantine.shard.ts'

/** How long a port freed by UDP or ICMP is in quarantine (RFC 6888 REQ-8). TCP has its closing states for that. */
export const QUARANTINE: Seconds = 120
/** With fewer blocks that have a usable port, the shard asks for one more. */
const FEWEST_BLOCKS = 2
/** How long after a denial the shard asks again. */
const ASKS_AGAIN_AFTER: Seconds = 2
const NEVER = -ASKS_AGAIN_AFTER
/** No ownership word is this: a block so marked is lost, and gained if it is ours, when leases are next looked at. */
const NO_LEASE = -1

let externals: Externals
let shard: Shard = 0
// By block index: usable ports, taken ports, the ownership word that the block is leased by, its place in its list.
let usable = new Int16Array(0)
let taken = new Int16Array(0)
let leased = new Int32Array(0)
let place = new Int32Array(0)
/** The lists, blocksPerSpace apart; then by list how long it is, and the second of the last request. */
let listed = new Int32Array(0)
let listLength = new Int32Array(0)
let askedAt = new Int32Array(0)
let version = -1
/** True if there are other shards, which may have a block to give: with one shard there is nobody to ask. */
let hasOthers = false
let callCoordinator: () => void = () => {}

/** `callOut` makes the coordinator look for requests. */
export function attachBlocks(shared: Externals, shardNumber: Shard, shards: number, callOut: () => void): void {
  externals = shared
  shard = shardNumber
  hasOthers = shards > 1
  callCoordinator = callOut
  const lists = shared.capacity * SPACES
  const blocks = lists * shared.blocksPerSpace
  askedAt = new Int32Array(lists).fill(NEVER)
  // A predecessor may have asked and died before it called.
  if (hasOthers) callCoordinator()
  usable = new Int16Array(blocks).fill(-1)
  taken = new Int16Array(blocks)
  leased = new Int32Array(blocks)
  place = new Int32Array(blocks).fill(-1)
  listed = new Int32Array(blocks)
  listLength = new Int32Array(lists)
  attachQuarantine()
  version = -1
  for (let space = 0; space < SPACES; space++) {
    counters[CELL.portsUsed + space] = 0
    counters[CELL.portsResting + space] = 0
    counters[CELL.portsLeased + space] = 0
  }
}

// --- leases ---

/** Looks at the leases again if they have changed since; true if they had. */
export function followLeases(): boolean {
  const current = externals.version()
  if (current === version) return false
  version = current
  // What was denied may be had now.
  askedAt.fill(NEVER)
  // First all that is lost, then the rest: a block that has been away and is back is lost and gained.
  if (countBlocks(loseUnlessOurs) > 0) forgetQuarantine((at) => !isLeased(blockOf(at)))
  countBlocks(gainIfOurs)
  // While the coordinator held a block frozen that stays ours, it had nothing to give and left its list.
  relist()
  return true
}

/** Calls `each` with every block; returns how often it returned true. */
function countBlocks(each: (entry: Entry, space: Space, block: Block) => boolean): number {
  let count = 0
  for (let entry = 0; entry < externals.capacity; entry++)
    for (let space = 0; space < SPACES; space++)
      for (let block = 0; block < externals.blocksPerSpace; block++) if (each(entry, space, block)) count++
  return count
}

const isOurs = (entry: Entry, space: Space, block: Block): boolean =>
  externals.ownerOfBlock(entry, space, block) === shard && externals.kindOf(entry) !== VACANT

function loseUnlessOurs(entry: Entry, space: Space, block: Block): boolean {
  const index = externals.blockIndex(entry, space, block)
  if (!isLeased(index)) return false
  if (externals.leaseOf(entry, space, block) === leased[index] && isOurs(entry, space, block)) return false
  counters[CELL.portsUsed + space]! -= taken[index]!
  counters[CELL.portsLeased + space]! -= externals.blockSize
  if (quarantineOf(space) > 0) giveUpRoom(externals.blockSize)
  usable[index] = -1
  unlist(index)
  fault('block lost')
  return true
}

function gainIfOurs(entry: Entry, space: Space, block: Block): boolean {
  const index = externals.blockIndex(entry, space, block)
  if (isLeased(index)) return false
  // Read before the owner is asked: if the block is frozen in between, this lease is not the one in force.
  const lease = externals.leaseOf(entry, space, block)
  if (!isOurs(entry, space, block) || externals.leaseOf(entry, space, block) !== lease) return false
  leased[index] = lease
  gain(index, space, externals.portIndex(entry, space, block * externals.blockSize))
  return true
}

/** A block, of which `first` is the first port, is ours from now on. */
function gain(index: BlockIndex, space: Space, first: PortIndex): void {
  if (quarantineOf(space) > 0) makeRoomInQuarantine(externals.blockSize)
  let mapped = 0
  let free = 0
  for (let at = first; at < first + externals.blockSize; at++) {
    const word = Atomics.load(externals.portWords, at)
    if (isMapped(word)) {
      if (isOtherShards(at)) free++
      else mapped++
      continue
    }
    // Word and queue must agree on the second: the queue is in order, so the quarantine begins anew.
    const inQuarantine = isInQuarantine(word, now, quarantineOf(space))
    if (inQuarantine || wasFreed(word)) {
      // The block may have gone already, and its next lessee may have queued or given the port: only this very word is
      // changed, and that lessee changes it too. If it is only frozen and stays ours, it is counted anew.
      if (!isLeaseInForce(index)) {
        leased[index] = NO_LEASE
        break
      }
      if (!setFreed(externals.portWords, at, word, inQuarantine ? freedAt(now) : 0)) {
        at--
        continue
      }
    }
    if (inQuarantine) beginQuarantine(at, now)
    else free++
  }
  usable[index] = free
  taken[index] = mapped
  counters[CELL.portsUsed + space]! += mapped
  counters[CELL.portsLeased + space]! += externals.blockSize
  if (free > 0) list(index)
  fault('block gained')
}

/**
 * True of a mapping bit in a block of ours that another shard has set and will clear itself: it took the port when the
 * block had gone to us already, and hasn't seen that yet. Until then every try of the port finds it taken.
 */
function isOtherShards(at: PortIndex): boolean {
  for (;;) {
    const word = Atomics.load(externals.portWords, at)
    if (!isMapped(word) || externals.isIntendedByOther(shard, at, word)) return true
    // It may have been undone between our two looks: then the intent was another one already.
    if (Atomics.load(externals.portWords, at) === word) return false
  }
}

export const quarantineOf = (space: Space): Seconds => (space === TCP_SPACE ? 0 : QUARANTINE)

// --- asking for more ---

/** Asks for one more block, before the last is used up, so that the answer comes in time. */
export function askIfShort(entry: Entry, space: Space): void {
  if (hasOthers && listLength[entry * SPACES + space]! < FEWEST_BLOCKS) askForBlock(entry, space)
}

function askForBlock(entry: Entry, space: Space): void {
  const which = entry * SPACES + space
  if (now - askedAt[which]! < ASKS_AGAIN_AFTER || externals.isAsking(shard, entry, space)) return
  askedAt[which] = now
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

// --- a block's ports ---

/** Of a port index: where its block's words lie. */
export const blockOf = (at: PortIndex): BlockIndex => Math.floor(at / externals.blockSize)

/** True if this shard leases the block, by the leases as they were looked at last. */
export const isLeased = (block: BlockIndex): boolean => usable[block] !== -1

/** True if the lease that is known here is the one in force: the block has not gone meanwhile. */
export function isLeaseInForce(block: BlockIndex): boolean {
  const list = listOf(block)
  const { blocksPerSpace } = externals
  const lease = externals.leaseOf(Math.floor(list / SPACES), list % SPACES, block % blocksPerSpace)
  return lease === leased[block]
}

export const usableIn = (block: BlockIndex): number => usable[block]!

/** A mapping of ours has one of the block's ports, or has it no longer. */
export function countTaken(block: BlockIndex): void {
  taken[block]! += 1
  counters[CELL.portsUsed + (listOf(block) % SPACES)]! += 1
}
export function countFreed(block: BlockIndex): void {
  taken[block]! -= 1
  counters[CELL.portsUsed + (listOf(block) % SPACES)]! -= 1
}

/** One of the block's ports can be taken from now on, or can't any longer. */
export function becomeUsable(block: BlockIndex): void {
  usable[block]! += 1
  if (!isListed(block)) list(block)
}
export function becomeUnusable(block: BlockIndex): void {
  usable[block]! -= 1
  if (usable[block] === 0) unlist(block)
}

// --- lists ---

/** Of a block: the list it may be in, entry * SPACES + space. */
const listOf = (block: BlockIndex): number => Math.floor(block / externals.blocksPerSpace)

/** How many blocks of an entry's space are listed. */
export const listedCount = (entry: Entry, space: Space): number => listLength[entry * SPACES + space]!

/** A listed block of an entry's space, by a random number. */
export function drawBlock(entry: Entry, space: Space, random: number): Block {
  const which = entry * SPACES + space
  return listed[which * externals.blocksPerSpace + (random % listLength[which]!)]!
}

export const isListed = (block: BlockIndex): boolean => place[block] !== -1

/** A block whose usable ports were all reserved or the host's left its list; some may be free by now. */
export function relist(): void {
  for (let block = 0; block < usable.length; block++) if (usable[block]! > 0 && !isListed(block)) list(block)
}

function list(block: BlockIndex): void {
  const which = listOf(block)
  const last = listLength[which]!
  listed[which * externals.blocksPerSpace + last] = block % externals.blocksPerSpace
  place[block] = last
  listLength[which] = last + 1
}

/** Takes a block out of its list: the list's last one takes its place. Does nothing to a block that is in none. */
export function unlist(block: BlockIndex): void {
  const hole = place[block]!
  if (hole === -1) return
  const which = listOf(block)
  const first = which * externals.blocksPerSpace
  const last = listLength[which]! - 1
  const moved = listed[first + last]!
  listed[first + hole] = moved
  place[first + moved] = hole
  place[block] = -1
  listLength[which] = last
}
