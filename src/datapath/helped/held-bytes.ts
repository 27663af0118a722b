// What is held: bytes that a helper waits for more of, segments behind a gap, and what a helper that was cut off has left.
// They go on after the headers of the last packet that brought some, by the route of that moment. Owner: this thread.

import { CONN_SHIFT, TUPLE_WORDS } from '../../conntrack/connection-table.ts'
import { hot } from '../../conntrack/connections.shard.ts'
import { nowMs } from '../../memory/clock.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import { HAIRPIN_LINE } from '../egress/leave.ts'
import { HOP_PORT, hop, hops } from '../egress/route-cache.ts'
import { AT, beginBurst, fromRing, KEY, L4, SPARE, way } from '../packet/burst.ts'
import { cutOff, endTalk, holding, mustRelease, released, type Talk } from './helped-connections.ts'
import { read } from './helper-call.ts'
import { pack, sendAccepted, unpack } from './segments.ts'
import type { Stream } from './stream.ts'

/** Milliseconds that bytes are held for more to come. */
const LONGEST_HOLD = 1000
/** For a gap to be filled: a sender sends a segment again within a minute at most (RFC 6298 2.4). */
const MOST_PATIENCE = 60_000
const CHECK_EVERY = 100

let checkAt = 0

export function seatHeld(): void {
  checkAt = 0
}

/** What is held will go on after packet i's headers, as they are before translation. */
export function keepHeaders(i: number, line: number, talk: Talk, direction: number): void {
  talk.headers[direction as 0 | 1] = {
    packed: pack(i),
    transport: L4[i]! - AT[i]!,
    way,
    isHairpin: line === HAIRPIN_LINE,
  }
  holding.add(talk)
}

/** Somebody holds bytes, and it is time to look whether for too long. */
export const isTimeToRelease = (): boolean => holding.size > 0 && (mustRelease || nowMs >= checkAt)

/** Bytes held for too long, or whose helper is cut off, go on; what waits for a port asks once more. */
export function releaseHeld(): void {
  checkAt = nowMs + CHECK_EVERY
  for (const talk of holding) {
    for (const direction of [0, 1] as const) askAgain(talk, direction)
    if (talk.helper !== undefined && talk.streams.some(isOverdue)) cutOff(talk, 'held-too-long')
    if (talk.helper !== undefined) continue
    for (const direction of [0, 1] as const) release(talk, direction)
    holding.delete(talk)
    endTalk(talk)
  }
  released()
}

function askAgain(talk: Talk, direction: 0 | 1): void {
  if (!talk.waits[direction] || talk.helper === undefined) return
  const from = talk.streams[direction].done
  read(talk, direction)
  flush(talk, direction, from)
}

const isOverdue = (stream: Stream): boolean =>
  (stream.hasPending && nowMs - stream.pendingSince >= LONGEST_HOLD) ||
  (stream.hasEarly && nowMs - stream.earlySince >= MOST_PATIENCE)

/** All that a stream holds goes on, untouched: what is in order, then what lies behind gaps. */
function release(talk: Talk, direction: 0 | 1): void {
  const stream = talk.streams[direction]
  if (!stream.holds) return
  const from = stream.done
  stream.acceptAll()
  flush(talk, direction, from)
  for (let early = stream.takeEarly(); early !== undefined; early = stream.takeEarly()) {
    stream.skipTo(early.at)
    stream.append(early.bytes.bytes(), 0, early.at, early.bytes.length)
    early.bytes.clear()
    stream.acceptAll()
    flush(talk, direction, early.at)
  }
  talk.headers[direction] = undefined
}

/** Sends what was accepted from `from` on, after headers that were kept. Without a way out it is for the sender to send again. */
function flush(talk: Talk, direction: 0 | 1, from: number): void {
  const kept = talk.headers[direction]
  const stream = talk.streams[direction]
  const fin = stream.hasFin && stream.finAt === stream.done
  if (kept === undefined || (from === stream.done && !fin)) return
  const base = talk.row << CONN_SHIFT
  const line = kept.isHairpin ? HAIRPIN_LINE : hop(hot[base + (1 - direction) * TUPLE_WORDS]!)
  if (line !== HAIRPIN_LINE && hops[line + HOP_PORT]! < 0) return
  const before = way
  const wasFromRing = fromRing
  beginBurst(kept.way, false)
  if (unpack(SPARE, kept.packed, kept.transport)) {
    KEY[SPARE] = ipv4.PROTO_TCP
    sendAccepted(SPARE, base, direction, line, stream, stream.receiverFrom(from), stream.receiverTo(stream.done), fin)
  }
  beginBurst(before, wasFromRing)
}
