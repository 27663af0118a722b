// What has come of a stream behind a gap, until that is filled: pieces by their sequence numbers, whose bytes lie in
// one queue in the order in which they came. Of bytes that come twice the first ones win.
//
// A piece that continues another, there and in the queue, is a part of that. The list of pieces is an array of numbers;
// its entries are counted (host-share.ts). Owner: this thread.

import { ByteQueue } from './byte-queue.ts'
import { countPieces, type HostShare, mayList } from './host-share.ts'
import { MOST_EARLY } from './limits.ts'
import { before, least, most } from './sequence.ts'

/** Of each piece: its number, its length, and where it begins in the queue. */
const WORDS = 3
/** Bytes of pieces that have been read lie between the others, as long as they are not more than this. */
const MOST_STALE = 4096
/** One for all: most streams have no gap. */
const NOTHING: number[] = []

export class EarlyPieces {
  readonly #share: HostShare
  readonly #bytes: ByteQueue
  /** By their numbers. */
  #list: number[] = NOTHING

  /** What it keeps is counted in `share`. */
  constructor(share: HostShare) {
    this.#share = share
    this.#bytes = new ByteQueue(share)
  }

  get hasAny(): boolean {
    return this.#list.length > 0
  }

  /** Bytes of the blocks that they lie in. */
  get kept(): number {
    return this.#bytes.kept
  }

  /** There is room for another one. */
  get mayKeep(): boolean {
    return this.#list.length < MOST_EARLY * WORDS && mayList(this.#share)
  }

  keep(source: Uint8Array, at: number, seq: number, length: number): void {
    let from = seq
    const end = (seq + length) | 0
    const kept: number[] = []
    const put = (to: number): void => {
      if (!before(from, to)) return
      const last = kept.length - WORDS
      const place = this.#bytes.length
      const added = (to - from) | 0
      this.#bytes.add(source, at + ((from - seq) | 0), added)
      const continues =
        last >= 0 && ((kept[last]! + kept[last + 1]!) | 0) === from && kept[last + 2]! + kept[last + 1]! === place
      if (continues) kept[last + 1]! += added
      else kept.push(from, added, place)
    }
    for (let i = 0; i < this.#list.length; i += WORDS) {
      const [begin, size, place] = this.#list.slice(i, i + WORDS) as [number, number, number]
      if (before(from, begin)) put(least(begin, end))
      from = most(from, (begin + size) | 0)
      kept.push(begin, size, place)
    }
    put(end)
    this.#setList(kept)
  }

  /** Moves what continues the stream, whose next byte is `next`, to `target`; returns which is next then. */
  moveTo(target: ByteQueue, next: number): number {
    let read = 0
    let behind = next
    for (; read < this.#list.length && !before(behind, this.#list[read]!); read += WORDS) {
      const [at, length, place] = this.#list.slice(read, read + WORDS) as [number, number, number]
      const known = (behind - at) | 0
      if (known >= length) continue
      target.addFrom(this.#bytes, place + known, length - known)
      behind = (at + length) | 0
    }
    if (read > 0) {
      this.#setList(this.#list.slice(read))
      this.#forgetStale()
    }
    return behind
  }

  clear(): void {
    this.#bytes.clear()
    this.#setList(NOTHING)
  }

  #setList(list: number[]): void {
    countPieces(this.#share, (list.length - this.#list.length) / WORDS)
    // A copy has no room to spare, which a list that has grown has.
    this.#list = list.length === 0 ? NOTHING : list.slice()
  }

  /** Gives up the room of pieces that have been read, if it is much. */
  #forgetStale(): void {
    if (!this.hasAny) {
      this.#bytes.clear()
      return
    }
    let bytes = 0
    for (let i = 0; i < this.#list.length; i += WORDS) bytes += this.#list[i + 1]!
    if (this.#bytes.length - bytes <= MOST_STALE) return
    const left = new ByteQueue(this.#share)
    for (let i = 0; i < this.#list.length; i += WORDS) {
      left.addFrom(this.#bytes, this.#list[i + 2]!, this.#list[i + 1]!)
      this.#list[i + 2] = left.length - this.#list[i + 1]!
    }
    this.#bytes.clear()
    left.moveTo(this.#bytes, left.length)
  }
}
