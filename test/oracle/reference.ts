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
import { type Policy, THE_KERNELS } from './policy.ts'
import { beginEntry, copyOf, type Entry } from './reference-entry.ts'
import { answersOutOfSync, judgeReset, mayClose } from './reference-resets.ts'
import {
  answersAnotherSyn,
  answersNotedSyn,
  beginAsNoted,
  beginsAnew,
  isAnotherSyn,
  isChallenge,
  isExactAnswer,
} from './reference-syns.ts'
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
type OtherReason = 'not-admitted' | 'tracked' | 'syn-again' | 'reset' | 'corrupted'

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
  readonly exceeds?: boolean | undefined
}

interface Failed {
  readonly failed: readonly WindowTest[]
  /** It has sent a little more than it was offered room for, and nobody is strict with it. */
  readonly exceeds?: boolean
}

export interface Settings {
  readonly pickup: boolean
  readonly liberal: boolean
  /** A SYN from outside may open a closed connection anew. It may, if nothing is said. */
  readonly reopens?: boolean
}

const CLOSED: readonly TcpState[] = ['TIME_WAIT', 'CLOSE']
const FLAG: Record<string, number> = { F: 1, S: 2, R: 4, P: 8, A: 16, U: 32, E: 64, W: 128 }
const REASON = {
  overshoot: 'overshoot',
  over: 'seq-over',
  'ack-over': 'ack-over',
  under: 'seq-under',
  'ack-under': 'ack-under',
} as const
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

  readonly #policies: ReadonlySet<Policy>

  /** Of the sequence it is only asked who is where, and for the initial sequence numbers. */
  constructor(sequence: Sequence, settings: Settings, policies = THE_KERNELS) {
    this.#sequence = sequence
    this.#settings = settings
    this.#policies = policies
  }

  judge(segment: Segment): Judged {
    const kind = kindOf(segment)
    if (segment.dataOffset > 0) return { outcome: 'invalid', reason: 'header' }
    if (segment.badChecksum) return this.#judgeCorrupted(segment, kind)
    if (kind === undefined) return { outcome: 'invalid', reason: 'flags' }
    const from = sideOf(this.#sequence, segment.end)
    const entry = this.entry
    if (!entry) return this.#first(segment, kind, from)
    const reply = from !== entry.opener
    const cell = { reply, kind, state: entry.state }
    const judged = this.#track(entry, this.#numbers(segment, reply ? entry.ends[0] : entry.ends[1]), kind, reply)
    const isReply = this.#policies.has('replies') ? judged?.outcome === 'accepted' : judged?.outcome !== 'invalid'
    if (judged && isReply && reply && this.entry) entry.seenReply = true
    // The gateway forgets the connection and looks at the SYN as at a first packet.
    if (judged && judged.outcome !== 'invalid' && this.#isAnnouncement(segment, entry)) this.edits.push(segment.seq)
    return { ...(judged ?? this.#first(segment, kind, from)), cell }
  }

  /** Whatever it would change beyond the windows of a flow it may not. */
  #judgeCorrupted(segment: Segment, kind: Kind | undefined): Judged {
    const corrupted = { outcome: 'invalid', reason: 'checksum' } as const
    const before = this.entry && copyOf(this.entry)
    if (!before || kind === undefined || this.#sequence.helped || !this.#policies.has('corrupted')) return corrupted
    const judged = this.judge({ ...segment, badChecksum: false })
    const after = this.entry
    const reply = sideOf(this.#sequence, segment.end) !== before.opener
    const sender = before.ends[reply ? 1 : 0]
    const leavesGap = compare(onWire(this.#sequence, segment.end, segment.seq), sender.end) > 0
    const isKnown = kind === 'ack' && judged.outcome === 'accepted' && sender.maxWin > 0
    const isOrdinary = isKnown && !judged.exceeds && !leavesGap
    const changesState = describeEntry(before) !== describeEntry(after)
    const isNoted = judged.reason === 'table' && (kind === 'syn' || (kind === 'ack' && before.state === 'SYN_SENT'))
    const isStored = ['overshoot', 'challenge-ack'].includes(judged.reason)
    const changesNothing = judged.outcome === 'ignored' && !isStored && !isNoted
    if ((isOrdinary && !changesState) || changesNothing) return { ...judged, reason: 'corrupted' }
    this.entry = before
    return corrupted
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
    if (!this.#isAdmitted(from)) return { outcome: 'invalid', reason: 'not-admitted' }
    const isPickedUp = kind === 'ack' && this.#settings.pickup && (from === 'inside' || !this.#policies.has('outside'))
    if (kind !== 'syn' && !isPickedUp) return { outcome: 'invalid', reason: 'no-entry', cell }
    const entry = beginEntry(from)
    const numbers = this.#numbers(segment, entry.ends[1])
    const [sender] = entry.ends
    sender.end = numbers.end
    entry.first = numbers.seq
    sender.maxWin = Math.max(1, numbers.window)
    sender.maxEnd = kind === 'syn' ? numbers.end : (numbers.end + sender.maxWin) >>> 0
    if (kind === 'syn') readOffers(sender, numbers.offers)
    else for (const end of entry.ends) Object.assign(end, { sackOK: true, liberal: true })
    // What it acknowledges is all that tells a reset of the other end from a forged one.
    if (kind !== 'syn' && this.#policies.has('exact-resets'))
      Object.assign(entry.ends[1], { end: numbers.ack, maxEnd: numbers.ack })
    this.entry = entry
    this.edits.length = 0
    return { ...this.#track(entry, numbers, kind, false)!, cell }
  }

  #isAdmitted(from: Side): boolean {
    return from === 'inside' || this.#sequence.opener === 'outside'
  }

  /** undefined: the SYN opens anew, and the entry is gone. */
  #track(entry: Entry, numbers: Numbers, kind: Kind, reply: boolean): Omit<Judged, 'cell'> | undefined {
    const before = entry.state
    let next = nextState(entry, kind, reply)
    const answersNoted = kind === 'synack' && answersNotedSyn(entry, numbers, reply, this.#policies)
    if (next === 'INVALID' && CLOSED.includes(before) && this.#policies.has('reopening') && answersNoted)
      next = 'IGNORE'
    if (next === 'INVALID') return { outcome: 'invalid', reason: 'state' }
    if (next === 'SYN_SENT' && CLOSED.includes(before)) {
      if (this.#reopens(entry, numbers, reply)) {
        this.entry = undefined
        return undefined
      }
      next = 'IGNORE'
    }
    let from: TcpState = before
    const opensAnother = kind === 'synack' && answersAnotherSyn(entry, numbers, reply, this.#policies)
    const isAnother = kind === 'syn' && this.#policies.has('syns') && isAnotherSyn(entry, numbers, reply)
    if (next === 'IGNORE' || isAnother || opensAnother) {
      if (!answersNoted) return this.#ignoredByTable(entry, numbers, kind, reply)
      beginAsNoted(entry)
      if (!reply) entry.simultaneous = true
      from = 'SYN_SENT'
      next = 'SYN_RECV'
    }
    if (next === 'TIME_WAIT' && before === 'LAST_ACK' && isChallenge(entry, kind, reply))
      return { outcome: 'ignored', reason: 'challenge-ack' }
    if (next === 'SYN_SENT2') entry.simultaneous = true
    if (next === 'SYN_RECV' && reply && kind === 'ack' && entry.simultaneous) next = 'ESTABLISHED'

    const { ends, last: noted } = copyOf(entry)
    let failed: readonly WindowTest[] = []
    let exceeds: boolean | undefined = false
    let skipsWindows = false
    const mustAnswer = kind === 'synack' && from === before && this.#policies.has('synacks')
    let isExact = !mustAnswer || opensAnother || isExactAnswer(entry, numbers, reply)
    if (kind === 'rst') {
      const reset = judgeReset(entry, numbers, reply, this.#policies)
      if (reset === 'under') return { outcome: 'invalid', reason: 'rst-under' }
      if (reset === 'ignore') return { outcome: 'ignored', reason: 'reset' }
      if (reset === 'not exact') next = before
      const mayAnswer = reset === 'unknown' || (reset === 'not exact' && !this.#policies.has('exact-resets'))
      skipsWindows = reset === 'close' || (mayAnswer && answersOutOfSync(entry, numbers, reply, this.#policies))
      isExact = mayClose(entry, numbers, reply, { reset, policies: this.#policies })
      if (skipsWindows && !isExact) return { outcome: 'ignored', reason: 'reset' }
    }
    if (!skipsWindows) {
      const windows = this.#inWindow(entry, numbers, kind, reply)
      const isUnbelieved = 'outcome' in windows && windows.reason !== 'overshoot' && this.#policies.has('notes')
      if (!isExact || isUnbelieved) Object.assign(entry, { ends, last: noted })
      if (!isExact && !('outcome' in windows && windows.outcome === 'invalid'))
        return { outcome: 'ignored', reason: kind === 'rst' ? 'reset' : 'table' }
      if ('outcome' in windows) return windows
      ;({ failed, exceeds } = windows)
    }
    return {
      outcome: 'accepted',
      reason: this.#accept(entry, numbers, { kind, reply, from, next: next as TcpState }),
      failed,
      exceeds,
    }
  }

  /** The tests that it fails; with a verdict if it is one that somebody minds. */
  #inWindow(entry: Entry, given: Numbers, kind: Kind, reply: boolean): Omit<Judged, 'cell'> | Failed {
    const [sender, receiver] = reply ? [entry.ends[1], entry.ends[0]] : entry.ends
    if (given.isSyn && (sender.maxWin === 0 || beginsAnew(entry, given, reply, this.#policies))) {
      const isFirst = sender.maxWin === 0
      beginWithSyn(sender, receiver, given, reply)
      if (!reply && !given.hasAck) entry.first = given.seq
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
      if (kind === 'ack') Object.assign(entry.last, { reply, seq: given.seq, ack, end, window: given.window })
      return { failed }
    }
    if (outcome === 'overshoot') sender.end = end
    if (sender.liberal || this.#settings.liberal) return { failed, exceeds: outcome === 'overshoot' }
    const reason = REASON[outcome]
    if (!isInvalid(reason)) return { outcome: 'ignored', reason, failed }
    if (!this.#policies.has('notes')) noteInvalidClosing(entry, kind, reply)
    return { outcome: 'invalid', reason, failed }
  }

  /** The segment passes and is noted: if the peer answers a noted SYN, both know better than the gateway. */
  #ignoredByTable(entry: Entry, numbers: Numbers, kind: Kind, reply: boolean): Omit<Judged, 'cell'> {
    const { last } = entry
    const { seq, end, window } = numbers
    const ignored = { outcome: 'ignored', reason: 'table' } as const
    const answers = entry.state === 'SYN_SENT' && kind === 'ack' && reply
    const notesLess = this.#policies.has('notes')
    if (notesLess && kind !== 'syn') {
      if (answers) Object.assign(last, { kind, reply, seq, end, ack: numbers.ack })
      return ignored
    }
    Object.assign(last, { kind, reply, end, window })
    if (kind === 'syn') last.seq = seq
    if (kind === 'syn' && (!reply || this.#policies.has('reopening'))) {
      entry.simultaneous = false
      Object.assign(last, { offers: numbers.offers, mayBeChallenged: entry.state === 'LAST_ACK' })
    }
    if (answers) last.ack = numbers.rawAck
    return ignored
  }

  /** The SYN opens a closed connection anew. */
  #reopens({ opener, state, ends, last }: Entry, { seq }: Numbers, reply: boolean): boolean {
    const from = reply ? otherSide(opener) : opener
    const isLetIn = this.#isAdmitted(from) && (from === 'inside' || this.#settings.reopens !== false)
    const isAllowed = isLetIn || !this.#policies.has('outside')
    const isAhead = state === 'CLOSE' || compare(seq, ends[reply ? 1 : 0].end) >= 0
    if (!isAllowed) return false
    if (last.kind === 'rst' && last.reply === reply && (state === 'CLOSE' || !this.#policies.has('reopening')))
      return true
    return ends.some((end) => end.beganClosing) && (isAhead || !this.#policies.has('reopening'))
  }

  #accept(
    entry: Entry,
    { seq, end }: Numbers,
    { kind, reply, from, next }: { kind: Kind; reply: boolean; from: TcpState; next: TcpState },
  ): Reason {
    const wasSeen = entry.seenReply
    Object.assign(entry.last, this.#policies.has('notes') ? { kind, reply, seq, end } : { kind, reply })
    entry.state = next
    if (from !== next && next === 'FIN_WAIT') entry.ends[reply ? 1 : 0].beganClosing = true
    if (!wasSeen && kind === 'rst' && (reply || !this.#policies.has('own-reset'))) {
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

const otherSide = (side: Side): Side => (side === 'inside' ? 'outside' : 'inside')

const describeEntry = (entry: Entry | undefined): string =>
  entry ? `${entry.opener} ${entry.state} ${entry.seenReply} ${entry.assured}` : ''

/** The first FIN or RST that was invalid is remembered: the answer to it must be told from a connection's end. */
function noteInvalidClosing({ assured, last }: Entry, kind: Kind, reply: boolean): void {
  if (!assured || (kind !== 'rst' && kind !== 'fin')) return
  const answersOne = last.reply !== reply && (last.kind === 'fin' || last.kind === 'rst')
  if (!answersOne) Object.assign(last, { kind, reply })
}
