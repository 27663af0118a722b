// Which fragments belong to which datagram: a record by (source, destination, protocol, identification, side), made
// when the first fragment has shown its ports, so that the later ones, which have none, follow it (RFC 4787 REQ-14).
// Fragments that come before the first are dropped as orphans. A record ends when the datagram is complete, or
// after the timeout (30 s), oldest first; their number is bounded, and a full table refuses new ones. Datagrams for the
// host have half of the table at most: anybody outside can send them to any port, and they must not fill it.
// Owner: the shard that owns a datagram's fragments by rule 6 of the ownership rule (ownership/ownership-rule.ts). The
// records are its private memory: they may be lost with its thread.

import { NOT_OURS, type Verdict } from '../../conntrack/terms.ts'
import type { Timeouts } from '../../conntrack/timeouts.ts'
import type { Row, Shard } from '../../memory/brand.ts'
import { now } from '../../memory/clock.ts'
import { HashIndex } from '../../memory/hash-index.ts'
import { layout } from '../../memory/layout.ts'
import { bytesOf, Region, sharedMemory } from '../../memory/region.ts'
import { Rows } from '../../memory/rows.ts'
import { hash4 } from '../../memory/siphash.ts'
import type { Addr, Ports } from '../../wire/address.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import { DST, END, IP, KEY, L4, SRC } from './burst.ts'
import { mem } from './packet-memory.ts'

const RECORDS = 8192
/** Records of datagrams for the host, at most. */
const HOSTS_RECORDS = RECORDS / 2
const WORDS = 16
const SHIFT = 4
const RECORD = layout(WORDS, {
  src: 0,
  dst: 1,
  /** Identification, 16 bits; key word (protocol, side) above. */
  idAndKey: 2,
  ports: 3,
  flags: 4,
  /** What became of the first fragment: a verdict. */
  verdict: 5,
  /** Payload bytes seen, and in all (0: the last fragment hasn't come). */
  seen: 6,
  total: 7,
  since: 8,
  /** Neighbours in the order of age. */
  older: 9,
  newer: 10,
  /** The shard that the first fragment's flow belongs to, -1 for this one. */
  owner: 11,
  generation: 15,
})
/** Keeps its hashes apart from those of other tables. */
const DOMAIN = 0x600

const region = new Region(sharedMemory(bytesOf(cut)))
const { rows, index } = cut(region)
const words = rows.words
let oldest = 0
let newest = 0
let timeout = 30
/** Records of datagrams for the host. */
let hosts = 0

function cut(from: Region): { rows: Rows; index: HashIndex } {
  const rows = new Rows(from, {
    capacity: RECORDS,
    width: WORDS,
    flagsWord: RECORD.flags,
    generationWord: RECORD.generation,
  })
  return { rows, index: new HashIndex(from, RECORDS) }
}

export function attachFragmentTable(timeouts: Pick<Timeouts, 'fragment'>): void {
  timeout = timeouts.fragment
}

const idAndKey = (i: number): number => ipv4.id(mem, IP[i]!) | (KEY[i]! << 16)
const hashOf = (src: Addr, dst: Addr, id: number): number => hash4(src, dst, id, DOMAIN)

/** The record of packet i's datagram, 0 if there is none. */
export function findRecord(i: number): Row {
  const src = SRC[i]!
  const dst = DST[i]!
  const id = idAndKey(i)
  const hash = hashOf(src, dst, id)
  for (let at = index.first(hash); at >= 0; at = index.next(hash, at)) {
    const row = index.refAt(at) >> 1
    const base = row << SHIFT
    if (words[base + RECORD.src] === src && words[base + RECORD.dst] === dst && words[base + RECORD.idAndKey] === id)
      return row
  }
  return 0
}

/** Records a first fragment's ports; a datagram that begins again begins anew. 0 if the table is full. */
export function recordFirst(i: number, ports: Ports): Row {
  const old = findRecord(i)
  if (old !== 0) forget(old)
  const row = rows.begin()
  if (row === 0) return 0
  const base = row << SHIFT
  words[base + RECORD.src] = SRC[i]!
  words[base + RECORD.dst] = DST[i]!
  words[base + RECORD.idAndKey] = idAndKey(i)
  words[base + RECORD.ports] = ports
  words[base + RECORD.flags] = 0
  words[base + RECORD.verdict] = 0
  words[base + RECORD.seen] = 0
  words[base + RECORD.total] = 0
  words[base + RECORD.since] = now
  words[base + RECORD.older] = newest
  words[base + RECORD.newer] = 0
  words[base + RECORD.owner] = -1
  if (newest === 0) oldest = row
  else words[(newest << SHIFT) + RECORD.newer] = row
  newest = row
  rows.commit(row)
  index.insert(hashOf(SRC[i]!, DST[i]!, idAndKey(i)), row << 1)
  return row
}

export const portsOf = (row: Row): Ports => words[(row << SHIFT) + RECORD.ports]!
/** What became of the first fragment. */
export const verdictOf = (row: Row): Verdict => words[(row << SHIFT) + RECORD.verdict]!
/** False, and nothing is set, if the datagram is the host's and the host has its share of the table already. */
export function setVerdict(row: Row, verdict: Verdict): boolean {
  if (verdict === NOT_OURS && hosts >= HOSTS_RECORDS) return false
  if (verdict === NOT_OURS) hosts++
  words[(row << SHIFT) + RECORD.verdict] = verdict
  return true
}

/** The shard that the datagram's flow belongs to; -1: this one. */
export const ownerOfRecord = (row: Row): Shard => words[(row << SHIFT) + RECORD.owner]!
export const setOwner = (row: Row, owner: Shard): void => {
  words[(row << SHIFT) + RECORD.owner] = owner
}

/** Counts packet i's payload; the datagram's last missing piece ends its record. */
export function countFragment(row: Row, i: number): void {
  const base = row << SHIFT
  const word = ipv4.fragmentWord(mem, IP[i]!)
  const payload = END[i]! - L4[i]!
  words[base + RECORD.seen]! += payload
  if ((word & ipv4.MORE_FRAGMENTS) === 0) words[base + RECORD.total] = ((word & ipv4.OFFSET_MASK) << 3) + payload
  if (words[base + RECORD.total] !== 0 && words[base + RECORD.seen]! >= words[base + RECORD.total]!) forget(row)
}

/** Ends the records whose time is over. To be called about once a second. */
export function expireFragments(): void {
  while (oldest !== 0 && now - words[(oldest << SHIFT) + RECORD.since]! >= timeout) forget(oldest)
}

/** The datagram is complete, too old, or not to be followed. */
export function forget(row: Row): void {
  const base = row << SHIFT
  const older = words[base + RECORD.older]!
  const newer = words[base + RECORD.newer]!
  if (words[base + RECORD.verdict] === NOT_OURS) hosts--
  if (older === 0) oldest = newer
  else words[(older << SHIFT) + RECORD.newer] = newer
  if (newer === 0) newest = older
  else words[(newer << SHIFT) + RECORD.older] = older
  index.remove(hashOf(words[base + RECORD.src]!, words[base + RECORD.dst]!, words[base + RECORD.idAndKey]!), row << 1)
  rows.retire(row)
}
