// What a TCP segment does to its connection (nf_conntrack_proto_tcp.c, nf_conntrack_tcp_packet; RFC 9293, RFC 5961, RFC
// 7857). In two steps, so that nothing changes before the segment is sure to go on: examineTcp() gives the verdict and
// stores nothing, applyTcp() stores what the verdict stands for. Both are about the segment in hand
// (tcp-segment.ts). Every store is one i32 that is valid alone; a timeout follows from the state.
//
// Where natloom is stricter than Linux, because whoever guesses must not bend a connection: a SYN/ACK or a reset that
// answers a SYN must acknowledge exactly that (RFC 9293 3.10.7.3); a reset must have the exact number in all states
// in which data may flow, else it goes on and changes nothing, not even the timeout (RFC 5961 3.2), so that its
// receiver can challenge it; a SYN in TIME_WAIT must be ahead of what its end has sent (RFC 9293 3.10.7.4, MAY-2).
//
// Owner: the shard.

import { DROP } from '../counters/drop-reasons.ts'
import type { Row } from '../memory/brand.ts'
import { now } from '../memory/clock.ts'
import * as wire from '../wire/tcp.ts'
import {
  ASSURED,
  type Base,
  baseOf,
  CONN,
  HELPED,
  rowAt,
  SEEN_REPLY,
  SIMULTANEOUS_OPEN,
  stateOf,
  TCP_STATE_MASK,
  TCP_STATE_SHIFT,
} from './connection-table.ts'
import { hot, windows } from './connections.shard.ts'
import { fault } from './fault-points.ts'
import { dequeue } from './queues.shard.ts'
import * as segment from './tcp-segment.ts'
import * as tcp from './tcp-state.ts'
import { shortensAssured, tcpTimeoutOf } from './tcp-timeout.shard.ts'
import { advance, advanceEnd, OVERSHOT, optionsOffered, STALE, TOLERATED, testWindows } from './tcp-window.shard.ts'
import {
  CHALLENGE_EXPECTED,
  CLOSED_FIRST,
  endShift,
  LAST_DIRECTION_SHIFT,
  LAST_KIND_MASK,
  LAST_KIND_SHIFT,
  LAST_WINDOW_MASK,
  LIBERAL,
  MAX_ACK_SET,
  NOTED_MASK,
  NOTED_OPTIONS_SHIFT,
  NOTED_SCALE_SHIFT,
  OFFERS_SCALE,
  RETRANSMISSIONS_MASK,
  SACK_PERMITTED,
  SCALE_MASK,
  WINDOW,
} from './tcp-window-table.ts'
import { ACCEPT, ACCEPT_AND_END, type Direction, opposite, REPEAT, type Verdict } from './terms.ts'

const { state: STATE, lastSeen: LAST_SEEN, timeout: TIMEOUT } = CONN
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
const FLAGS_ILLEGAL = DROP['tcp-flags']
const STATE_INVALID = DROP['tcp-state']
const RESET_INVALID = DROP['tcp-reset']
/** Bits of an end that a noted SYN's are kept as: OFFERS_SCALE and SACK_PERMITTED, beside each other. */
const NOTED_OPTIONS = OFFERS_SCALE | SACK_PERMITTED
const OPTIONS_BIT = 4

let renumber: (row: Row, direction: Direction, number: number) => number = (_row, _direction, number) => number

/** `toSender` turns what acknowledges bytes of a direction into that sender's numbers, where a helper edited them. */
export function onAcknowledgement(toSender: typeof renumber): void {
  renumber = toSender
}

// --- what applyTcp() is to do ---

/** Nothing. */
const PASS = 0
/** The windows move, the state becomes `next`. */
const ADVANCE = 1
/** The state becomes `next`; what the windows say is not to be trusted here. */
const CHANGE = 2
/** The sender's end moves, nothing else. */
const EXCEED = 3
/** A SYN in a live connection is noted: the ends may be about to open a new one. */
const NOTE_SYN = 4
/** An ACK that answers a SYN is noted: it may be a challenge, which a reset follows. */
const NOTE_ACK = 5
/** The SYN/ACK to a noted SYN: the connection begins again by the two. */
const RESYNCHRONISE = 6
/** The challenge that was expected has come. */
const CHALLENGED = 7

let todo = PASS
let next = 0
let mayReopen = true

/**
 * Calls `forward` for a SYN that may not open anew what is closed here: it goes on to its receiver, and if that
 * answers, the two begin a new connection in the old one's row.
 */
export function withoutReopening(forward: (i: number) => Verdict, i: number): Verdict {
  mayReopen = false
  const verdict = forward(i)
  mayReopen = true
  return verdict
}

// What the segment that was examined is, for those who read it too (datapath/helped/).
/** It is within the windows: what it carries and acknowledges can be believed. */
export const isBelieved = (): boolean => todo === ADVANCE || todo === EXCEED
/** A SYN that may be of a connection to come, or that connection's SYN/ACK. */
export const isNotedSyn = (): boolean => todo === NOTE_SYN
/** It changes more than numbers: the state, or what is noted of a SYN. Then it must be intact. */
export const isMomentous = (base: Base): boolean =>
  todo === ADVANCE || todo === CHANGE ? next !== stateOf(hot[base + STATE]!) : todo !== PASS && todo !== EXCEED
export const opensAnew = (): boolean => todo === RESYNCHRONISE

/** What is to become of the segment in hand; stores nothing. */
export function examineTcp(base: Base, direction: Direction): Verdict {
  const { kind } = segment
  todo = PASS
  if (kind === tcp.ILLEGAL) return FLAGS_ILLEGAL
  const word = hot[base + STATE]!
  const state = stateOf(word)
  next = tcp.NEXT_STATE[(direction << 7) | (kind << 4) | state]!
  if (next === tcp.INVALID) {
    const isAnswer = kind === tcp.SYNACK && state >= tcp.TIME_WAIT && answersNotedSyn(base, direction)
    return isAnswer ? examineIgnored(base, direction, state) : STATE_INVALID
  }
  readAcknowledgement(base, direction, word)
  if (next === tcp.IGNORE) return examineIgnored(base, direction, state)
  if (kind === tcp.RST) return examineReset(base, direction, word)
  if (kind === tcp.SYN && state >= tcp.TIME_WAIT && state !== tcp.SYN_SENT2)
    return mayReopen && reopens(base, direction, state) ? REPEAT : examineIgnored(base, direction, state)
  if (next === tcp.TIME_WAIT && state === tcp.LAST_ACK && isChallenge(base, direction)) return will(CHALLENGED)
  // The table can't tell a simultaneous open's last ACK, which may come from either end, from an ordinary one.
  if (next === tcp.SYN_RECV && direction === 1 && kind === tcp.ACK && (word & SIMULTANEOUS_OPEN) !== 0)
    next = tcp.ESTABLISHED
  const verdict = examineWindows(base, direction, state)
  if (kind === tcp.SYNACK && state === tcp.SYN_SENT && !answersSyn(base)) todo = PASS
  return verdict
}

function will(action: number): Verdict {
  todo = action
  return ACCEPT
}

/** SACK blocks count only if their receiver permits them; edited numbers are turned back to their sender's. */
function readAcknowledgement(base: Base, direction: Direction, word: number): void {
  const acknowledged = opposite(direction)
  if (((windows[base + ENDS]! >> endShift(acknowledged)) & SACK_PERMITTED) !== 0) segment.readSack()
  if ((word & HELPED) === 0) return
  const row = rowAt(base)
  segment.renumber(renumber(row, acknowledged, segment.ack), renumber(row, acknowledged, segment.sack))
}

function examineWindows(base: Base, direction: Direction, state: number): Verdict {
  const verdict = testWindows(base, direction, state)
  if (verdict === ACCEPT) return will(ADVANCE)
  if (verdict === STALE) return ACCEPT
  if (verdict === OVERSHOT) return will(EXCEED)
  return verdict === TOLERATED ? will(CHANGE) : verdict
}

/** The segment acknowledges the SYN that opened the connection, or data that came with it (RFC 7413). */
function answersSyn(base: Base): boolean {
  const since = (segment.ack - windows[base + LAST_SEQ]!) | 0
  return since > 0 && ((windows[base + END]! - segment.ack) | 0) >= 0
}

/** What the state table passes without a change of the state: it may be the truth, and the row behind it. */
function examineIgnored(base: Base, direction: Direction, state: number): Verdict {
  const { kind } = segment
  if (kind === tcp.SYNACK && answersNotedSyn(base, direction)) {
    next = tcp.SYN_RECV
    return will(RESYNCHRONISE)
  }
  if (kind === tcp.SYN) return will(NOTE_SYN)
  if (kind === tcp.ACK && direction === 1 && state === tcp.SYN_SENT) return will(NOTE_ACK)
  return ACCEPT
}

const isNoted = (base: Base, kind: number, direction: Direction): boolean =>
  (windows[base + LAST]! & (LAST_KIND_MASK | (1 << LAST_DIRECTION_SHIFT))) === markOf(kind, direction)

/** The noted SYN has gone on with its own number, whatever edits there are of what was sent before. */
const answersNotedSyn = (base: Base, direction: Direction): boolean =>
  isNoted(base, tcp.SYN, opposite(direction)) && segment.ackAsSent === windows[base + LAST_END]

const markOf = (kind: number, direction: Direction): number =>
  ((kind + 1) << LAST_KIND_SHIFT) | (direction << LAST_DIRECTION_SHIFT)

/** An ACK in LAST_ACK from the end that was sent a SYN meanwhile. */
const isChallenge = (base: Base, direction: Direction): boolean =>
  segment.kind === tcp.ACK &&
  isNoted(base, tcp.SYN, opposite(direction)) &&
  (windows[base + LAST]! & CHALLENGE_EXPECTED) !== 0

/** A SYN opens a closed connection anew: after both FINs if it is ahead, after a reset of the same end in any case. */
function reopens(base: Base, direction: Direction, state: number): boolean {
  if (state === tcp.CLOSE && isNoted(base, tcp.RST, direction)) return true
  const ends = windows[base + ENDS]!
  if (((ends | (ends >> endShift(1))) & CLOSED_FIRST) === 0) return false
  return state === tcp.CLOSE || ((segment.seq - windows[base + direction + END]!) | 0) >= 0
}

function examineReset(base: Base, direction: Direction, word: number): Verdict {
  const state = stateOf(word)
  // A second reset keeps nothing alive (RFC 7857 section 7.1).
  if (state === tcp.CLOSE) return ACCEPT
  if (state === tcp.LAST_ACK || state === tcp.TIME_WAIT) return will(CHANGE)
  if (state === tcp.FIN_WAIT || state === tcp.CLOSE_WAIT) return isExactReset(base, direction) ? will(CHANGE) : ACCEPT

  const other = opposite(direction)
  const followsSyn = isNoted(base, tcp.SYN, other)
  const acksSet = ((windows[base + ENDS]! >> endShift(other)) & MAX_ACK_SET) !== 0
  // What was acknowledged before the noted SYN says nothing of an end that answers that; nor has an answer to a SYN
  // that the row doesn't know a number.
  if (acksSet && !followsSyn && (segment.seq !== 0 || state === tcp.ESTABLISHED)) {
    if (((segment.seq - windows[base + other + MAX_ACK]!) | 0) < 0) return RESET_INVALID
    if (state === tcp.ESTABLISHED && !isExactReset(base, direction)) {
      const inWindow = testWindows(base, direction, state)
      return inWindow >= 0 ? inWindow : ACCEPT
    }
  } else if (answersNoted(base, direction, word) || endsChallenge(base, direction, state)) return will(CHANGE)
  if (direction === 1 && (word & SEEN_REPLY) === 0) return examineRefusal(base, state)
  const verdict = examineWindows(base, direction, state)
  if (direction === 1 && state === tcp.SYN_RECV && segment.seq !== windows[base + direction + END]) todo = PASS
  return verdict
}

/** The reset has the number that its receiver waits for, or that of its sender's next byte. */
const isExactReset = (base: Base, direction: Direction): boolean =>
  segment.seq === windows[base + opposite(direction) + MAX_ACK] || segment.seq === windows[base + direction + END]

/** It refuses exactly the SYN or ACK that was passed on though the row could not place it. */
function answersNoted(base: Base, direction: Direction, word: number): boolean {
  if ((segment.flags & wire.ACK) === 0) return false
  if ((word & SEEN_REPLY) !== 0 && answersNotedSyn(base, direction)) return true
  // Of the other end: nobody refuses his own, or two segments with numbers of his choice would end an opening.
  const followsAck = isNoted(base, tcp.ACK, opposite(direction))
  return (word & ASSURED) === 0 && followsAck && segment.ack === windows[base + LAST_END]
}

/** The client resets what challenged its SYN (RFC 5961 section 4.2): its number is what the challenge acknowledged. */
const endsChallenge = (base: Base, direction: Direction, state: number): boolean =>
  state === tcp.SYN_SENT && direction === 0 && isNoted(base, tcp.ACK, 1) && segment.seq === windows[base + LAST_ACK]

/** A reset is the only answer: if it acknowledges the SYN, nobody is there, and the port is free at once. */
function examineRefusal(base: Base, state: number): Verdict {
  const verdict = testWindows(base, 1, state)
  if (verdict >= 0) return verdict
  const refuses = (segment.flags & wire.ACK) !== 0 && answersSyn(base)
  return refuses ? ACCEPT_AND_END : ACCEPT
}

// --- the second step ---

/** The segment that was just examined goes on. */
export function applyTcp(base: Base, direction: Direction): void {
  if (todo === ADVANCE) {
    advance(base, direction)
    enter(base, direction)
  } else if (todo !== PASS) applyRarely(base, direction)
}

function applyRarely(base: Base, direction: Direction): void {
  if (todo === CHANGE) enter(base, direction)
  else if (todo === EXCEED) advanceEnd(base, direction)
  else if (todo === NOTE_SYN) noteSyn(base, direction)
  else if (todo === NOTE_ACK) {
    windows[base + LAST_ACK] = segment.ack
    windows[base + LAST_END] = segment.end
    noteKind(base, direction)
  } else if (todo === CHALLENGED) windows[base + LAST]! &= ~CHALLENGE_EXPECTED
  else resynchronise(base, direction)
}

function noteKind(base: Base, direction: Direction): void {
  const kept = windows[base + LAST]! & ~(LAST_KIND_MASK | (1 << LAST_DIRECTION_SHIFT))
  windows[base + LAST] = kept | markOf(segment.kind, direction)
}

function noteSyn(base: Base, direction: Direction): void {
  const options = optionsOffered()
  const isChallenged = stateOf(hot[base + STATE]!) === tcp.LAST_ACK
  hot[base + STATE]! &= ~SIMULTANEOUS_OPEN
  windows[base + LAST_SEQ] = segment.seq
  windows[base + LAST_END] = segment.end
  windows[base + LAST] =
    segment.windowField |
    markOf(tcp.SYN, direction) |
    (windows[base + LAST]! & RETRANSMISSIONS_MASK) |
    ((options & SCALE_MASK) << NOTED_SCALE_SHIFT) |
    (((options & NOTED_OPTIONS) >> OPTIONS_BIT) << NOTED_OPTIONS_SHIFT) |
    (isChallenged ? CHALLENGE_EXPECTED : 0)
}

/** The ends open a new connection by the tuple of the old one: the row becomes that of the noted SYN and its answer. */
function resynchronise(base: Base, direction: Direction): void {
  const opener = opposite(direction)
  const last = windows[base + LAST]!
  const scale = (last >> NOTED_SCALE_SHIFT) & SCALE_MASK
  const options = ((last >> NOTED_OPTIONS_SHIFT) & 3) << OPTIONS_BIT
  const liberal = windows[base + ENDS]! & ((LIBERAL << endShift(0)) | (LIBERAL << endShift(1)))
  windows[base + ENDS] = liberal | ((scale | options) << endShift(opener))
  windows[base + opener + END] = windows[base + LAST_END]!
  windows[base + opener + MAX_END] = windows[base + LAST_END]!
  windows[base + opener + MAX_WINDOW] = last & LAST_WINDOW_MASK || 1
  windows[base + direction + MAX_WINDOW] = 0
  windows[base + LAST] = last & ~NOTED_MASK
  segment.renumber(segment.ackAsSent, segment.ackAsSent)
  testWindows(base, direction, tcp.SYN_SENT)
  advance(base, direction)
  enter(base, direction)
}

/** The state becomes `next`. */
function enter(base: Base, direction: Direction): void {
  const word = hot[base + STATE]!
  const state = stateOf(word)
  if (segment.kind !== tcp.ACK || todo === CHANGE) noteKind(base, direction)
  if (next === tcp.ESTABLISHED && state === tcp.ESTABLISHED && (word & ASSURED) !== 0) {
    hot[base + LAST_SEEN] = now
    if (shortensAssured) hot[base + TIMEOUT] = tcpTimeoutOf(base)
    return
  }
  change(base, direction, state)
}

function change(base: Base, direction: Direction, state: number): void {
  const replied = (hot[base + STATE]! & SEEN_REPLY) !== 0
  if (direction === 1 && !replied) noteReply(base)
  let word = hot[base + STATE]!
  // A connection that the reply direction has opened anew is established by an ACK of that direction, too.
  if (next === tcp.SYN_SENT2 || (todo === RESYNCHRONISE && direction === 0)) word |= SIMULTANEOUS_OPEN
  const wasOpening = state === tcp.SYN_RECV || state === tcp.ESTABLISHED
  if (next === tcp.ESTABLISHED && wasOpening && (word & SEEN_REPLY) !== 0) word |= ASSURED
  if (next === tcp.FIN_WAIT && state !== tcp.FIN_WAIT) windows[base + ENDS]! |= CLOSED_FIRST << endShift(direction)
  // A SYN sent again without an answer gives the connection no more time. Else lastSeen comes first: if the thread dies
  // here, its successor stores the new state's timeout (timeoutOf), which must not be over already.
  if (next !== tcp.SYN_SENT || replied) hot[base + LAST_SEEN] = now
  hot[base + STATE] = (word & ~TCP_STATE_MASK) | (next << TCP_STATE_SHIFT)
  fault('state changed')
  hot[base + TIMEOUT] = tcpTimeoutOf(base)
}

/** The first packet in the reply direction has come: the connection is no longer one that may be recycled. */
export function noteReply(base: Base): void {
  dequeue(rowAt(base))
  hot[base + STATE]! |= SEEN_REPLY
  fault('reply noted')
}

/** A reset that the gateway itself sends in this direction: the connection is over. */
export function closeTcp(base: Base): void {
  hot[base + LAST_SEEN] = now
  hot[base + STATE] = (hot[base + STATE]! & ~TCP_STATE_MASK) | (tcp.CLOSE << TCP_STATE_SHIFT)
  hot[base + TIMEOUT] = tcpTimeoutOf(base)
}

/** A new row's first segment is of an old connection (`tcp: { pickup: true }`): nobody is strict with either end. */
export function pickUp(row: Row): void {
  const base = baseOf(row)
  const each = SACK_PERMITTED | LIBERAL
  windows[base + ENDS] = (each << endShift(0)) | (each << endShift(1))
  hot[base + STATE] = (hot[base + STATE]! & ~TCP_STATE_MASK) | (tcp.ESTABLISHED << TCP_STATE_SHIFT)
  hot[base + TIMEOUT] = tcpTimeoutOf(base)
}

/** By its state word, TIME_WAIT or CLOSE: over, and kept only so that late segments find their way. */
export function isClosed(word: number): boolean {
  const state = stateOf(word)
  return state === tcp.TIME_WAIT || state === tcp.CLOSE
}
