// What natloom makes of a connection that a helper reads, where the kernel lets each segment go as it comes: told from
// what has arrived before, as the receiver has it. The same bytes always arrive under the same number; the rest follows
// from the segment's place in the stream (src/datapath/helped/README.md).

import { describeTracked, type Observation } from './observation.ts'
import { GAINED, type Judged } from './reference.ts'
import { compare } from './reference-windows.ts'
import { type End, onWire, otherEnd, type Segment, type Sequence } from './script.ts'

const TCP_AT = 34
const FIN = 1
/** An announcement, and how much of it stays as it is. */
const COMMAND = 'PORT '
const UNCHANGED = COMMAND.length
/** Further ahead nothing is kept (src/datapath/helped/stream.ts). */
const FURTHEST = 1 << 16
const OLDEST_ACK = 66_000

interface Frame {
  readonly seq: number
  readonly ack: number
  readonly flags: number
  /** Both endpoints, and the window. */
  readonly rest: string
  readonly urgent: string
  readonly options: string
  readonly payload: Uint8Array
}

function readFrame(frame: Uint8Array): Frame {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
  const headers = TCP_AT + (frame[TCP_AT + 12]! >> 4) * 4
  const hex = (from: number, to: number): string => Buffer.from(frame.subarray(from, to)).toString('hex')
  return {
    seq: view.getUint32(TCP_AT + 4),
    ack: view.getUint32(TCP_AT + 8),
    flags: frame[TCP_AT + 13]!,
    rest: `${hex(26, TCP_AT + 4)} ${hex(TCP_AT + 14, TCP_AT + 16)}`,
    urgent: hex(TCP_AT + 18, TCP_AT + 20),
    options: hex(TCP_AT + 20, headers),
    payload: frame.subarray(headers, 14 + view.getUint16(16)),
  }
}

/** One direction of the connection, by what has arrived of it until now. */
interface Stream {
  /** Of its sender's numbers, the next one. */
  next: number
  /** Where it has ended. */
  end: number | undefined
  /** What its receiver has acknowledged. */
  acknowledged: number
  /** Where the line begins that was rewritten last. */
  line: number | undefined
  /** By its receiver's numbers. */
  readonly bytes: Map<number, number>
}

/** What has happened until a segment comes, and the segment. */
export interface Situation {
  readonly segment: Segment
  readonly judged: Judged
  readonly stream: Stream
  readonly other: Stream
  readonly ack: number
  /** Its first byte and one past its last, on the wire. */
  readonly seq: number
  readonly end: number
  readonly hasFin: boolean
  readonly kernel: readonly Frame[]
  readonly natloom: readonly Frame[]
  /** The connection is as it was; it is as it is meant to be after the segment. */
  readonly isUnchanged: boolean
  readonly isAsMeant: boolean
}

const endOf = ({ seq, length }: Segment, sequence: Sequence, end: End): number =>
  (onWire(sequence, end, seq) + length) >>> 0

function streamOf(sequence: Sequence, end: End, steps: readonly Segment[], seen: readonly Observation[]): Stream {
  const stream: Stream = { next: 0, end: undefined, acknowledged: 0, line: undefined, bytes: new Map() }
  let isStarted = false
  /** What an answer to the other end's last SYN acknowledges. */
  let answer = 0
  for (const [step, segment] of steps.entries()) {
    if (seen[step]!.arrived.length === 0) continue
    const seq = onWire(sequence, end, segment.seq)
    if (segment.end !== end) {
      const ack = onWire(sequence, end, segment.ack)
      if (segment.flags.includes('S')) answer = (endOf(segment, sequence, segment.end) + 1) >>> 0
      if (segment.flags.includes('A') && isStarted && compare(ack, stream.acknowledged) > 0) stream.acknowledged = ack
      continue
    }
    const answersSyn = segment.flags === 'SA' && onWire(sequence, otherEnd(end), segment.ack) === answer
    const isNew = answersSyn && compare(seq, stream.next) >= 0
    if (segment.flags.includes('S') && (!isStarted || isNew)) {
      isStarted = true
      Object.assign(stream, { next: (seq + 1) >>> 0, acknowledged: seq })
    }
    if (!isStarted || /[SR]/.test(segment.flags)) continue
    const last = endOf(segment, sequence, end)
    if (segment.text.startsWith(COMMAND)) stream.line ??= seq
    if (compare(seq, stream.next) <= 0 && compare(last, stream.next) >= 0) {
      stream.next = last
      if (segment.flags.includes('F')) stream.end = last
    }
    for (const { seq: first, payload } of seen[step]!.arrived.map(readFrame))
      for (const [i, byte] of payload.entries()) stream.bytes.set((first + i) >>> 0, byte)
  }
  return stream
}

export interface Shown {
  readonly sequence: Sequence
  readonly step: number
  readonly segment: Segment
  readonly judged: Judged
  /** What natloom has shown from the first step to this one. */
  readonly history: readonly Observation[]
  readonly kernel: Observation
  readonly natloom: Observation
  readonly expected: Observation['tracked']
}

export function situationOf({ sequence, step, segment, judged, history, kernel, natloom, expected }: Shown): Situation {
  const before = sequence.segments.slice(0, step)
  const other = otherEnd(segment.end)
  return {
    segment,
    judged,
    stream: streamOf(sequence, segment.end, before, history),
    other: streamOf(sequence, other, before, history),
    ack: onWire(sequence, other, segment.ack),
    seq: onWire(sequence, segment.end, segment.seq),
    end: endOf(segment, sequence, segment.end),
    hasFin: segment.flags.includes('F'),
    kernel: kernel.arrived.map(readFrame),
    natloom: natloom.arrived.map(readFrame),
    isUnchanged: describeTracked(natloom.tracked) === describeTracked(history[step - 1]?.tracked),
    isAsMeant: describeTracked(natloom.tracked) === describeTracked(expected),
  }
}

const isData = ({ segment, hasFin }: Situation): boolean =>
  !/[SR]/.test(segment.flags) && (segment.length > 0 || hasFin)

/** No byte and no end of the stream has arrived; what it acknowledges may have. */
const bringsNothing = ({ natloom }: Situation): boolean =>
  natloom.length === 0 || (natloom.length === 1 && natloom[0]!.payload.length === 0 && (natloom[0]!.flags & FIN) === 0)

/** Behind a gap it is kept until the gap is filled; too far ahead it is dropped, and changes nothing. */
export function waitsBehindGap(situation: Situation): boolean {
  const { stream, seq, end, natloom } = situation
  if (!isData(situation) || compare(seq, stream.next) <= 0 || !bringsNothing(situation)) return false
  const isTooFar = ((end - stream.next) | 0) > FURTHEST
  return isTooFar ? natloom.length === 0 && situation.isUnchanged : situation.isAsMeant
}

/** What is not within the windows brings no new bytes, nor does the other end's SYN if it answers nothing. */
export function bringsUnbelieved(situation: Situation): boolean {
  const { stream, end, natloom, segment, judged, hasFin } = situation
  const isWithin = judged.outcome === 'accepted' && (judged.failed ?? []).length === 0
  const ownEnd = hasFin && stream.end === undefined ? end + 1 : end
  const isAhead = compare(ownEnd, stream.next) > 0 && !segment.flags.includes('R')
  const isNew = (segment.length > 0 && segment.flags.includes('S')) || ((segment.length > 0 || hasFin) && isAhead)
  const answersNothing = judged.cell?.reply === true && judged.cell.kind === 'syn'
  const isUnbelieved = (!isWithin || answersNothing) && judged.reason !== 'overshoot' && judged.outcome !== 'invalid'
  return isNew && isUnbelieved && natloom.length === 0 && situation.isUnchanged
}

/** The beginning of a line, which its helper may want to change. */
export function isHeld(situation: Situation): boolean {
  const { stream, seq, segment } = situation
  const isPart = segment.length > 0 && !segment.text.endsWith('\n')
  return isPart && isData(situation) && seq === stream.next && bringsNothing(situation) && situation.isAsMeant
}

/** What comes again arrives as it came first, from what its receiver misses on; behind its end a stream has nothing. */
export function repeats(situation: Situation): boolean {
  const { stream, seq, end, segment, kernel, natloom, hasFin } = situation
  const isHad = compare(seq, stream.acknowledged) < 0
  const isAgain = isHad || compare(seq, stream.next) < 0 || (hasFin && stream.end !== undefined && stream.end !== end)
  if (!isData(situation) || !isAgain || !situation.isAsMeant || natloom.length > 1) return false
  const [frame] = natloom
  if (!frame) return compare(end, stream.next) <= 0
  const isSame = frame.rest === kernel[0]!.rest && frame.options === kernel[0]!.options
  const isEnd = (frame.flags & FIN) === 0 || (hasFin && (stream.end ?? end) === end)
  const own = (at: number): number => (segment.text ? segment.text.charCodeAt(segment.length - at) : 0x61)
  const left = frame.payload.length
  const isRight = frame.payload.every((byte, i) => byte === (stream.bytes.get((frame.seq + i) >>> 0) ?? own(left - i)))
  return isSame && isEnd && isRight
}

const but = (frame: Frame, ...fields: (keyof Frame)[]): string =>
  JSON.stringify({ ...frame, payload: [...frame.payload], ...Object.fromEntries(fields.map((field) => [field, 0])) })

const differOnlyIn = ({ kernel, natloom, isAsMeant }: Situation, ...fields: (keyof Frame)[]): boolean =>
  isAsMeant && natloom.length === 1 && kernel.length === 1 && but(natloom[0]!, ...fields) === but(kernel[0]!, ...fields)

/** So old is the oldest acknowledgement that window test IV lets count; of an edit that is forgotten it is older. */
function isOldest({ segment, ack, other, isUnchanged, natloom, kernel }: Situation): boolean {
  const windows = Array.from({ length: 15 }, (_, scale) => segment.window * 2 ** scale)
  const isAtEdge = [OLDEST_ACK, ...windows].some((oldest) => {
    const left = (ack + oldest - other.next) | 0
    return left >= 0 && left < GAINED
  })
  return (
    isUnchanged &&
    isAtEdge &&
    other.line !== undefined &&
    (natloom.length === 0 || but(natloom[0]!, 'ack') === but(kernel[0]!, 'ack'))
  )
}

/** It acknowledges what was acknowledged before, or has no bytes and a number of such: nobody looks at that. */
export function hasOldNumber(situation: Situation): boolean {
  const { segment, seq, ack, stream, other } = situation
  if (isOldest(situation)) return true
  const isOldAck = differOnlyIn(situation, 'ack') || (segment.options.sack && differOnlyIn(situation, 'ack', 'options'))
  if (isOldAck) return compare(ack, other.acknowledged) <= 0
  const isUnread = segment.length === 0 || segment.flags.includes('R')
  return isUnread && differOnlyIn(situation, 'seq') && compare(seq, stream.acknowledged) <= 0
}

const isWithin = (number: number, { line }: Stream): boolean =>
  line !== undefined && compare(number, line) > 0 && compare(number, line + UNCHANGED) <= 0

const isInLine = ({ seq, stream, natloom }: Situation): boolean => isWithin(seq, stream) && natloom[0]!.seq === seq

/** A number within a rewritten line, which lies before what was changed there, has no distance to make good. */
export function isBeforeChange(situation: Situation, sequence: Sequence): boolean {
  const { segment, ack, other, natloom } = situation
  if (hasRightEdges(situation, sequence)) return true
  if (differOnlyIn(situation, 'ack')) return isWithin(ack, other) && natloom[0]!.ack === ack
  return segment.length === 0 && differOnlyIn(situation, 'seq') && isInLine(situation)
}

/** The edges of SACK blocks are moved as far as each needs; the kernel moves them as it moves the acknowledgement. */
function hasRightEdges(situation: Situation, sequence: Sequence): boolean {
  const { segment, other, kernel, natloom, judged } = situation
  const { sack } = segment.options
  const { line } = other
  if (!sack || line === undefined || natloom.length !== 1) return false
  const edge = (number: number): string => {
    const received = onWire(sequence, otherEnd(segment.end), number)
    const sent = compare(received, line + UNCHANGED) > 0 ? received - GAINED : received
    return (sent >>> 0).toString(16).padStart(8, '0')
  }
  const isRight = natloom[0]!.options.includes(sack.flat().map(edge).join(''))
  const isDropped = kernel.length === 0 && (judged.failed ?? []).includes('III') && situation.isUnchanged
  return isRight && (isDropped || differOnlyIn(situation, 'options'))
}

/** A SYN has a number of its own. */
export const isSynAsSent = (situation: Situation): boolean =>
  situation.segment.flags.includes('S') && differOnlyIn(situation, 'seq') && situation.natloom[0]!.seq === situation.seq

/** The text of a reset isn't read by anybody. */
export function isResetWithoutText(situation: Situation): boolean {
  const { segment, natloom } = situation
  if (!segment.flags.includes('R') || natloom[0]?.payload.length !== 0) return false
  const isMoved = isInLine(situation) || compare(situation.seq, situation.stream.acknowledged) <= 0
  return differOnlyIn(situation, 'payload') || (differOnlyIn(situation, 'payload', 'seq') && isMoved)
}
