// The layout of a TCP connection's window line: a second cache line beside its row (connection-table.ts), found by the
// same base, with what the window tests remember of both ends (nf_conntrack_tcp.h, struct ip_ct_tcp). Numbers are in
// the numbering of the end that they belong to, as it has sent them: before translation and before a helper's edits.
//
// The last three words are not TCP's: every row has the line, whatever its protocol, and they are its place in a queue
// (queues.shard.ts), which is written where the line is written anyway, when the connection begins.
//
// Owner: the shard. Each word is one store that is valid alone: whatever a crash leaves undone, the segment that was to
// do it has not gone on, and comes again; the queues are made anew.

import { layout } from '../memory/layout.ts'

/** Words of a window line: as many as a row has, so that one base finds both. */
export const WINDOW_WORDS = 16

// Pairs by direction of the end: `pair + direction` is the end that sends in that direction.
export const WINDOW = layout(WINDOW_WORDS, {
  /** One past the highest byte that the end has sent. */
  end: 0,
  endReply: 1,
  /** What the end may send at most: the right edge of the window that the other one has offered. */
  maxEnd: 2,
  maxEndReply: 3,
  /** The largest window that the end has offered, in bytes, scaled; 0: it has not sent yet. */
  maxWindow: 4,
  maxWindowReply: 5,
  /** The highest acknowledgement that the end has sent, if MAX_ACK_SET. */
  maxAck: 6,
  maxAckReply: 7,
  /** Of the segment that was noted last (LAST): its first number, its end, its acknowledgement. */
  lastSeq: 8,
  lastEnd: 9,
  lastAck: 10,
  /** What the last segment was: see LAST_* below. */
  last: 11,
  /** What each end has said of itself: bits of END_* below, those of the reply direction 16 bits higher. */
  ends: 12,
  /** The queue that the row is in, 0 for none; the rows behind and before it there, 0 at its ends. */
  queue: 13,
  queueNext: 14,
  queuePrevious: 15,
})

/**
 * The number of the SYN that the connection was opened by, as long as its end has acknowledged nothing: until then that
 * end has no `maxAck`.
 */
export const FIRST = WINDOW.maxAck

// An end's bits in `ends`; shift them by endShift(direction).
export const endShift = (direction: number): number => direction << 4
/** Its window scale, 0 to 14. */
export const SCALE_MASK = 15
/** It has offered to scale windows (RFC 7323). */
export const OFFERS_SCALE = 1 << 4
/** It may be sent SACK blocks (RFC 2018). */
export const SACK_PERMITTED = 1 << 5
export const MAX_ACK_SET = 1 << 6
/** It has closed the connection, first of both. */
export const CLOSED_FIRST = 1 << 7
/** Its segments pass whatever the window tests say. */
export const LIBERAL = 1 << 8
/** The connection was picked up in mid-stream, so that nobody is strict with this end. */
export const PICKED_UP = 1 << 10
/** It has sent what the other end has not acknowledged. */
export const UNACKNOWLEDGED = 1 << 9

// The word `last`: the window as sent in bits 0-15.
export const LAST_WINDOW_MASK = 0xffff
/** Kind of the segment (tcp-state.ts) plus 1; 0: none yet. */
export const LAST_KIND_SHIFT = 16
export const LAST_KIND_MASK = 7 << LAST_KIND_SHIFT
export const LAST_DIRECTION_SHIFT = 19
/** How often the same segment has come in a row, up to three. */
export const RETRANSMISSIONS_SHIFT = 20
export const RETRANSMISSIONS_MASK = 3 << RETRANSMISSIONS_SHIFT
/** Of a SYN that was noted in a live connection: its scale, and END_* bits 4 and 5 of its options. */
export const NOTED_SCALE_SHIFT = 22
export const NOTED_OPTIONS_SHIFT = 26
/** It came in LAST_ACK: the next ACK may be a challenge (RFC 5961 section 4), and acknowledges no FIN. */
export const CHALLENGE_EXPECTED = 1 << 28
/** Of an ordinary segment: its bytes, or the byte before its number, had come before; a keep-alive's has. */
export const LAST_REPEATS = 1 << 29
export const NOTED_MASK = (15 << NOTED_SCALE_SHIFT) | (3 << NOTED_OPTIONS_SHIFT) | CHALLENGE_EXPECTED
