// Sequence adjustment: what a change of the payload's length does to the numbers of a TCP connection for the rest of
// its life. Each direction has two numberings: the sender's, and the receiver's, which has the edits in it. Sequence
// numbers of a direction go from the one to the other, acknowledgements and SACK blocks of the other direction back.
//
//   sender's     ... b b b [ span ] b b b ...        an edit: at, lengthIn, lengthOut
//   receiver's   ... b b b [ replacement ] b b b ...
//
// A number within a span has no counterpart: it is rounded, down to the span's beginning or up to its end, so that
// nothing is called received that wasn't. What lies before an edit that has ended is translated by the offset behind
// it: such bytes are acknowledged, and keep their distance to the acknowledged byte (they stay old).
//
// Numbers wrap at 2^32 and are compared by the sign of their difference. Owner: the shard.

import { cold, insideHostOf, sideRowsNamed } from '../conntrack/connections.shard.ts'
import { HOST } from '../conntrack/host-table.ts'
import { countDownAny, countUp, mayHave } from '../conntrack/hosts.shard.ts'
import type { Direction } from '../conntrack/terms.ts'
import { HOST_LIMIT } from '../counters/host-limits.ts'
import { attached } from '../memory/attached.ts'
import type { Row } from '../memory/brand.ts'
import { FreeRows } from '../memory/free-rows.ts'
import { fault } from './fault-points.ts'
import {
  AT,
  countOf,
  cutSequences,
  type DirectionBase,
  directionBase,
  editAt,
  editedConnections,
  firstOf,
  LENGTH_IN,
  LENGTH_OUT,
  lastOf,
  MOST_EDITS,
  OFFSET_BEFORE,
  ROW_WORDS,
  rangeOf,
  type Sequence,
} from './sequence-table.ts'

/** What a sender may repeat: as much as may be on the way of a stream that a helper reads. */
const REPEATED = 65536
const FAR = 2 ** 30
const EDITS = HOST_LIMIT['sequence-edits']

const words = cutSequences(attached().sequences, attached().capacity)
const free = new FreeRows(editedConnections(attached().capacity))

/** Of a connection: its row in the table, made if need be; 0 if there is no room. */
function rowFor(connection: Row): Row {
  if (cold.sequences[connection] !== 0) return cold.sequences[connection]!
  const row = free.take()
  if (row === 0) return 0
  words.fill(0, row * ROW_WORDS, (row + 1) * ROW_WORDS)
  countUp(insideHostOf(connection), HOST.edits)
  fault('edits without a connection')
  cold.sequences[connection] = row
  return row
}

/** True if some of the connection's payload has been changed in length. */
export const isEdited = (connection: Row): boolean => cold.sequences[connection] !== 0

/** How many more edits of this direction fit. */
export function roomForEdits(connection: Row, direction: Direction): number {
  const row = cold.sequences[connection]!
  if (row === 0) return free.isEmpty || !mayHave(insideHostOf(connection), EDITS, HOST.edits) ? 0 : MOST_EDITS
  return MOST_EDITS - countOf(words[directionBase(row, direction)]!)
}

/**
 * `lengthIn` bytes from `at` (the sender's numbering, behind all earlier edits) become `lengthOut`. False if there is
 * no room (roomForEdits). A span of zero bytes is none.
 */
export function addEdit(
  connection: Row,
  direction: Direction,
  at: Sequence,
  lengthIn: number,
  lengthOut: number,
): boolean {
  if (roomForEdits(connection, direction) === 0) return false
  const base = directionBase(rowFor(connection), direction)
  const range = words[base]!
  const edit = editAt(base, lastOf(range))
  words[edit + OFFSET_BEFORE] = offsetBehind(base)
  words[edit + AT] = at
  words[edit + LENGTH_IN] = lengthIn
  words[edit + LENGTH_OUT] = lengthOut
  fault('edit written, not in force')
  words[base] = rangeOf(firstOf(range), lastOf(range) + 1)
  return true
}

/** What is added behind all edits. */
function offsetBehind(base: DirectionBase): number {
  const last = editAt(base, lastOf(words[base]!) - 1)
  return (words[last + OFFSET_BEFORE]! + words[last + LENGTH_OUT]! - words[last + LENGTH_IN]!) | 0
}

/** What a sequence number behind all edits of a direction gains. */
export function offsetOf(connection: Row, direction: Direction): number {
  const row = cold.sequences[connection]!
  return row === 0 ? 0 : offsetBehind(directionBase(row, direction))
}

/** Edits that the receiver hasn't acknowledged. */
export function editsInForce(connection: Row, direction: Direction): number {
  const row = cold.sequences[connection]!
  return row === 0 ? 0 : countOf(words[directionBase(row, direction)]!)
}

export const DOWN = 0
export const UP = 1

/** From the sender's numbering to the receiver's. Within a span: the beginning of its replacement, or its end. */
export function toReceiver(connection: Row, direction: Direction, number: Sequence, round: 0 | 1 = DOWN): Sequence {
  const row = cold.sequences[connection]!
  if (row === 0) return number
  const base = directionBase(row, direction)
  const range = words[base]!
  // From the last one back: what is sent is mostly behind all of them.
  for (let count = countOf(range), last = lastOf(range); count > 0; count--, last--) {
    const edit = editAt(base, last - 1)
    const into = (number - words[edit + AT]!) | 0
    const before = words[edit + OFFSET_BEFORE]!
    if (into >= words[edit + LENGTH_IN]!)
      return (number + before + words[edit + LENGTH_OUT]! - words[edit + LENGTH_IN]!) | 0
    if (into > 0) return (words[edit + AT]! + before + (round === UP ? words[edit + LENGTH_OUT]! : 0)) | 0
  }
  return (number + offsetOfFirst(base)) | 0
}

/** From the receiver's numbering back to the sender's. Within a replacement: the beginning of its span, or its end. */
export function toSender(connection: Row, direction: Direction, number: Sequence, round: 0 | 1 = DOWN): Sequence {
  const row = cold.sequences[connection]!
  if (row === 0) return number
  const base = directionBase(row, direction)
  const range = words[base]!
  for (let count = countOf(range), last = lastOf(range); count > 0; count--, last--) {
    const edit = editAt(base, last - 1)
    const at = words[edit + AT]!
    const before = words[edit + OFFSET_BEFORE]!
    const into = (number - at - before) | 0
    if (into >= words[edit + LENGTH_OUT]!)
      return (number - before - words[edit + LENGTH_OUT]! + words[edit + LENGTH_IN]!) | 0
    if (into > 0) return round === UP ? (at + words[edit + LENGTH_IN]!) | 0 : at
  }
  return (number - offsetOfFirst(base)) | 0
}

/** What holds before the first edit in force: behind the last one that has ended. */
function offsetOfFirst(base: DirectionBase): number {
  const range = words[base]!
  return countOf(range) === 0 ? offsetBehind(base) : words[editAt(base, firstOf(range)) + OFFSET_BEFORE]!
}

/** Whether a byte of [from, to) in the sender's numbering was replaced by an edit in force. */
export function touchesEdit(connection: Row, direction: Direction, from: Sequence, to: Sequence): boolean {
  const row = cold.sequences[connection]!
  if (row === 0) return false
  const base = directionBase(row, direction)
  const range = words[base]!
  for (let count = countOf(range), first = firstOf(range); count > 0; count--, first++) {
    const edit = editAt(base, first)
    const at = words[edit + AT]!
    if (((to - at) | 0) > 0 && ((at + words[edit + LENGTH_IN]! - from) | 0) > 0) return true
  }
  return false
}

/** The receiver has everything before `number` (its own numbering): edits that lie before it end. */
export function endEdits(connection: Row, direction: Direction, number: Sequence): void {
  const row = cold.sequences[connection]!
  if (row === 0) return
  const base = directionBase(row, direction)
  const range = words[base]!
  let first = firstOf(range)
  for (let count = countOf(range); count > 0; count--, first++) {
    const edit = editAt(base, first)
    const end = (words[edit + AT]! + words[edit + OFFSET_BEFORE]! + words[edit + LENGTH_OUT]!) | 0
    if (((number - end) | 0) < 0) break
  }
  if (first !== firstOf(range)) words[base] = rangeOf(first, lastOf(range))
}

/**
 * Whether a segment with payload that begins at `from` (the sender's numbering) begins before the end of the last edit
 * that has ended: it repeats bytes that its receiver has acknowledged, and that may have been rewritten.
 */
export function repeatsEnded(connection: Row, direction: Direction, from: Sequence): boolean {
  const row = cold.sequences[connection]!
  if (row === 0) return false
  const base = directionBase(row, direction)
  const range = words[base]!
  // If the ring is full, the last one that has ended is overwritten.
  if (countOf(range) === MOST_EDITS) return false
  const edit = editAt(base, firstOf(range) - 1)
  if (words[edit + LENGTH_IN] === 0) return false
  const ahead = (from - words[edit + AT]! - words[edit + LENGTH_IN]!) | 0
  // Numbers come round: the edit follows the sender at a distance. Where it lies matters for nothing else any more.
  if (ahead > FAR || ahead < -REPEATED) words[edit + AT] = (from - FAR / 2) | 0
  return ahead < 0 && ahead >= -REPEATED
}

/** The connection ends. */
export function forgetEdits(connection: Row): void {
  const row = cold.sequences[connection]!
  if (row === 0) return
  cold.sequences[connection] = 0
  countDownAny(insideHostOf(connection), HOST.edits)
  fault('edits of nobody')
  free.give(row)
}

/** As new: no row was ever used. Only while no connection has one. */
export function clearEdits(): void {
  words.fill(0)
  free.clear()
}

/** On a dead shard's memory: which rows are free, from the connections. */
export function recoverEdits(): void {
  free.recover(sideRowsNamed(cold.sequences))
}
