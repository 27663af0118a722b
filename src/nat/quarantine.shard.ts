// The ports that were freed and may not be given again yet, in the order in which they were freed: a queue of (port
// index, second, whose). Whether a port's time is over is said by its word (port-words.ts); this queue says which port
// to look at next. A port may have been given meanwhile, or its block may have gone: then its word says another second,
// or none, and its place here is worth nothing.
//
// As long as a place is here its port counts for the host whose mapping had it: by the row of the host table, which
// stays as long. A port that is given anew before its time counts twice till then: only its own host can have it so
// soon, by an expectation that names it.
//
// The queue is a chain of pieces, so it takes memory for what is in it, and never has to be copied. One piece is made
// ahead, so that freeing a port, in a packet's time, allocates nothing, unless more than a piece of them are freed
// between two looks.
//
// Owner: this thread; derived from the port words (ports.shard.ts).

import { HOST, type HostRow } from '../conntrack/host-table.ts'
import { countIn } from '../conntrack/hosts.shard.ts'
import type { PortIndex, Seconds } from '../memory/brand.ts'

/** Ports in a piece. */
const PIECE = 4096
/** Words of a place. */
const PLACE_WORDS = 3
const PORT = 0
const SECOND = 1
const WHOSE = 2
/** In place of a row of the host table: the port counts for nobody. */
export const NOBODYS: HostRow = -1

interface Piece {
  /** PLACE_WORDS for each port. */
  readonly words: Int32Array
  next: Piece | undefined
}

const newPiece = (): Piece => ({ words: new Int32Array(PLACE_WORDS * PIECE), next: undefined })

let first: Piece = newPiece()
let last: Piece = first
/** Places of the oldest in the first piece, and of the next that comes in the last. */
let head = 0
let tail = 0
let count = 0
let spare: Piece | undefined

export function attachQuarantine(): void {
  first = newPiece()
  last = first
  head = 0
  tail = 0
  count = 0
  spare = undefined
}

/** Until its time is over the port counts in a row of the host table. */
export function beginQuarantine(at: PortIndex, second: Seconds, host: HostRow): void {
  if (tail === PIECE) {
    const next = spare ?? newPiece()
    spare = undefined
    last.next = next
    last = next
    tail = 0
  }
  const place = PLACE_WORDS * tail
  last.words[place + PORT] = at
  last.words[place + SECOND] = second
  last.words[place + WHOSE] = host
  if (host !== NOBODYS) countIn(host, HOST.resting, 1)
  tail++
  count++
}

const oldest = (word: number): number => first.words[PLACE_WORDS * head + word]!

/** True if the oldest was freed at `second` or before. */
export const isOldestDue = (second: Seconds): boolean => count > 0 && oldest(SECOND) <= second

export const oldestPort = (): PortIndex => oldest(PORT)
/** The second when the oldest was freed. */
export const oldestFreed = (): Seconds => oldest(SECOND)

export function forgetOldest(): void {
  const host = oldest(WHOSE)
  if (host !== NOBODYS) countIn(host, HOST.resting, -1)
  head++
  count--
  if (head < PIECE) return
  // The last piece is full, if it is the first, and a new one follows when a port does.
  const over = first
  first = over.next ?? newPiece()
  if (over === last) {
    last = first
    tail = 0
  }
  head = 0
  over.next = undefined
  spare = over
}

/** Makes the next piece ahead. To be called between packets. */
export function prepareQuarantine(): void {
  spare ??= newPiece()
}

/** Places in the queue. */
export const quarantined = (): number => count
