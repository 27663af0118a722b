// The port blocks that this shard leases: which of them have a usable port (block-list.ts). Asking for one more when
// few are left is in block-requests.shard.ts.
//
// There may be millions of blocks, so none is looked at before it is needed:
//
//   what                          is done when
//   an address's list is made     a port of the address is wanted
//   the words of a block's ports  the block is drawn, or a port of it is wanted by its number
//   are read
//   a changed lease is followed   the coordinator's log names it (lease-log.ts), once a turn; if the log has gone over,
//                                 all leases of an address, when a port of it is wanted or a few in each turn
//   what a dead predecessor had   a bounded number in each turn: their blocks are marked in shared memory
//   read is read again
//
//   usable ports   neither taken nor in quarantine. Those that other shards have reserved and those on which the host
//                  has a socket count too: they are met when they are tried
// A block of whose usable ports none can be given for that reason leaves its list until relist().
//
// Owner: this thread. All of it is derived from the port words and the ownership words, and made anew with each lease.

import type { HostRow } from '../conntrack/host-table.ts'
import { CELL } from '../counters/counters.ts'
import { counters } from '../counters/own-counters.shard.ts'
import type { Entry, PortIndex, Seconds, Shard } from '../memory/brand.ts'
import { now } from '../memory/clock.ts'
import { BlockList } from './block-list.ts'
import { type Block, type BlockIndex, type Externals, SPACES, type Space, spaceAt, TCP_SPACE } from './externals.ts'
import { fault } from './fault-points.ts'
import { addressChanged, isOfAddress, LOST_CHANGE } from './lease-log.ts'
import { freedAt, isInQuarantine, isMapped, setFreed, wasFreed } from './port-words.ts'
import { attachQuarantine, beginQuarantine, NOBODYS } from './quarantine.shard.ts'

/** How long a port freed by UDP or ICMP is in quarantine (RFC 6888 REQ-8). TCP has its closing states for that. */
export const QUARANTINE: Seconds = 120
/** Words that are looked at in a turn, to read again what a predecessor had read: about a tenth of a millisecond. */
const LOOKS_A_TURN = 32_768
/** Stale lists that are looked at in a turn, before they are needed: their gauges follow so. */
const LISTS_A_TURN = 16

let externals: Externals
let shard: Shard = 0
/** By entry * SPACES + space; those that were needed. */
let lists: (BlockList | undefined)[] = []
/** Numbers of the lists that there are, and of those that are stale. */
let made: number[] = []
let stale: number[] = []
/** Blocks that have left their lists until relist(). */
let dropped: BlockIndex[] = []
/** Blocks that a list is made of, while it is. */
let looked = new Int16Array(0)
/** The number of the change of leases that is looked at next. */
let nextChange = 0
let hasLooked = false
/** The word of marks that is looked at next, to read again what a predecessor had read; -1 if that is done. */
let nextMarks = -1
/** Ports that mappings have, as a predecessor left them; any other mapping bit in a block of ours is nobody's. */
let mappedBefore: ReadonlySet<PortIndex> | undefined

export function attachBlocks(shared: Externals, shardNumber: Shard): void {
  externals = shared
  shard = shardNumber
  lists = new Array<BlockList | undefined>(shared.capacity * SPACES).fill(undefined)
  made = []
  stale = []
  dropped = []
  looked = new Int16Array(shared.blocksPerSpace)
  nextChange = shared.version()
  hasLooked = false
  nextMarks = -1
  mappedBefore = undefined
  attachQuarantine()
  for (let space = 0; space < SPACES; space++) {
    counters[CELL.portsUsed + space] = 0
    counters[CELL.portsResting + space] = 0
    counters[CELL.portsLeased + space] = 0
  }
}

// --- leases ---

/** Looks at what has changed of the leases since; true if anything had. To be called once a turn. */
export function followLeases(): boolean {
  if (nextMarks >= 0) readAgain()
  const version = externals.version()
  const hasChanged = !hasLooked || nextChange !== version
  hasLooked = true
  while (nextChange !== version) {
    const change = externals.log.at(nextChange)
    if (change === LOST_CHANGE) {
      for (const list of made) becomeStale(list)
      nextChange = version
    } else {
      nextChange = (nextChange + 1) | 0
      if (isOfAddress(change)) followAddress(addressChanged(change))
      else followBlock(change)
    }
  }
  for (let i = 0; i < LISTS_A_TURN && stale.length > 0; i++) upToDate(stale.pop()!)
  if (hasChanged)
    for (let space = 0; space < SPACES; space++)
      counters[CELL.portsLeased + space] = externals.leasedBlocks(shard, space) * externals.blockSize
  return hasChanged
}

function followAddress(entry: Entry): void {
  for (let space = 0; space < SPACES; space++) if (lists[entry * SPACES + space]) becomeStale(entry * SPACES + space)
}

function becomeStale(list: number): void {
  if (lists[list]!.isStale) return
  lists[list]!.isStale = true
  stale.push(list)
}

function followBlock(index: BlockIndex): void {
  const of = lists[listOf(index)]
  if (of) followLease(of, listOf(index), index % externals.blocksPerSpace)
}

/** A block that has been away and is back is lost, and added for another lease. */
function followLease(of: BlockList, list: number, block: Block): void {
  of.mayAskAgain()
  if (of.isRead(block) ? !isSameLease(of, list, block) : of.has(block) && !isLessee(list, block)) lose(of, list, block)
  if (of.has(block)) {
    // While the coordinator held it frozen it had nothing to give, and left its list.
    if (of.usableIn(block) > 0) of.list(block)
  } else if (isLessee(list, block)) of.add(block)
}

/** Of an address's space, made or brought up to date if need be. */
function upToDate(list: number): BlockList {
  const of = lists[list]
  if (of && !of.isStale) return of
  if (!of) {
    lists[list] = new BlockList(externals.blocksPerSpace, externals.blockSize)
    made.push(list)
  }
  bringUpToDate(list)
  return lists[list]!
}

function bringUpToDate(list: number): void {
  const of = lists[list]!
  of.isStale = false
  let count = 0
  for (let block = 0; block < externals.blocksPerSpace; block++)
    if (of.has(block) || isLessee(list, block)) looked[count++] = block
  of.makeRoom(count)
  for (let i = 0; i < count; i++) followLease(of, list, looked[i]!)
}

const isLessee = (list: number, block: Block): boolean =>
  externals.ownerOfBlock(entryOfList(list), spaceOfList(list), block) === shard
const isSameLease = (of: BlockList, list: number, block: Block): boolean =>
  externals.leaseOf(entryOfList(list), spaceOfList(list), block) === of.leaseOf(block)

function lose(of: BlockList, list: number, block: Block): void {
  counters[CELL.portsResting + spaceOfList(list)]! -= of.quarantinedIn(block)
  of.remove(block)
  fault('block lost')
}

// --- reading the words of a block's ports ---

/** The block is leased by this shard, and its ports' words are read; false if it isn't. */
export function isOurs(index: BlockIndex): boolean {
  const list = listOf(index)
  const of = upToDate(list)
  const block = index % externals.blocksPerSpace
  return of.isRead(block) || (of.has(block) && read(of, list, block))
}

/** True of a block that isOurs() was true of, until its lease ends, by the leases as they were looked at last. */
export function isRead(index: BlockIndex): boolean {
  const of = lists[listOf(index)]
  return of?.isRead(index % externals.blocksPerSpace) ?? false
}

/** False if the block has gone meanwhile, or is frozen: if it stays ours, it is added as its lease is followed. */
function read(of: BlockList, list: number, block: Block): boolean {
  const space = spaceOfList(list)
  // Before the owner is asked: if the block is frozen in between, this lease is not the one in force.
  const lease = externals.leaseOf(entryOfList(list), space, block)
  const isInForce = (): boolean => externals.leaseOf(entryOfList(list), space, block) === lease
  const isReadable = isLessee(list, block) && isInForce()
  if (isReadable) externals.mark(list * externals.blocksPerSpace + block)
  let usable = 0
  let quarantined = 0
  const first = externals.portIndex(entryOfList(list), space, block * externals.blockSize)
  const end = isReadable ? first + externals.blockSize : first
  for (let at = first; at < end; at++) {
    const word = Atomics.load(externals.portWords, at)
    if (isMapped(word) && isOtherShards(at)) {
      usable++
      continue
    }
    if (isMapped(word) && isExplained(at)) continue
    // Word and queue must agree on the second: the queue is in order, so the quarantine begins anew.
    const rests = isMapped(word) ? quarantineOf(space) > 0 : isInQuarantine(word, now, quarantineOf(space))
    if (isMapped(word) || rests || wasFreed(word)) {
      // The block may have gone already, and its next lessee may have queued or given the port: only this very word is
      // changed, and that lessee changes it too.
      if (!isInForce()) {
        of.remove(block)
        return false
      }
      if (!setFreed(externals.portWords, at, word, rests ? freedAt(now) : 0)) {
        at--
        continue
      }
    }
    if (rests) {
      beginQuarantine(at, now, NOBODYS)
      quarantined++
    } else usable++
  }
  if (!isReadable) of.remove(block)
  if (!isReadable) return false
  of.setRead(block, lease, usable, quarantined)
  counters[CELL.portsResting + space]! += quarantined
  fault('block gained')
  return true
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

/** A mapping of ours has the port, as far as there may be others. */
const isExplained = (at: PortIndex): boolean => mappedBefore?.has(at) ?? true

/** On a dead shard's memory: what it had read is read again, with these ports that mappings have. */
export function recoverBlocks(mapped: ReadonlySet<PortIndex>): void {
  for (const at of mapped) counters[CELL.portsUsed + spaceAt(at)]! += 1
  mappedBefore = mapped
  nextMarks = 0
}

function readAgain(): void {
  for (let looks = 0; looks < LOOKS_A_TURN && nextMarks < externals.markWords; nextMarks++, looks++) {
    const first = nextMarks * 32
    for (let marks = externals.marksIn(nextMarks); marks !== 0; marks &= marks - 1) {
      const index = first + 31 - Math.clz32(marks & -marks)
      if (lists[listOf(index)] === undefined) looks += externals.blocksPerSpace
      if (isOurs(index)) looks += externals.blockSize
    }
  }
  if (nextMarks < externals.markWords) return
  nextMarks = -1
  mappedBefore = undefined
}

export const quarantineOf = (space: Space): Seconds => (space === TCP_SPACE ? 0 : QUARANTINE)

// --- a block's ports ---

/** Of a port index: where its block's words lie. */
export const blockOf = (at: PortIndex): BlockIndex => Math.floor(at / externals.blockSize)

/** True if the lease that a block was read under is the one in force: the block has not gone meanwhile. */
export function isLeaseInForce(index: BlockIndex): boolean {
  const list = listOf(index)
  return isSameLease(lists[list]!, list, index % externals.blocksPerSpace)
}

/** Usable ports of a block that is read. */
export const usableIn = (index: BlockIndex): number => listWith(index).usableIn(index % externals.blocksPerSpace)

/** A usable port of a block that is read is a mapping's of ours from now on, or one in quarantine is. */
export function becomeTaken(index: BlockIndex, wasInQuarantine: boolean): void {
  const space = spaceOfList(listOf(index))
  counters[CELL.portsUsed + space]! += 1
  if (wasInQuarantine) counters[CELL.portsResting + space]! -= 1
  const block = index % externals.blocksPerSpace
  listWith(index).change(block, wasInQuarantine ? 0 : -1, wasInQuarantine ? -1 : 0)
}

/**
 * A mapping of ours has a port no longer, whosever its block is: it is usable, or in quarantine and counts for a host,
 * from now on.
 */
export function becomeFreed(at: PortIndex, host: HostRow): void {
  const space = spaceAt(at)
  const index = blockOf(at)
  counters[CELL.portsUsed + space]! -= 1
  // If the block is ours and not read, its words will be found as they are now.
  if (!isRead(index)) return
  const rests = quarantineOf(space) > 0
  listWith(index).change(index % externals.blocksPerSpace, rests ? 0 : 1, rests ? 1 : 0)
  if (!rests) return
  counters[CELL.portsResting + space]! += 1
  beginQuarantine(at, now, host)
}

/** The quarantine of a port is over, in a block that is read. */
export function becomeUsable(index: BlockIndex): void {
  counters[CELL.portsResting + spaceOfList(listOf(index))]! -= 1
  listWith(index).change(index % externals.blocksPerSpace, 1, -1)
}

// --- lists ---

/** Of a block: the list it may be in, entry * SPACES + space. */
const listOf = (index: BlockIndex): number => Math.floor(index / externals.blocksPerSpace)
const entryOfList = (list: number): Entry => Math.floor(list / SPACES)
const spaceOfList = (list: number): Space => list % SPACES

/** The list that a block that is read is in. */
const listWith = (index: BlockIndex): BlockList => lists[listOf(index)]!

/** The blocks of an entry's space. */
export const listFor = (entry: Entry, space: Space): BlockList => upToDate(entry * SPACES + space)

/** How many blocks of an entry's space are listed. */
export const listedCount = (entry: Entry, space: Space): number => listFor(entry, space).listed

/** A listed block of an entry's space, by a random number: it has a usable port. -1 if none is left. */
export function drawBlock(entry: Entry, space: Space, random: number): Block {
  const list = entry * SPACES + space
  const of = upToDate(list)
  while (of.listed > 0) {
    const block = of.at(random % of.listed)
    if (of.isRead(block) || (read(of, list, block) && of.isListed(block))) return block
  }
  return -1
}

/** True of a listed block, whether it is read or not. */
export const isListed = (index: BlockIndex): boolean =>
  upToDate(listOf(index)).isListed(index % externals.blocksPerSpace)

/** Of a block's usable ports none can be given: it leaves its list for a while. */
export function drop(index: BlockIndex): void {
  listWith(index).unlist(index % externals.blocksPerSpace)
  dropped.push(index)
}

/** Blocks whose usable ports were all reserved or the host's left their lists; some may be free by now. */
export function relist(): void {
  for (const index of dropped) {
    const of = lists[listOf(index)]!
    const block = index % externals.blocksPerSpace
    if (of.has(block) && of.usableIn(block) > 0) of.list(block)
  }
  dropped = []
}
