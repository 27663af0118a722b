// Which segment went last in a TCP connection, as far as what comes next may be its answer (last_index, last_dir,
// last_seq, last_ack, last_end, last_flags in nf_conntrack_proto_tcp.c). Above all a SYN that went on although it has
// no place in the state that the row has: its ends may know better, and its answer says so; and an ACK that challenges
// such a SYN (RFC 5961 section 4).
//
// Owner: the shard. The words are of the window line (tcp-window-table.ts).

import * as wire from '../wire/tcp.ts'
import { ASSURED, type Base, CONN, SIMULTANEOUS_OPEN, stateOf } from './connection-table.ts'
import { hot, windows } from './connections.shard.ts'
import * as segment from './tcp-segment.ts'
import * as tcp from './tcp-state.ts'
import { optionsOffered } from './tcp-window.shard.ts'
import {
  CHALLENGE_EXPECTED,
  LAST_DIRECTION_SHIFT,
  LAST_KIND_MASK,
  LAST_KIND_SHIFT,
  LAST_REPEATS,
  NOTED_OPTIONS_SHIFT,
  NOTED_SCALE_SHIFT,
  OFFERS_SCALE,
  RETRANSMISSIONS_MASK,
  SACK_PERMITTED,
  SCALE_MASK,
  WINDOW,
} from './tcp-window-table.ts'
import { type Direction, opposite } from './terms.ts'

const { state: STATE } = CONN
const { lastSeq: LAST_SEQ, lastEnd: LAST_END, lastAck: LAST_ACK, last: LAST } = WINDOW
/** Bits of an end that a noted SYN's are kept as: OFFERS_SCALE and SACK_PERMITTED, beside each other. */
const NOTED_OPTIONS = OFFERS_SCALE | SACK_PERMITTED
export const OPTIONS_BIT = 4

/** The segment that was noted last is of this kind, and went in this direction. */
export const isNoted = (base: Base, kind: number, direction: Direction): boolean =>
  (windows[base + LAST]! & (LAST_KIND_MASK | (1 << LAST_DIRECTION_SHIFT))) === markOf(kind, direction)

/**
 * It acknowledges the noted SYN, or some of the data that came with it (RFC 7413). That has gone on with its own
 * number, whatever edits there are of what was sent before.
 */
export function answersNotedSyn(base: Base, direction: Direction): boolean {
  if (!isNoted(base, tcp.SYN, opposite(direction))) return false
  const since = (segment.ackAsSent - windows[base + LAST_SEQ]!) | 0
  return since > 0 && ((windows[base + LAST_END]! - segment.ackAsSent) | 0) >= 0
}

const markOf = (kind: number, direction: Direction): number =>
  ((kind + 1) << LAST_KIND_SHIFT) | (direction << LAST_DIRECTION_SHIFT)

/** An ACK in LAST_ACK from the end that was sent a SYN meanwhile. */
export const isChallenge = (base: Base, direction: Direction): boolean =>
  segment.kind === tcp.ACK &&
  isNoted(base, tcp.SYN, opposite(direction)) &&
  (windows[base + LAST]! & CHALLENGE_EXPECTED) !== 0

/**
 * It answers an ACK that was passed on though the row could not place it: the number is what that acknowledged, or it
 * acknowledges that. So an end that has sent a SYN resets what challenges it (RFC 5961 4.2), and tries again.
 */
export function answersNotedAck(base: Base, direction: Direction, word: number): boolean {
  // Nobody refuses his own: else two segments with numbers of his choice would end an opening.
  if ((word & ASSURED) !== 0 || !isNoted(base, tcp.ACK, opposite(direction))) return false
  if ((segment.flags & wire.ACK) !== 0 && segment.ack === windows[base + LAST_END]) return true
  return stateOf(word) === tcp.SYN_SENT && direction === 0 && segment.seq === windows[base + LAST_ACK]
}

/** The segment in hand is the last one, of its kind and direction, with its numbers. */
export function noteKind(base: Base, direction: Direction): void {
  const kept = windows[base + LAST]! & ~(LAST_KIND_MASK | (1 << LAST_DIRECTION_SHIFT) | LAST_REPEATS)
  windows[base + LAST_SEQ] = segment.seq
  windows[base + LAST_END] = segment.end
  windows[base + LAST] = kept | markOf(segment.kind, direction)
}

/** An ACK that answers a SYN and can't be placed: the end that has sent that may reset it. */
export function noteChallenge(base: Base, direction: Direction): void {
  windows[base + LAST_ACK] = segment.ack
  noteKind(base, direction)
}

/** A SYN that may begin a new connection, with what its answer will need. */
export function noteSyn(base: Base, direction: Direction): void {
  const options = optionsOffered()
  const isChallenged = stateOf(hot[base + STATE]!) === tcp.LAST_ACK
  hot[base + STATE]! &= ~SIMULTANEOUS_OPEN
  windows[base + LAST_SEQ] = segment.seq
  windows[base + LAST_END] = segment.end
  windows[base + LAST] =
    segment.windowField |
    markOf(tcp.SYN, direction) |
    (windows[base + LAST]! & RETRANSMISSIONS_MASK) |
    ((options & SCALE_MASK) << NOTED_SCALE_SHIFT) |
    (((options & NOTED_OPTIONS) >> OPTIONS_BIT) << NOTED_OPTIONS_SHIFT) |
    (isChallenged ? CHALLENGE_EXPECTED : 0)
}
