// Packets of helped connections: between tracking and translation a helper reads them, and may have rewritten what the
// receiver gets (nf_conntrack_helper.c, nf_nat_helper.c; RFC 9293 for what a stream is).
//
//   packet -> track -> acknowledgement adjusted -> its bytes into the stream -> helper -> accepted bytes go on
//                                                                                  |
//                                                              held: a prefix that may become an announcement
//
// As long as a helper reads a connection, its segments are sent from the streams (stream.ts), and as they came where that
// makes no difference, which is nearly always. A helper is cut off for a connection that it can't go on with: what is
// held goes on untouched, and when the last edit is acknowledged, nothing but adjusting numbers is left. After a crash
// of the shard's thread that is so at once: what a helper knew is lost, what it did to the numbers is not.
//
// Owner: this thread.

import { CONN, CONN_SHIFT, HELPED, TUPLE_WORDS } from '../conntrack/connection-table.ts'
import { cold, connections, hot, protocolOf } from '../conntrack/connections.ts'
import { endMaster, withdraw } from '../conntrack/expectations.ts'
import { invertPorts } from '../conntrack/tuple.ts'
import { ACCEPT, ACCEPT_AND_END, QUEUED } from '../conntrack/verdict.ts'
import { Context } from '../helpers/context.ts'
import { Verdict } from '../helpers/helper.ts'
import { findHelper, helperById, type Registered, unregisterHelper } from '../helpers/registry.ts'
import { nowMs } from '../memory/clock.ts'
import { CELL, type CutOff, HELPER_CUT_OFFS } from '../memory/counters.ts'
import { DROP } from '../memory/drop-reasons.ts'
import { counters } from '../memory/own-counters.ts'
import { endConnection, onHelpedEnd } from '../nat/bindings.ts'
import {
  editsInForce,
  endEdits,
  forgetEdits,
  isEdited,
  roomForEdits,
  toSender,
  touchesEdit,
} from '../nat/sequence-edits.ts'
import * as ipv4 from '../wire/ipv4.ts'
import * as tcp from '../wire/tcp.ts'
import { bytes, mem } from './arena.ts'
import { AT, beginBurst, END, FLOW, fromRing, IP, KEY, KIND, L4, SPARE, way } from './burst.ts'
import { bytesKept } from './byte-queue.ts'
import { datagramText, rewriteDatagram } from './datagrams.ts'
import { HAIRPIN_LINE, leave } from './leave.ts'
import { HOP_PORT, hop, hops } from './route.ts'
import { adjustAcknowledgement, pack, passOn, sendAccepted, unpack } from './segments.ts'
import { before, least, most, Stream, WINDOW } from './stream.ts'
import { count, track, transportIntact } from './tracking.ts'

const { state: STATE } = CONN
const HELPER_VERDICT = DROP['helper-verdict']
const HELPER_WINDOW = DROP['helper-window']
const HELPER_FRAGMENT = DROP['helper-fragment']
const EDIT_LOST = DROP['edit-lost']
const TCP_CHECKSUM = DROP['tcp-checksum']

/** Milliseconds that bytes are held, and how often they may come again meanwhile. */
const LONGEST_HOLD = 1000
const MOST_REPEATS = 2
/** Bytes of one stream that may be held for more to come, and of all streams of the shard. */
const MOST_HELD = 8192
const MOST_KEPT = 32 << 20
/** And what one stream keeps for its receiver's acknowledgement. */
const MOST_KEPT_OF_ONE = 1 << 20
/** Milliseconds that one call of a helper may take: far above what any needs, and above a pause of the collector. */
const LONGEST_CALL = 100
const HELD_CHECK_EVERY = 100
/** For a gap to be filled: a sender sends a segment again within a minute at most (RFC 6298 2.4). */
const MOST_PATIENCE = 60_000

/** What this thread knows of a connection that a helper reads, or has read until its edits are acknowledged. */
interface Talk {
  readonly row: number
  /** undefined: cut off. */
  helper: Registered | undefined
  readonly state: unknown
  /** By direction. */
  readonly streams: readonly [Stream, Stream]
  /** The last accepted byte was not a line's end. */
  readonly midLine: [boolean, boolean]
  /** What is pending waits for a port. */
  readonly waits: [boolean, boolean]
  /** By direction: headers to send held bytes after, how they came, and by which cache line they would have left. */
  readonly headers: [Kept | undefined, Kept | undefined]
}

interface Kept {
  readonly packed: Uint8Array
  readonly transport: number
  readonly way: number
  readonly isHairpin: boolean
}

const talks = new Map<number, Talk>()
/** Those of them that hold bytes. */
const holding = new Set<Talk>()
const context = new Context()
let stopwatch: () => number = () => 0
let checkHeldAt = 0

/** `clock` tells milliseconds, to measure calls of helpers by. */
export function seatHelped(clock: (() => number) | undefined): void {
  talks.clear()
  holding.clear()
  stopwatch = clock ?? (() => 0)
  checkHeldAt = 0
  onHelpedEnd(endHelp)
}

/** A connection has begun: the helper that its expectation names reads it, else the one that its tuple is bound to. */
export function beginHelp(row: number, named: number): void {
  const base = row << CONN_SHIFT
  const id =
    named !== 0
      ? named
      : findHelper(
          protocolOf(row),
          hot[base + CONN.replyDst]!,
          hot[base + CONN.replySrc]!,
          invertPorts(hot[base + CONN.replyPorts]!),
        )
  if (id === 0) return
  const helper = helperById(id)
  if (helper === undefined) return
  cold.helper[row] = id
  hot[base + STATE]! |= HELPED
  talks.set(row, {
    row,
    helper,
    state: helper.helper.state?.(),
    streams: [new Stream(row, 0), new Stream(row, 1)],
    midLine: [false, false],
    waits: [false, false],
    headers: [undefined, undefined],
  })
  counters[CELL.helped] = talks.size
}

function endHelp(row: number): void {
  endMaster(row, hot[(row << CONN_SHIFT) + CONN.generation]!)
  forgetEdits(row)
  const talk = talks.get(row)
  if (talk) forget(talk)
}

function forget(talk: Talk): void {
  for (const stream of talk.streams) stream.clear()
  talks.delete(talk.row)
  holding.delete(talk)
  counters[CELL.helped] = talks.size
}

/** Connections that this helper reads go on without it, and it is gone. */
export function detachHelper(id: number): void {
  for (const talk of talks.values()) if (talk.helper?.id === id) cutOff(talk, 'unregistered')
  for (let row = 1; row <= connections.highest; row++)
    if (connections.isLive(row) && cold.helper[row] === id) cold.helper[row] = 0
  unregisterHelper(id)
}

/** Packet i of a helped connection, by a route cache line or HAIRPIN_LINE; a verdict. */
export function forwardHelped(i: number, row: number, direction: number, line: number): number {
  const base = row << CONN_SHIFT
  const isTcp = (KEY[i]! & 0xff) === ipv4.PROTO_TCP
  // Bytes that were damaged on their way must not be what a stream believes.
  if (isTcp && !transportIntact(i)) return TCP_CHECKSUM
  const verdict = track(i, base, direction)
  if (verdict !== ACCEPT && verdict !== ACCEPT_AND_END) return verdict
  count(base, row, direction, END[i]! - IP[i]!)
  const gone = isTcp ? segment(i, row, base, direction, line) : datagram(i, row, base, direction, line)
  if (verdict === ACCEPT_AND_END) endConnection(row)
  return gone
}

function datagram(i: number, row: number, base: number, direction: number, line: number): number {
  const talk = talks.get(row)
  if (talk?.helper === undefined) hot[base + STATE]! &= ~HELPED
  // A helper reads whole datagrams.
  else if (KIND[i] === FLOW && !readDatagram(i, talk, direction)) return HELPER_VERDICT
  return leave(i, base, direction, line)
}

/** Lets the helper read packet i, and writes it anew; false: it is to be dropped. */
function readDatagram(i: number, talk: Talk, direction: number): boolean {
  const text = datagramText(i)
  if (text === undefined) return true
  if (!call(talk, direction, text, true)) return false
  const { mangled, made } = context
  if (mangled.length > 0 && talk.helper !== undefined) {
    if (rewriteDatagram(i, text, mangled)) counters[CELL.helperRewrites]! += mangled.length
    else for (const handle of made) withdraw(handle)
  }
  if (context.isDone) cutOff(talk, 'done')
  return true
}

// --- TCP ---

function segment(i: number, row: number, base: number, direction: number, line: number): number {
  const talk = talks.get(row)
  if (KIND[i] !== FLOW) return fragment(i, row, base, direction, line, talk)
  if (talk === undefined) return adjust(i, row, base, direction, line)
  const at = L4[i]!
  const flags = tcp.flags(mem, at)
  const stream = talk.streams[direction as 0 | 1]
  const back = talk.streams[(1 - direction) as 0 | 1]
  if ((flags & tcp.SYN) !== 0) {
    begin(i, talk, stream, back)
    return passOn(i, row, base, direction, line)
  }
  if ((flags & tcp.ACK) !== 0) {
    acknowledge(talk, 1 - direction, tcp.ack(mem, at))
    adjustAcknowledgement(i, row, direction)
  }
  const gone =
    stream.started && (flags & tcp.RST) === 0
      ? throughStream(i, row, base, direction, line, talk)
      : passOn(i, row, base, direction, line)
  if (gone !== QUEUED) stream.acknowledged = tcp.ack(mem, at)
  note(talk, direction)
  return gone
}

/** A SYN, of either end. What it carries itself (RFC 7413) is read by nobody, so neither is what follows. */
function begin(i: number, talk: Talk, stream: Stream, back: Stream): void {
  const at = L4[i]!
  const data = END[i]! - at - tcp.headerLen(mem, at)
  const first = (tcp.seq(mem, at) + 1 + data) | 0
  if (data > 0) cutOff(talk, 'data-in-syn')
  if (!stream.started || stream.done !== first) stream.begin(first)
  const mss = tcp.mss(mem, at)
  if (mss !== 0) back.mss = mss
  stream.acknowledged = tcp.ack(mem, at)
}

/** The receiver of what goes in `direction` has everything before `number`, in its numbering. */
function acknowledge(talk: Talk, direction: number, number: number): void {
  const stream = talk.streams[direction as 0 | 1]
  stream.acknowledge(number)
  if (talk.helper !== undefined) return
  // Segments pass that the stream doesn't see.
  endEdits(talk.row, direction, number)
  const has = toSender(talk.row, direction, number)
  if (editsInForce(talk.row, direction) === 0 && before(stream.done, has)) stream.skipTo(has)
}

/** The segment's bytes into the stream, and what is accepted by it out. */
function throughStream(i: number, row: number, base: number, direction: number, line: number, talk: Talk): number {
  const stream = talk.streams[direction as 0 | 1]
  const at = L4[i]!
  const payload = at + tcp.headerLen(mem, at)
  const length = END[i]! - payload
  const seq = tcp.seq(mem, at)
  const end = (seq + length) | 0
  const hasFin = (tcp.flags(mem, at) & tcp.FIN) !== 0
  if (length === 0 && !hasFin) return passOn(i, row, base, direction, line)
  // Old: acknowledged by its receiver, which will say so once more.
  if (length > 0 && !hasFin && !before(stream.una, end)) return passOn(i, row, base, direction, line)
  if (before(stream.next, seq)) return early(i, row, base, direction, line, talk, stream)
  if (((end - stream.next) | 0) > WINDOW) return HELPER_WINDOW

  const doneBefore = stream.done
  const nextBefore = stream.next
  if (hasFin) stream.noteFin(end)
  const isNew = length > 0 && stream.append(bytes, payload, seq, length)
  const isAgain = !isNew && before(stream.done, stream.next) && before(stream.done, end) && before(seq, stream.next)
  if (isAgain && ++stream.heldAgain >= MOST_REPEATS) cutOff(talk, 'held-again')
  else if (isNew || (hasFin && stream.ended)) {
    if (!read(talk, direction)) return HELPER_VERDICT
  }
  if (stream.holds) keepHeaders(i, line, talk, direction)

  // From what this segment repeats, or from what was held until it came, to all that may go on.
  const accepted = stream.done !== doneBefore
  const from = accepted ? least(most(seq, stream.una), doneBefore) : most(seq, stream.una)
  const to = accepted ? stream.done : least(end, stream.done)
  const fin = stream.hasFin && stream.finAt === to && stream.done === to && (hasFin || accepted)
  if (before(to, from) || (to === from && !fin)) return acknowledgementOnly(i, base, direction, line, stream)
  const isWhole = from === seq && to === end && fin === hasFin && !touchesEdit(row, direction, from, to)
  if (isWhole) {
    const known = (least(nextBefore, end) - seq) | 0
    if (known <= 0 || stream.isAccepted(bytes, payload, seq, known)) return passOn(i, row, base, direction, line)
  }
  return sendAccepted(i, base, direction, line, stream, stream.receiverFrom(from), stream.receiverTo(to), fin)
}

/** Behind a gap: kept until that is filled, if somebody reads. */
function early(
  i: number,
  row: number,
  base: number,
  direction: number,
  line: number,
  talk: Talk,
  stream: Stream,
): number {
  if (talk.helper === undefined) return passOn(i, row, base, direction, line)
  const at = L4[i]!
  const payload = at + tcp.headerLen(mem, at)
  const seq = tcp.seq(mem, at)
  const end = (seq + END[i]! - payload) | 0
  if (((end - stream.next) | 0) > WINDOW) return HELPER_WINDOW
  if ((tcp.flags(mem, at) & tcp.FIN) !== 0) stream.noteFin(end)
  if (!stream.keepEarly(bytes, payload, seq, (end - seq) | 0) || bytesKept > MOST_KEPT) cutOff(talk, 'no-memory')
  keepHeaders(i, line, talk, direction)
  return acknowledgementOnly(i, base, direction, line, stream)
}

/** Nothing of the segment goes on now. What it acknowledges does, if that is news: the same again would be a sign of loss. */
function acknowledgementOnly(i: number, base: number, direction: number, line: number, stream: Stream): number {
  counters[CELL.helperHolds]! += 1
  const ack = tcp.ack(mem, L4[i]!)
  if (!before(stream.acknowledged, ack)) return QUEUED
  const number = stream.receiverFrom(stream.done)
  const gone = sendAccepted(i, base, direction, line, stream, number, number, false)
  stream.acknowledged = ack
  return gone === ACCEPT ? QUEUED : gone
}

/** Lets the helper read what is pending, if there still is one; false if it says that the packet is to be dropped. */
function read(talk: Talk, direction: number): boolean {
  const stream = talk.streams[direction as 0 | 1]
  const text = stream.pendingText
  if (text !== '' && talk.helper !== undefined) {
    if (!call(talk, direction, text, stream.ended)) {
      stream.unread()
      return false
    }
    if (talk.helper !== undefined) take(talk, direction, text)
  }
  if (talk.helper === undefined) stream.acceptAll()
  return true
}

/** What the helper has decided of a text that is pending. */
function take(talk: Talk, direction: number, text: string): void {
  const stream = talk.streams[direction as 0 | 1]
  const { mangled, heldFrom, mustWait } = context
  talk.waits[direction as 0 | 1] = mustWait
  if (mustWait) return
  const last = mangled.at(-1)
  const length = Math.max(heldFrom < 0 ? text.length : heldFrom, last === undefined ? 0 : last.at + last.length)
  counters[CELL.helperRewrites]! += mangled.length
  stream.accept(length, mangled)
  if (length > 0) talk.midLine[direction as 0 | 1] = text[length - 1] !== '\n'
  if (context.isDone) cutOff(talk, 'done')
  else if (text.length - length > MOST_HELD) cutOff(talk, 'held-too-much')
  else if (bytesKept > MOST_KEPT || stream.kept > MOST_KEPT_OF_ONE) cutOff(talk, 'no-memory')
}

/** Calls the helper with a text; false: the packet is to be dropped. What else it asked for is in the context. */
function call(talk: Talk, direction: number, text: string, ended: boolean): boolean {
  const helper = talk.helper!
  const { row, state } = talk
  const isTcp = protocolOf(row) === ipv4.PROTO_TCP
  const room = isTcp ? roomForEdits(row, direction) : Number.MAX_SAFE_INTEGER
  context.begin(helper, row, direction, state, text, isTcp && talk.midLine[direction as 0 | 1], ended, room)
  counters[CELL.helperCalls]! += 1
  const began = stopwatch()
  let verdict: unknown
  try {
    verdict = helper.helper.help(context)
  } catch {
    return giveUp(talk, 'threw')
  }
  if (stopwatch() - began > LONGEST_CALL) return giveUp(talk, 'slow')
  if (verdict !== Verdict.Drop && !context.mustWait) return true
  for (const handle of context.made) withdraw(handle)
  return verdict !== Verdict.Drop
}

/** The helper failed: nothing that it did in this call stands. */
function giveUp(talk: Talk, why: CutOff): boolean {
  for (const handle of context.made) withdraw(handle)
  context.mangled.length = 0
  cutOff(talk, why)
  return true
}

// --- ends ---

/** The connection goes on without its helper: what is held is accepted as it is, and goes on when flushed. */
function cutOff(talk: Talk, why: CutOff): void {
  if (talk.helper === undefined) return
  talk.helper = undefined
  cold.helper[talk.row] = 0
  counters[CELL.helperCutOffs + HELPER_CUT_OFFS.indexOf(why)]! += 1
  // Sent by releaseHeld(): at the end of the burst, so that no packet in hand is disturbed.
  if (talk.streams[0].holds || talk.streams[1].holds) {
    holding.add(talk)
    checkHeldAt = 0
  }
}

/** What is held will go on after packet i's headers, as they are before translation. */
function keepHeaders(i: number, line: number, talk: Talk, direction: number): void {
  talk.headers[direction as 0 | 1] = {
    packed: pack(i),
    transport: L4[i]! - AT[i]!,
    way,
    isHairpin: line === HAIRPIN_LINE,
  }
  holding.add(talk)
}

/** After a packet: whether the connection holds anything, and whether there is anything left to do for it. */
function note(talk: Talk, direction: number): void {
  if (!talk.streams[direction as 0 | 1].holds) {
    talk.headers[direction as 0 | 1] = undefined
    if (!talk.streams[(1 - direction) as 0 | 1].holds) holding.delete(talk)
  }
  if (talk.helper === undefined && !holding.has(talk)) endTalk(talk)
}

/** Cut off, and nothing held: once all edits are acknowledged only numbers are adjusted, or not even those. */
function endTalk(talk: Talk): void {
  if (editsInForce(talk.row, 0) > 0 || editsInForce(talk.row, 1) > 0) return
  forget(talk)
  if (!isEdited(talk.row)) hot[(talk.row << CONN_SHIFT) + STATE]! &= ~HELPED
}

/** Somebody holds bytes, and it is time to look whether for too long. */
export const isTimeToRelease = (): boolean => holding.size > 0 && nowMs >= checkHeldAt

/** Bytes held for too long, or whose helper is cut off, go on; what waits for a port asks once more. */
export function releaseHeld(): void {
  checkHeldAt = nowMs + HELD_CHECK_EVERY
  for (const talk of holding) {
    for (const direction of [0, 1] as const) askAgain(talk, direction)
    if (talk.helper !== undefined && talk.streams.some(isOverdue)) cutOff(talk, 'held-too-long')
    if (talk.helper !== undefined) continue
    for (const direction of [0, 1] as const) release(talk, direction)
    holding.delete(talk)
    endTalk(talk)
  }
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

// --- without a stream ---

/** Nobody reads it, or nobody who knew it lives: numbers alone. */
function adjust(i: number, row: number, base: number, direction: number, line: number): number {
  if (!isEdited(row)) {
    cold.helper[row] = 0
    hot[base + STATE]! &= ~HELPED
    return leave(i, base, direction, line)
  }
  const at = L4[i]!
  const seq = tcp.seq(mem, at)
  const length = END[i]! - at - tcp.headerLen(mem, at)
  if (length > 0 && touchesEdit(row, direction, seq, (seq + length) | 0)) return EDIT_LOST
  if ((tcp.flags(mem, at) & tcp.ACK) !== 0) {
    endEdits(row, 1 - direction, tcp.ack(mem, at))
    adjustAcknowledgement(i, row, direction)
  }
  return passOn(i, row, base, direction, line)
}

/** No stream takes it; its header is adjusted if it has one. */
function fragment(
  i: number,
  row: number,
  base: number,
  direction: number,
  line: number,
  talk: Talk | undefined,
): number {
  if (talk?.helper !== undefined) cutOff(talk, 'fragment')
  // Its checksum covers what isn't here, and its bytes may be ones that were rewritten.
  return isEdited(row) ? HELPER_FRAGMENT : leave(i, base, direction, line)
}
