// Held bytes: those that may become an announcement, segments behind a gap, and what a helper that was cut off has
// left. They go on after the headers of the last packet that brought some, by the route of that moment. Owner: this
// thread.

import { CONN_SHIFT, TUPLE_WORDS } from '../../conntrack/connection-table.ts'
import { hot } from '../../conntrack/connections.shard.ts'
import { type Direction, directionOf } from '../../conntrack/terms.ts'
import type { Milliseconds } from '../../memory/brand.ts'
import { nowMs } from '../../memory/clock.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import { ROUTE_PORT, routeCache, routeLookup } from '../egress/route-cache.ts'
import { AT, beginBurst, fromRing, HAIRPIN_LINE, ingress, KEY, L4, LINE, REF, SPARE } from '../packet/burst.ts'
import { cutOff, endHelpIfDone, type HelpedConnection, holding, mustRelease, released } from './helped-connections.ts'
import { read } from './helper-call.ts'
import { pack, sendAccepted, unpack } from './segments.ts'
import type { Stream } from './stream.ts'

/** Milliseconds that bytes are held in the hope of the rest of a line. */
const LONGEST_HOLD = 1000
/** The same for a gap to be filled: a sender sends a segment again within a minute at most (RFC 6298 2.5). */
const LONGEST_GAP = 60_000
const CHECK_EVERY = 100

let checkAt: Milliseconds = 0

export function attachHeldBytes(): void {
  checkAt = 0
}

/** Held bytes of packet i's connection and direction will go on after its headers, as they are before translation. */
export function keepHeaders(i: number, helped: HelpedConnection): void {
  helped.headers[directionOf(REF[i]!)] = {
    packed: pack(i),
    transport: L4[i]! - AT[i]!,
    ingress,
    isHairpin: LINE[i] === HAIRPIN_LINE,
  }
  holding.add(helped)
}

/** Some connection holds bytes, and it is time to look for how long. */
export const isTimeToRelease = (): boolean => holding.size > 0 && (mustRelease || nowMs >= checkAt)

/** Bytes held for too long, or whose helper is cut off, go on; a helper that waits for a port is asked once more. */
export function releaseHeld(): void {
  checkAt = nowMs + CHECK_EVERY
  for (const helped of holding) {
    for (const direction of [0, 1] as const) askAgain(helped, direction)
    if (helped.helper !== undefined && helped.streams.some(isOverdue)) cutOff(helped, 'held-too-long')
    if (helped.helper !== undefined) continue
    for (const direction of [0, 1] as const) release(helped, direction)
    holding.delete(helped)
    endHelpIfDone(helped)
  }
  released()
}

function askAgain(helped: HelpedConnection, direction: Direction): void {
  if (!helped.waits[direction] || helped.helper === undefined) return
  const from = helped.streams[direction].done
  read(helped, direction)
  flush(helped, direction, from)
}

const isOverdue = (stream: Stream): boolean =>
  (stream.hasPending && nowMs - stream.pendingSince >= LONGEST_HOLD) ||
  (stream.hasEarly && nowMs - stream.earlySince >= LONGEST_GAP)

/**
 * What a stream holds in order goes on, untouched. Pieces behind a gap are forgotten: moving the stream over the gap
 * would forget what lies before it, the bytes that fill the gap and rewritten bytes that the receiver has not
 * acknowledged yet.
 */
function release(helped: HelpedConnection, direction: Direction): void {
  const stream = helped.streams[direction]
  if (!stream.holds) return
  const from = stream.done
  stream.acceptAll()
  flush(helped, direction, from)
  stream.dropEarly()
  helped.headers[direction] = undefined
}

/**
 * Sends the bytes accepted from `from` on, after the kept headers. Without a route the sender will have to repeat them.
 */
function flush(helped: HelpedConnection, direction: Direction, from: number): void {
  const kept = helped.headers[direction]
  const stream = helped.streams[direction]
  const fin = stream.hasFin && stream.finAt === stream.done
  if (kept === undefined || (from === stream.done && !fin)) return
  const base = helped.row << CONN_SHIFT
  const line = kept.isHairpin ? HAIRPIN_LINE : routeLookup(hot[base + (1 - direction) * TUPLE_WORDS]!)
  if (line !== HAIRPIN_LINE && routeCache[line + ROUTE_PORT]! < 0) return
  const before = ingress
  const wasFromRing = fromRing
  beginBurst(kept.ingress, false)
  if (unpack(SPARE, kept.packed, kept.transport)) {
    KEY[SPARE] = ipv4.PROTO_TCP
    REF[SPARE] = (helped.row << 1) | direction
    LINE[SPARE] = line
    sendAccepted(SPARE, stream, stream.receiverFrom(from), stream.receiverTo(stream.done), fin)
  }
  beginBurst(before, wasFromRing)
}
