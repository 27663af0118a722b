// One datagram put together from its fragments, as RFC 791 3.2 and RFC 5722 say: the reference for fragments in any
// order.

/** What of a fragment matters. */
export interface Piece {
  /** In bytes. */
  readonly offset: number
  readonly moreFragments: boolean
  readonly body: Uint8Array
}

/** What a fragment was to those before it. */
export type Added = 'new' | 'known' | 'overlap'

/**
 * Reassembles one datagram: bytes that come again are ignored, and bytes that come in part again, or that contradict
 * the end, end it for good. The body when it is complete, else why not.
 */
export class Reassembly {
  readonly #have = new Map<number, number>()
  #total = 0
  #spoiled = false
  body: number[] | undefined

  add({ offset, moreFragments, body }: Piece): Added {
    if (this.#spoiled) return 'overlap'
    if (this.body) return 'known'
    const end = offset + body.length
    const known = body.filter((_, i) => this.#have.has(offset + i)).length
    const most = Math.max(0, ...[...this.#have.keys()].map((at) => at + 1))
    const isContradicted = moreFragments
      ? this.#total !== 0 && end >= this.#total
      : this.#saysOtherEnd(end, most, known)
    if (isContradicted || (known > 0 && known < body.length)) {
      this.#spoiled = true
      return 'overlap'
    }
    if (known > 0) return 'known'
    for (const [i, byte] of body.entries()) this.#have.set(offset + i, byte)
    if (!moreFragments) this.#total = end
    if (this.#total !== 0 && this.#have.size === this.#total)
      this.body = Array.from({ length: this.#total }, (_, at) => this.#have.get(at)!)
    return 'new'
  }

  #saysOtherEnd(end: number, most: number, known: number): boolean {
    return this.#total !== 0 ? end !== this.#total : most > end || known > 0
  }
}
