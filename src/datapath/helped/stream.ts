// One direction of a helped TCP connection as a stream: what its sender has sent, in order and once, from the first
// byte on; how much of it is accepted; and what the receiver gets instead, until the receiver has acknowledged it.
//
//   sender's numbering    una ........ done ......... next .......... next + WINDOW
//                          |  accepted  |   pending    |     early      |  beyond
//   accepted   gone on, as the receiver gets them: kept, so that a retransmission is answered with the same bytes
//   pending    in order and not accepted: a helper holds it, for a short time
//   gone       accepted because it was held for too long: the helper reads it once more, before what is pending, and
//              may not rewrite it any more
//   early      behind a gap: kept until that is filled
// Of bytes that come twice the first ones win, whatever a retransmission says: what the helper has read is what the
// receiver gets. Owner: this thread. If it dies, streams are lost; sequence edits (nat/sequence-table.ts) are not.

import type { Direction } from '../../conntrack/terms.ts'
import type { Milliseconds, Row } from '../../memory/brand.ts'
import { nowMs } from '../../memory/clock.ts'
import { addEdit, endEdits, toReceiver, toSender, UP } from '../../nat/sequence-edits.shard.ts'
import { ByteQueue } from './byte-queue.ts'
import { noteGone } from './gone-bytes.shard.ts'
import { GONE_BYTES } from './gone-table.ts'
import { MOST_EARLY } from './limits.ts'
import { guardedAddress } from './watch.ts'

/** RFC 9293 3.7.1: the segment size of an end that announces none. */
const DEFAULT_MSS = 536

/** Sequence numbers by the sign of their difference. */
export const before = (a: number, b: number): boolean => ((a - b) | 0) < 0
export const least = (a: number, b: number): number => (before(a, b) ? a : b)
export const most = (a: number, b: number): number => (before(a, b) ? b : a)

interface Early {
  readonly at: number
  readonly bytes: ByteQueue
}

/** What one takes of the heap, as test/datapath/helped/heap.test.ts measures it. */
const EARLY_BYTES = 512
const ARRIVAL_BYTES = 64

/** Pending bytes before `end` that no earlier arrival has brought, and when they came. */
interface Arrival {
  end: number
  readonly at: Milliseconds
}

/** `length` bytes from `at`, counted as in the stream's `text`, become a text. */
export interface Replacement {
  readonly at: number
  readonly length: number
  readonly text: string
}

export class Stream {
  readonly #row: Row
  readonly #direction: Direction
  started = false
  /** Sequence numbers, as the picture has them; `first` is the first byte's. */
  first = 0
  una = 0
  done = 0
  next = 0
  /** The sequence number of the sender's FIN, once seen. */
  finAt = 0
  hasFin = false
  /** Payload that a segment of this direction may have: what the receiver's SYN announced. */
  mss = DEFAULT_MSS
  /** The last acknowledgement that has gone on with a packet of this direction. */
  acknowledged = 0
  /** Since when bytes lie behind a gap. */
  earlySince: Milliseconds = 0
  readonly #accepted = new ByteQueue()
  readonly #pending = new ByteQueue()
  #early: Early[] = []
  /** Of the pending bytes, oldest first. */
  #arrivals: Arrival[] = []
  #gone = ''

  constructor(row: Row, direction: Direction) {
    this.#row = row
    this.#direction = direction
  }

  /** A SYN: its stream begins at this number. Another one before the connection is established begins anew. */
  begin(first: number): void {
    this.clear()
    this.started = true
    this.first = first
    this.hasFin = false
    this.una = first
    this.done = first
    this.next = first
  }

  clear(): void {
    this.#accepted.clear()
    this.#pending.clear()
    this.#arrivals = []
    this.#gone = ''
    this.dropEarly()
  }

  get hasPending(): boolean {
    return this.#pending.length > 0
  }

  get hasEarly(): boolean {
    return this.#early.length > 0
  }

  get holds(): boolean {
    return this.hasPending || this.hasEarly || (this.hasFin && before(this.done, this.finAt))
  }

  /** Bytes that it keeps: accepted, pending and early. */
  get kept(): number {
    return this.#early.reduce((sum, { bytes }) => sum + bytes.length, this.#accepted.length + this.#pending.length)
  }

  /** Bytes of the thread's heap that it takes beyond those of a stream that keeps nothing. */
  get heapBytes(): number {
    return this.#gone.length + this.#early.length * EARLY_BYTES + this.#arrivals.length * ARRIVAL_BYTES
  }

  /** What the helper reads: bytes that have gone on already, so many as `gone`, and all that are pending. */
  get text(): string {
    return this.#gone + this.#pending.text()
  }

  get gone(): number {
    return this.#gone.length
  }

  /** How many pending bytes have come by this time. */
  pendingBy(time: Milliseconds): number {
    let end = this.done
    for (const arrival of this.#arrivals) {
      if (arrival.at > time) break
      end = arrival.end
    }
    return (end - this.done) | 0
  }

  get ended(): boolean {
    return this.hasFin && this.finAt === this.next
  }

  noteFin(at: number): void {
    if (this.hasFin) return
    this.hasFin = true
    this.finAt = at
  }

  /**
   * Takes the bytes of [seq, seq + length) that continue the stream; `seq` is not behind `next`. True if any were new.
   */
  append(source: Uint8Array, at: number, seq: number, length: number): boolean {
    const known = (this.next - seq) | 0
    if (known >= length) return false
    // A sender that goes on has not ended: what said so was not its FIN.
    if (this.hasFin && before(this.finAt, (seq + length) | 0)) this.hasFin = false
    this.#add(source, at + known, length - known)
    this.#fillFromEarly()
    return true
  }

  #add(source: Uint8Array, at: number, length: number): void {
    this.#pending.add(source, at, length)
    this.next = (this.next + length) | 0
    this.#noteArrival()
  }

  #noteArrival(): void {
    const last = this.#arrivals.at(-1)
    if (last !== undefined && last.at === nowMs) last.end = this.next
    else this.#arrivals.push({ end: this.next, at: nowMs })
  }

  #fillFromEarly(): void {
    while (this.#early.length > 0 && !before(this.next, this.#early[0]!.at)) {
      const { at, bytes } = this.#early.shift()!
      const known = (this.next - at) | 0
      const news = bytes.length - known
      if (news > 0) {
        bytes.drop(known)
        bytes.moveTo(this.#pending, news)
        this.next = (this.next + news) | 0
        this.#noteArrival()
      }
      bytes.clear()
    }
  }

  /** Keeps what lies behind a gap; of what is kept already the first wins. False if it has no room. */
  keepEarly(source: Uint8Array, at: number, seq: number, length: number): boolean {
    let from = seq
    const end = (seq + length) | 0
    if (!this.hasEarly) this.earlySince = nowMs
    const kept: Early[] = []
    const put = (to: number): void => {
      if (!before(from, to)) return
      const bytes = new ByteQueue()
      bytes.add(source, at + ((from - seq) | 0), (to - from) | 0)
      kept.push({ at: from, bytes })
    }
    for (const early of this.#early) {
      if (before(from, early.at)) put(least(early.at, end))
      from = most(from, (early.at + early.bytes.length) | 0)
      kept.push(early)
    }
    put(end)
    this.#early = kept.sort((a, b) => (a.at - b.at) | 0)
    return this.#early.length <= MOST_EARLY
  }

  /**
   * Forgets the pieces behind gaps, as if they had been lost: the receiver has none of them, and the sender repeats
   * them.
   */
  dropEarly(): void {
    for (const { bytes } of this.#early) bytes.clear()
    this.#early = []
  }

  /**
   * The first `length` characters of `text` are read for good, and go on if they have not yet, with these replacements
   * in rising order: none of them is of what has gone, and the caller has room for them.
   */
  accept(length: number, replacements: readonly Replacement[] = []): void {
    const { gone } = this
    this.#gone = this.#gone.slice(length)
    const shifted = replacements.map((each) => ({ ...each, at: each.at - gone }))
    if (length > gone) this.#letGo(length - gone, shifted)
  }

  /** The first `length` pending bytes go on as they are, and the helper reads them once more. */
  letGo(length: number): void {
    this.#gone += this.#pending.text().slice(0, length)
    this.#letGo(length, [])
  }

  #letGo(length: number, replacements: readonly Replacement[]): void {
    if (guardedAddress(this.#row, this.#direction) !== 0) this.#noteGone(length, replacements)
    let at = 0
    for (const replacement of replacements) {
      this.#pending.moveTo(this.#accepted, replacement.at - at)
      this.#pending.drop(replacement.length)
      this.#accepted.addText(replacement.text)
      const begin = (this.done + replacement.at) | 0
      addEdit(this.#row, this.#direction, begin, replacement.length, replacement.text.length)
      at = replacement.at + replacement.length
    }
    this.#pending.moveTo(this.#accepted, length - at)
    this.done = (this.done + length) | 0
    while (this.#arrivals.length > 0 && !before(this.done, this.#arrivals[0]!.end)) this.#arrivals.shift()
  }

  /** For who looks at the bytes behind them without the helper: with zeros in place of what is replaced. */
  #noteGone(length: number, replacements: readonly Replacement[]): void {
    const from = Math.max(0, length - GONE_BYTES)
    let text = this.#pending.text(from, length)
    for (const { at, length: replaced } of replacements) {
      const begin = Math.max(0, at - from)
      const end = at + replaced - from
      if (end > begin) text = text.slice(0, begin) + '\0'.repeat(end - begin) + text.slice(end)
    }
    noteGone(this.#row, (this.done + from) | 0, text)
  }

  /** All pending bytes go on as they are, and nothing is read once more. */
  acceptAll(): void {
    this.accept(this.gone + this.#pending.length)
  }

  /** Forgets the pending bytes, as if they had not come: the sender will send them again. */
  unread(): void {
    this.#pending.clear()
    this.#arrivals = []
    this.next = this.done
  }

  /** The receiver has everything before `number`, in its numbering. More than it was sent can't be acknowledged. */
  acknowledge(number: number): void {
    if (!this.started) return
    const has = toSender(this.#row, this.#direction, number)
    // A FIN counts as a byte.
    if (before((this.done + 1) | 0, has)) return
    const una = least(has, this.done)
    if (before(this.una, una)) {
      const first = toReceiver(this.#row, this.#direction, this.una)
      this.#accepted.drop((toReceiver(this.#row, this.#direction, una) - first) | 0)
      this.una = una
    }
    endEdits(this.#row, this.#direction, number)
  }

  /** No helper reads it any more, and the receiver has more than what was kept: the stream goes on from there. */
  skipTo(number: number): void {
    this.clear()
    this.una = number
    this.done = number
    this.next = number
  }

  /** Receiver's numbers of a range of the sender's: what replaces a span goes whole. */
  receiverFrom(from: number): number {
    return toReceiver(this.#row, this.#direction, from)
  }
  receiverTo(to: number): number {
    return toReceiver(this.#row, this.#direction, to, UP)
  }

  /** Copies accepted bytes, `from` in the receiver's numbering. */
  copyAccepted(target: Uint8Array, at: number, from: number, length: number): void {
    this.#accepted.copyTo(target, at, this.#placeOf(from), length)
  }

  /** Whether these are the bytes that were accepted from `from` on (sender's numbering, no edit there). */
  isAccepted(source: Uint8Array, at: number, from: number, length: number): boolean {
    return this.#accepted.equals(source, at, this.#placeOf(this.receiverFrom(from)), length)
  }

  #placeOf(number: number): number {
    return (number - toReceiver(this.#row, this.#direction, this.una)) | 0
  }
}
