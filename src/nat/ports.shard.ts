// Taking and freeing external ports. A port is given to one inside endpoint at a time (no overloading: RFC 4787 REQ-3,
// RFC 5382 REQ-7), chosen at random in a random block (RFC 6056, RFC 6888 REQ-15), and is in quarantine before it is
// given again (RFC 6888 REQ-8).
//
//   usable          neither taken nor in quarantine; counted and listed by block (blocks.shard.ts)
//   taken           its word says so: a mapping or a reservation has it
//   in quarantine   freed: its word says since when, and it is in the queue (quarantine.shard.ts) until its time is up
//
// The port words are the truth (port-words.ts); what is counted here is derived from them. A usable port may be another
// shard's by a reservation, or the host may have a socket on it: then the next port is tried. All of it is O(1) in the
// number of ports, also when none is left. Owner: the shard; port words by compare-and-swap.

import type { HostRow } from '../conntrack/host-table.ts'
import type { Entry, PortIndex, Shard } from '../memory/brand.ts'
import { now } from '../memory/clock.ts'
import { random32 } from '../memory/random.ts'
import type { PortHost, ProtocolNumber } from '../wire/address.ts'
import {
  askIfShort,
  attachBlocks,
  becomeUnusable,
  becomeUsable,
  blockOf,
  countFreed,
  countTaken,
  drawBlock,
  isLeased,
  isLeaseInForce,
  listedCount,
  QUARANTINE,
  quarantineOf,
  relist,
  unlist,
  usableIn,
} from './blocks.shard.ts'
import { type Externals, SHARED, SPACES, type Space, spaceAt, spaceOf } from './externals.ts'
import { fault } from './fault-points.ts'
import {
  freedAt,
  freedIn,
  isHostBound,
  isMapped,
  isTaken,
  MAPPED,
  mayBeGiven,
  RESERVATIONS,
  replaceContent,
  setFreed,
  unmap,
  wasFreed,
  withContent,
} from './port-words.ts'
import { beginQuarantine, forgetQuarantine, NOBODYS, nextOutOfQuarantine } from './quarantine.shard.ts'
import type { PortChoice } from './settings.ts'

/** Blocks tried for a port of the right parity before any port will do. */
const PARITY_TRIES = 4
/** In place of a parity: a port of either parity will do. */
const ANY = -1

let externals: Externals
let shard: Shard = 0

/** `callOut` makes the coordinator look for requests. */
export function attachPorts(shared: Externals, shardNumber: Shard, shards = 1, callOut: () => void = () => {}): void {
  externals = shared
  shard = shardNumber
  attachBlocks(shared, shardNumber, shards, callOut)
}

// --- taking ---

/** Takes a port for a mapping on an external address; -1 if none is left. `wanted` is the inside port. */
export function takePort(entry: Entry, space: Space, wanted: PortHost, choice: PortChoice): PortHost {
  const port = takeAny(entry, space, wanted, choice)
  askIfShort(entry, space)
  return port
}

function takeAny(entry: Entry, space: Space, wanted: PortHost, { preservePorts, parity }: PortChoice): PortHost {
  if (preservePorts && tryPort(externals.portIndex(entry, space, wanted))) return wanted
  for (let tries = 0; parity && tries < PARITY_TRIES && listedCount(entry, space) > 0; tries++) {
    const port = takeInRandomBlock(entry, space, wanted & 1)
    if (port >= 0) return port
  }
  // A listed block has a usable port but for what other shards have reserved meanwhile and what is bound by the host:
  // then it leaves the list.
  while (listedCount(entry, space) > 0) {
    const port = takeInRandomBlock(entry, space, ANY)
    if (port >= 0) return port
  }
  return -1
}

function takeInRandomBlock(entry: Entry, space: Space, parity: number): PortHost {
  const random = random32()
  const block = drawBlock(entry, space, random >>> 10)
  const size = externals.blockSize
  const start = random % size
  for (let i = 0; i < size; i++) {
    const port = block * size + ((start + i) % size)
    if (parity !== ANY && (port & 1) !== parity) continue
    if (tryPort(externals.portIndex(entry, space, port))) return port
  }
  if (parity === ANY) unlist(externals.blockIndex(entry, space, block))
  return -1
}

function tryPort(at: PortIndex): boolean {
  const block = blockOf(at)
  if (usableIn(block) <= 0) return false
  const word = Atomics.load(externals.portWords, at)
  if (!mayBeGiven(word)) return false
  const mapped = withContent(word, MAPPED)
  externals.intend(shard, at, mapped)
  fault('port about to be taken')
  if (Atomics.compareExchange(externals.portWords, at, word, mapped) !== word) {
    externals.intendNothing(shard)
    return false
  }
  fault('port taken')
  if (!isLeaseInForce(block)) {
    // The coordinator froze the block between our look and our taking: it is not ours to give. Exactly this word is
    // undone: a lessee that starts again clears bits that no mapping of its own explains, and may have given the port
    // since.
    replaceContent(externals.portWords, at, mapped, 0)
    return false
  }
  countTaken(block)
  becomeUnusable(block)
  return true
}

/**
 * Takes a port that reservations name, for the inside endpoint that they are for; they stay. False if none names it any
 * longer, a mapping has it, or its block isn't ours.
 */
export function takeReserved(at: PortIndex): boolean {
  const block = blockOf(at)
  for (;;) {
    const word = Atomics.load(externals.portWords, at)
    if (!isLeased(block) || isMapped(word) || (word & RESERVATIONS) === 0) return false
    // A block with a reserved port doesn't move: if it is ours now, it is ours until the word changes. A block that has
    // gone before, and was not looked at since, is not touched at all.
    if (!isLeaseInForce(block)) return false
    const mapped = withContent(word, (word & RESERVATIONS) | MAPPED)
    externals.intend(shard, at, mapped)
    fault('port about to be taken')
    if (Atomics.compareExchange(externals.portWords, at, word, mapped) !== word) {
      // One reservation more or less is no reason to refuse.
      externals.intendNothing(shard)
      continue
    }
    fault('reserved port taken')
    if (!isLeaseInForce(block)) {
      // The coordinator is looking whether the block is free, or the address is lost. If the port was in quarantine it
      // is still in its lessee's queue: its word must go on saying so.
      unmap(externals.portWords, at, freedIn(word))
      return false
    }
    countTaken(block)
    // A mapping has ended, and the expectation that named its port has not: the quarantine ends here, so that the port
    // is never queued twice.
    if (wasFreed(word)) forgetQuarantine((queued) => queued === at)
    else becomeUnusable(block)
    return true
  }
}

/**
 * The port is NAT's. An address of the pool is NAT's alone, so every port of it is that some shard leases. On a shared
 * address any other port may be a socket's of the host: NAT's are those that a mapping has or an expectation names.
 */
export function isNatPort(entry: Entry, protocol: ProtocolNumber, port: PortHost): boolean {
  const space = spaceOf(protocol)
  if (isShared(entry)) return isTaken(Atomics.load(externals.portWords, externals.portIndex(entry, space, port)))
  return externals.ownerOfBlock(entry, space, Math.floor(port / externals.blockSize)) >= 0
}

/** The port of a shared address is one that a shard may give out: nobody has it, nor has the host a socket there. */
export function isSpare(entry: Entry, protocol: ProtocolNumber, port: PortHost): boolean {
  const space = spaceOf(protocol)
  if (externals.ownerOfBlock(entry, space, Math.floor(port / externals.blockSize)) < 0) return false
  const word = Atomics.load(externals.portWords, externals.portIndex(entry, space, port))
  return !isTaken(word) && !isHostBound(word)
}

/** True if the address is the host's too. */
export const isShared = (entry: Entry): boolean => externals.kindOf(entry) === SHARED

// --- freeing ---

/** Before a mapping's row goes: its port, which freePort() will give back, is nobody's in between. */
export function intendToFree(at: PortIndex): void {
  externals.intend(shard, at, externals.portWords[at]!)
  fault('port about to be freed')
}

/** Gives back a port that a mapping had; while it is in quarantine it counts in a row of the host table. */
export function freePort(at: PortIndex, host: HostRow = NOBODYS): void {
  const space = spaceAt(at)
  unmap(externals.portWords, at, freedNow(space))
  fault('port freed')
  const block = blockOf(at)
  if (!isLeased(block)) return
  countFreed(block)
  if (quarantineOf(space) > 0) beginQuarantine(at, now, host)
  else becomeUsable(block)
  fault('port counted')
}

/** What the word of a port of this space is to say when the port is freed now. */
const freedNow = (space: Space): number => (quarantineOf(space) > 0 ? freedAt(now) : 0)

/** Ends the quarantine of every port whose time is over. To be called about once a second. */
export function endQuarantine(): void {
  for (let at = nextOutOfQuarantine(now - QUARANTINE); at >= 0; at = nextOutOfQuarantine(now - QUARANTINE)) {
    if (!clearFreed(at)) continue
    fault('quarantine ended')
    becomeUsable(blockOf(at))
  }
  relist()
}

/** False if the block has gone to another shard since the leases were looked at: then the port is that one's. */
function clearFreed(at: PortIndex): boolean {
  // The word is read first: if the block goes after the look at its lease, its new lessee changes the word of each port
  // that is in quarantine, and this change fails.
  const word = Atomics.load(externals.portWords, at)
  if (isMapped(word) || !isLeaseInForce(blockOf(at))) return false
  // A word that has changed meanwhile is not ours any more, or a reservation names it: then it is looked at next time.
  return setFreed(externals.portWords, at, word, 0)
}

// --- starting again ---

/**
 * On a dead shard's memory, before leases are looked at: the mapping bits of the port words as the mappings say.
 * `mapped` is 1 by port index where one of this shard's mappings has the port. How long nobody has had the others is
 * not known: their quarantine begins now.
 */
export function recoverPorts(mapped: Uint8Array): void {
  for (let entry = 0; entry < externals.capacity; entry++)
    for (let space = 0; space < SPACES; space++)
      for (let block = 0; block < externals.blocksPerSpace; block++) {
        if (externals.ownerOfBlock(entry, space, block) !== shard) continue
        const first = externals.portIndex(entry, space, block * externals.blockSize)
        for (let at = first; at < first + externals.blockSize; at++)
          if (mapped[at] === 0 && isMapped(externals.portWords[at]!)) unmap(externals.portWords, at, freedNow(space))
      }
  recoverIntent(mapped)
  fault('ports recovered')
}

/** A port in a block that isn't ours any more: freed if its word is still the one that our predecessor gave it. */
function recoverIntent(mapped: Uint8Array): void {
  const [at, word] = externals.intentOf(shard)
  if (at < 0 || mapped[at] === 1 || !isMapped(word)) return
  setFreed(externals.portWords, at, word, freedNow(spaceAt(at)))
}
