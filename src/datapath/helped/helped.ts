// Packets of helped connections: between tracking and translation a helper reads them, and may have rewritten what the
// receiver gets (nf_conntrack_helper.c, nf_nat_helper.c; RFC 9293 for what a stream is).
//
//   packet -> track -> acknowledgement adjusted -> its bytes into the stream -> helper -> accepted bytes go on
//                                                                                  |
//                                                              held: a prefix that may become an announcement
//
// Nothing is kept before there are bytes to read: a SYN costs what any other costs, and the streams begin with the
// first data. As long as a helper reads a connection, its segments are sent from the streams (stream.ts), and as they
// came where that makes no difference, which is nearly always. A helper is cut off from a connection that it can't go
// on with: held bytes go on untouched if they may, and when the last edit is acknowledged, only numbers are adjusted.
// After a crash of the shard's thread that is so at once: what the helper knew is lost, what it did to the numbers is
// not.
// Unless the configuration says `pass`, a connection without its helper is watched: what the helper was to rewrite ends
// it.
//
// Owner: this thread.

import { baseOf, CONN, CONN_SHIFT, HELPED } from '../../conntrack/connection-table.ts'
import { cold, hot } from '../../conntrack/connections.shard.ts'
import { isBelieved, isNotedSyn, opensAnew } from '../../conntrack/tcp.shard.ts'
import { sentBy } from '../../conntrack/tcp-window.shard.ts'
import type { Direction, Verdict } from '../../conntrack/terms.ts'
import { ACCEPT, ACCEPT_AND_END, directionOf, opposite, protocolIn, QUEUED, rowOf } from '../../conntrack/terms.ts'
import { CELL } from '../../counters/counters.ts'
import { DROP } from '../../counters/drop-reasons.ts'
import { counters } from '../../counters/own-counters.shard.ts'
import { endConnection } from '../../nat/bindings.shard.ts'
import {
  editsInForce,
  endEdits,
  isEdited,
  repeatsEnded,
  toReceiver,
  toSender,
  touchesEdit,
} from '../../nat/sequence-edits.shard.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import * as tcp from '../../wire/tcp.ts'
import { leave } from '../egress/leave.ts'
import { count, examine, note, transportIntact } from '../egress/tracking.ts'
import { END, FLOW, IP, KEY, KIND, L4, LATER_FRAGMENT, REF } from '../packet/burst.ts'
import { bytes, mem } from '../packet/packet-memory.ts'
import { attachCallBudget, type CallClocks } from './call-budget.ts'
import { payloadText } from './datagrams.ts'
import { endByReset, sendReset } from './endings.ts'
import { goneEnd, isBehindGap, noteSegmentSize } from './gone-bytes.shard.ts'
import { attachHeldBytes, keepHeaders } from './held-bytes.ts'
import {
  attachHelpedConnections,
  beginReading,
  cutOff,
  dropHeaders,
  endHelpIfDone,
  type HelpedConnection,
  helpedConnectionOf,
  holding,
  isRead,
  restartHelp,
} from './helped-connections.ts'
import { keepsTooMuch, read } from './helper-call.ts'
import { WINDOW } from './limits.ts'
import { datagram } from './read-datagrams.ts'
import { adjustAcknowledgement, passOn, sendAccepted, sendWithoutBytes } from './segments.ts'
import { before, least, most } from './sequence.ts'
import type { Stream } from './stream.ts'
import { guardedAddress, hasEnded, isGuarded, segmentNames, whyUnread } from './watch.ts'

const { state: STATE } = CONN
const HELPER_WINDOW = DROP['helper-window']
const HELPER_FRAGMENT = DROP['helper-fragment']
const EDIT_LOST = DROP['edit-lost']
const TCP_CHECKSUM = DROP['tcp-checksum']
const HELPER_FAILED = DROP['helper-failed']

/** `clocks` measure the calls of helpers. */
export function attachHelped(clocks: CallClocks | undefined): void {
  attachHelpedConnections()
  attachCallBudget(clocks)
  attachHeldBytes()
}

/** What becomes of packet i of a helped connection, which leaves by the route in LINE. */
export function forwardHelped(i: number): Verdict {
  const row = rowOf(REF[i]!)
  const direction = directionOf(REF[i]!)
  const base = row << CONN_SHIFT
  const isTcp = protocolIn(KEY[i]!) === ipv4.PROTO_TCP
  if (isTcp && hasEnded(row) && !isSyn(i)) return afterEnd(i)
  // A stream must not take in bytes that were damaged.
  if (isTcp && !transportIntact(i)) return TCP_CHECKSUM
  const verdict = examine(i, base, direction)
  if (verdict !== ACCEPT && verdict !== ACCEPT_AND_END) return verdict
  const length = END[i]! - IP[i]!
  if (isTcp && opensAnew()) return openAnew(i, length)
  const gone = isTcp ? segment(i) : datagram(i)
  // What is dropped here has changed nothing: neither the connection's state, nor its time, nor its counts.
  if (gone >= 0) return gone
  note(i, base, direction)
  count(base, row, direction, length)
  if (verdict === ACCEPT_AND_END) endConnection(row)
  return gone
}

// --- TCP ---

/**
 * The SYN/ACK of a new connection between the old one's endpoints, whose ends have both forgotten that: the helper
 * begins with it anew, and so do the numbers.
 */
function openAnew(i: number, length: number): Verdict {
  const row = rowOf(REF[i]!)
  const direction = directionOf(REF[i]!)
  const base = row << CONN_SHIFT
  note(i, base, direction)
  count(base, row, direction, length)
  restartHelp(row)
  return isRead(row) ? readSyn(i) : leave(i)
}

function segment(i: number): Verdict {
  const row = rowOf(REF[i]!)
  // Its number is a new connection's, if it comes to one.
  // Data in it would go on unread: without, its sender tries again.
  if (isNotedSyn()) return hasBytes(i) && guardedAddress(row, directionOf(REF[i]!)) !== 0 ? HELPER_WINDOW : leave(i)
  if (KIND[i] !== FLOW) return fragment(i)
  if (isSyn(i)) return syn(i)
  const helped = helpedConnectionOf(row)
  if (helped !== undefined) return ofStreams(i, helped)
  return isRead(row) ? beforeStreams(i) : adjust(i)
}

/** A SYN, or a copy of one. */
function syn(i: number): Verdict {
  const row = rowOf(REF[i]!)
  const at = L4[i]!
  if (!isRead(row) && helpedConnectionOf(row) === undefined) return adjust(i)
  const answersNothing = directionOf(REF[i]!) === 1 && (tcp.flags(mem, at) & tcp.ACK) === 0
  // Anybody may say that the other end opens, too, with data that would end the help.
  if (hasBytes(i) && (!isBelieved() || answersNothing)) return HELPER_WINDOW
  if (isBelieved()) return readSyn(i)
  // A late copy, or a forged one, changes nothing.
  if ((tcp.flags(mem, at) & tcp.ACK) !== 0) adjustAcknowledgement(i)
  return passOn(i)
}

/** A SYN of either end. Data in it (RFC 7413) can't be read, and so the helper is cut off. */
function readSyn(i: number): Verdict {
  const row = rowOf(REF[i]!)
  const at = L4[i]!
  const mss = tcp.mss(mem, at)
  if (mss !== 0) noteSegmentSize(row, opposite(directionOf(REF[i]!)), mss)
  if (hasBytes(i)) cutOff(row, 'data-in-syn')
  return isRead(row) ? passOn(i) : unreadSegment(i)
}

/**
 * A helper will read the connection, and nothing has come yet that is to be read: bytes, or the end of a stream. Both
 * ends must have opened it, or they are in no stream.
 */
function beforeStreams(i: number): Verdict {
  const row = rowOf(REF[i]!)
  const direction = directionOf(REF[i]!)
  const at = L4[i]!
  const flags = tcp.flags(mem, at)
  const length = END[i]! - at - tcp.headerLen(mem, at)
  const next = sentBy(baseOf(row), direction)
  const isOpen = next !== undefined && sentBy(baseOf(row), opposite(direction)) !== undefined
  if (!isOpen || (flags & tcp.RST) !== 0) return outsideStream(i)
  const brings = length + ((flags & tcp.FIN) === 0 ? 0 : 1)
  if (!before(next, (tcp.seq(mem, at) + brings) | 0)) return passOn(i)
  if (!isBelieved()) return brings === 0 ? passOn(i) : HELPER_WINDOW
  const helped = beginReading(row)
  return helped === undefined ? unreadSegment(i) : ofStreams(i, helped)
}

/** A segment without a SYN of a connection that has streams. */
function ofStreams(i: number, helped: HelpedConnection): Verdict {
  const direction = directionOf(REF[i]!)
  const stream = helped.streams[direction]
  const at = L4[i]!
  const flags = tcp.flags(mem, at)
  const isGenuine = isBelieved()
  if ((flags & tcp.ACK) !== 0) {
    if (isGenuine) acknowledge(helped, opposite(direction), tcp.ack(mem, at))
    adjustAcknowledgement(i)
  }
  const gone = (flags & tcp.RST) === 0 ? throughStream(i, helped) : outsideStream(i)
  if (gone !== QUEUED && isGenuine) stream.acknowledged = tcp.ack(mem, at)
  noteHeld(helped, direction)
  return gone
}

/** The receiver of what goes in `direction` acknowledges everything before `number`, in its numbering. */
function acknowledge(helped: HelpedConnection, direction: Direction, number: number): void {
  const stream = helped.streams[direction]
  stream.acknowledge(number)
  if (isRead(helped.row)) return
  endEdits(helped.row, direction, number)
  // Where nothing is watched, segments now pass that the stream doesn't see, so it follows the receiver.
  if (guardedAddress(helped.row, direction) !== 0) return
  const has = toSender(helped.row, direction, number)
  if (editsInForce(helped.row, direction) === 0 && before(stream.done, has)) stream.skipTo(has)
}

/** Takes the segment's bytes into the stream, and sends what is accepted then. */
function throughStream(i: number, helped: HelpedConnection): Verdict {
  const { row } = helped
  const direction = directionOf(REF[i]!)
  const stream = helped.streams[direction]
  const at = L4[i]!
  const payload = at + tcp.headerLen(mem, at)
  const length = END[i]! - payload
  const seq = tcp.seq(mem, at)
  const end = (seq + length) | 0
  const hasFin = (tcp.flags(mem, at) & tcp.FIN) !== 0
  if (length === 0 && !hasFin) return passOn(i)
  // An old segment, which its receiver has acknowledged and will acknowledge once more. Its bytes may have been
  // rewritten, by an edit that is forgotten: they don't go out as they were.
  if (length > 0 && !hasFin && !before(stream.una, end)) {
    if (!isEdited(row)) return passOn(i)
    const number = stream.receiverFrom(seq)
    return sendAccepted(i, stream, number, number, false)
  }
  // What it says is new can't be believed: it acknowledges what is long past. Its sender will send it again.
  if (!isBelieved() && before(stream.next, end)) return HELPER_WINDOW
  if (before(stream.next, seq)) return early(i, helped, stream)
  if (((end - stream.next) | 0) > WINDOW) return HELPER_WINDOW

  // Without a helper a stream keeps what its receiver has not acknowledged: for more there is room when it has.
  if (!isRead(row) && keepsTooMuch(stream, length)) return HELPER_WINDOW

  const doneBefore = stream.done
  const nextBefore = stream.next
  if (hasFin && isBelieved()) stream.noteFin(end, true)
  const isNew = length > 0 && stream.append(bytes, payload, seq, length)
  if (isNew || (hasFin && stream.ended)) {
    const verdict = read(helped, direction)
    if (verdict !== ACCEPT) return verdict
  }
  if (stream.holds) keepHeaders(i, helped)

  // From what this segment repeats, or from what was held until it came, to all that may go on.
  const accepted = stream.done !== doneBefore
  const from = accepted ? least(most(seq, stream.una), doneBefore) : most(seq, stream.una)
  const to = accepted ? stream.done : least(end, stream.done)
  const fin = stream.hasFin && stream.finAt === to && stream.done === to && (hasFin || accepted)
  if (before(to, from) || (to === from && !fin)) return acknowledgementOnly(i, stream)
  const isWhole = from === seq && to === end && fin === hasFin && !touchesEdit(row, direction, from, to)
  if (isWhole) {
    const known = (least(nextBefore, end) - seq) | 0
    if (known <= 0 || stream.isAccepted(bytes, payload, seq, known)) return passOn(i)
  }
  return sendAccepted(i, stream, stream.receiverFrom(from), stream.receiverTo(to), fin)
}

/** A segment behind a gap: its bytes are kept until the gap is filled, if a helper reads the connection. */
function early(i: number, helped: HelpedConnection, stream: Stream): Verdict {
  const { row } = helped
  if (!isRead(row) && guardedAddress(row, directionOf(REF[i]!)) === 0) return passOn(i)
  const at = L4[i]!
  const payload = at + tcp.headerLen(mem, at)
  const seq = tcp.seq(mem, at)
  const end = (seq + END[i]! - payload) | 0
  if (((end - stream.next) | 0) > WINDOW) return HELPER_WINDOW
  const hasRoom = stream.mayKeepEarly && !keepsTooMuch(stream, (end - seq) | 0)
  if (!hasRoom && !isRead(row)) return HELPER_WINDOW
  if ((tcp.flags(mem, at) & tcp.FIN) !== 0) stream.noteFin(end, false)
  if (hasRoom) stream.keepEarly(bytes, payload, seq, (end - seq) | 0)
  else cutOff(row, 'no-memory')
  keepHeaders(i, helped)
  return acknowledgementOnly(i, stream)
}

/**
 * None of the segment's bytes go on now. Its acknowledgement does if it acknowledges more than the last one: the same
 * number again would look like a sign of loss.
 */
function acknowledgementOnly(i: number, stream: Stream): Verdict {
  counters[CELL.helperHolds]! += 1
  const ack = tcp.ack(mem, L4[i]!)
  if (!before(stream.acknowledged, ack)) return QUEUED
  const number = stream.receiverFrom(stream.done)
  const gone = sendAccepted(i, stream, number, number, false)
  stream.acknowledged = ack
  return gone === ACCEPT ? QUEUED : gone
}

/** After a packet: notes whether the connection still holds bytes, and forgets it if nothing is left to do for it. */
function noteHeld(helped: HelpedConnection, direction: Direction): void {
  if (!helped.streams[direction].holds) {
    dropHeaders(helped, direction)
    if (!helped.streams[opposite(direction)].holds) holding.delete(helped)
  }
  if (!isRead(helped.row) && !holding.has(helped)) endHelpIfDone(helped)
}

/**
 * A reset, which may have a text (RFC 9293 3.5.3), or a segment before its sender's SYN: their bytes are in no stream,
 * so no receiver takes them for data, and no helper can read them. Where an address is guarded they go out without.
 */
function outsideStream(i: number): Verdict {
  const row = rowOf(REF[i]!)
  if (!isRead(row)) return unreadSegment(i)
  const direction = directionOf(REF[i]!)
  if (!hasBytes(i) || guardedAddress(row, direction) === 0) return passOn(i)
  return sendWithoutBytes(i, toReceiver(row, direction, tcp.seq(mem, L4[i]!)))
}

// --- without a stream ---

/** No helper reads the connection, or what it knew was lost with a thread: only numbers are adjusted. */
function adjust(i: number): Verdict {
  const row = rowOf(REF[i]!)
  const direction = directionOf(REF[i]!)
  if (!isEdited(row) && !isGuarded(row)) {
    cold.helper[row] = 0
    hot[(row << CONN_SHIFT) + STATE]! &= ~HELPED
    return leave(i)
  }
  const at = L4[i]!
  const seq = tcp.seq(mem, at)
  const length = END[i]! - at - tcp.headerLen(mem, at)
  if (length > 0 && touchesEdit(row, direction, seq, (seq + length) | 0)) return EDIT_LOST
  if ((tcp.flags(mem, at) & tcp.ACK) !== 0) {
    if (isBelieved()) endEdits(row, opposite(direction), tcp.ack(mem, at))
    adjustAcknowledgement(i)
  }
  // The original of a rewritten line, sent again although it has arrived: its receiver acknowledges it once more.
  if (length > 0 && !isSyn(i) && repeatsEnded(row, direction, seq))
    return sendWithoutBytes(i, toReceiver(row, direction, seq))
  return unreadSegment(i)
}

/**
 * A segment that is in no stream goes on unless it, with its neighbours, names the inside address that a helper was to
 * rewrite: that ends the connection.
 */
function unreadSegment(i: number): Verdict {
  const row = rowOf(REF[i]!)
  const direction = directionOf(REF[i]!)
  if (guardedAddress(row, direction) === 0) return passOn(i)
  const at = L4[i]!
  const seq = (tcp.seq(mem, at) + (isSyn(i) ? 1 : 0)) | 0
  const text = payloadText(i)
  if (text !== '' && isBehindGap(row, seq)) return HELPER_WINDOW
  if (!segmentNames(row, direction, seq, text)) return passOn(i)
  // Nobody is there yet who could be told; without the data the sender will try again (RFC 7413 4.2.2).
  if (isSyn(i)) return HELPER_FAILED
  endByReset(row, direction, toReceiver(row, direction, goneEnd(row) ?? seq), whyUnread(row))
  return HELPER_FAILED
}

const hasBytes = (i: number): boolean => END[i]! > L4[i]! + tcp.headerLen(mem, L4[i]!)

/** A SYN opens the connection anew. */
const isSyn = (i: number): boolean => KIND[i] === FLOW && (tcp.flags(mem, L4[i]!) & tcp.SYN) !== 0

/** The connection was ended, and an end doesn't know it yet: it is told by the number that it expects. */
function afterEnd(i: number): Verdict {
  const row = rowOf(REF[i]!)
  const direction = directionOf(REF[i]!)
  const at = L4[i]!
  if (KIND[i] === FLOW && (tcp.flags(mem, at) & (tcp.RST | tcp.ACK)) === tcp.ACK)
    sendReset(row, opposite(direction), tcp.ack(mem, at))
  return HELPER_FAILED
}

/** A fragment of a segment, which no stream can take in. */
function fragment(i: number): Verdict {
  const row = rowOf(REF[i]!)
  // A later fragment has no number, a first one may have a forged one: whoever sends those ends no help.
  if (isRead(row) && (KIND[i] === LATER_FRAGMENT || !isBelieved())) return HELPER_FRAGMENT
  cutOff(row, 'fragment')
  // Its checksum covers bytes that are not here, and its own bytes may have to be rewritten. An address may be cut
  // anywhere between two of them, and TCP that comes in fragments is rare: so none is searched, and none goes out.
  if (isEdited(row) || guardedAddress(row, directionOf(REF[i]!)) !== 0) return HELPER_FRAGMENT
  return leave(i)
}
