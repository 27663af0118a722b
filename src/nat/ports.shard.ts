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
import type { Entry, PortIndex, Seconds, Shard } from '../memory/brand.ts'
import { now } from '../memory/clock.ts'
import { random32 } from '../memory/random.ts'
import type { PortHost, ProtocolNumber } from '../wire/address.ts'
import { askIfShort, attachRequests } from './block-requests.shard.ts'
import {
  attachBlocks,
  becomeFreed,
  becomeTaken,
  becomeUsable,
  blockOf,
  drawBlock,
  drop,
  isLeaseInForce,
  isOurs,
  isRead,
  listedCount,
  QUARANTINE,
  quarantineOf,
  recoverBlocks,
  relist,
  usableIn,
} from './blocks.shard.ts'
import { type Externals, SHARED, type Space, spaceAt, spaceOf } from './externals.ts'
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
import { forgetOldest, isOldestDue, NOBODYS, oldestFreed, oldestPort, prepareQuarantine } from './quarantine.shard.ts'
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
  attachBlocks(shared, shardNumber)
  attachRequests(shared, shardNumber, shards, callOut)
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
  if (block < 0) return -1
  const size = externals.blockSize
  const start = random % size
  for (let i = 0; i < size; i++) {
    const port = block * size + ((start + i) % size)
    if (parity !== ANY && (port & 1) !== parity) continue
    if (tryPort(externals.portIndex(entry, space, port))) return port
  }
  if (parity === ANY) drop(externals.blockIndex(entry, space, block))
  return -1
}

function tryPort(at: PortIndex): boolean {
  const block = blockOf(at)
  if (!isOurs(block) || usableIn(block) === 0) return false
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
  becomeTaken(block, false)
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
    if (!isOurs(block) || isMapped(word) || (word & RESERVATIONS) === 0) return false
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
    // A mapping may have ended, and the expectation that named its port has not: then the quarantine ends here.
    becomeTaken(block, wasFreed(word))
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
  becomeFreed(at, host)
  fault('port counted')
}

/** What the word of a port of this space is to say when the port is freed now. */
const freedNow = (space: Space): number => (quarantineOf(space) > 0 ? freedAt(now) : 0)

/** Ends the quarantine of ports whose time is over, `most` of them at most. False if there are more. */
export function endQuarantine(most = Number.POSITIVE_INFINITY): boolean {
  for (let looks = 0; looks < most && isOldestDue(now - QUARANTINE); looks++) {
    const [at, second] = [oldestPort(), oldestFreed()]
    forgetOldest()
    if (!clearFreed(at, second)) continue
    fault('quarantine ended')
    becomeUsable(blockOf(at))
  }
  prepareQuarantine()
  relist()
  return !isOldestDue(now - QUARANTINE)
}

/** False if the port has been given since, or its block has gone, whether it is back or not. */
function clearFreed(at: PortIndex, second: Seconds): boolean {
  for (;;) {
    // The word is read first: if the block goes after the look at its lease, its new lessee changes the word of each
    // port that is in quarantine, and this change fails.
    const word = Atomics.load(externals.portWords, at)
    if (isMapped(word) || freedIn(word) !== freedAt(second)) return false
    if (!isRead(blockOf(at)) || !isLeaseInForce(blockOf(at))) return false
    // Else a reservation names the port since, or no longer.
    if (setFreed(externals.portWords, at, word, 0)) return true
  }
}

// --- starting again ---

/**
 * On a dead shard's memory, before leases are looked at: the mapping bits of the port words as the mappings say, which
 * have these ports. Any other that a mapping seems to have is freed, as its block is read again (blocks.shard.ts); how
 * long nobody has had it is not known: its quarantine begins then.
 */
export function recoverPorts(mapped: ReadonlySet<PortIndex>): void {
  recoverBlocks(mapped)
  recoverIntent(mapped)
  fault('ports recovered')
}

/** A port in a block that isn't ours any more: freed if its word is still the one that our predecessor gave it. */
function recoverIntent(mapped: ReadonlySet<PortIndex>): void {
  const [at, word] = externals.intentOf(shard)
  if (at < 0 || mapped.has(at) || !isMapped(word)) return
  setFreed(externals.portWords, at, word, freedNow(spaceAt(at)))
}
