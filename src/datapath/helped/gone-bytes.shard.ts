// The last bytes that have gone on from the inside end of a guarded TCP connection, in shared memory beside its row: a
// sender may cut an address anywhere, and the thread may end in between. So each segment that no helper reads is looked
// at together with what went before it, also by the successor of a thread that is gone (watch.ts;
// docs/decisions/0040-an-announcement-that-cannot-be-rewritten.md).
//
//   gone     goneEnd, goneBytes                                                               stored by
//   NONE     nothing has gone on yet                                                          makeConnection()
//   TORN     not to be used: a thread has ended between two stores                            first
//   KNOWN    the number behind what has gone on, and the sixteen bytes before it, the last    last
//            one last; zeros where there were none, or where others went out in their place
// It is stored before the bytes are sent: a crash between leaves bytes that their sender repeats. Numbers are the
// sender's. Owner: the shard.

import { cold } from '../../conntrack/connections.shard.ts'
import type { Row } from '../../memory/brand.ts'
import { fault } from '../fault-points.ts'
import { WINDOW } from './limits.ts'

/** Kept of a row, as the column's kind says. The longest way to write an address, with leading zeros, takes fifteen. */
export const GONE_BYTES = 16

const KNOWN = 1
const TORN = 2

const bytes = cold.goneBytes

/** Whether a thread has ended while it noted what went on: what went before is not known. */
export const isTorn = (row: Row): boolean => cold.gone[row] === TORN

/** The number behind all that has gone on; undefined if nothing is known of it. */
export const goneEnd = (row: Row): number | undefined => (cold.gone[row] === KNOWN ? cold.goneEnd[row] : undefined)

/** Whether bytes from this number on lie behind some that have not come. */
export const isBehindGap = (row: Row, seq: number): boolean =>
  cold.gone[row] === KNOWN && ((seq - cold.goneEnd[row]!) | 0) > 0

/** A SYN: its stream begins at this number. A copy of it says nothing new. */
export function noteFirst(row: Row, first: number): void {
  const sent = (cold.goneEnd[row]! - first) | 0
  if (cold.gone[row] === KNOWN && sent >= 0 && sent <= WINDOW) return
  cold.gone[row] = TORN
  bytes.fill(0, row * GONE_BYTES, (row + 1) * GONE_BYTES)
  cold.goneEnd[row] = first
  cold.gone[row] = KNOWN
}

/** A text goes on, or the end of one. What has gone on before is not noted again. */
export function noteGone(row: Row, seq: number, text: string): void {
  const end = (seq + text.length) | 0
  const isKnown = cold.gone[row] === KNOWN
  const isNew = isKnown ? (end - cold.goneEnd[row]!) | 0 : text.length
  if (isNew <= 0) return
  const at = row * GONE_BYTES
  const added = Math.min(isNew, text.length, GONE_BYTES)
  cold.gone[row] = TORN
  if (isNew > text.length || !isKnown) bytes.fill(0, at, at + GONE_BYTES)
  fault('gone bytes half noted')
  bytes.copyWithin(at, at + added, at + GONE_BYTES)
  for (let i = 1; i <= added; i++) bytes[at + GONE_BYTES - i] = text.charCodeAt(text.length - i)
  cold.goneEnd[row] = end
  cold.gone[row] = KNOWN
}

/** What is kept of the bytes before this number. */
export function goneBefore(row: Row, seq: number): string {
  const end = goneEnd(row)
  if (end === undefined) return ''
  const repeated = (end - seq) | 0
  let text = ''
  if (repeated >= 0)
    for (let i = 0; i < GONE_BYTES - repeated; i++) text += String.fromCharCode(bytes[row * GONE_BYTES + i]!)
  return text
}
