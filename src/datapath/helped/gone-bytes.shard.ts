// The last bytes that have gone on from the inside end of a guarded TCP connection, in shared memory (gone-table.ts): a
// sender may cut an address anywhere, and the thread may end in between. So each segment that no helper reads is looked
// at together with what went before it, also by the successor of a thread that is gone (watch.ts;
// docs/decisions/0040-an-announcement-that-cannot-be-rewritten.md).
//
//   the connection's column   its row's state   means
//   NONE                                        nothing has gone on yet
//   below LOST                                  the same, and the segment sizes that its SYNs have announced
//   LOST                                        not known: there was no row to be had, or the connection ends
//   a row                     TORN              not known: a thread has ended between two stores
//   a row                     KNOWN             the number behind what has gone on, and the sixteen bytes before it,
//                                               the last one last; zeros where there were none, or others went out
//
// It is stored before the bytes are sent: a crash between leaves bytes that their sender repeats. What is not known
// stays so until the connection begins anew. As long as nothing has gone on, the receiver's acknowledgement of the SYN
// tells where the stream begins, so a connection that has only been opened takes no row. Numbers are the sender's.
// Owner: the shard.

import { baseOf, CONN, GUARDED } from '../../conntrack/connection-table.ts'
import { cold, connections, hot, originOf, sideRowsNamed } from '../../conntrack/connections.shard.ts'
import { acknowledgedBy } from '../../conntrack/tcp-window.shard.ts'
import { type Direction, INSIDE } from '../../conntrack/terms.ts'
import { attached } from '../../memory/attached.ts'
import type { Row } from '../../memory/brand.ts'
import { FreeRows } from '../../memory/free-rows.ts'
import { fault } from '../fault-points.ts'
import { cutGone, GONE_BYTES, guardedConnections } from './gone-table.ts'

const NONE = 0
const LOST = -1
/** Two segment sizes, behind LOST. */
const SIZE_BITS = 15
const LARGEST_SIZE = (1 << SIZE_BITS) - 1
const SIZES = LOST - 1

const KNOWN = 1
const TORN = 2

const { state, end, bytes } = cutGone(attached().gone, attached().capacity)
const free = new FreeRows(guardedConnections(attached().capacity))

/** No bytes have gone on yet. */
const isUntouched = (connection: Row): boolean => cold.gone[connection]! === NONE || cold.gone[connection]! < LOST

/** A SYN announces the payload that a segment of the other direction may have; it is remembered until bytes go on. */
export function noteSegmentSize(connection: Row, direction: Direction, size: number): void {
  if (!isUntouched(connection)) return
  const shift = direction * SIZE_BITS
  const others = sizesOf(connection) & ~(LARGEST_SIZE << shift)
  cold.gone[connection] = SIZES - (others | (Math.min(size, LARGEST_SIZE) << shift))
}

/** What was announced for this direction, if no bytes have gone on yet; 0 for nothing. */
export const segmentSizeOf = (connection: Row, direction: Direction): number =>
  (sizesOf(connection) >> (direction * SIZE_BITS)) & LARGEST_SIZE

const sizesOf = (connection: Row): number => (cold.gone[connection]! < LOST ? SIZES - cold.gone[connection]! : 0)

/** The connection's row if what is in it can be used, else 0. */
function knownRow(connection: Row): Row {
  const row = cold.gone[connection]!
  return row > 0 && state[row] === KNOWN ? row : 0
}

/** What has gone on before is not known: there was no room for it, or a thread has ended while it noted it. */
export const isUnknown = (connection: Row): boolean => !isUntouched(connection) && knownRow(connection) === 0

/** The number behind all that has gone on; undefined if nothing is known of it. */
export function goneEnd(connection: Row): number | undefined {
  if (isUntouched(connection)) return acknowledgedBy(baseOf(connection), originOf(connection) === INSIDE ? 1 : 0)
  const row = knownRow(connection)
  return row === 0 ? undefined : end[row]
}

/** Whether bytes from this number on lie behind some that have not come. */
export function isBehindGap(connection: Row, seq: number): boolean {
  const behind = goneEnd(connection)
  return behind !== undefined && ((seq - behind) | 0) > 0
}

/** A text goes on, or the end of one. What has gone on before is not noted again. */
export function noteGone(connection: Row, seq: number, text: string): void {
  if (cold.gone[connection] === LOST) return
  const known = knownRow(connection)
  const behind = (seq + text.length) | 0
  const isNew = known === 0 ? text.length : (behind - end[known]!) | 0
  if (isNew <= 0) return
  const row = rowToWrite(connection)
  if (row === 0) return
  const at = row * GONE_BYTES
  const added = Math.min(isNew, text.length, GONE_BYTES)
  if (isNew > text.length || known === 0) bytes.fill(0, at, at + GONE_BYTES)
  fault('gone bytes half noted')
  bytes.copyWithin(at, at + added, at + GONE_BYTES)
  for (let i = 1; i <= added; i++) bytes[at + GONE_BYTES - i] = text.charCodeAt(text.length - i)
  end[row] = behind
  nameRow(connection, row)
}

/** The connection's row, torn until nameRow(); a new one if it has none; 0 if there is none to be had. */
function rowToWrite(connection: Row): Row {
  const named = cold.gone[connection]!
  const row = named > 0 ? named : free.take()
  if (row === 0) cold.gone[connection] = LOST
  else state[row] = TORN
  return row
}

/** The row is written. */
function nameRow(connection: Row, row: Row): void {
  state[row] = KNOWN
  fault('gone bytes without a connection')
  cold.gone[connection] = row
}

/** What is kept of the bytes before this number. */
export function goneBefore(connection: Row, seq: number): string {
  const row = knownRow(connection)
  if (row === 0) return ''
  const repeated = (end[row]! - seq) | 0
  let text = ''
  if (repeated >= 0)
    for (let i = 0; i < GONE_BYTES - repeated; i++) text += String.fromCharCode(bytes[row * GONE_BYTES + i]!)
  return text
}

/** The connection ends, or is guarded no longer: its row is free. If a crash keeps it alive, nothing is known of it. */
export function forgetGone(connection: Row): void {
  const row = cold.gone[connection]!
  if (row <= 0) return
  cold.gone[connection] = LOST
  fault('gone bytes of nobody')
  free.give(row)
}

/** A new connection has taken the connection's row over. */
export function beginGoneAnew(connection: Row): void {
  forgetGone(connection)
  cold.gone[connection] = NONE
}

/** As new: no row was ever used. Only while no connection has one. */
export function clearGone(): void {
  state.fill(0)
  end.fill(0)
  bytes.fill(0)
  free.clear()
}

/** On a dead shard's memory: which rows are free, from the connections. One that is guarded no longer needs none. */
export function recoverGone(): void {
  for (let row = 1; row <= connections.highest; row++)
    if (connections.isLive(row) && (hot[baseOf(row) + CONN.state]! & GUARDED) === 0) cold.gone[row] = NONE
  free.recover(sideRowsNamed(cold.gone))
}
