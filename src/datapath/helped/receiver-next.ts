// What each end of a guarded connection expects next (RCV.NXT, RFC 9293 3.3.1), as far as the gateway can know: the
// number behind all that was sent to it without a gap, SYN and FIN included, or what it has acknowledged since. A reset
// ends an end at once only if it has exactly this number (RFC 5961 3.2); any other is ignored, or answered first.
//
// Noted where segments leave (segments.ts), in the receiver's numbering. So it holds whatever becomes of the bytes that
// a helper reads: accepted, held, behind a gap, or withdrawn. Owner: this thread; lost if it dies.

import { CONN, CONN_SHIFT, TCP_STATE_MASK, TCP_STATE_SHIFT } from '../../conntrack/connection-table.ts'
import { hot } from '../../conntrack/connections.shard.ts'
import { SYN_RECV, SYN_SENT, SYN_SENT2 } from '../../conntrack/tcp-state.ts'
import type { Direction } from '../../conntrack/terms.ts'
import type { Row } from '../../memory/brand.ts'
import { isGuarded } from './watch.ts'

/** Pieces beyond a gap that are remembered; of more the receiver's acknowledgement tells. */
const MOST_BEYOND = 16
/** What both directions of a connection take of the heap (measured by test/datapath/helped/heap.test.ts). */
const CONNECTION_BYTES = 1024

interface Sent {
  /** Behind the SYN; undefined if none was seen. */
  readonly first: number | undefined
  /** The number that the receiver expects next. */
  next: number
  /** The highest that it was sent: no more than that can be acknowledged. */
  highest: number
  /** What it was sent beyond a gap: where a piece begins and ends, in pairs. */
  readonly beyond: number[]
}

const sent = new Map<Row, [Sent | undefined, Sent | undefined]>()

export function attachReceiverNext(): void {
  sent.clear()
}

export const heapOfReceiverNext = (): number => sent.size * CONNECTION_BYTES

/** What the receiver of this direction expects next; undefined if nothing was seen of it. */
export const receiverNext = (row: Row, direction: Direction): number | undefined => sent.get(row)?.[direction]?.next

/** The connection has ended, or is guarded no more. */
export function forgetReceiverNext(row: Row): void {
  sent.delete(row)
}

/** Something has gone out in this direction whose numbers aren't known: what is seen next counts. */
export function loseReceiverNext(row: Row, direction: Direction): void {
  const known = sent.get(row)
  if (known !== undefined) known[direction] = undefined
}

/** A SYN with this number: another one before the connection is established begins anew. */
export function noteSyn(row: Row, direction: Direction, number: number, data: number): void {
  if (!isGuarded(row)) return
  const known = sent.get(row)?.[direction]
  const first = (number + 1) | 0
  if (known !== undefined && (known.first === first || !isOpening(row))) return
  // Whether data in a SYN is taken (RFC 7413) only its acknowledgement says.
  begin(row, direction, { first, next: first, highest: (first + data) | 0, beyond: [] })
}

/** Neither a late copy of a SYN nor a forged one changes anything once the connection is established. */
export function isOpening(row: Row): boolean {
  const state = (hot[(row << CONN_SHIFT) + CONN.state]! & TCP_STATE_MASK) >> TCP_STATE_SHIFT
  return state === SYN_SENT || state === SYN_RECV || state === SYN_SENT2
}

/** The receiver was sent [from, to), of which a FIN is the last number. */
export function noteSent(row: Row, direction: Direction, from: number, to: number): void {
  if (!isGuarded(row)) return
  const known = sent.get(row)?.[direction]
  if (known === undefined) {
    begin(row, direction, begunAt(to))
    return
  }
  if (from === to) return
  if (((to - known.highest) | 0) > 0) known.highest = to
  if (((from - known.next) | 0) <= 0) advance(known, to)
  else if (known.beyond.length < 2 * MOST_BEYOND) known.beyond.push(from, to)
}

/** The receiver of this direction says that it expects this number next. */
export function noteAcknowledged(row: Row, direction: Direction, number: number): void {
  if (!isGuarded(row)) return
  const known = sent.get(row)?.[direction]
  if (known === undefined) begin(row, direction, begunAt(number))
  else if (((number - known.highest) | 0) <= 0) advance(known, number)
}

function begin(row: Row, direction: Direction, begun: Sent): void {
  const both = sent.get(row) ?? [undefined, undefined]
  both[direction] = begun
  sent.set(row, both)
}

/** In the middle of a connection. */
const begunAt = (next: number): Sent => ({ first: undefined, next, highest: next, beyond: [] })

/** The receiver has everything before `to`, and so what lies beyond without a gap. */
function advance(known: Sent, to: number): void {
  if (((to - known.next) | 0) <= 0) return
  known.next = to
  const { beyond } = known
  for (let i = 0; i < beyond.length; ) {
    if (((beyond[i]! - known.next) | 0) > 0) i += 2
    else {
      const [, end] = beyond.splice(i, 2)
      if (((end! - known.next) | 0) > 0) known.next = end!
      // A piece that was passed over may continue it.
      i = 0
    }
  }
}
