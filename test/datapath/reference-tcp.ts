// TCP in the reference NAT: the tracker that is held against the kernel (test/oracle/reference.ts), fed with segments
// as they lie in frames, and told where natloom is stricter than Linux (docs/decisions/0041). It follows what natloom
// has let through: what was dropped has changed nothing.

import type { TcpState } from '../../src/conntrack/tcp-state.ts'
import { type Entry, ReferenceTracker } from '../oracle/reference.ts'
import { compare } from '../oracle/reference-windows.ts'
import { type Options, type Segment, type Sequence, type Side, segment } from '../oracle/script.ts'
import { long, type Packet, word } from './reference-packet.ts'

const LETTERS = Array.from({ length: 256 }, (_, bits) =>
  [...'FSRPAUEW'].filter((_letter, bit) => (bits >> bit) & 1).join(''),
)
const NO_OPTIONS: Options = {}

/** What a segment that has passed does to its connection: `repeated` is a SYN that gives no more time. */
export type Effect = 'tracked' | 'repeated' | 'nothing' | 'reopened' | 'ended' | 'invalid'

export class ReferenceTcp {
  /** Why the last segment must not pass. */
  fault = ''
  readonly #tracker: ReferenceTracker
  readonly #opener: Side
  #synSeq = 0
  /** The numbers of the segments of either end that have passed, by side. */
  readonly #passed: readonly [number[], number[]] = [[], []]

  /** `reopens`: a SYN from outside may open the closed connection anew, by an expectation or a port forward. */
  constructor(opener: Side, reopens: boolean) {
    this.#opener = opener
    const sequence: Sequence = { name: '', opener, helped: false, isn: [0, 0], segments: [] }
    const mayReopen = (from: Side): boolean => from === 'inside' || reopens
    this.#tracker = new ReferenceTracker(sequence, { pickup: false, liberal: false, strict: { mayReopen } })
  }

  get state(): TcpState {
    return this.#tracker.entry?.state ?? 'NONE'
  }

  pass(packet: Packet, from: Side): Effect {
    const read = segmentOf(packet, from === this.#opener)
    const before = this.state
    const effect = this.#judge(read, from)
    if (effect === 'invalid') return effect
    this.#passed[from === 'inside' ? 0 : 1].push(read.seq)
    if (!packet.isIntact && this.state !== before) {
      this.fault = `a wrong checksum changes ${before} to ${this.state}`
      return 'invalid'
    }
    return effect
  }

  #judge(read: Segment, from: Side): Effect {
    const { entry } = this.#tracker
    if (entry && isPowerless(entry, read, entry.opener !== from, this.#synSeq)) return 'nothing'
    const judged = this.#tracker.judge(read)
    const isAnother = this.#tracker.entry !== entry
    const opened = this.#tracker.entry
    const isFirstSyn = opened?.state === 'SYN_SENT' && read.flags.includes('S') && opened.opener === from
    // One that is behind the first is taken for an old one.
    if (isFirstSyn && opened.ends[0].end === (read.seq + read.length + 1) >>> 0) this.#synSeq = read.seq
    this.fault = `${judged.outcome}, ${judged.reason} in ${judged.cell?.state} ${judged.failed?.join() ?? ''}`
    if (judged.outcome === 'invalid') return 'invalid'
    if (!this.#tracker.entry) return 'ended'
    if (entry && isAnother) return 'reopened'
    if (judged.outcome === 'ignored') return 'nothing'
    return judged.reason === 'syn-again' && this.state === 'SYN_SENT' ? 'repeated' : 'tracked'
  }

  /** An error may quote a segment with this number: this side has it under way (RFC 5927 4.1), or it has passed. */
  mayQuote(seq: number, side: Side): boolean {
    const { entry } = this.#tracker
    if (!entry) return false
    if (this.#passed[side === 'inside' ? 0 : 1].includes(seq)) return true
    const [sender, receiver] = side === entry.opener ? entry.ends : [entry.ends[1], entry.ends[0]]
    if (sender.maxWin === 0) return false
    const oldest = receiver.maxAck ?? sender.end - receiver.maxWin - 1
    return compare(seq, oldest) >= 0 && compare(seq, sender.end) <= 0
  }
}

/** Where the kernel would believe a segment, and natloom only passes it on for its receiver to answer. */
function isPowerless(
  { state, ends, last }: Entry,
  { flags, seq, ack }: Segment,
  reply: boolean,
  synSeq: number,
): boolean {
  const [sender, receiver] = reply ? [ends[1], ends[0]] : ends
  const answersSyn = compare(ack, synSeq) > 0 && compare(ack, ends[0].end) <= 0
  if (flags.includes('S')) return flags.includes('A') && state === 'SYN_SENT' && reply && !answersSyn
  if (!flags.includes('R')) return false
  const isExact = seq === receiver.maxAck || seq === sender.end
  if (state === 'CLOSE') return true
  if (state === 'FIN_WAIT' || state === 'CLOSE_WAIT') return !isExact
  // A SYN that could not be placed may be the truth: what refuses exactly that ends the connection.
  const followsSyn = last.kind === 'syn' && last.reply !== reply
  if (followsSyn && flags.includes('A') && ack === last.end && state !== 'SYN_SENT') return false
  if (state === 'SYN_RECV' && reply) return seq !== sender.end
  if (state === 'SYN_SENT' && reply) return !(flags.includes('A') && answersSyn)
  if (state !== 'ESTABLISHED' || receiver.maxAck === undefined || followsSyn) return false
  return compare(seq, receiver.maxAck) >= 0 && !isExact
}

/** As it lies in the frame; numbers are those on the wire. */
function segmentOf(packet: Packet, isOpener: boolean): Segment {
  const { frame, l4 } = packet
  const header = (frame[l4 + 12]! >> 4) * 4
  return segment(isOpener ? 'c' : 's', LETTERS[packet.flags]!, long(frame, l4 + 4), {
    length: packet.payload - header,
    ack: long(frame, l4 + 8),
    window: word(frame, l4 + 14),
    options: header === 20 ? NO_OPTIONS : optionsOf(frame, l4 + 20, l4 + header),
  })
}

function optionsOf(frame: Uint8Array, from: number, to: number): Options {
  // Any option at all is an offer of what is not said, too.
  const options: { -readonly [Name in keyof Options]: Options[Name] } = { mss: 0 }
  for (let at = from; at < to && frame[at] !== 0; ) {
    const kind = frame[at]!
    if (kind === 1) {
      at++
      continue
    }
    const length = frame[at + 1]!
    if (kind === 3 && length === 3) options.wscale = frame[at + 2]!
    if (kind === 4 && length === 2) options.sackOK = true
    if (kind === 5 && length > 2 && (length - 2) % 8 === 0)
      options.sack = Array.from({ length: (length - 2) / 8 }, (_, i): [number, number] => [
        long(frame, at + 2 + 8 * i),
        long(frame, at + 6 + 8 * i),
      ])
    at += length
  }
  return options
}
