// One direction of a helped TCP connection as a stream: what its sender has sent, in order and once, from the first
// byte on; how much of it is accepted; and what the receiver gets instead, until the receiver has acknowledged it.
//
//   sender's numbering    una ........ done ......... next .......... next + WINDOW
//                          |  accepted  |   pending    |     early      |  beyond
//   accepted   gone on, as the receiver gets them: kept, so that a retransmission is answered with the same bytes
//   pending    in order and not accepted: a helper holds it, for a short time
//   gone       accepted because it was held for too long: the helper reads it once more, before what is pending, and
//              may not rewrite it any more
//   early      behind a gap: kept until that is filled, all of them in one queue, with a list of which are there
// Of bytes that come twice the first ones win, whatever a retransmission says: what the helper has read is what the
// receiver gets. All bytes lie in blocks, which are counted (byte-pool.ts), and so are the entries of lists
// (host-share.ts). Owner: this thread. If it dies, streams are lost; sequence edits (nat/sequence-table.ts) are not.

import type { Direction } from '../../conntrack/terms.ts'
import type { Milliseconds, Row } from '../../memory/brand.ts'
import { nowMs } from '../../memory/clock.ts'
import { addEdit, endEdits, toReceiver, toSender, UP } from '../../nat/sequence-edits.shard.ts'
import { ByteQueue } from './byte-queue.ts'
import { EarlyPieces } from './early-pieces.ts'
import { noteGone } from './gone-bytes.shard.ts'
import { GONE_BYTES } from './gone-table.ts'
import { countPieces, type HostShare, mayList } from './host-share.ts'
import { before, least } from './sequence.ts'
import { guardedAddress } from './watch.ts'

/** RFC 9293 3.7.1: the segment size of an end that announces none. */
const DEFAULT_MSS = 536

/** Of each arrival: the number behind its bytes, and when they came. */
const ARRIVAL_WORDS = 2
/** Bytes that come within so many milliseconds are one arrival, as old as the first of them. */
const ARRIVAL_GRAIN = 16

/** `length` bytes from `at`, counted as in the stream's `text`, become a text. */
export interface Replacement {
  readonly at: number
  readonly length: number
  readonly text: string
}

/** What a stream begins with. */
interface Beginning {
  readonly first: number
  readonly acknowledged: number
  readonly mss: number
  readonly share: HostShare
}

/** One for all: most lists of most streams stay empty. */
const NOTHING: number[] = []

export class Stream {
  readonly #row: Row
  readonly #direction: Direction
  /** Sequence numbers, as the picture has them. */
  una: number
  done: number
  next: number
  /** The sequence number of the sender's FIN, once seen. */
  finAt = 0
  hasFin = false
  /** Payload that a segment of this direction may have: what the receiver's SYN announced. */
  readonly mss: number
  /** The last acknowledgement that has gone on with a packet of this direction. */
  acknowledged: number
  /** Since when bytes lie behind a gap. */
  earlySince: Milliseconds = 0
  readonly share: HostShare
  readonly #accepted: ByteQueue
  readonly #pending: ByteQueue
  readonly #gone: ByteQueue
  readonly #early: EarlyPieces
  /** Of the pending bytes, oldest first, ARRIVAL_WORDS each. */
  #arrivals: number[] = NOTHING

  /**
   * `first` is the number of its first byte, `acknowledged` what its sender has acknowledged so far; `mss` is 0 if the
   * receiver has announced none. What it keeps is counted in `share`.
   */
  constructor(row: Row, direction: Direction, { first, acknowledged, mss, share }: Beginning) {
    this.#row = row
    this.#direction = direction
    this.share = share
    this.#accepted = new ByteQueue(share)
    this.#pending = new ByteQueue(share)
    this.#gone = new ByteQueue(share)
    this.#early = new EarlyPieces(share)
    this.una = first
    this.done = first
    this.next = first
    this.acknowledged = acknowledged
    this.mss = mss || DEFAULT_MSS
  }

  clear(): void {
    this.#accepted.clear()
    this.#pending.clear()
    this.#gone.clear()
    this.#dropArrivals(this.#arrivals.length)
    this.dropEarly()
  }

  get hasPending(): boolean {
    return this.#pending.length > 0
  }

  get hasEarly(): boolean {
    return this.#early.hasAny
  }

  get holds(): boolean {
    return this.hasPending || this.hasEarly || (this.hasFin && before(this.done, this.finAt))
  }

  /** Bytes that it takes of what streams may keep: those of the blocks that its bytes lie in. */
  get kept(): number {
    return this.#accepted.kept + this.#pending.kept + this.#gone.kept + this.#early.kept
  }

  /** What the helper reads: bytes that have gone on already, so many as `gone`, and all that are pending. */
  get text(): string {
    return this.#gone.text() + this.#pending.text()
  }

  get gone(): number {
    return this.#gone.length
  }

  /** How many pending bytes have come by this time. */
  pendingBy(time: Milliseconds): number {
    let end = this.done
    for (let i = 0; i < this.#arrivals.length && this.#arrivals[i + 1]! <= time; i += ARRIVAL_WORDS)
      end = this.#arrivals[i]!
    return (end - this.done) | 0
  }

  get ended(): boolean {
    return this.hasFin && this.finAt === this.next
  }

  /**
   * A FIN that is within the windows, `inOrder` if no gap is before it. The last one counts, since one before may have
   * been made up; a sender that has gone on behind it has not ended there, and one that has ended in order has ended.
   */
  noteFin(at: number, inOrder: boolean): void {
    if (before(at, this.next) || this.ended) return
    this.hasFin = true
    this.finAt = at
    // Behind it nothing is its sender's.
    if (inOrder) this.dropEarly()
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
    const arrivals = this.#arrivals
    const last = arrivals.length - ARRIVAL_WORDS
    // Where there is no room for more, they are let go as early as those before them.
    const joins = last >= 0 && (nowMs - arrivals[last + 1]! < ARRIVAL_GRAIN || !mayList(this.share))
    if (joins) arrivals[last] = this.next
    else {
      if (arrivals === NOTHING) this.#arrivals = [this.next, nowMs]
      else arrivals.push(this.next, nowMs)
      countPieces(this.share, 1)
    }
  }

  /** Forgets the first arrivals. */
  #dropArrivals(words: number): void {
    if (words === 0) return
    countPieces(this.share, -words / ARRIVAL_WORDS)
    if (words === this.#arrivals.length) this.#arrivals = NOTHING
    else this.#arrivals.splice(0, words)
  }

  #fillFromEarly(): void {
    const next = this.#early.moveTo(this.#pending, this.next)
    if (next === this.next) return
    this.next = next
    this.#noteArrival()
  }

  /** There is room for another piece behind a gap. */
  get mayKeepEarly(): boolean {
    return this.#early.mayKeep
  }

  /** Keeps what lies behind a gap; of what is kept already the first wins. */
  keepEarly(source: Uint8Array, at: number, seq: number, length: number): void {
    if (!this.hasEarly) this.earlySince = nowMs
    this.#early.keep(source, at, seq, length)
  }

  /**
   * Forgets the pieces behind gaps, as if they had been lost: the receiver has none of them, and the sender repeats
   * them.
   */
  dropEarly(): void {
    this.#early.clear()
  }

  /**
   * The first `length` characters of `text` are read for good, and go on if they have not yet, with these replacements
   * in rising order: none of them is of what has gone, and the caller has room for them.
   */
  accept(length: number, replacements: readonly Replacement[] = []): void {
    const { gone } = this
    this.#gone.drop(Math.min(length, gone))
    const shifted = replacements.map((each) => ({ ...each, at: each.at - gone }))
    if (length > gone) this.#letGo(length - gone, shifted)
  }

  /** The first `length` pending bytes go on as they are, and the helper reads them once more. */
  letGo(length: number): void {
    this.#gone.addFrom(this.#pending, 0, length)
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
    let over = 0
    while (over < this.#arrivals.length && !before(this.done, this.#arrivals[over]!)) over += ARRIVAL_WORDS
    this.#dropArrivals(over)
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
    this.#dropArrivals(this.#arrivals.length)
    this.next = this.done
  }

  /** The receiver has everything before `number`, in its numbering. More than it was sent can't be acknowledged. */
  acknowledge(number: number): void {
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

  /** What the receiver expects next of what has gone on. */
  get receiverNext(): number {
    return (this.receiverTo(this.done) + (this.hasFin && this.finAt === this.done ? 1 : 0)) | 0
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
