// What a TCP segment does to its connection (nf_conntrack_proto_tcp.c, nf_conntrack_tcp_packet; RFC 9293, RFC 5961, RFC
// 7857). In two steps, so that nothing changes before the segment is sure to go on: examineTcp() gives the verdict and
// stores nothing, applyTcp() stores what the verdict stands for. Both are about the segment in hand
// (tcp-segment.ts). Every store is one i32 that is valid alone; a timeout follows from the state.
//
// Where natloom is stricter than Linux, because whoever guesses must not bend a connection: a SYN/ACK or a reset that
// answers a SYN must acknowledge exactly that (RFC 9293 3.10.7.3); any other reset must have the exact number in every
// state, else it goes on and changes nothing, not even the timeout (RFC 5961 3.2), so that its receiver can challenge
// it; a SYN in TIME_WAIT must be ahead of what its end has sent (RFC 9293 3.10.7.4, MAY-2). A second SYN from outside
// is noted beside the first, and the answer says which of the two it was.
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
import { hot, originOf, windows } from './connections.shard.ts'
import { fault } from './fault-points.ts'
import {
  answersNotedAck,
  answersNotedSyn,
  isChallenge,
  isNoted,
  noteChallenge,
  noteKind,
  noteSyn,
  OPTIONS_BIT,
} from './tcp-noted.shard.ts'
import * as segment from './tcp-segment.ts'
import * as tcp from './tcp-state.ts'
import { shortensAssured, tcpTimeoutOf } from './tcp-timeout.shard.ts'
import {
  advance,
  advanceEnd,
  answersSyn,
  beginSender,
  isFirstOfSender,
  isTolerated,
  OVERSHOT,
  STALE,
  TOLERATED,
  testWindows,
} from './tcp-window.shard.ts'
import {
  CHALLENGE_EXPECTED,
  CLOSED_FIRST,
  endShift,
  FIRST,
  LAST_WINDOW_MASK,
  LIBERAL,
  MAX_ACK_SET,
  NOTED_MASK,
  NOTED_OPTIONS_SHIFT,
  NOTED_SCALE_SHIFT,
  PICKED_UP,
  SACK_PERMITTED,
  SCALE_MASK,
  WINDOW,
} from './tcp-window-table.ts'
import { ACCEPT, ACCEPT_AND_END, type Direction, OUTSIDE, opposite, REPEAT, type Verdict } from './terms.ts'

const { state: STATE, lastSeen: LAST_SEEN, timeout: TIMEOUT } = CONN
const {
  end: END,
  maxEnd: MAX_END,
  maxWindow: MAX_WINDOW,
  maxAck: MAX_ACK,
  lastSeq: LAST_SEQ,
  lastEnd: LAST_END,
  last: LAST,
  ends: ENDS,
} = WINDOW
const FLAGS_ILLEGAL = DROP['tcp-flags']
const STATE_INVALID = DROP['tcp-state']
const RESET_INVALID = DROP['tcp-reset']

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
/** The sender's end moves, the state becomes `next`: nobody is strict with the sender. */
const EXCEED_AND_CHANGE = 8
/** The sender's part of the windows begins, the state becomes `next`: nobody is strict with the sender. */
const BEGIN_AND_CHANGE = 9

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
/** It is within the windows, or nobody is strict with them: what it carries and acknowledges can be believed. */
export const isBelieved = (): boolean =>
  todo === ADVANCE || todo === EXCEED || (isTolerating() && segment.kind !== tcp.RST)
const isTolerating = (): boolean => todo === CHANGE || todo === EXCEED_AND_CHANGE || todo === BEGIN_AND_CHANGE
/** A SYN that may be of a connection to come, or that connection's SYN/ACK. */
export const isNotedSyn = (): boolean => todo === NOTE_SYN
/**
 * It changes more than an ordinary segment of a flow does, which widens windows and begins where its sender has ended,
 * or before: then it must be intact.
 */
export function isMomentous(base: Base, direction: Direction): boolean {
  if (todo === PASS) return false
  if ((todo !== ADVANCE && todo !== CHANGE) || segment.kind !== tcp.ACK || isFirstOfSender()) return true
  const word = hot[base + STATE]!
  const leavesGap = ((windows[base + direction + END]! - segment.seq) | 0) < 0
  if (next !== stateOf(word) || leavesGap) return true
  const replied = (word & SEEN_REPLY) !== 0
  return direction === 1 && !replied ? true : next === tcp.ESTABLISHED && replied && (word & ASSURED) === 0
}
export const opensAnew = (): boolean => todo === RESYNCHRONISE

/** A later fragment of a segment has no numbers of its own: it goes on, and changes nothing. */
export function passUnexamined(): Verdict {
  todo = PASS
  return ACCEPT
}

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
  if (kind === tcp.SYN && isAnotherSyn(base, direction, state)) return will(NOTE_SYN)
  if (kind === tcp.SYNACK && state !== tcp.SYN_RECV && answersAnotherSyn(base, direction)) return will(RESYNCHRONISE)
  const verdict = examineWindows(base, direction, state)
  if (kind === tcp.SYNACK && !isExactAnswer(base, direction, state)) todo = PASS
  return verdict
}

/** The SYN/ACK acknowledges the SYN; after a simultaneous open's first one it is that of the SYN that its end sent. */
function isExactAnswer(base: Base, direction: Direction, state: number): boolean {
  if (direction === 1) return answersSyn(base)
  return state !== tcp.SYN_RECV || segment.end === windows[base + direction + END]
}

/**
 * A SYN from outside with another number than the first one of its end, which nobody has answered: it may be made up,
 * or the first one may be. An inside end that has opened the connection is believed that it begins anew; behind a SYN
 * in its server's name its windows begin with the answer alone, so that its second SYN is noted, too.
 */
function isAnotherSyn(base: Base, direction: Direction, state: number): boolean {
  if (direction === 1) return state === tcp.SYN_SENT2
  const isFirst = windows[base + MAX_WINDOW] === 0 || segment.seq === windows[base + FIRST]
  return !isFirst && (state === tcp.SYN_SENT2 || originOf(rowAt(base)) === OUTSIDE)
}

/** The answer to a noted SYN, and not to the one by which the windows have begun. */
function answersAnotherSyn(base: Base, direction: Direction): boolean {
  if (!answersNotedSyn(base, direction)) return false
  if (direction === 1) return windows[base + LAST_SEQ] !== windows[base + FIRST]
  return windows[base + LAST_END] !== windows[base + END + 1]
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
  if (verdict === OVERSHOT) return will(isTolerated(base, direction) ? EXCEED_AND_CHANGE : EXCEED)
  if (verdict === TOLERATED) return will(isFirstOfSender() ? BEGIN_AND_CHANGE : CHANGE)
  return verdict
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
  if (state >= tcp.FIN_WAIT && state <= tcp.TIME_WAIT)
    return isExactReset(base, direction) ? closes(direction, word, will(CHANGE)) : ACCEPT

  const other = opposite(direction)
  const followsSyn = isNoted(base, tcp.SYN, other)
  const acksSet = ((windows[base + ENDS]! >> endShift(other)) & MAX_ACK_SET) !== 0
  // What was acknowledged before the noted SYN says nothing of an end that answers that; nor has an answer to a SYN
  // that the row doesn't know a number.
  const isComparable = acksSet && !followsSyn && (segment.seq !== 0 || state === tcp.ESTABLISHED)
  if (isComparable && ((segment.seq - windows[base + other + MAX_ACK]!) | 0) < 0) return RESET_INVALID
  if (refusesNotedSyn(base, direction, word)) return will(CHANGE)
  // Nobody has answered the SYN, unless by a SYN of his own.
  if (direction === 1 && (state === tcp.SYN_SENT || state === tcp.SYN_SENT2)) return examineRefusal(base, word)
  const answers = !isComparable && answersNotedAck(base, direction, word)
  const verdict = answers ? will(CHANGE) : examineWindows(base, direction, state)
  if (!isExactReset(base, direction)) todo = PASS
  return closes(direction, word, verdict)
}

/** What has no other answer than a reset ends with it: its port is free at once. */
function closes(direction: Direction, word: number, verdict: Verdict): Verdict {
  const isOnlyAnswer = direction === 1 && (word & SEEN_REPLY) === 0
  return isOnlyAnswer && (todo === ADVANCE || isTolerating()) ? ACCEPT_AND_END : verdict
}

/** The reset has the number that its receiver waits for, or that of its sender's next byte. */
function isExactReset(base: Base, direction: Direction): boolean {
  const other = opposite(direction)
  const isSet = ((windows[base + ENDS]! >> endShift(other)) & MAX_ACK_SET) !== 0
  if (isSet && segment.seq === windows[base + other + MAX_ACK]) return true
  return windows[base + direction + MAX_WINDOW] !== 0 && segment.seq === windows[base + direction + END]
}

/** It refuses exactly the SYN that was passed on though the row could not place it. */
const refusesNotedSyn = (base: Base, direction: Direction, word: number): boolean =>
  (segment.flags & wire.ACK) !== 0 && (word & SEEN_REPLY) !== 0 && answersNotedSyn(base, direction)

/** If the reset acknowledges the SYN, nobody is there. */
function examineRefusal(base: Base, word: number): Verdict {
  if ((segment.flags & wire.ACK) !== 0 && (answersSyn(base) || answersNotedSyn(base, 1)))
    return closes(1, word, will(CHANGE))
  const verdict = testWindows(base, 1, stateOf(word))
  return verdict >= 0 ? verdict : ACCEPT
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
  if (todo === EXCEED || todo === EXCEED_AND_CHANGE) advanceEnd(base, direction)
  if (todo === BEGIN_AND_CHANGE) beginSender(base, direction)
  if (isTolerating()) enter(base, direction)
  else if (todo === NOTE_SYN) noteSyn(base, direction)
  else if (todo === NOTE_ACK) noteChallenge(base, direction)
  else if (todo === CHALLENGED) windows[base + LAST]! &= ~CHALLENGE_EXPECTED
  else if (todo === RESYNCHRONISE) resynchronise(base, direction)
}

/** The ends open a new connection by the tuple of the old one: the row becomes that of the noted SYN and its answer. */
function resynchronise(base: Base, direction: Direction): void {
  const opener = opposite(direction)
  const last = windows[base + LAST]!
  const scale = (last >> NOTED_SCALE_SHIFT) & SCALE_MASK
  const options = ((last >> NOTED_OPTIONS_SHIFT) & 3) << OPTIONS_BIT
  const ends = windows[base + ENDS]!
  // Of one that was picked up nobody is strict with what its SYN didn't tell. Now the opener's has.
  const wasPickedUp = (ends & (PICKED_UP << endShift(opener))) !== 0
  const kept = ((LIBERAL | PICKED_UP) << endShift(direction)) | (wasPickedUp ? 0 : LIBERAL << endShift(opener))
  windows[base + ENDS] = (ends & kept) | ((scale | options) << endShift(opener))
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
  if (segment.kind !== tcp.ACK || todo !== ADVANCE) noteKind(base, direction)
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
  if (next === tcp.ESTABLISHED && wasOpening && replied) word |= ASSURED
  if (next === tcp.FIN_WAIT && state !== tcp.FIN_WAIT) windows[base + ENDS]! |= CLOSED_FIRST << endShift(direction)
  // A SYN sent again without an answer gives the connection no more time. Else lastSeen comes first: if the thread dies
  // here, its successor stores the new state's timeout (timeoutOf), which must not be over already.
  if (next !== tcp.SYN_SENT || replied) hot[base + LAST_SEEN] = now
  hot[base + STATE] = (word & ~TCP_STATE_MASK) | (next << TCP_STATE_SHIFT)
  fault('state changed')
  hot[base + TIMEOUT] = tcpTimeoutOf(base)
}

/** The first packet in the reply direction has come. */
export function noteReply(base: Base): void {
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
  const each = SACK_PERMITTED | LIBERAL | PICKED_UP
  windows[base + ENDS] = (each << endShift(0)) | (each << endShift(1))
  hot[base + STATE] = (hot[base + STATE]! & ~TCP_STATE_MASK) | (tcp.ESTABLISHED << TCP_STATE_SHIFT)
  hot[base + TIMEOUT] = tcpTimeoutOf(base)
}
