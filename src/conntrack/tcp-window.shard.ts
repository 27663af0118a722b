// The window tests of TCP (nf_conntrack_proto_tcp.c, tcp_in_window; Guido van Rooij, "Real Stateful TCP Packet
// Filtering in IP Filter"): whether the segment in hand carries bytes that its receiver can want, and acknowledges
// bytes that its sender can have seen. Of the sender S and the receiver R of the segment [seq, end), which acknowledges
// up to sack:
//
//   I    seq  <= S.maxEnd                               no more than R has offered room for
//   II   end  >= S.end - R.maxWindow                    no older than what R may still have to acknowledge again
//   III  sack <= R.end                                  nothing that R has not sent
//   IV   sack >= R.end - max(66000, S.maxWindow)        no older than what may be under way
//
// Testing stores nothing: what it has worked out waits in this module for advance(). Owner: the shard; the variables
// are those of the segment in hand.

import { DROP } from '../counters/drop-reasons.ts'
import * as tcp from '../wire/tcp.ts'
import type { Base } from './connection-table.ts'
import { windows } from './connections.shard.ts'
import * as segment from './tcp-segment.ts'
import { ACK as ACK_KIND, SYN_RECV, SYN_SENT, SYN_SENT2, SYNACK } from './tcp-state.ts'
import {
  endShift,
  FIRST,
  LAST_DIRECTION_SHIFT,
  LAST_KIND_MASK,
  LAST_KIND_SHIFT,
  LAST_REPEATS,
  LAST_WINDOW_MASK,
  LIBERAL,
  MAX_ACK_SET,
  NOTED_MASK,
  OFFERS_SCALE,
  PICKED_UP,
  RETRANSMISSIONS_MASK,
  RETRANSMISSIONS_SHIFT,
  SACK_PERMITTED,
  SCALE_MASK,
  UNACKNOWLEDGED,
  WINDOW,
  WINDOW_WORDS,
} from './tcp-window-table.ts'
import { ACCEPT, type Direction, type Verdict } from './terms.ts'

const {
  end: END,
  maxEnd: MAX_END,
  maxWindow: MAX_WINDOW,
  maxAck: MAX_ACK,
  lastSeq: LAST_SEQ,
  lastEnd: LAST_END,
  lastAck: LAST_ACK,
  last: LAST,
  ends: ENDS,
} = WINDOW

const SEQ_OVER = DROP['tcp-seq-over']
const ACK_OVER = DROP['tcp-ack-over']
/** How old an acknowledgement may be at least: a segment of 64 KB is old by that much when it is acknowledged twice. */
export const OLDEST_ACK = 66000
const MOST_RETRANSMISSIONS = 3

// --- what the tests say, besides ACCEPT and drop reasons ---

/** II or IV fails: the segment goes on, and changes nothing. */
export const STALE = -16
/** Only I fails, by no more than R's window: it goes on, and R may acknowledge it. */
export const OVERSHOT = -17
/** Something fails, of a sender to whom nobody is strict: it goes on, and moves no window. */
export const TOLERATED = -18

let isLiberal = false

/** `liberal`: nothing is dropped by these tests. */
export function attachWindows(liberal: boolean): void {
  isLiberal = liberal
}

// How the sender's part of the window line begins with this segment.
const KNOWN = 0
const BY_SYN = 1
/** In mid-stream, by what the segment says. */
const BY_DATA = 2

let begins = KNOWN
/** The receiver's end, where the segment tells of it. */
let receiverEnd = 0
/** The segment's numbers as the tests take them. */
let end = 0
let ack = 0
let sack = 0

const before = (a: number, b: number): boolean => ((a - b) | 0) < 0

/** Tests the segment in hand against the windows of the connection at `base`, which is in this state. */
export function testWindows(base: Base, direction: Direction, state: number): Verdict {
  const sender = base + direction
  const receiver = base + 1 - direction
  const isSyn = (segment.flags & tcp.SYN) !== 0
  const hasAck = (segment.flags & tcp.ACK) !== 0
  const receiverMaxWindow = windows[receiver + MAX_WINDOW]! >>> 0
  let senderEnd = windows[sender + END]!
  let maxEnd = windows[sender + MAX_END]!
  let maxWindow = windows[sender + MAX_WINDOW]! >>> 0
  let seq = segment.seq
  end = segment.end
  ack = segment.ack
  sack = segment.sack
  receiverEnd = windows[receiver + END]!
  begins = KNOWN
  if (isSyn && (maxWindow === 0 || beginsAnew(base, direction, state))) {
    begins = BY_SYN
    senderEnd = end
    maxEnd = end
    maxWindow = segment.windowField || 1
    // The first SYN, or that of a simultaneous open: there is nothing to compare it with.
    if (!hasAck) return ACCEPT
  } else if (maxWindow === 0) {
    begins = BY_DATA
    senderEnd = end
    maxWindow = segment.windowField << scaleOf(base, direction) || 1
    maxEnd = (end + maxWindow) | 0
    // What the other end has sent is not known yet: what is acknowledged here; a keep-alive's answer has one byte more.
    if (receiverMaxWindow === 0 || sack === ((receiverEnd + 1) | 0)) receiverEnd = sack
  }
  // Without an acknowledgement there is nothing to test; some ends set the flag in a reset, and no number.
  if (!hasAck || (ack === 0 && (segment.flags & tcp.RST) !== 0)) ack = sack = receiverEnd
  // A reset that answers a SYN has no number of its own.
  if (seq === 0 && state === SYN_SENT && (segment.flags & tcp.RST) !== 0) seq = end = senderEnd

  const isNotTooOld = !before(sack, (receiverEnd - Math.max(OLDEST_ACK, maxWindow)) | 0)
  const isWanted = receiverMaxWindow === 0 || !before(end, (senderEnd - receiverMaxWindow) | 0)
  const isKnown = !before(receiverEnd, sack)
  if (before(maxEnd, seq)) {
    const excess = (end - maxEnd + 1) | 0
    const isSlight = isWanted && isNotTooOld && isKnown && receiverMaxWindow !== 0 && excess <= receiverMaxWindow
    if (isSlight && excess > 0) return OVERSHOT
    return isTolerated(base, direction) ? TOLERATED : SEQ_OVER
  }
  if (!isKnown) return isTolerated(base, direction) ? TOLERATED : ACK_OVER
  if (isWanted && isNotTooOld) return ACCEPT
  return isTolerated(base, direction) ? TOLERATED : STALE
}

/**
 * A SYN begins its end's windows once more: with another number than the first, while nobody has answered; or in answer
 * to the other end's, whatever has come in that end's name before (somebody may have made up a simultaneous open).
 */
function beginsAnew(base: Base, direction: Direction, state: number): boolean {
  const isAhead = before(windows[base + direction + END]!, segment.end)
  if (state === SYN_SENT2) return direction === 1 && segment.kind === SYNACK && answersSyn(base)
  if (state === SYN_SENT && direction === 0) return isAhead || segment.seq !== windows[base + FIRST]
  return isAhead && (state === SYN_SENT || state === SYN_RECV)
}

/** The segment acknowledges the SYN that opened the connection, or data that came with it (RFC 7413). */
export function answersSyn(base: Base): boolean {
  const since = (segment.ack - windows[base + FIRST]!) | 0
  return since > 0 && ((windows[base + END]! - segment.ack) | 0) >= 0
}

/** Nobody is strict with the end that sends in `direction`. */
export const isTolerated = (base: Base, direction: Direction): boolean =>
  isLiberal || ((windows[base + ENDS]! >> endShift(direction)) & LIBERAL) !== 0

/** A new row: nothing is known of either end. `liberally`: nobody is strict with them. */
export function beginWindows(base: Base, liberally: boolean): void {
  windows.fill(0, base, base + WINDOW_WORDS)
  if (liberally) windows[base + ENDS] = (LIBERAL << endShift(0)) | (LIBERAL << endShift(1))
}

/** One past the highest byte that the end has sent, in its own numbers; undefined if it has not sent anything. */
export const sentBy = (base: Base, direction: Direction): number | undefined =>
  windows[base + direction + MAX_WINDOW] === 0 ? undefined : windows[base + direction + END]

/** What the end has acknowledged at most, in the other one's numbers; undefined if it has not acknowledged anything. */
export const acknowledgedBy = (base: Base, direction: Direction): number | undefined =>
  (windows[base + ENDS]! & (MAX_ACK_SET << endShift(direction))) === 0 ? undefined : windows[base + direction + MAX_ACK]

const scaleOf = (base: Base, direction: Direction): number =>
  (windows[base + ENDS]! >> endShift(direction)) & SCALE_MASK

/** The segment that was just tested is the first that tells of its sender's numbers, or tells them anew. */
export const isFirstOfSender = (): boolean => begins !== KNOWN

/** The segment that was just tested has passed all tests, and is going on: the windows move. */
export function advance(base: Base, direction: Direction): void {
  const sender = base + direction
  const receiver = base + 1 - direction
  if (begins !== KNOWN) beginSender(base, direction)
  const isSyn = (segment.flags & tcp.SYN) !== 0
  // A SYN that acknowledges nothing says nothing of the other end.
  if (begins === BY_SYN && (segment.flags & tcp.ACK) === 0) return
  const window = isSyn ? segment.windowField : segment.windowField << scaleOf(base, direction)
  let ends = windows[base + ENDS]!

  // With SACK it may be more than half of all numbers, as in netfilter: a word without a sign.
  const offered = window + ((sack - ack) >>> 0)
  if (windows[sender + MAX_WINDOW]! >>> 0 < offered) windows[sender + MAX_WINDOW] = offered
  const repeats = before(segment.seq, windows[sender + END]!)
  if (before(windows[sender + END]!, end)) {
    windows[sender + END] = end
    ends |= UNACKNOWLEDGED << endShift(direction)
  }
  if ((segment.flags & tcp.ACK) !== 0) {
    const isFirst = (ends & (MAX_ACK_SET << endShift(direction))) === 0
    if (isFirst || before(windows[sender + MAX_ACK]!, ack)) windows[sender + MAX_ACK] = ack
    ends |= MAX_ACK_SET << endShift(direction)
  }

  const excess = (end - windows[sender + MAX_END]!) | 0
  if (excess > 0 && windows[receiver + MAX_WINDOW] !== 0) windows[receiver + MAX_WINDOW]! += excess
  // At least one byte beyond a closed window: that of a probe.
  const edge = (sack + (window || 1)) | 0
  if (before(windows[receiver + MAX_END]!, edge)) windows[receiver + MAX_END] = edge
  if (ack === windows[receiver + END]) ends &= ~(UNACKNOWLEDGED << endShift(1 - direction))
  if (ends !== windows[base + ENDS]) windows[base + ENDS] = ends
  if (segment.kind === ACK_KIND) noteAcknowledgement(base, direction, repeats ? LAST_REPEATS : 0)
}

/** Only I has failed: what the sender has sent too much may be acknowledged. */
export function advanceEnd(base: Base, direction: Direction): void {
  windows[base + direction + END] = segment.end
  windows[base + ENDS]! |= UNACKNOWLEDGED << endShift(direction)
}

/** More of a segment that has advanced or exceeded the windows has come: it ends here at least. */
export function extendEnd(base: Base, direction: Direction, to: number): void {
  if (!before(windows[base + direction + END]!, to)) return
  windows[base + direction + END] = to
  windows[base + ENDS]! |= UNACKNOWLEDGED << endShift(direction)
}

/** The segment that was just tested tells of its sender first. */
export function beginSender(base: Base, direction: Direction): void {
  const sender = base + direction
  const receiver = base + 1 - direction
  if (begins === BY_SYN) {
    windows[sender + MAX_WINDOW] = segment.windowField || 1
    windows[sender + END] = end
    windows[sender + MAX_END] = end
    if (direction === 0 && (segment.flags & tcp.ACK) === 0) windows[base + FIRST] = segment.seq
    beginOptions(base, direction)
    return
  }
  const window = segment.windowField << scaleOf(base, direction) || 1
  windows[sender + MAX_WINDOW] = window
  windows[sender + END] = end
  windows[sender + MAX_END] = (end + window) | 0
  windows[receiver + END] = receiverEnd
  if (windows[receiver + MAX_WINDOW] === 0) windows[receiver + MAX_END] = receiverEnd
}

/** What a SYN says in its options; both ends must offer to scale, else neither does (RFC 7323 2.2). */
function beginOptions(base: Base, direction: Direction): void {
  const mine = endShift(direction)
  const theirs = endShift(1 - direction)
  let ends = (windows[base + ENDS]! & ~(0xffff << mine)) | (windows[base + ENDS]! & ((LIBERAL | PICKED_UP) << mine))
  ends |= optionsOffered() << mine
  const bothScale = (ends & (OFFERS_SCALE << mine)) !== 0 && (ends & (OFFERS_SCALE << theirs)) !== 0
  if (direction === 1 && !bothScale) ends &= ~((SCALE_MASK << mine) | (SCALE_MASK << theirs))
  windows[base + ENDS] = ends
}

/** The bits of an end (tcp-window-table.ts) that the SYN in hand tells. */
export function optionsOffered(): number {
  const scale = segment.scaleOffered()
  return (scale < 0 ? 0 : scale | OFFERS_SCALE) | (segment.permitsSack() ? SACK_PERMITTED : 0)
}

/** Remembers an ordinary segment: the same one several times in a row is repeated in vain. */
function noteAcknowledgement(base: Base, direction: Direction, repeats: number): void {
  const last = windows[base + LAST]!
  const mark = segment.windowField | ((ACK_KIND + 1) << LAST_KIND_SHIFT) | (direction << LAST_DIRECTION_SHIFT)
  const isSame =
    (last & (LAST_WINDOW_MASK | LAST_KIND_MASK | (1 << LAST_DIRECTION_SHIFT))) === mark &&
    windows[base + LAST_SEQ] === segment.seq &&
    windows[base + LAST_ACK] === ack &&
    windows[base + LAST_END] === end
  if (isSame) {
    const times = (last & RETRANSMISSIONS_MASK) >> RETRANSMISSIONS_SHIFT
    const more = times < MOST_RETRANSMISSIONS ? 1 << RETRANSMISSIONS_SHIFT : 0
    windows[base + LAST] = (last + more) | repeats
    return
  }
  windows[base + LAST_SEQ] = segment.seq
  windows[base + LAST_ACK] = ack
  windows[base + LAST_END] = end
  windows[base + LAST] = (last & NOTED_MASK) | mark | repeats
}
