// Which fragments belong to which datagram: a record by (source, destination, protocol, identification, side), so that
// later fragments, which show no ports, follow the first one (RFC 4787 REQ-14: in whatever order they come). Authority
// for what is too much: net/ipv4/inet_fragment.c.
//
//   record    made by                          its fragments                ends
//   waiting   a later fragment without one     wait, copied out             when the first comes
//   passed    a first fragment that went on    follow it                    when the datagram is complete
//   ended     an overlap                       are dropped                  -
// Every record ends `timeouts.fragment` after it began or its first came, and sooner to make room: the oldest goes
// first. What waits with it is dropped. No record is kept of what is the kernel's or was dropped (fragment-fates.ts).
//
// An inside host has as many records as its limit says, in all shards (conntrack/hosts.shard.ts), a source outside,
// with the few others whose hash is the same, an eighth of a shard's; either has an eighth of the room for what waits.
// Beyond that it makes room itself. So a flood from one leaves the others' datagrams alone.
//
// Owner: the shard that owns a datagram's fragments by rule 6 of the ownership rule (ownership/ownership-rule.ts). The
// records are its private memory: they may be lost with its thread.

import { HOST } from '../../conntrack/host-table.ts'
import { countIn, mayHave, rowFor } from '../../conntrack/hosts.shard.ts'
import { INSIDE, sideIn, type Verdict } from '../../conntrack/terms.ts'
import type { Timeouts } from '../../conntrack/timeouts.ts'
import { CELL } from '../../counters/counters.ts'
import { DROP } from '../../counters/drop-reasons.ts'
import { HOST_LIMIT } from '../../counters/host-limits.ts'
import { counters } from '../../counters/own-counters.shard.ts'
import type { Row, Shard } from '../../memory/brand.ts'
import { now } from '../../memory/clock.ts'
import { HashIndex } from '../../memory/hash-index.ts'
import { layout } from '../../memory/layout.ts'
import { bytesOf, Region, sharedMemory } from '../../memory/region.ts'
import { hash4 } from '../../memory/siphash.ts'
import type { Addr, Ports } from '../../wire/address.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import { type At, DST, IP, KEY, LENGTH, port, SRC } from './burst.ts'
import { countKept } from './counting.ts'
import { addPiece, attachFragmentCoverage, clearCoverage } from './fragment-coverage.ts'
import { attachFragmentFates, type Fate, fateOf, noteFate } from './fragment-fates.ts'
import { OUTSIDERS, PAGES_OF_SOURCE, FRAGMENT_RECORDS as RECORDS, RECORDS_OF_OUTSIDER } from './fragment-limits.ts'
import { mem } from './packet-memory.ts'
import {
  attachWaitingFragments,
  chainPiece,
  dropPiece,
  keepPiece,
  NO_PIECE,
  pagesFor,
  pieceAfter,
  releasePiece,
} from './waiting-fragments.ts'

const ORPHAN = DROP['fragment-orphan']
const TABLE_FULL = DROP['fragment-table-full']
const LIMIT = HOST_LIMIT['fragment-records']

const SHIFT = 4
const RECORD = layout(1 << SHIFT, {
  src: 0,
  dst: 1,
  /** Identification, 16 bits; key word (protocol, side) above. */
  idAndKey: 2,
  ports: 3,
  state: 4,
  since: 5,
  /** Neighbours in the order of age, among all records of its state, and among those of its source. */
  older: 6,
  newer: 7,
  olderOfSource: 8,
  newerOfSource: 9,
  /** The shard that the first fragment's flow belongs to, -1 for this one. */
  owner: 10,
  /** The identification that the datagram has from here on. */
  identification: 11,
  /** The piece that has waited longest, and the one that came last. */
  firstPiece: 12,
  lastPiece: 13,
  /** Its source: which share of the table is the record's. */
  source: 14,
  hash: 15,
})
const WAITING = 0
const PASSED = 1
const ENDED = 2

/** Keep these hashes apart from each other and from those of other tables. */
const DOMAIN = 0x600
const SOURCE_DOMAIN = 0x601

const words = new Int32Array((RECORDS + 1) << SHIFT)
/** By record: the interface that its first fragment to come came by. */
const cameBy = new Uint8Array(RECORDS + 1)
const index = new HashIndex(new Region(sharedMemory(bytesOf((region) => new HashIndex(region, RECORDS)))), RECORDS)
const free = new Int32Array(RECORDS)
let freeCount = 0
let timeout = 30

// Chains of records from the oldest to the newest: chain 0 of those that wait, 1 of the others; then such a pair for
// each source. A source is a row of the host table, or behind those the hash of an address outside.
let firstOutsider = 0
let oldest = new Int32Array(0)
let newest = new Int32Array(0)
let recordsOf = new Int32Array(0)
let pagesOf = new Int32Array(0)

/** The datagram that was looked for last. */
let src: Addr = 0
let dst: Addr = 0
let idAndKey = 0
let hash = 0

/** `waitingAt`: where the room for what waits begins, WAITING_BYTES long. `hosts`: those with a row of their own. */
export function attachFragmentTable(timeouts: Pick<Timeouts, 'fragment'>, waitingAt: At, hosts: number): void {
  timeout = timeouts.fragment
  index.clear()
  for (let i = 0; i < RECORDS; i++) free[i] = RECORDS - i
  freeCount = RECORDS
  firstOutsider = hosts + 1
  const sources = firstOutsider + OUTSIDERS
  oldest = new Int32Array(2 + 2 * sources)
  newest = new Int32Array(2 + 2 * sources)
  recordsOf = new Int32Array(sources)
  pagesOf = new Int32Array(sources)
  // What has waited with a thread that died is lost with it.
  counters[CELL.fragmentsWaiting] = 0
  attachFragmentCoverage(RECORDS)
  attachFragmentFates(timeout)
  attachWaitingFragments(waitingAt)
}

/** The functions without a record are about packet i's datagram from now on. */
export function nameDatagram(i: number): void {
  src = SRC[i]!
  dst = DST[i]!
  idAndKey = ipv4.id(mem, IP[i]!) | (KEY[i]! << 16)
  hash = hash4(src, dst, idAndKey, DOMAIN)
}

/** The record of packet i's datagram, 0 if there is none. The functions without a record are about this datagram. */
export function findRecord(i: number): Row {
  nameDatagram(i)
  for (let at = index.first(hash); at >= 0; at = index.next(hash, at)) {
    const row = index.refAt(at) >> 1
    const base = row << SHIFT
    if (words[base] === src && words[base + RECORD.dst] === dst && words[base + RECORD.idAndKey] === idAndKey)
      return row
  }
  return 0
}

/** What became of the datagram that was looked for last, if it has no record. */
export const fate = (): Fate => fateOf(hash, src, dst, idAndKey)
export const setFate = (fate: Fate): void => noteFate(hash, src, dst, idAndKey, fate)

/**
 * A record for the datagram that was looked for last, which waits for its first fragment. The oldest makes room; 0 if
 * its inside host may have no more, and none of those that it has is this shard's. A host is named by its source, so
 * that is to be known for no forged one.
 */
export function beginRecord(): Row {
  const isHost = sideIn(idAndKey >>> 16) === INSIDE
  const source = isHost ? rowFor(src) : firstOutsider + (hash4(src, 0, 0, SOURCE_DOMAIN) & (OUTSIDERS - 1))
  const mayBegin = isHost ? mayHave(src, LIMIT, HOST.fragments) : recordsOf[source]! < RECORDS_OF_OUTSIDER
  if (!mayBegin) {
    if (recordsOf[source] === 0) return 0
    endRecord(oldestOf(2 + 2 * source), TABLE_FULL)
  }
  if (freeCount === 0) endRecord(oldestOf(0), TABLE_FULL)
  const row = free[--freeCount]!
  const base = row << SHIFT
  words[base + RECORD.src] = src
  words[base + RECORD.dst] = dst
  words[base + RECORD.idAndKey] = idAndKey
  words[base + RECORD.ports] = 0
  words[base + RECORD.state] = WAITING
  words[base + RECORD.owner] = -1
  words[base + RECORD.firstPiece] = NO_PIECE
  words[base + RECORD.source] = source
  words[base + RECORD.hash] = hash
  cameBy[row] = port
  clearCoverage(row)
  countRecord(source, 1)
  join(row)
  index.insert(hash, row << 1)
  return row
}

function countRecord(source: number, by: number): void {
  recordsOf[source]! += by
  if (source < firstOutsider) countIn(source, HOST.fragments, by)
}

export const isWaiting = (row: Row): boolean => words[(row << SHIFT) + RECORD.state] === WAITING
export const hasEnded = (row: Row): boolean => words[(row << SHIFT) + RECORD.state] === ENDED
/** A passed record that is older begins anew with another first fragment: its sender has come round to the number. */
const STALE_SECONDS = 2
export const isStale = (row: Row): boolean =>
  words[(row << SHIFT) + RECORD.state] === PASSED && now - words[(row << SHIFT) + RECORD.since]! > STALE_SECONDS

export const portsOf = (row: Row): Ports => words[(row << SHIFT) + RECORD.ports]!
/** The shard that the datagram's flow belongs to; -1: this one. */
export const ownerOfRecord = (row: Row): Shard => words[(row << SHIFT) + RECORD.owner]!
/** The identification that the datagram has from here on. */
export const identificationOfRecord = (row: Row): number => words[(row << SHIFT) + RECORD.identification]!

/** The datagram's first fragment went on: with these ports, to the shard `owner` or by this one (-1). */
export function passRecord(row: Row, ports: Ports, owner: Shard, identification: number): void {
  const base = row << SHIFT
  part(row)
  words[base + RECORD.ports] = ports
  words[base + RECORD.owner] = owner
  words[base + RECORD.identification] = identification
  words[base + RECORD.state] = PASSED
  join(row)
}

/** Fragments of the datagram overlap: what waits is dropped, and what comes will be. */
export function giveUpRecord(row: Row, why: Verdict): void {
  dropPieces(row, why)
  part(row)
  words[(row << SHIFT) + RECORD.state] = ENDED
  join(row)
}

/** Lets packet i, the piece in hand of a waiting record's datagram, wait for the first; false without room. */
export function waitForFirst(row: Row, i: number): boolean {
  const base = row << SHIFT
  const source = words[base + RECORD.source]!
  const pages = pagesFor(LENGTH[i]!)
  while (pagesOf[source]! + pages > PAGES_OF_SOURCE) if (!makeRoom(2 + 2 * source, row)) return false
  let piece = keepPiece(i)
  while (piece === NO_PIECE) {
    if (!makeRoom(0, row)) return false
    piece = keepPiece(i)
  }
  pagesOf[source]! += pages
  if (words[base + RECORD.firstPiece] === NO_PIECE) words[base + RECORD.firstPiece] = piece
  else chainPiece(words[base + RECORD.lastPiece]!, piece)
  words[base + RECORD.lastPiece] = piece
  addPiece(row)
  counters[CELL.fragmentWaits + sideIn(words[base + RECORD.idAndKey]! >>> 16)]! += 1
  counters[CELL.fragmentsWaiting]! += 1
  return true
}

/** The piece that has waited longest, NO_PIECE if there is none; pieceAfter() leads to the others. */
export const firstPieceOf = (row: Row): number => words[(row << SHIFT) + RECORD.firstPiece]!

/** What has waited went on. */
export function releasePieces(row: Row): void {
  const base = row << SHIFT
  for (let piece = firstPieceOf(row); piece !== NO_PIECE; piece = pieceAfter(piece)) {
    pagesOf[words[base + RECORD.source]!]! -= releasePiece(piece)
    counters[CELL.fragmentsWaiting]! -= 1
  }
  words[base + RECORD.firstPiece] = NO_PIECE
}

function dropPieces(row: Row, why: Verdict): void {
  const base = row << SHIFT
  const key = words[base + RECORD.idAndKey]! >>> 16
  for (let piece = firstPieceOf(row); piece !== NO_PIECE; piece = pieceAfter(piece)) {
    pagesOf[words[base + RECORD.source]!]! -= dropPiece(piece)
    counters[CELL.fragmentsWaiting]! -= 1
    countKept(cameBy[row]!, key, words[base + RECORD.src]!, words[base + RECORD.dst]!, why)
  }
  words[base + RECORD.firstPiece] = NO_PIECE
}

/** The oldest record of a chain of those that wait is ended, but never `row`; false if there is no other. */
function makeRoom(chain: number, row: Row): boolean {
  const first = oldest[chain]!
  const newer = chain === 0 ? RECORD.newer : RECORD.newerOfSource
  const victim = first === row ? words[(first << SHIFT) + newer]! : first
  if (victim === 0) return false
  endRecord(victim, TABLE_FULL)
  return true
}

/** How many records there are. */
export const recordsUsed = (): number => RECORDS - freeCount

/** Ends the records whose time is over. To be called about once a second. */
export function expireFragments(): void {
  for (let chain = 0; chain < 2; chain++)
    while (oldest[chain] !== 0 && now - words[(oldest[chain]! << SHIFT) + RECORD.since]! >= timeout)
      endRecord(oldest[chain]!, ORPHAN)
}

/** The datagram is complete, too old, or not to be followed: what still waits gets this verdict. */
export function endRecord(row: Row, why: Verdict): void {
  const base = row << SHIFT
  dropPieces(row, why)
  part(row)
  countRecord(words[base + RECORD.source]!, -1)
  index.remove(words[base + RECORD.hash]!, row << 1)
  free[freeCount++] = row
}

// --- the order of age ---

/** The older of the oldest records of a pair of chains. */
function oldestOf(chain: number): Row {
  const waiting = oldest[chain]!
  const other = oldest[chain + 1]!
  if (waiting === 0 || other === 0) return waiting || other
  const isOlder = words[(waiting << SHIFT) + RECORD.since]! <= words[(other << SHIFT) + RECORD.since]!
  return isOlder ? waiting : other
}

/** The record is the newest of its chains. */
function join(row: Row): void {
  const base = row << SHIFT
  const chain = isWaiting(row) ? 0 : 1
  words[base + RECORD.since] = now
  append(row, chain, RECORD.older, RECORD.newer)
  append(row, 2 + 2 * words[base + RECORD.source]! + chain, RECORD.olderOfSource, RECORD.newerOfSource)
}

/** The record leaves the chains of its state. */
function part(row: Row): void {
  const chain = isWaiting(row) ? 0 : 1
  remove(row, chain, RECORD.older, RECORD.newer)
  const ofSource = 2 + 2 * words[(row << SHIFT) + RECORD.source]! + chain
  remove(row, ofSource, RECORD.olderOfSource, RECORD.newerOfSource)
}

function append(row: Row, chain: number, olderWord: number, newerWord: number): void {
  const last = newest[chain]!
  words[(row << SHIFT) + olderWord] = last
  words[(row << SHIFT) + newerWord] = 0
  if (last === 0) oldest[chain] = row
  else words[(last << SHIFT) + newerWord] = row
  newest[chain] = row
}

function remove(row: Row, chain: number, olderWord: number, newerWord: number): void {
  const older = words[(row << SHIFT) + olderWord]!
  const newer = words[(row << SHIFT) + newerWord]!
  if (older === 0) oldest[chain] = newer
  else words[(older << SHIFT) + newerWord] = newer
  if (newer === 0) newest[chain] = older
  else words[(newer << SHIFT) + olderWord] = older
}
