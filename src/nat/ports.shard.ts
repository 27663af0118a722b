// A shard's external ports: which are free in the blocks it leases, and the taking and freeing of one. A port is given
// to one inside endpoint at a time (no overloading: RFC 4787 REQ-3, RFC 5382 REQ-7), chosen at random in a random
// block (RFC 6056, RFC 6888 REQ-15), and rests before it is given again (RFC 6888 REQ-8).
//
//   usable    neither taken nor resting; counted by block, blocks with any are in the list of their space
//   taken     its word says so: a mapping or a reservation has it
//   resting   freed: its word says since when, and it is in the queue of resting ports (quarantine.shard.ts) until its time is over
//
// The port words are the truth (nat/externals.ts); counts, lists and the queue are derived from them and belong to
// this thread. A word may be taken under our hands by another shard's reservation: then the next is tried.
// All of it is O(1) in the number of ports, also when none is left.

import { CELL } from '../counters/counters.ts'
import { counters } from '../counters/own-counters.shard.ts'
import { now } from '../memory/clock.ts'
import { random32 } from '../memory/random.ts'
import type { ProtocolNumber } from '../wire/address.ts'
import {
  type Externals,
  freedAt,
  isInQuarantine,
  isMapped,
  isTaken,
  MAPPED,
  RESERVATIONS,
  SHARED,
  SPACES,
  spaceAt,
  spaceOf,
  TCP_SPACE,
  VACANT,
  wasFreed,
  withContent,
} from './externals.ts'
import { fault } from './fault-points.ts'
import {
  attachQuarantine,
  beginQuarantine,
  forgetQuarantine,
  giveUpRoom,
  makeRoomInQuarantine,
  nextOutOfQuarantine,
} from './quarantine.shard.ts'

/** Seconds that a port freed by UDP or ICMP rests. TCP has rested in its closing states. */
const REST = 120
/** With fewer blocks that have a usable port, the shard asks for one more. */
const FEWEST_BLOCKS = 2
/** Seconds until it asks again after a denial. */
const ASKS_AGAIN_AFTER = 2
/** Blocks tried for a port of the right parity before any port will do. */
const PARITY_TRIES = 4

const NEVER = -ASKS_AGAIN_AFTER

let externals: Externals
let shard = 0
/** By block index: usable ports, -1 if the block isn't ours. */
let usable = new Int16Array(0)
/** By block index: ports that mappings of ours have, and the ownership word that we have it by. */
let taken = new Int16Array(0)
let leased = new Int32Array(0)
/** By block index: its place in the list of its space; the lists, blocksPerSpace apart; how long each is. */
let place = new Int32Array(0)
let listed = new Int32Array(0)
let listLength = new Int32Array(0)
let version = -1
/** By list: the second of the last request. */
let askedAt = new Int32Array(0)
/** Others that may have a block to give: with one shard there is nobody to ask. */
let hasOthers = false
let callCoordinator: () => void = () => {}

/** `callOut` makes the coordinator look for requests. */
export function attachPorts(shared: Externals, shardNumber: number, shards = 1, callOut: () => void = () => {}): void {
  externals = shared
  shard = shardNumber
  hasOthers = shards > 1
  callCoordinator = callOut
  askedAt = new Int32Array(shared.capacity * SPACES).fill(NEVER)
  // A predecessor may have asked and died before it called.
  if (hasOthers) callCoordinator()
  const blocks = shared.capacity * SPACES * shared.blocksPerSpace
  usable = new Int16Array(blocks).fill(-1)
  taken = new Int16Array(blocks)
  leased = new Int32Array(blocks)
  place = new Int32Array(blocks).fill(-1)
  listed = new Int32Array(blocks)
  listLength = new Int32Array(shared.capacity * SPACES)
  attachQuarantine()
  version = -1
  for (let space = 0; space < SPACES; space++) {
    counters[CELL.portsUsed + space] = 0
    counters[CELL.portsResting + space] = 0
    counters[CELL.portsLeased + space] = 0
  }
}

/** Looks at the leases again if they have changed since; true if they had. */
export function followLeases(): boolean {
  const current = externals.version()
  if (current === version) return false
  version = current
  // What was denied may be had now.
  askedAt.fill(NEVER)
  // First all that is lost, then the rest: a block that has been away and is back is lost and gained.
  if (countBlocks(loseUnlessOurs) > 0) forgetQuarantine((at) => usable[blockOf(at)] === -1)
  countBlocks(gainIfOurs)
  // While the coordinator held a block frozen that stays ours, it had nothing to give and left its list.
  relist()
  return true
}

/** Calls `each` with every block; how often it said true. */
function countBlocks(each: (entry: number, space: number, block: number) => boolean): number {
  let count = 0
  for (let entry = 0; entry < externals.capacity; entry++)
    for (let space = 0; space < SPACES; space++)
      for (let block = 0; block < externals.blocksPerSpace; block++) if (each(entry, space, block)) count++
  return count
}

const isOurs = (entry: number, space: number, block: number): boolean =>
  externals.ownerOfBlock(entry, space, block) === shard && externals.kindOf(entry) !== VACANT

function loseUnlessOurs(entry: number, space: number, block: number): boolean {
  const index = externals.blockIndex(entry, space, block)
  if (usable[index] === -1) return false
  if (externals.leaseOf(entry, space, block) === leased[index] && isOurs(entry, space, block)) return false
  counters[CELL.portsUsed + space]! -= taken[index]!
  counters[CELL.portsLeased + space]! -= externals.blockSize
  if (quarantineOf(space) > 0) giveUpRoom(externals.blockSize)
  usable[index] = -1
  if (place[index] !== -1) unlist(entry, space, block)
  fault('block lost')
  return true
}

function gainIfOurs(entry: number, space: number, block: number): boolean {
  const index = externals.blockIndex(entry, space, block)
  if (usable[index] !== -1 || !isOurs(entry, space, block)) return false
  leased[index] = externals.leaseOf(entry, space, block)
  gain(entry, space, block, index)
  return true
}

function gain(entry: number, space: number, block: number, index: number): void {
  if (quarantineOf(space) > 0) makeRoomInQuarantine(externals.blockSize)
  const first = externals.portIndex(entry, space, block * externals.blockSize)
  let mapped = 0
  let free = 0
  for (let i = 0; i < externals.blockSize; i++) {
    const word = Atomics.load(externals.portWords, first + i)
    if (isMapped(word)) {
      if (isAnothers(first + i)) free++
      else mapped++
    } else if (isInQuarantine(word, now, quarantineOf(space))) {
      // Word and queue must agree on the second: the queue is in order, so it rests anew.
      changeWord(first + i, freedAt(now))
      beginQuarantine(first + i, now)
    } else {
      if (wasFreed(word)) changeWord(first + i, 0)
      free++
    }
  }
  usable[index] = free
  taken[index] = mapped
  counters[CELL.portsUsed + space]! += mapped
  counters[CELL.portsLeased + space]! += externals.blockSize
  if (free > 0) list(entry, space, block)
  fault('block gained')
}

/**
 * A mapping bit in a block of ours that another shard has set and clears without telling us: it took the port when the
 * block had gone to us already, and hasn't seen that yet. Until then whoever tries the port finds it taken.
 */
function isAnothers(at: number): boolean {
  for (;;) {
    const word = Atomics.load(externals.portWords, at)
    if (!isMapped(word) || externals.isIntendedByOther(shard, at, word)) return true
    // It may have been undone between our two looks: then the intent was another one already.
    if (Atomics.load(externals.portWords, at) === word) return false
  }
}

/**
 * Takes a port (0..65535) for a mapping on an external address; -1 if none is left. `wanted` is the inside port,
 * whose own number is tried first if `preserve`, and whose parity is kept if `parity` and while it can be.
 */
export function takePort(entry: number, space: number, wanted: number, preserve: boolean, parity: boolean): number {
  const port = takeAny(entry, space, wanted, preserve, parity)
  askIfShort(entry, space)
  return port
}

/** Before the last block is used up, so that the answer comes in time. */
function askIfShort(entry: number, space: number): void {
  if (hasOthers && listLength[entry * SPACES + space]! < FEWEST_BLOCKS) askForBlock(entry, space)
}

function askForBlock(entry: number, space: number): void {
  const list = entry * SPACES + space
  if (now - askedAt[list]! < ASKS_AGAIN_AFTER || externals.isAsking(shard, entry, space)) return
  askedAt[list] = now
  externals.ask(shard, entry, space)
  callCoordinator()
}

/**
 * Another shard, or this one, has no port left for an inside endpoint that is announced here: asks for a block in its
 * name. False if there is none to be had.
 */
export function askFor(owner: number, entry: number, space: number): boolean {
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
export const isLeasePending = (entry: number, space: number): boolean =>
  hasOthers && !externals.isDenied(shard, entry, space)

function takeAny(entry: number, space: number, wanted: number, preserve: boolean, parity: boolean): number {
  if (preserve && tryPort(entry, space, wanted)) return wanted
  const list = entry * SPACES + space
  for (let tries = 0; parity && tries < PARITY_TRIES && listLength[list]! > 0; tries++) {
    const port = takeInRandomBlock(entry, space, wanted & 1)
    if (port >= 0) return port
  }
  // A listed block has a usable port but for what other shards have reserved meanwhile: then it leaves the list.
  while (listLength[list]! > 0) {
    const port = takeInRandomBlock(entry, space, -1)
    if (port >= 0) return port
  }
  return -1
}

function takeInRandomBlock(entry: number, space: number, parity: number): number {
  const list = entry * SPACES + space
  const random = random32()
  const block = listed[list * externals.blocksPerSpace + ((random >>> 10) % listLength[list]!)]!
  const size = externals.blockSize
  const start = random % size
  for (let i = 0; i < size; i++) {
    const port = block * size + ((start + i) % size)
    if (parity >= 0 && (port & 1) !== parity) continue
    if (tryPort(entry, space, port)) return port
  }
  if (parity < 0) unlist(entry, space, block)
  return -1
}

function tryPort(entry: number, space: number, port: number): boolean {
  const block = Math.floor(port / externals.blockSize)
  const index = externals.blockIndex(entry, space, block)
  if (usable[index]! <= 0) return false
  const at = externals.portIndex(entry, space, port)
  const word = Atomics.load(externals.portWords, at)
  if (isTaken(word) || wasFreed(word)) return false
  const mapped = withContent(word, MAPPED)
  externals.intend(shard, at, mapped)
  fault('port about to be taken')
  if (Atomics.compareExchange(externals.portWords, at, word, mapped) !== word) return false
  fault('port taken')
  if (externals.leaseOf(entry, space, block) !== leased[index]) {
    // The coordinator froze the block between our look and our taking: it is not ours to give. Exactly this word is undone:
    // a lessee that starts again clears bits that no mapping of its own explains, and may have given the port since.
    Atomics.compareExchange(externals.portWords, at, mapped, withContent(mapped, 0))
    return false
  }
  counters[CELL.portsUsed + space]! += 1
  taken[index]! += 1
  usable[index]! -= 1
  if (usable[index] === 0) unlist(entry, space, block)
  return true
}

/**
 * Takes a port that reservations name, for the inside endpoint that they are for; they stay. False if none names it any
 * longer, a mapping has it, or its block isn't ours.
 */
export function takeReserved(entry: number, space: number, port: number): boolean {
  const at = externals.portIndex(entry, space, port)
  const index = blockOf(at)
  for (;;) {
    const word = Atomics.load(externals.portWords, at)
    if (usable[index] === -1 || isMapped(word) || (word & RESERVATIONS) === 0) return false
    const mapped = withContent(word, (word & RESERVATIONS) | MAPPED)
    externals.intend(shard, at, mapped)
    fault('port about to be taken')
    // One reservation more or less is no reason to refuse.
    if (Atomics.compareExchange(externals.portWords, at, word, mapped) !== word) continue
    fault('reserved port taken')
    if (leaseOfIndex(index) !== leased[index]) {
      // Only an address that is lost takes its blocks along.
      changeWord(at, 0)
      return false
    }
    counters[CELL.portsUsed + space]! += 1
    taken[index]! += 1
    // A mapping has ended, and the expectation that named its port has not: the rest ends here, and so it is never queued twice.
    if (wasFreed(word)) forgetQuarantine((outOfQuarantine) => outOfQuarantine === at)
    else if (--usable[index]! === 0) unlist(entry, space, index % externals.blocksPerSpace)
    return true
  }
}

/** The port (0..65535) lies in a block that some shard leases: on a shared address, it is NAT's and not the host's. */
export function isNatPort(entry: number, protocol: ProtocolNumber, port: number): boolean {
  return externals.ownerOfBlock(entry, spaceOf(protocol), Math.floor(port / externals.blockSize)) >= 0
}

/** The address is the host's too. */
export const isShared = (entry: number): boolean => externals.kindOf(entry) === SHARED

/** Before a mapping's row goes: its port, which freePort() will give back, is nobody's in between. */
export function intendToFree(entry: number, space: number, port: number): void {
  const at = externals.portIndex(entry, space, port)
  externals.intend(shard, at, externals.portWords[at]!)
  fault('port about to be freed')
}

/** Gives back a port that a mapping had. */
export function freePort(entry: number, space: number, port: number): void {
  const at = externals.portIndex(entry, space, port)
  changeWord(at, freedNow(space))
  fault('port freed')
  if (usable[blockOf(at)] === -1) return
  counters[CELL.portsUsed + space]! -= 1
  taken[blockOf(at)]! -= 1
  if (quarantineOf(space) > 0) beginQuarantine(at, now)
  else becomeUsable(at)
  fault('port counted')
}

/** Clears the mapping bit; reservations that name the port stay. */
function changeWord(at: number, freed: number): void {
  const words = externals.portWords
  for (;;) {
    const word = Atomics.load(words, at)
    if (Atomics.compareExchange(words, at, word, withContent(word, (word & RESERVATIONS) | freed)) === word) return
  }
}

const quarantineOf = (space: number): number => (space === TCP_SPACE ? 0 : REST)
/** What the word of a port of this space says that is freed now. */
const freedNow = (space: number): number => (quarantineOf(space) > 0 ? freedAt(now) : 0)

/** Ends the rest of every port whose time is over. To be called about once a second. */
export function endQuarantine(): void {
  for (let at = nextOutOfQuarantine(now - REST); at >= 0; at = nextOutOfQuarantine(now - REST)) {
    if (!clearRest(at)) continue
    fault('quarantine ended')
    becomeUsable(at)
  }
  relist()
}

/** False if the block has gone to another shard since the leases were looked at: then the port is that one's. */
function clearRest(at: number): boolean {
  const index = blockOf(at)
  if (leaseOfIndex(index) !== leased[index]) return false
  const word = Atomics.load(externals.portWords, at)
  if (isMapped(word)) return false
  // A word that has changed meanwhile is not ours any more, or a reservation names it: then it is looked at next time.
  return Atomics.compareExchange(externals.portWords, at, word, withContent(word, word & RESERVATIONS)) === word
}

/** A block whose usable ports were all named by reservations left its list; some may be free of them by now. */
function relist(): void {
  for (let index = 0; index < usable.length; index++) if (usable[index]! > 0 && place[index] === -1) listIndex(index)
}

/** Of a port index: where its block's words lie. */
const blockOf = (at: number): number => Math.floor(at / externals.blockSize)

function becomeUsable(at: number): void {
  const index = blockOf(at)
  usable[index]! += 1
  if (place[index] === -1) listIndex(index)
}

// Of a block index.
function listIndex(index: number): void {
  const which = Math.floor(index / externals.blocksPerSpace)
  list(Math.floor(which / SPACES), which % SPACES, index % externals.blocksPerSpace)
}
function leaseOfIndex(index: number): number {
  const which = Math.floor(index / externals.blocksPerSpace)
  return externals.leaseOf(Math.floor(which / SPACES), which % SPACES, index % externals.blocksPerSpace)
}

function list(entry: number, space: number, block: number): void {
  const which = entry * SPACES + space
  const last = listLength[which]!
  listed[which * externals.blocksPerSpace + last] = block
  place[externals.blockIndex(entry, space, block)] = last
  listLength[which] = last + 1
}

function unlist(entry: number, space: number, block: number): void {
  const which = entry * SPACES + space
  const index = externals.blockIndex(entry, space, block)
  const hole = place[index]!
  if (hole === -1) return
  const last = listLength[which]! - 1
  const moved = listed[which * externals.blocksPerSpace + last]!
  listed[which * externals.blocksPerSpace + hole] = moved
  place[externals.blockIndex(entry, space, moved)] = hole
  place[index] = -1
  listLength[which] = last
}

// What is counted of a block, by blockIndex(): usable ports (-1: it isn't ours), and whether it is listed.
export const usableIn = (block: number): number => usable[block]!
export const isListed = (block: number): boolean => place[block] !== -1

/**
 * On a dead shard's memory, before leases are looked at: the mapping bits of the port words as the mappings say. `mapped`
 * is 1 by port index where one of this shard's mappings has the port. How long nobody has had the others is not known:
 * they rest from now on.
 */
export function recoverPorts(mapped: Uint8Array): void {
  for (let entry = 0; entry < externals.capacity; entry++)
    for (let space = 0; space < SPACES; space++)
      for (let block = 0; block < externals.blocksPerSpace; block++) {
        if (externals.ownerOfBlock(entry, space, block) !== shard) continue
        const first = externals.portIndex(entry, space, block * externals.blockSize)
        for (let at = first; at < first + externals.blockSize; at++)
          if (mapped[at] === 0 && isMapped(externals.portWords[at]!)) changeWord(at, freedNow(space))
      }
  recoverIntent(mapped)
  fault('ports recovered')
}

/** A port in a block that isn't ours any more: freed if its word is still the one that our predecessor gave it. */
function recoverIntent(mapped: Uint8Array): void {
  const [at, word] = externals.intentOf(shard)
  if (at < 0 || mapped[at] === 1 || !isMapped(word)) return
  const content = (word & RESERVATIONS) | freedNow(spaceAt(at))
  Atomics.compareExchange(externals.portWords, at, word, withContent(word, content))
}
