// Held bytes: those that may become an announcement, segments behind a gap, and what a helper that was cut off has
// left. They go on after the headers of the last packet that brought some, by the route of that moment. Owner: this
// thread.

import { CONN_SHIFT, TUPLE_WORDS } from '../../conntrack/connection-table.ts'
import { hot } from '../../conntrack/connections.shard.ts'
import { ACCEPT, type Direction, directionOf, opposite } from '../../conntrack/terms.ts'
import type { Milliseconds } from '../../memory/brand.ts'
import { nowMs } from '../../memory/clock.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import { ROUTE_PORT, routeCache, routeLookup } from '../egress/route-cache.ts'
import { AT, beginBurst, fromRing, HAIRPIN_LINE, ingress, KEY, L4, LINE, REF, SPARE } from '../packet/burst.ts'
import { ByteQueue } from './byte-queue.ts'
import {
  cutOff,
  dropHeaders,
  endHelpIfDone,
  type HelpedConnection,
  holding,
  isRead,
  mustRelease,
  released,
} from './helped-connections.ts'
import { acceptUnread, read } from './helper-call.ts'
import { LONGEST_GAP, LONGEST_HOLD } from './limits.ts'
import { mayNameAddress } from './named-address.ts'
import { noteForgotten } from './receiver-next.ts'
import { pack, sendAccepted, unpack } from './segments.ts'
import { insideAddress, isBinary } from './watch.ts'

const CHECK_EVERY = 10
/** A shard that sleeps looks again after 50 ms at the latest (workers/run.ts), so bytes are let go so much earlier. */
const LATE_BY = 50 + CHECK_EVERY
/** How often a helper that waits is asked again. */
const ASK_EVERY = 100

let checkAt: Milliseconds = 0
let askAt: Milliseconds = 0

export function attachHeldBytes(): void {
  checkAt = 0
  askAt = 0
}

/** Held bytes of packet i's connection and direction will go on after its headers, as they are before translation. */
export function keepHeaders(i: number, helped: HelpedConnection): void {
  const direction = directionOf(REF[i]!)
  const packed = helped.headers[direction]?.packed ?? new ByteQueue(helped.streams[direction].share)
  packed.clear()
  pack(i, packed)
  helped.headers[direction] = {
    packed,
    transport: L4[i]! - AT[i]!,
    ingress,
    isHairpin: LINE[i] === HAIRPIN_LINE,
  }
  holding.add(helped)
}

/** Some connection holds bytes, and it is time to look for how long. */
export const isTimeToRelease = (): boolean => holding.size > 0 && (mustRelease || nowMs >= checkAt)

/** Bytes held for too long, or whose helper is cut off, go on; a helper that waits is asked once more. */
export function releaseHeld(): void {
  checkAt = nowMs + CHECK_EVERY
  const asks = nowMs >= askAt
  if (asks) askAt = nowMs + ASK_EVERY
  for (const helped of holding) {
    for (const direction of [0, 1] as const) {
      if (asks) askAgain(helped, direction)
      releaseOld(helped, direction)
    }
    if (isRead(helped.row)) continue
    for (const direction of [0, 1] as const) release(helped, direction)
    holding.delete(helped)
    endHelpIfDone(helped)
  }
  released()
}

function askAgain(helped: HelpedConnection, direction: Direction): void {
  if (!helped.waits[direction] || !isRead(helped.row)) return
  const from = helped.streams[direction].done
  if (settled(helped, direction, read)) flush(helped, direction, from)
}

/**
 * Pending bytes go on one by one as the time of each is over, and the helper reads them once more with what comes then:
 * a slow sender's announcement is still rewritten if the span to be rewritten comes within the time. Where the bytes
 * that would go on have begun to name the sender's inside address, the helper is cut off instead.
 */
function releaseOld(helped: HelpedConnection, direction: Direction): void {
  if (!isRead(helped.row)) return
  const stream = helped.streams[direction]
  const isLate = stream.hasEarly && nowMs - stream.earlySince >= LONGEST_GAP
  const old = stream.pendingBy(nowMs - LONGEST_HOLD + LATE_BY)
  if (isLate || (old > 0 && (helped.waits[direction] || isNaming(helped, direction, stream.gone + old)))) {
    cutOff(helped.row, 'held-too-long')
  } else if (old > 0) {
    const from = stream.done
    stream.letGo(old)
    flush(helped, direction, from)
    if (!stream.holds) dropHeaders(helped, direction)
    if (!helped.streams[0].holds && !helped.streams[1].holds) holding.delete(helped)
  }
}

/** Whether the first `length` characters of the text have begun to name the inside address of their sender. */
function isNaming({ row, streams }: HelpedConnection, direction: Direction, length: number): boolean {
  const { text } = streams[direction]
  const address = insideAddress(row, direction)
  if (address === 0) return false
  const begins = (bytes: string): boolean => mayNameAddress(bytes, address, isBinary(row))
  return begins(text.slice(0, length)) && begins(text)
}

/**
 * What a stream holds in order goes on, untouched. Pieces behind a gap are forgotten: moving the stream over the gap
 * would forget what lies before it, the bytes that fill the gap and rewritten bytes that the receiver has not
 * acknowledged yet.
 */
function release(helped: HelpedConnection, direction: Direction): void {
  const stream = helped.streams[direction]
  if (!stream.holds) return
  const from = stream.done
  if (!settled(helped, direction, acceptUnread)) return
  flush(helped, direction, from)
  if (stream.hasEarly) noteForgotten(helped.row, direction, stream.receiverNext)
  stream.dropEarly()
  dropHeaders(helped, direction)
}

/** Lets `step` decide about held bytes, which may end the connection; false then. */
function settled(helped: HelpedConnection, direction: Direction, step: typeof read): boolean {
  const kept = helped.headers[direction] ?? helped.headers[opposite(direction)]
  const before = ingress
  const wasFromRing = fromRing
  if (kept !== undefined) beginBurst(kept.ingress, false)
  const verdict = step(helped, direction)
  beginBurst(before, wasFromRing)
  return verdict === ACCEPT
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
