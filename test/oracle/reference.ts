// A tracker of one connection that decides as netfilter does (nf_conntrack_proto_tcp.c), written for reading: its state
// is an object, and it says of each segment what became of it and why. It is no oracle: it is held against the kernel,
// segment by segment (coverage.ts). It serves to say which cell of the table and which window test a segment has met,
// and lets the generator aim.

import {
  type Segment as Kind,
  NEXT_STATE,
  SEGMENT_OF,
  SEGMENTS,
  TCP_STATES,
  type TcpState,
} from '../../src/conntrack/tcp-state.ts'
import {
  advance,
  beginInTheMiddle,
  beginWithSyn,
  compare,
  type Edges,
  failedTests,
  type Numbers,
  outcomeOf,
  readOffers,
  unknownEdges,
  type WindowTest,
} from './reference-windows.ts'
import { type End, onWire, otherEnd, type Segment, type Sequence, type Side, sideOf } from './script.ts'

export const INVALID_REASONS = [
  'header',
  'checksum',
  'flags',
  'no-entry',
  'state',
  'seq-over',
  'ack-over',
  'rst-under',
] as const
/** Why a segment passes and changes nothing. */
export const IGNORED_REASONS = ['table', 'overshoot', 'seq-under', 'ack-under', 'challenge-ack'] as const
export type Reason = (typeof INVALID_REASONS)[number] | (typeof IGNORED_REASONS)[number] | OtherReason
type OtherReason = 'not-admitted' | 'tracked' | 'syn-again' | 'reset'

export interface Cell {
  readonly reply: boolean
  readonly kind: Kind
  readonly state: TcpState
}

export interface Judged {
  readonly outcome: 'accepted' | 'ignored' | 'invalid'
  readonly reason: Reason
  /** Undefined where the table isn't asked. */
  readonly cell?: Cell
  readonly failed?: readonly WindowTest[]
}

interface Failed {
  readonly failed: readonly WindowTest[]
}

/** What is remembered of the segment before. */
interface Last {
  kind: Kind | undefined
  reply: boolean
  end: number
  ack: number
  window: number
  offers: Numbers['offers']
  /** It was a SYN in LAST_ACK, which its receiver may challenge (RFC 5961 section 4). */
  mayBeChallenged: boolean
}

export interface Entry {
  readonly opener: Side
  state: TcpState
  /** By direction. */
  readonly ends: [Edges, Edges]
  seenReply: boolean
  assured: boolean
  simultaneous: boolean
  readonly last: Last
}

export interface Settings {
  readonly pickup: boolean
  readonly liberal: boolean
  /** Where natloom is meant to differ (docs/decisions/0041), for the reference NAT. */
  readonly strict?: {
    /** A SYN from this side may open a closed connection anew. */
    readonly mayReopen: (from: Side) => boolean
  }
}

const CLOSING: readonly TcpState[] = ['FIN_WAIT', 'CLOSE_WAIT', 'LAST_ACK', 'TIME_WAIT', 'CLOSE']
const FLAG: Record<string, number> = { F: 1, S: 2, R: 4, P: 8, A: 16, U: 32, E: 64, W: 128 }
const REASON = {
  overshoot: 'overshoot',
  over: 'seq-over',
  'ack-over': 'ack-over',
  under: 'seq-under',
  'ack-under': 'ack-under',
} as const
const otherSide = (side: Side): Side => (side === 'inside' ? 'outside' : 'inside')
const isInvalid = (reason: Reason): boolean => (INVALID_REASONS as readonly string[]).includes(reason)

/** undefined: a combination of flags that no segment has. */
const kindOf = ({ flags }: Segment): Kind | undefined =>
  SEGMENTS[SEGMENT_OF[[...flags].reduce((bits, flag) => bits | FLAG[flag]!, 0)]!]

/** By so much the address outside is longer than the one inside, in an announcement (datapath/network.ts). */
export const GAINED = '203,0,113,1'.length - '10,0,0,5'.length

export class ReferenceTracker {
  entry: Entry | undefined
  /** Where the announcements begin that a helper has made longer, in c's numbers. */
  readonly edits: number[] = []
  readonly #sequence: Sequence
  readonly #settings: Settings

  /** Of the sequence it is only asked who is where, and for the initial sequence numbers. */
  constructor(sequence: Sequence, settings: Settings) {
    this.#sequence = sequence
    this.#settings = settings
  }

  judge(segment: Segment): Judged {
    const kind = kindOf(segment)
    if (segment.dataOffset > 0) return { outcome: 'invalid', reason: 'header' }
    if (segment.badChecksum) return { outcome: 'invalid', reason: 'checksum' }
    if (kind === undefined) return { outcome: 'invalid', reason: 'flags' }
    const from = sideOf(this.#sequence, segment.end)
    const entry = this.entry
    if (!entry) return this.#first(segment, kind, from)
    const reply = from !== entry.opener
    const cell = { reply, kind, state: entry.state }
    const judged = this.#track(entry, this.#numbers(segment, reply ? entry.ends[0] : entry.ends[1]), kind, reply)
    // natloom takes only what it believes for an answer.
    const answers = this.#settings.strict ? judged?.outcome === 'accepted' : judged && judged.outcome !== 'invalid'
    if (answers && reply) entry.seenReply = true
    // The gateway forgets the connection and looks at the SYN as at a first packet.
    if (judged && judged.outcome !== 'invalid' && this.#isAnnouncement(segment, entry)) this.edits.push(segment.seq)
    return { ...(judged ?? this.#first(segment, kind, from)), cell }
  }

  #isAnnouncement({ end, seq, text }: Segment, { seenReply }: Entry): boolean {
    const isAnother = compare(seq, this.edits.at(-1) ?? 0) > 0
    return this.#sequence.helped && end === 'c' && seenReply && isAnother && text.startsWith('PORT ')
  }

  /** How much higher than c's numbers an acknowledgment by s is, since a helper has changed lengths. */
  #gainedBefore(end: End, ack: number): number {
    const last = this.edits.at(-1)
    if (end === 'c' || last === undefined) return 0
    // Of all edits the kernel remembers where the last one is (nf_conntrack_seqadj.c).
    return GAINED * (compare(ack - 1, last) > 0 ? this.edits.length : this.edits.length - 1)
  }

  #first(segment: Segment, kind: Kind, from: Side): Judged {
    const cell = { reply: false, kind, state: 'NONE' } as const
    if (from === 'outside' && this.#sequence.opener === 'inside') return { outcome: 'invalid', reason: 'not-admitted' }
    if (kind !== 'syn' && !(kind === 'ack' && this.#settings.pickup))
      return { outcome: 'invalid', reason: 'no-entry', cell }
    const entry: Entry = {
      opener: from,
      state: 'NONE',
      ends: [unknownEdges(), unknownEdges()],
      seenReply: false,
      assured: false,
      simultaneous: false,
      last: { kind: undefined, reply: false, end: 0, ack: 0, window: 0, offers: undefined, mayBeChallenged: false },
    }
    const numbers = this.#numbers(segment, entry.ends[1])
    const [sender] = entry.ends
    sender.end = numbers.end
    sender.maxWin = Math.max(1, numbers.window)
    sender.maxEnd = kind === 'syn' ? numbers.end : (numbers.end + sender.maxWin) >>> 0
    if (kind === 'syn') readOffers(sender, numbers.offers)
    else for (const end of entry.ends) Object.assign(end, { sackOK: true, liberal: true })
    this.entry = entry
    this.edits.length = 0
    return { ...this.#track(entry, numbers, kind, false)!, cell }
  }

  /** undefined: the SYN opens anew, and the entry is gone. */
  #track(entry: Entry, numbers: Numbers, kind: Kind, reply: boolean): Omit<Judged, 'cell'> | undefined {
    const { last } = entry
    const before = entry.state
    let next = nextState(entry, kind, reply)
    const answersNoted = kind === 'synack' && last.kind === 'syn' && last.reply !== reply && numbers.rawAck === last.end
    if (next === 'INVALID') {
      if (!this.#settings.strict || !answersNoted) return { outcome: 'invalid', reason: 'state' }
      next = 'IGNORE'
    }
    if (next === 'SYN_SENT' && (before === 'TIME_WAIT' || before === 'CLOSE')) {
      const isOver = entry.ends.some((end) => end.beganClosing) || (last.kind === 'rst' && last.reply === reply)
      if (isOver && this.#mayReopen(entry, numbers, reply)) {
        this.entry = undefined
        return undefined
      }
      next = 'IGNORE'
    }
    let from: TcpState = before
    if (next === 'IGNORE') {
      const isNoted = !this.#settings.strict || kind === 'syn' || (kind === 'ack' && reply && before === 'SYN_SENT')
      if (!answersNoted && !isNoted) return { outcome: 'ignored', reason: 'table' }
      if (!answersNoted) return ignoredByTable(entry, numbers, kind, reply)
      beginAsNoted(entry)
      from = 'SYN_SENT'
      next = 'SYN_RECV'
    }
    if (next === 'TIME_WAIT' && before === 'LAST_ACK' && kind === 'ack' && isChallenge(entry, reply))
      return { outcome: 'ignored', reason: 'challenge-ack' }
    if (next === 'SYN_SENT2') entry.simultaneous = true
    if (next === 'SYN_RECV' && reply && kind === 'ack' && entry.simultaneous) next = 'ESTABLISHED'

    let failed: readonly WindowTest[] = []
    let skipsWindows = false
    if (kind === 'rst') {
      const reset = judgeReset(entry, numbers, reply)
      if (reset === 'under') return { outcome: 'invalid', reason: 'rst-under' }
      if (reset === 'not exact') next = before
      const mayAnswer = reset === 'unknown' || reset === 'not exact'
      skipsWindows = reset === 'close' || (mayAnswer && answersOutOfSync(entry, numbers, reply, this.#settings))
    }
    if (!skipsWindows) {
      const windows = this.#inWindow(entry, numbers, kind, reply)
      if ('outcome' in windows) return windows
      failed = windows.failed
    }
    return {
      outcome: 'accepted',
      reason: this.#accept(entry, { kind, reply, from, next: next as TcpState }),
      failed,
    }
  }

  #mayReopen({ state, opener, ends }: Entry, { seq }: Numbers, reply: boolean): boolean {
    const { strict } = this.#settings
    if (!strict) return true
    const isAhead = state === 'CLOSE' || compare(seq, ends[reply ? 1 : 0].end) >= 0
    return isAhead && strict.mayReopen(reply ? otherSide(opener) : opener)
  }

  /** The tests that it fails; with a verdict if it is one that somebody minds. */
  #inWindow(entry: Entry, given: Numbers, kind: Kind, reply: boolean): Omit<Judged, 'cell'> | Failed {
    const [sender, receiver] = reply ? [entry.ends[1], entry.ends[0]] : entry.ends
    const before = this.#settings.strict && ([{ ...sender }, { ...receiver }] as const)
    const isOpening = entry.state === 'SYN_SENT' || entry.state === 'SYN_RECV'
    if (given.isSyn && (sender.maxWin === 0 || (isOpening && compare(given.end, sender.end) > 0))) {
      const isFirst = sender.maxWin === 0
      beginWithSyn(sender, receiver, given, reply)
      if (!given.hasAck && (isFirst || reply)) return { failed: [] }
    } else if (sender.maxWin === 0) {
      beginInTheMiddle(sender, receiver, given)
    }
    let { seq, end, ack, sack } = given
    // Some stacks set ACK in resets and leave the number zero.
    if (!given.hasAck || (given.isRst && ack === 0)) ack = sack = receiver.end
    if (given.isRst && seq === 0 && entry.state === 'SYN_SENT') seq = end = sender.end
    const numbers = { ...given, seq, end, ack, sack }
    const failed = failedTests(sender, receiver, numbers)
    const outcome = outcomeOf(failed, sender, receiver, end)
    if (outcome === 'within') {
      advance(sender, receiver, numbers)
      if (kind === 'ack') Object.assign(entry.last, { reply, ack, end, window: given.window })
      return { failed }
    }
    // The kernel keeps what it has begun with a segment that it then doesn't believe.
    if (before) Object.assign(sender, before[0])
    if (before) Object.assign(receiver, before[1])
    if (outcome === 'overshoot') sender.end = end
    if (sender.liberal || this.#settings.liberal) return { failed }
    const reason = REASON[outcome]
    if (!isInvalid(reason)) return { outcome: 'ignored', reason, failed }
    noteInvalidClosing(entry, kind, reply)
    return { outcome: 'invalid', reason, failed }
  }

  #accept(
    entry: Entry,
    { kind, reply, from, next }: { kind: Kind; reply: boolean; from: TcpState; next: TcpState },
  ): Reason {
    const wasSeen = entry.seenReply
    Object.assign(entry.last, { kind, reply })
    entry.state = next
    if (from !== next && next === 'FIN_WAIT') entry.ends[reply ? 1 : 0].beganClosing = true
    if (!wasSeen && kind === 'rst' && (reply || !this.#settings.strict)) {
      this.entry = undefined
      return 'reset'
    }
    if (!wasSeen && kind === 'syn' && from === 'SYN_SENT') return 'syn-again'
    if (wasSeen && next === 'ESTABLISHED' && (from === 'SYN_RECV' || from === 'ESTABLISHED')) entry.assured = true
    return 'tracked'
  }

  #numbers(segment: Segment, receiver: Edges): Numbers {
    const { end, flags, options, length, window } = segment
    const seq = onWire(this.#sequence, end, segment.seq)
    const hasAck = flags.includes('A')
    const other = otherEnd(end)
    const rawAck = hasAck || segment.ack !== 0 ? onWire(this.#sequence, other, segment.ack) : 0
    // The kernel takes the same out of the edges of SACK as out of the acknowledgment.
    const gained = this.#gainedBefore(end, segment.ack)
    const ack = (rawAck - gained) >>> 0
    const sack = receiver.sackOK ? (options.sack ?? []) : []
    const edges = sack.map(([, right]) => onWire(this.#sequence, other, right - gained))
    return {
      seq,
      end: (seq + length + Number(flags.includes('S')) + Number(flags.includes('F'))) >>> 0,
      ack,
      rawAck,
      sack: edges.reduce((highest, edge) => (compare(edge, highest) > 0 ? edge : highest), ack),
      window,
      isSyn: flags.includes('S'),
      isRst: flags.includes('R'),
      hasAck,
      offers:
        Object.keys(options).length === 0 ? undefined : { scale: options.wscale, sackOK: options.sackOK === true },
    }
  }
}

function nextState(entry: Entry, kind: Kind, reply: boolean): TcpState | 'IGNORE' | 'INVALID' {
  const next = NEXT_STATE[(Number(reply) << 7) | (SEGMENTS.indexOf(kind) << 4) | TCP_STATES.indexOf(entry.state)]!
  return TCP_STATES[next] ?? (next === 14 ? 'IGNORE' : 'INVALID')
}

/** The segment passes and is noted: if the peer answers a noted SYN, both know better than the gateway. */
function ignoredByTable(entry: Entry, numbers: Numbers, kind: Kind, reply: boolean): Omit<Judged, 'cell'> {
  const { last } = entry
  const { end, window } = numbers
  Object.assign(last, { kind, reply, end, window })
  if (kind === 'syn' && !reply) {
    entry.simultaneous = false
    Object.assign(last, { offers: numbers.offers, mayBeChallenged: entry.state === 'LAST_ACK' })
  }
  if (entry.state === 'SYN_SENT' && kind === 'ack' && reply) last.ack = numbers.rawAck
  return { outcome: 'ignored', reason: 'table' }
}

/** Both ends are told anew by a SYN that was ignored and the SYN/ACK that answers it. */
function beginAsNoted({ ends, last }: Entry): void {
  const noted = last.reply ? 1 : 0
  const edges = unknownEdges()
  Object.assign(edges, { end: last.end, maxEnd: last.end, maxWin: Math.max(1, last.window) })
  readOffers(edges, last.offers)
  last.mayBeChallenged = false
  const { liberal } = ends[1 - noted]!
  ends[noted] = edges
  ends[1 - noted] = { ...unknownEdges(), liberal }
}

function isChallenge({ last }: Entry, reply: boolean): boolean {
  const isOne = last.reply !== reply && last.kind === 'syn' && last.mayBeChallenged
  if (isOne) last.mayBeChallenged = false
  return isOne
}

/**
 * A reset closes at once what is closing anyway; is below what its receiver has acknowledged; isn't exact, so that its
 * receiver may challenge it; has to be within the windows; or nothing is known to hold it against.
 */
type ResetKind = 'close' | 'under' | 'not exact' | 'check' | 'unknown'

/** RFC 5961 section 3: only a reset with exactly the expected number closes. */
function judgeReset(entry: Entry, { seq }: Numbers, reply: boolean): ResetKind {
  if (CLOSING.includes(entry.state)) return 'close'
  const { maxAck } = entry.ends[reply ? 0 : 1]
  const { last } = entry
  if (maxAck === undefined || last.kind === 'syn') return 'unknown'
  const isEstablished = entry.state === 'ESTABLISHED' && entry.assured
  if (seq === 0 && !isEstablished) return 'check'
  if (compare(seq, maxAck) < 0) return 'under'
  if (!isEstablished || seq === maxAck) return 'check'
  const followsLast = last.kind === 'ack' && last.reply === reply && seq === last.end
  return followsLast ? 'check' : 'not exact'
}

/** A reset that answers something which was let through although the gateway may have been out of sync. */
function answersOutOfSync(entry: Entry, numbers: Numbers, reply: boolean, { strict }: Settings): boolean {
  const { seq, rawAck } = numbers
  const { last } = entry
  const answersSyn = entry.seenReply && last.kind === 'syn' && last.reply !== reply
  const answersAck = !entry.assured && last.kind === 'ack' && (last.reply !== reply || !strict)
  const mayAnswer = numbers.hasAck || !strict
  if (mayAnswer && (answersSyn || answersAck) && rawAck === last.end) return true
  return entry.state === 'SYN_SENT' && last.kind === 'ack' && last.reply && seq === last.ack
}

/** The first FIN or RST that was invalid is remembered: the answer to it must be told from a connection's end. */
function noteInvalidClosing({ assured, last }: Entry, kind: Kind, reply: boolean): void {
  if (!assured || (kind !== 'rst' && kind !== 'fin')) return
  const answersOne = last.reply !== reply && (last.kind === 'fin' || last.kind === 'rst')
  if (!answersOne) Object.assign(last, { kind, reply })
}
