// Connections that a helper reads no longer, and that are watched for what it was to rewrite: where its configuration
// says `onHelperFailure: reset`, the sender's inside address must not go out in its bytes
// (docs/decisions/0040-an-announcement-that-cannot-be-rewritten.md). So it is looked for in all that the inside end
// sends, until the connection ends; what names it ends the connection (endings.ts), or is dropped if it is a datagram.
//
// A row's GUARDED bit says that its connection is to be watched when no helper reads it. All that a watch needs to know
// is in shared memory, so that the successor of a thread that is gone watches on: that bit, whether the helper reads
// lines, whether the connection was ended, and the bytes that have gone on last (gone-bytes.shard.ts). So a watch takes
// nothing beside its row, however many there are.
//
// A sender may cut an address anywhere: each segment is looked at together with the bytes before it. So bytes go on in
// order only; a segment behind a gap is dropped, for its sender to repeat. Owner: this thread.

import {
  CONN,
  CONN_SHIFT,
  ENDED_BY_RESET,
  GUARDED,
  HELPED,
  READS_LINES,
  UNREAD_MASK,
  UNREAD_SHIFT,
} from '../../conntrack/connection-table.ts'
import { cold, connections, dstOf, hot, originOf, srcOf } from '../../conntrack/connections.shard.ts'
import { type Direction, INSIDE, opposite } from '../../conntrack/terms.ts'
import { HELPER_RESETS, type HelperReset } from '../../counters/counters.ts'
import type { Row } from '../../memory/brand.ts'
import type { Addr } from '../../wire/address.ts'
import { forgetGone, goneBefore, isUnknown, noteGone } from './gone-bytes.shard.ts'
import { mayNameAddress, namesAddress, withoutAddress } from './named-address.ts'

const { state: STATE } = CONN

export const isGuarded = (row: Row): boolean => (hot[(row << CONN_SHIFT) + STATE]! & GUARDED) !== 0

/** The helper has no more interest, or was cut off where the configuration says `pass`. */
export function unguard(row: Row): void {
  hot[(row << CONN_SHIFT) + STATE]! &= ~GUARDED
  forgetGone(row)
}

/** Its helper has asked for lines. */
export function noteReadsLines(row: Row): void {
  hot[(row << CONN_SHIFT) + STATE]! |= READS_LINES
}

/** Its helper reads no lines, as far as is known, so that addresses may be four bytes. */
export const isBinary = (row: Row): boolean => (hot[(row << CONN_SHIFT) + STATE]! & READS_LINES) === 0

/** A guarded connection is watched from now on, because no helper reads it. */
export function noteUnread(row: Row, why: HelperReset): void {
  const at = (row << CONN_SHIFT) + STATE
  hot[at] = (hot[at]! & ~UNREAD_MASK) | ((HELPER_RESETS.indexOf(why) + 1) << UNREAD_SHIFT)
}

/** Why no helper reads it: it was cut off, or the thread that knew the connection is gone. */
export function whyUnread(row: Row): HelperReset {
  const place = (hot[(row << CONN_SHIFT) + STATE]! & UNREAD_MASK) >> UNREAD_SHIFT
  return HELPER_RESETS[place - 1] ?? 'thread-lost'
}

/** On a dead shard's memory: what its helpers knew of their connections is lost, and none of them is read on. */
export function recoverWatches(): void {
  for (let row = 1; row <= connections.highest; row++) {
    if (!connections.isLive(row) || (hot[(row << CONN_SHIFT) + STATE]! & HELPED) === 0) continue
    cold.helper[row] = 0
    noteUnread(row, 'thread-lost')
  }
}

/** The connection is ended because an announcement can't be rewritten: nothing of it goes on any more. */
export function noteEnded(row: Row): void {
  hot[(row << CONN_SHIFT) + STATE]! |= ENDED_BY_RESET
}

export const hasEnded = (row: Row): boolean => (hot[(row << CONN_SHIFT) + STATE]! & ENDED_BY_RESET) !== 0

/** The inside address of who sends in this direction; 0 if it is outside, or isn't translated. */
export function insideAddress(row: Row, direction: Direction): Addr {
  const base = row << CONN_SHIFT
  if ((originOf(row) ^ direction) !== INSIDE) return 0
  const sender = srcOf(base, direction)
  return sender === dstOf(base, opposite(direction)) ? 0 : sender
}

/** The address that must not go out with what is sent in this direction; 0 if there is none. */
export const guardedAddress = (row: Row, direction: Direction): Addr =>
  isGuarded(row) ? insideAddress(row, direction) : 0

/** Whether a text of the stream in this direction, with the bytes before it, names its sender's inside address. */
export function segmentNames(row: Row, direction: Direction, seq: number, text: string): boolean {
  const address = guardedAddress(row, direction)
  if (address === 0 || text === '') return false
  // The bytes before it are not known, and this may be the rest of an address.
  if (isUnknown(row)) return true
  // What the helper has let go is not judged again.
  const before = withoutAddress(goneBefore(row, seq), address, isBinary(row))
  const names = namesAddress(before + text, address, isBinary(row))
  if (!names) noteGone(row, seq, text)
  return names
}

/** Whether a datagram, or the last fragment of one, names its sender's inside address. */
export function datagramNames(row: Row, direction: Direction, text: string, takesBytes: boolean): boolean {
  const address = guardedAddress(row, direction)
  return address !== 0 && namesAddress(text, address, takesBytes)
}

/** Whether a fragment of a datagram, which is not the last one, names that address or ends with the beginning of it. */
export function fragmentMayName(row: Row, direction: Direction, text: string, takesBytes: boolean): boolean {
  const address = guardedAddress(row, direction)
  return address !== 0 && mayNameAddress(text, address, takesBytes)
}
