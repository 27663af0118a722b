// External ports that expectations name before any connection has them: announced to a peer, they must be nobody else's.
// A reservation is a count in the port's word (CAS 1, externals.ts), for the shard that leases the port's block, whoever
// makes it. What holds for it is in README.md.
//
// Owner: none; every change is a compare-and-swap of the whole word.

import { random32 } from '../memory/random.ts'
import { type Externals, isTaken, RESERVATION, RESERVATIONS, wasFreed, withContent } from './externals.ts'
import { fault } from './fault-points.ts'

/** Blocks of the owner that are looked through for a free port before there is none. */
const BLOCKS_TRIED = 16
/** Of these, blocks in which only a port of the right parity will do. */
const PARITY_BLOCKS = 4

/**
 * Reserves a free port of a block that `owner` leases, and returns its port index; -1 if none was found. `wanted` is the
 * announced port (0..65535): its own number is tried first if `preserve`, its parity is kept if `parity` and while it can
 * be.
 */
export function reserveFor(
  externals: Externals,
  owner: number,
  entry: number,
  space: number,
  wanted: number,
  preserve: boolean,
  parity: boolean,
): number {
  if (preserve && reserveFree(externals, owner, entry, space, wanted)) return externals.portIndex(entry, space, wanted)
  if (parity) {
    const at = reserveInBlocks(externals, owner, entry, space, PARITY_BLOCKS, 2, wanted & 1)
    if (at >= 0) return at
  }
  return reserveInBlocks(externals, owner, entry, space, BLOCKS_TRIED, 1, 0)
}

/** A port at random of so many blocks at random: with a step of 2, only of one parity. */
function reserveInBlocks(
  externals: Externals,
  owner: number,
  entry: number,
  space: number,
  blocks: number,
  step: number,
  parity: number,
): number {
  const { blockSize, blocksPerSpace } = externals
  const first = random32() % blocksPerSpace
  for (let i = 0, tried = 0; i < blocksPerSpace && tried < blocks; i++) {
    const block = (first + i) % blocksPerSpace
    if (externals.ownerOfBlock(entry, space, block) !== owner) continue
    tried++
    const start = (random32() % blockSize) & -step
    for (let offset = parity; offset < blockSize; offset += step) {
      const port = block * blockSize + ((start + offset) % blockSize)
      if (reserveFree(externals, owner, entry, space, port)) return externals.portIndex(entry, space, port)
    }
  }
  return -1
}

/** Nobody has the port, no reservation names it, and it doesn't rest. */
function reserveFree(externals: Externals, owner: number, entry: number, space: number, port: number): boolean {
  const block = Math.floor(port / externals.blockSize)
  if (externals.ownerOfBlock(entry, space, block) !== owner) return false
  const at = externals.portIndex(entry, space, port)
  const words = externals.portWords
  const word = Atomics.load(words, at)
  if (isTaken(word) || wasFreed(word)) return false
  if (Atomics.compareExchange(words, at, word, withContent(word, RESERVATION)) !== word) return false
  fault('port reserved')
  // The coordinator may have taken the block back between our look and our change.
  if (externals.ownerOfBlock(entry, space, block) === owner) return true
  unreserveAt(externals, at)
  return false
}

/**
 * Names a port once more that a mapping has, or an expectation's reservation names: it is the same inside endpoint's.
 * `isStill` is asked afterwards whether what had it then still has it, or the port might be somebody else's by now. False
 * if not, or if it is named fifteen times.
 */
export function reserveTaken(externals: Externals, at: number, isStill: () => boolean): boolean {
  if (!addReservation(externals.portWords, at)) return false
  fault('port reserved')
  if (isStill()) return true
  unreserveAt(externals, at)
  return false
}

/** Again if another shard has changed the word meanwhile: that it named the port, too, is no reason to refuse. */
function addReservation(words: Int32Array, at: number): boolean {
  for (;;) {
    const word = Atomics.load(words, at)
    if (!isTaken(word) || (word & RESERVATIONS) === RESERVATIONS) return false
    if (Atomics.compareExchange(words, at, word, withContent(word, word + RESERVATION)) === word) return true
  }
}

/** Takes one reservation back. */
export function unreserveAt(externals: Externals, at: number): void {
  const words = externals.portWords
  for (;;) {
    const word = Atomics.load(words, at)
    // None is left: whoever asks has been here before, and the port may be somebody else's.
    if ((word & RESERVATIONS) === 0) return
    if (Atomics.compareExchange(words, at, word, withContent(word, word - RESERVATION)) === word) return
  }
}

/** How many reservations name a port, by its word; what so many are of a word. */
export const reservationsIn = (word: number): number => (word & RESERVATIONS) / RESERVATION
export const ofReservations = (count: number): number => count * RESERVATION
