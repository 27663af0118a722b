// Whether a TCP segment that somebody quotes, in an ICMP error, can be one that its sender has under way (RFC 5927 4.1,
// SND.UNA =< SEG.SEQ < SND.NXT): who can't see the connection has to guess the number. By what the window line knows
// of both ends, in the sender's numbering.
//
// The upper bound is included, as Linux's sockets include it (tcp_ipv4.c, tcp_v4_err): a segment without data has that
// number, and an end that only receives sends no others. Also believed is the very segment that was noted last, where
// it lies outside: a keep-alive probe; a repetition of what was acknowledged, by an answer that its sender has not
// got; a SYN that may open the connection anew. One that was in order when it came is not: what passes after it in
// order is not noted (tcp-established.shard.ts), so it may be an old one. Owner: the shard; nothing is stored.

import type { Base } from './connection-table.ts'
import { windows } from './connections.shard.ts'
import { ACK, SYN } from './tcp-state.ts'
import { isTolerated } from './tcp-window.shard.ts'
import {
  endShift,
  LAST_DIRECTION_SHIFT,
  LAST_KIND_MASK,
  LAST_KIND_SHIFT,
  LAST_REPEATS,
  MAX_ACK_SET,
  WINDOW,
} from './tcp-window-table.ts'
import { type Direction, opposite } from './terms.ts'

const { end: END, maxWindow: MAX_WINDOW, maxAck: MAX_ACK, lastSeq: LAST_SEQ, last: LAST, ends: ENDS } = WINDOW
/** A segment of this kind is noted with its number; of the others only the kind is. */
const NOTED_ACK = (ACK + 1) << LAST_KIND_SHIFT
const NOTED_SYN = (SYN + 1) << LAST_KIND_SHIFT

/**
 * True if the end that sends in `direction` can have sent a segment with this number that has not arrived. Where nobody
 * is strict with that end (picked up in mid-stream, liberal), every number is.
 */
export function canBeUnderWay(base: Base, direction: Direction, seq: number): boolean {
  if (isTolerated(base, direction)) return true
  // Of an end that has sent nothing there is nothing to quote.
  if (windows[base + direction + MAX_WINDOW] === 0) return false
  const end = windows[base + direction + END]!
  if (((end - seq) | 0) >= 0 && ((seq - oldest(base, direction, end)) | 0) >= 0) return true
  return seq === windows[base + LAST_SEQ] && isNoted(base, direction)
}

/** The first number that is not acknowledged; before any is, there is no more under way than the window allows. */
function oldest(base: Base, direction: Direction, end: number): number {
  const receiver = opposite(direction)
  if (((windows[base + ENDS]! >> endShift(receiver)) & MAX_ACK_SET) !== 0) return windows[base + receiver + MAX_ACK]!
  return (end - windows[base + receiver + MAX_WINDOW]! - 1) | 0
}

/** The segment that was noted last, with its number, went in `direction`. */
function isNoted(base: Base, direction: Direction): boolean {
  const last = windows[base + LAST]!
  const kind = last & LAST_KIND_MASK
  if (((last >> LAST_DIRECTION_SHIFT) & 1) !== direction) return false
  return kind === NOTED_SYN || (kind === NOTED_ACK && (last & LAST_REPEATS) !== 0)
}
