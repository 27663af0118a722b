// What each end of a guarded connection expects next (RCV.NXT, RFC 9293 3.3.1), as far as the gateway can know: the
// number behind all that was sent to it without a gap, SYN and FIN included, or what it has acknowledged since. A reset
// ends an end at once only if it has exactly this number (RFC 5961 3.2); any other is ignored, or answered first.
//
// Tracking knows the highest number that each end has sent (conntrack/tcp-window-table.ts), and that is it, unless
// something behind a gap has gone on. Only for that anything is kept here, of a few connections at a time: of one more
// the highest number counts, so that its reset may be answered by a challenge, which gets one with the right number
// (endings.ts). Of a stream that a helper reads everything goes on in order, and the stream tells (stream.ts).
// Numbers are the receiver's. Owner: this thread; lost if it dies.

import { baseOf } from '../../conntrack/connection-table.ts'
import { sentBy } from '../../conntrack/tcp-window.shard.ts'
import type { Direction } from '../../conntrack/terms.ts'
import type { Row } from '../../memory/brand.ts'
import { toReceiver } from '../../nat/sequence-edits.shard.ts'
import { goneEnd } from './gone-bytes.shard.ts'
import { MOST_GAPS } from './limits.ts'
import { guardedAddress, isGuarded } from './watch.ts'

/** Pieces beyond a gap that are remembered; of more the receiver's acknowledgement tells. */
const MOST_BEYOND = 16

interface Gap {
  /** The number that the receiver expects next. */
  next: number
  /** What it was sent beyond: where a piece begins and ends, in pairs. */
  readonly beyond: number[]
}

/** By row and direction. */
const gaps = new Map<number, Gap>()
const nameOf = (row: Row, direction: Direction): number => 2 * row + direction

export function attachReceiverNext(): void {
  gaps.clear()
}

/** How many directions are remembered. */
export const gapsKept = (): number => gaps.size

/** What the receiver of this direction expects next; undefined if nothing was seen of it. */
export function receiverNext(row: Row, direction: Direction): number | undefined {
  const end = sentBy(baseOf(row), direction)
  if (end === undefined) return undefined
  const gap = gaps.get(nameOf(row, direction))
  if (gap !== undefined) return gap.next
  // Behind what has gone on from an inside end only a FIN may have: what lay behind a gap was held, or dropped.
  const gone = guardedAddress(row, direction) === 0 ? undefined : goneEnd(row)
  const isFin = gone !== undefined && end - gone === 1
  return toReceiver(row, direction, gone === undefined || isFin ? end : gone)
}

/** The connection has ended, or is guarded no more. */
export function forgetReceiverNext(row: Row): void {
  if (gaps.size === 0) return
  gaps.delete(nameOf(row, 0))
  gaps.delete(nameOf(row, 1))
}

/** What its sender has sent beyond this number was kept behind a gap, and is forgotten. */
export function noteForgotten(row: Row, direction: Direction, next: number): void {
  if (isGuarded(row)) beginGap(row, direction, { next, beyond: [] })
}

/** The receiver is sent [from, to), of which a FIN is the last number, and tracking has not noted it yet. */
export function noteSent(row: Row, direction: Direction, from: number, to: number): void {
  if (from === to || !isGuarded(row)) return
  const end = sentBy(baseOf(row), direction)
  if (end === undefined) return
  const highest = toReceiver(row, direction, end)
  const gap = gaps.get(nameOf(row, direction))
  if (gap === undefined) {
    if (((from - highest) | 0) > 0) beginGap(row, direction, { next: highest, beyond: [from, to] })
  } else if (((from - gap.next) | 0) <= 0) {
    advance(gap, to)
    if (((gap.next - highest) | 0) >= 0) gaps.delete(nameOf(row, direction))
  } else if (gap.beyond.length < 2 * MOST_BEYOND) gap.beyond.push(from, to)
}

/** The receiver of this direction says that it expects this number next. */
export function noteAcknowledged(row: Row, direction: Direction, number: number): void {
  if (gaps.size === 0) return
  const gap = gaps.get(nameOf(row, direction))
  const end = gap === undefined ? undefined : sentBy(baseOf(row), direction)
  if (gap === undefined || end === undefined) return
  const left = (toReceiver(row, direction, end) - number) | 0
  // More than it was sent can't be acknowledged.
  if (left < 0) return
  advance(gap, number)
  if (left === 0) gaps.delete(nameOf(row, direction))
}

function beginGap(row: Row, direction: Direction, gap: Gap): void {
  if (gaps.size < MOST_GAPS || gaps.has(nameOf(row, direction))) gaps.set(nameOf(row, direction), gap)
}

/** The receiver has everything before `to`, and so what lies beyond without a gap. */
function advance(gap: Gap, to: number): void {
  if (((to - gap.next) | 0) <= 0) return
  gap.next = to
  const { beyond } = gap
  for (let i = 0; i < beyond.length; ) {
    if (((beyond[i]! - gap.next) | 0) > 0) i += 2
    else {
      const [, end] = beyond.splice(i, 2)
      if (((end! - gap.next) | 0) > 0) gap.next = end!
      // A piece that was passed over may continue it.
      i = 0
    }
  }
}
