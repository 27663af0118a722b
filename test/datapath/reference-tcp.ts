// TCP in the reference NAT: the tracker that is held against the kernel (test/oracle/reference.ts), fed with segments
// as they lie in frames, and told where natloom means to differ from Linux (test/oracle/policy.ts). It follows what
// natloom has let through: what was dropped has changed nothing.

import type { TcpState } from '../../src/conntrack/tcp-state.ts'
import { NATLOOMS } from '../oracle/policy.ts'
import { ReferenceTracker } from '../oracle/reference.ts'
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
  #isBelieved = false
  readonly #tracker: ReferenceTracker
  readonly #opener: Side
  /** The numbers of the segments of either end that have passed, by side. */
  readonly #passed: readonly [number[], number[]] = [[], []]
  /** Of segments in fragments, by side and identification: the number that byte 0 of the datagram would have. */
  readonly #fragmented = new Map<string, number>()

  /** `reopens`: a SYN from outside may open the closed connection anew, by an expectation or a port forward. */
  constructor(opener: Side, reopens: boolean) {
    this.#opener = opener
    const sequence: Sequence = { name: '', opener, helped: false, isn: [0, 0], segments: [] }
    this.#tracker = new ReferenceTracker(sequence, { pickup: false, liberal: false, reopens }, NATLOOMS)
  }

  get state(): TcpState {
    return this.#tracker.entry?.state ?? 'NONE'
  }

  pass(packet: Packet, from: Side): Effect {
    const read = segmentOf(packet, from === this.#opener)
    const effect = this.#judge(read)
    if (effect !== 'invalid') this.#passed[from === 'inside' ? 0 : 1].push(read.seq)
    if (effect === 'reopened') this.#fragmented.clear()
    if (packet.more && this.#isBelieved && !read.flags.includes('R')) {
      const control = [...read.flags].filter((flag) => flag === 'S' || flag === 'F').length
      this.#fragmented.set(`${from} ${packet.id}`, read.seq + read.length + control - packet.payload)
    }
    return effect
  }

  /** A later fragment has passed: all that it brings may be acknowledged, if its first one was believed. */
  extend(packet: Packet, from: Side): undefined {
    const { entry } = this.#tracker
    const begin = this.#fragmented.get(`${from} ${packet.id}`)
    if (!entry || begin === undefined) return
    const sender = entry.ends[from === entry.opener ? 0 : 1]
    const end = (begin + packet.offset + packet.payload) >>> 0
    if (compare(end, sender.end) > 0) sender.end = end
  }

  #judge(read: Segment): Effect {
    const { entry } = this.#tracker
    const judged = this.#tracker.judge(read)
    const isAnother = this.#tracker.entry !== entry
    this.fault = `${judged.outcome}, ${judged.reason} in ${judged.cell?.state} ${judged.failed?.join() ?? ''}`
    this.#isBelieved = judged.outcome === 'accepted' || judged.reason === 'overshoot'
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

/** As it lies in the frame; numbers are those on the wire. */
function segmentOf(packet: Packet, isOpener: boolean): Segment {
  const { frame, l4 } = packet
  const header = (frame[l4 + 12]! >> 4) * 4
  return segment(isOpener ? 'c' : 's', LETTERS[packet.flags]!, long(frame, l4 + 4), {
    length: packet.payload - header,
    ack: long(frame, l4 + 8),
    window: word(frame, l4 + 14),
    badChecksum: !packet.isIntact,
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
