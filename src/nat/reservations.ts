// External ports that expectations name before any connection has them: announced to a peer, they must be nobody
// else's. A reservation is a count in the port's word (CAS 1, port-words.ts), for the shard that leases the port's
// block, whichever shard makes it. What holds for it is in README.md.
//
// Owner: none; every change is a compare-and-swap of the whole word.

import type { Entry, PortIndex, Shard } from '../memory/brand.ts'
import { random32 } from '../memory/random.ts'
import type { PortHost } from '../wire/address.ts'
import { type Externals, portOfIndex, type Space } from './externals.ts'
import { fault } from './fault-points.ts'
import { isTaken, mayBeGiven, RESERVATION, RESERVATIONS, withContent } from './port-words.ts'
import type { PortChoice } from './settings.ts'

/** Blocks of the owner that are looked through for a free port before there is none. */
const BLOCKS_TRIED = 16
/** Of these, blocks in which only a port of the right parity will do. */
const PARITY_BLOCKS = 4

/** Whose flows a reserved port is for: the shard, and of the external address its entry and space. */
export interface PortOwner {
  readonly owner: Shard
  readonly entry: Entry
  readonly space: Space
}

/**
 * Reserves a free port of a block that the owner leases, and returns its port index; -1 if none was found. `wanted` is
 * the announced port.
 */
export function reserveFor(
  externals: Externals,
  where: PortOwner,
  wanted: PortHost,
  { preservePorts, parity }: PortChoice,
): PortIndex {
  const own = externals.portIndex(where.entry, where.space, wanted)
  if (preservePorts && reserveFree(externals, where, own)) return own
  if (parity) {
    const at = reserveInBlocks(externals, where, { blocks: PARITY_BLOCKS, step: 2, first: wanted & 1 })
    if (at >= 0) return at
  }
  return reserveInBlocks(externals, where, { blocks: BLOCKS_TRIED, step: 1, first: 0 })
}

/** What ports are looked at: in so many blocks, from `first` on each one that is a `step` away from the one before. */
interface Search {
  readonly blocks: number
  readonly step: 1 | 2
  readonly first: number
}

/** A port at random of blocks at random; with a step of 2, one of the parity of `first`. */
function reserveInBlocks(externals: Externals, where: PortOwner, { blocks, step, first }: Search): PortIndex {
  const { blockSize, blocksPerSpace } = externals
  const { owner, entry, space } = where
  const firstBlock = random32() % blocksPerSpace
  for (let i = 0, tried = 0; i < blocksPerSpace && tried < blocks; i++) {
    const block = (firstBlock + i) % blocksPerSpace
    if (externals.ownerOfBlock(entry, space, block) !== owner) continue
    tried++
    const start = (random32() % blockSize) & -step
    for (let offset = first; offset < blockSize; offset += step) {
      const at = externals.portIndex(entry, space, block * blockSize + ((start + offset) % blockSize))
      if (reserveFree(externals, where, at)) return at
    }
  }
  return -1
}

/** The port may be given: its word says so, and its block is the owner's. */
function reserveFree(externals: Externals, { owner, entry, space }: PortOwner, at: PortIndex): boolean {
  const block = Math.floor(portOfIndex(at) / externals.blockSize)
  if (externals.ownerOfBlock(entry, space, block) !== owner) return false
  const words = externals.portWords
  const word = Atomics.load(words, at)
  if (!mayBeGiven(word)) return false
  if (Atomics.compareExchange(words, at, word, withContent(word, RESERVATION)) !== word) return false
  fault('port reserved')
  // The coordinator may have taken the block back between our look and our change.
  if (externals.ownerOfBlock(entry, space, block) === owner) return true
  unreserveAt(externals, at)
  return false
}

/**
 * Names a port once more that a mapping has, or an expectation's reservation names: it is the same inside endpoint's.
 * `isStill` is asked afterwards whether what had it then still has it, or the port might be somebody else's by now.
 * False if not, or if it is named fifteen times.
 */
export function reserveTaken(externals: Externals, at: PortIndex, isStill: () => boolean): boolean {
  if (!addReservation(externals.portWords, at)) return false
  fault('port reserved')
  if (isStill()) return true
  unreserveAt(externals, at)
  return false
}

/** Again if another shard has changed the word meanwhile: that it named the port, too, is no reason to refuse. */
function addReservation(words: Int32Array, at: PortIndex): boolean {
  for (;;) {
    const word = Atomics.load(words, at)
    if (!isTaken(word) || (word & RESERVATIONS) === RESERVATIONS) return false
    if (Atomics.compareExchange(words, at, word, withContent(word, word + RESERVATION)) === word) return true
  }
}

/** Takes one reservation back. */
export function unreserveAt(externals: Externals, at: PortIndex): void {
  const words = externals.portWords
  for (;;) {
    const word = Atomics.load(words, at)
    // None is left: it was taken back before, and the port may be somebody else's.
    if ((word & RESERVATIONS) === 0) return
    if (Atomics.compareExchange(words, at, word, withContent(word, word - RESERVATION)) === word) return
  }
}
