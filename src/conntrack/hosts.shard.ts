// This shard's part of the host table (host-table.ts): whether an inside host may have one more of something, asked
// before anything of it is made, and the counts of what it has. Only what is new asks: a packet of a connection that is
// there never comes here.
//
// A host's connections are those that it opens and those that are opened to it from outside, by a port forward or a
// mapping; a hairpin is one of each. What outsiders open leaves a sixteenth of the limit to the host itself.
//
// Owner: the shard its own lines; of names and marks see there.

import { CELL } from '../counters/counters.ts'
import { HOST_LIMIT, type HostLimit } from '../counters/host-limits.ts'
import { counters } from '../counters/own-counters.shard.ts'
import type { Shard } from '../memory/brand.ts'
import { now, nowMs } from '../memory/clock.ts'
import { Region } from '../memory/region.ts'
import { hash4 } from '../memory/siphash.ts'
import type { Addr } from '../wire/address.ts'
import { compileQuotas, inAll, inShard, quotasOf, UNLIMITED } from './host-quotas.ts'
import { BUCKET, countedIn, HOST, type HostRow, HostTable, type HostWord, refusalWord } from './host-table.ts'
import { INSIDE, type Side } from './terms.ts'

const {
  connections: CONNECTIONS,
  ports: PORTS,
  'new-connections': NEW_CONNECTIONS,
  'icmp-errors': ICMP_ERRORS,
} = HOST_LIMIT
/** Keeps its hashes apart from those of other tables. */
const DOMAIN = 0x800
/** What outsiders may not take of a host's connections: one of so many, as a shift. */
const OWN_SHARE = 4

/** Before a table is attached there is none: nothing is counted, and nothing limited. */
let table = new HostTable(new Region(), { hosts: BUCKET, shards: 1 })
let quotas = compileQuotas(UNLIMITED)
let shard: Shard = 0
/** The host that was looked for last, and its row: a mapping and its connection are counted one after the other. */
let lastHost: Addr = 0
let lastRow: HostRow = 0

export function attachHosts(shared: HostTable, ownShard: Shard, wanted = UNLIMITED): void {
  table = shared
  shard = ownShard
  quotas = compileQuotas(wanted)
  lastHost = 0
}

// --- asking ---

/** Whether the host may have one connection more, opened from this side. */
export function hasConnectionsLeft(host: Addr, side: Side): boolean {
  const row = rowFor(host)
  const quota = quotasOf(quotas, host)
  const own = table.counts[table.line(row, shard) + HOST.connections]!
  const all = inAll(quotas, quota, CONNECTIONS)
  const most = side === INSIDE ? all : all - (all >> OWN_SHARE)
  return own < inShard(quotas, quota, CONNECTIONS) && table.sum(row, HOST.connections) < most
}

/** Counts that the host was refused a connection. */
export const refuseConnection = (host: Addr): false => refuseHost(rowFor(host), CONNECTIONS)

/**
 * Whether the host may open one connection more in this second; if not, it is counted why. What outsiders open to it
 * is not its doing, and is neither asked nor counted here: a flood at its port forward would keep it from opening any.
 */
export function mayOpenNow(host: Addr): boolean {
  const row = rowFor(host)
  const most = inAll(quotas, quotasOf(quotas, host), NEW_CONNECTIONS)
  return isBelowRate(row, HOST.begunEven, most) || refuseHost(row, NEW_CONNECTIONS)
}

/** Whether the host may have one external port more; if not, it is counted why. */
export function mayTakePort(host: Addr): boolean {
  const row = rowFor(host)
  const most = inAll(quotas, quotasOf(quotas, host), PORTS)
  if (table.sum(row, HOST.ports) + table.sum(row, HOST.resting) < most) return true
  return refuseHost(row, PORTS)
}

/** Whether the host may have so many more of what a word of its row counts; if not, it is counted why. */
export function mayHave(host: Addr, limit: HostLimit, word: HostWord, more = 1): boolean {
  const row = rowFor(host)
  const quota = quotasOf(quotas, host)
  const own = table.counts[table.line(row, shard) + word]!
  if (own + more > inShard(quotas, quota, limit) || table.sum(row, word) + more > inAll(quotas, quota, limit))
    return refuseHost(row, limit)
  return true
}

/** Whether the host may be told something now, which is counted; if not, it is counted why. */
export function mayTell(host: Addr): boolean {
  const row = rowFor(host)
  if (!isBelowRate(row, HOST.errorsEven, inAll(quotas, quotasOf(quotas, host), ICMP_ERRORS)))
    return refuseHost(row, ICMP_ERRORS)
  countNow(row, HOST.errorsEven)
  return true
}

/** How often the host has been told something in this second. */
export const toldNow = (host: Addr): number => table.sumIn(rowFor(host), HOST.errorsEven, now)

/**
 * Whether one more is below so many a second: what has been counted in this second, and of the second before as much as
 * is not yet a second ago if it came evenly. So in no second of the clock there are more.
 */
function isBelowRate(row: HostRow, even: HostWord, most: number): boolean {
  const counted = table.sumIn(row, even, now)
  if (counted >= most) return false
  const before = table.sumIn(row, even, now - 1)
  return before === 0 || counted + (before * (1000 - (nowMs % 1000))) / 1000 < most
}

function refuseHost(row: HostRow, limit: HostLimit): false {
  const line = table.line(row, shard)
  table.counts[line + HOST.refused]! += 1
  table.counts[line + HOST.lastRefusal] = refusalWord(limit, now)
  counters[CELL.hostsLimited + limit]! += 1
  return false
}

// --- counting ---

/** A connection of the host begins, opened from outside unasked or not; the row that it counts in. */
export function countConnection(host: Addr, unasked: boolean): HostRow {
  const row = rowFor(host)
  table.counts[table.line(row, shard) + HOST.connections]! += 1
  if (!unasked) countNow(row, HOST.begunEven)
  return row
}

/** One more in this second, by a rate's word of even seconds. */
function countNow(row: HostRow, even: HostWord): void {
  const at = table.line(row, shard) + even + (now & 1)
  table.counts[at] = countedIn(table.counts[at]!, now)
}

/** One more by a word of the host's row; the row. */
export function countUp(host: Addr, word: HostWord): HostRow {
  const row = rowFor(host)
  table.counts[table.line(row, shard) + word]! += 1
  return row
}

/** So many more or less in a row. Above zero it keeps the row from ending, so who counts there may go by its number. */
export function countIn(row: HostRow, word: HostWord, by: number): void {
  table.counts[table.line(row, shard) + word]! += by
}

/** What this shard alone counts in a row. */
export const countHere = (row: HostRow, word: HostWord): number => table.counts[table.line(row, shard) + word]!

/** One less of what was counted for the host, `asOthers`: in the row of all without one. The row. */
export function countDown(host: Addr, word: HostWord, asOthers: boolean): HostRow {
  const row = asOthers ? table.others : rowWith(host, word)
  table.counts[table.line(row, shard) + word]! -= 1
  return row
}

/** One less of what was counted for the host, where it isn't known in which row. */
export function countDownAny(host: Addr, word: HostWord): void {
  const row = rowWith(host, word)
  const isThere = table.counts[table.line(row, shard) + word]! > 0
  countIn(isThere ? row : table.others, word, -1)
}

/** True for the row of all hosts that have none. */
export const isOthers = (row: HostRow): boolean => row === table.others

// --- finding ---

/** The row that counts for the host: its own, made if need be, or that of all without one. */
export function rowFor(host: Addr): HostRow {
  if (host === lastHost && table.names[lastRow] === host && table.marks[lastRow] === 0) return lastRow
  for (;;) {
    const first = bucketOf(host)
    let free: HostRow = -1
    for (let row = first; row < first + BUCKET; row++) {
      const name = table.names[row]!
      if (name === host && table.keep(row)) return remember(host, row)
      if (name === 0 && free < 0 && table.marks[row] === 0) free = row
    }
    if (free < 0) return table.others
    if (table.claim(free, host)) return remember(host, free)
  }
}

function remember(host: Addr, row: HostRow): HostRow {
  lastHost = host
  lastRow = row
  return row
}

/** The row with the host's name in which this shard has counted something by that word. */
function rowWith(host: Addr, word: HostWord): HostRow {
  const first = bucketOf(host)
  for (let row = first; row < first + BUCKET; row++)
    if (table.names[row] === host && table.counts[table.line(row, shard) + word]! > 0) return row
  return rowFor(host)
}

const bucketOf = (host: Addr): HostRow => ((hash4(host, 0, 0, DOMAIN) >>> 0) % table.buckets) * BUCKET

// --- starting again ---

/** This shard's counts anew, of a dead predecessor's rows: counted aside, so that nobody sees less meanwhile. */
let recounted = new Int32Array(0)
const HELD = [
  ...([HOST.connections, HOST.ports, HOST.resting, HOST.waiting, HOST.edits] as const),
  ...([HOST.helped, HOST.helpedBlocks, HOST.helpedPieces, HOST.fragments] as const),
]

export function beginRecount(): void {
  recounted = new Int32Array((table.hosts + 1) * HELD.length)
}

/** One more that is there, counted as before; the row. */
export function recount(host: Addr, word: (typeof HELD)[number], asOthers: boolean): HostRow {
  const row = asOthers ? table.others : rowFor(host)
  recounted[row * HELD.length + HELD.indexOf(word)]! += 1
  return row
}

/** What was counted holds from now on. */
export function endRecount(): void {
  for (let row = 0, from = 0; row <= table.hosts; row++)
    for (let i = 0; i < HELD.length; i++, from++) {
      const at = table.line(row, shard) + HELD[i]!
      // Only what differs is written, so that pages of rows that were never used are not taken from the system.
      if (table.counts[at] !== recounted[from]) table.counts[at] = recounted[from]!
    }
  recounted = new Int32Array(0)
}
