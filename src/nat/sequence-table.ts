// The memory behind sequence adjustment (sequence-edits.shard.ts): for connections whose payload was changed in length,
// an ordered list of edits in each direction (nf_conntrack_seqadj.c has room for one; a second before the first is
// acknowledged corrupts retransmissions there).
//
//   row         two directions, one after the other
//   direction   RANGE: edits FIRST .. LAST-1 are in force, running counts of 16 bits each; then a ring of edits
//   edit        where it begins in the sender's numbering, bytes there, bytes in the receiver's, offset before it
//
// An edit ends when the receiver has acknowledged all of it: FIRST goes past it. Adding and ending are each one store
// of RANGE, and the offset that holds when none is in force is that of the last one, which stays in the ring: so a
// crash leaves a list that is right. Owner: the shard. In shared memory because a connection outlives its shard's
// thread, and its sequence numbers must go on.

import type { Direction } from '../conntrack/terms.ts'
import type { Brand, Row } from '../memory/brand.ts'
import type { Region } from '../memory/region.ts'

/** Edits of one direction that may wait for their acknowledgement; a power of two. */
export const MOST_EDITS = 16

/** A TCP sequence number, in either numbering of a direction. */
export type Sequence = Brand<'Sequence'>
/** Where the words of a direction begin, and those of an edit. */
export type DirectionBase = Brand<'DirectionBase'>
export type EditBase = Brand<'EditBase'>
/** The word RANGE: two running counts. */
export type Range = Brand<'Range'>

const EDIT_WORDS = 4
export const AT = 0
export const LENGTH_IN = 1
export const LENGTH_OUT = 2
export const OFFSET_BEFORE = 3

const DIRECTION_WORDS = 1 + MOST_EDITS * EDIT_WORDS
export const ROW_WORDS = 2 * DIRECTION_WORDS

/** Few connections are ever edited, and most of those once. */
const ONE_IN = 16
const FEWEST = 64
const MOST = 4096

export const editedConnections = (connections: number): number =>
  Math.max(FEWEST, Math.min(MOST, Math.ceil(connections / ONE_IN)))

/** Row 0 is never used. */
export const cutSequences = (region: Region, connections: number): Int32Array =>
  region.i32((editedConnections(connections) + 1) * ROW_WORDS)

/** Where a direction's words begin: RANGE, then the ring. */
export const directionBase = (row: Row, direction: Direction): DirectionBase =>
  row * ROW_WORDS + direction * DIRECTION_WORDS

/** Where the edit of a running count lies in a direction that begins at `base`. */
export const editAt = (base: DirectionBase, count: number): EditBase =>
  base + 1 + (count & (MOST_EDITS - 1)) * EDIT_WORDS

export const firstOf = (range: Range): number => range & 0xffff
export const lastOf = (range: Range): number => range >>> 16
export const rangeOf = (first: number, last: number): Range => (first & 0xffff) | (last << 16)
/** Edits in force. */
export const countOf = (range: Range): number => (lastOf(range) - firstOf(range)) & 0xffff
