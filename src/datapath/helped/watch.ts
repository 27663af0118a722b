// Connections that a helper reads no longer, and that are watched for what it was to rewrite: where its configuration
// says `onHelperFailure: reset`, the sender's inside address must not go out in its bytes
// (docs/decisions/0040-an-announcement-that-cannot-be-rewritten.md). So it is looked for in all that the inside end
// sends, until the connection ends; what names it ends the connection (endings.ts), or is dropped if it is a datagram.
//
// A row's GUARDED bit says that its connection is to be watched when no helper reads it. It is in shared memory: after
// a crash of the thread a watch begins with the first packet, although nothing is known of what came before.
//
// Segments come in any order, and a sender may cut an address anywhere. So the last bytes are kept by their sequence
// numbers, and each segment is looked at together with its neighbours. Owner: this thread.

import { CONN, CONN_SHIFT, GUARDED } from '../../conntrack/connection-table.ts'
import { dstOf, hot, originOf, srcOf } from '../../conntrack/connections.shard.ts'
import { type Direction, INSIDE, opposite } from '../../conntrack/terms.ts'
import type { HelperReset } from '../../counters/counters.ts'
import type { Row } from '../../memory/brand.ts'
import type { Addr } from '../../wire/address.ts'
import { LONGEST_NAME, mayNameAddress, namesAddress } from './named-address.ts'

const { state: STATE } = CONN

/** Bytes of a direction that are kept, a power of two. */
const KEPT = 256
/** Of a segment, those that a name may have in common with its neighbours. */
const EDGE = LONGEST_NAME - 1
const WATCH_BYTES = 1536

export interface Watch {
  /** Why no helper reads it. */
  readonly why: HelperReset
  /** Its helper read no lines, so that addresses may be four bytes. */
  readonly isBinary: boolean
  /** The connection was ended because of what its inside end has sent: nothing more of it goes on. */
  hasEnded: boolean
  /** By direction. */
  readonly recent: [RecentBytes | undefined, RecentBytes | undefined]
}

const watches = new Map<Row, Watch>()

export function attachWatches(): void {
  watches.clear()
}

/** Bytes of the thread's heap that all watches take (measured by test/datapath/helped/heap.test.ts). */
export const heapOfWatches = (): number => watches.size * WATCH_BYTES

export const isGuarded = (row: Row): boolean => (hot[(row << CONN_SHIFT) + STATE]! & GUARDED) !== 0

/** The helper has no more interest, or was cut off where the configuration says `pass`. */
export function unguard(row: Row): void {
  hot[(row << CONN_SHIFT) + STATE]! &= ~GUARDED
}

export function beginWatch(row: Row, why: HelperReset, isBinary: boolean): Watch {
  const watch: Watch = { why, isBinary, hasEnded: false, recent: [undefined, undefined] }
  watches.set(row, watch)
  return watch
}

/** The watch of a guarded connection that no helper reads: it was cut off, or the thread that knew it is gone. */
export const watchOf = (row: Row): Watch => watches.get(row) ?? beginWatch(row, 'thread-lost', false)

/** The connection was ended because an announcement could not be rewritten: nothing of it goes on any more. */
export const hasEnded = (row: Row): boolean => isGuarded(row) && watches.get(row)?.hasEnded === true

export function endWatch(row: Row): void {
  watches.delete(row)
}

/** The inside address of who sends in this direction; 0 if it is outside, or isn't translated. */
export function insideAddress(row: Row, direction: Direction): Addr {
  const base = row << CONN_SHIFT
  if ((originOf(row) ^ direction) !== INSIDE) return 0
  const sender = srcOf(base, direction)
  return sender === dstOf(base, opposite(direction)) ? 0 : sender
}

/** The address that must not go out with what is sent in this direction; 0 if there is none. */
export const guardedAddress = (row: Row, direction: Direction): Addr =>
  isGuarded(row) ? insideAddress(row, direction) : 0

/** Whether a text of the stream in this direction, with the bytes next to it, names its sender's inside address. */
export function segmentNames(row: Row, direction: Direction, seq: number, text: string): boolean {
  const address = guardedAddress(row, direction)
  if (address === 0 || text === '') return false
  const { recent, isBinary } = watchOf(row)
  recent[direction] ??= new RecentBytes()
  const names = namesAddress(recent[direction].around(seq, text), address, isBinary)
  if (!names) recent[direction].add(seq, text)
  return names
}

/** Whether a datagram, or the last fragment of one, names its sender's inside address. */
export function datagramNames(row: Row, direction: Direction, text: string, isBinary: boolean): boolean {
  const address = guardedAddress(row, direction)
  return address !== 0 && namesAddress(text, address, isBinary)
}

/** Whether a fragment of a datagram, which is not the last one, names that address or ends with the beginning of it. */
export function fragmentMayName(row: Row, direction: Direction, text: string, isBinary: boolean): boolean {
  const address = guardedAddress(row, direction)
  return address !== 0 && mayNameAddress(text, address, isBinary)
}

/** The last bytes of one direction, by their sequence numbers. */
class RecentBytes {
  readonly #bytes = new Uint8Array(KEPT)
  /** Of each byte its sequence number. At first numbers that belong to other places. */
  readonly #numbers = Int32Array.from({ length: KEPT }, (_, place) => place + 1)

  #at(seq: number): string | undefined {
    const place = seq & (KEPT - 1)
    return this.#numbers[place] === seq ? String.fromCharCode(this.#bytes[place]!) : undefined
  }

  /** A text with the bytes before and behind it that are known without a gap. */
  around(seq: number, text: string): string {
    let whole = text
    for (let i = 1; i <= EDGE; i++) {
      const byte = this.#at((seq - i) | 0)
      if (byte === undefined) break
      whole = byte + whole
    }
    for (let i = 0; i < EDGE; i++) {
      const byte = this.#at((seq + text.length + i) | 0)
      if (byte === undefined) break
      whole += byte
    }
    return whole
  }

  add(seq: number, text: string): void {
    for (let i = 0; i < text.length; i++) {
      if (i === EDGE) i = Math.max(EDGE, text.length - EDGE)
      const place = (seq + i) & (KEPT - 1)
      this.#bytes[place] = text.charCodeAt(i)
      this.#numbers[place] = (seq + i) | 0
    }
  }
}
