// What became of datagrams that no record is kept of, so that their later fragments needn't wait for a first that came:
// it was the kernel's, or was dropped, or the datagram is complete. The owner of a flow notes it of what another shard
// has handed over, too, which has the record and doesn't know. A cache: each datagram has one cell that it can be
// in, a newer one takes it, and nothing is lost with it but that later fragments wait and are dropped when their time
// is over. So nobody can fill it. Owner: this thread.

import type { Seconds } from '../../memory/brand.ts'
import { now } from '../../memory/clock.ts'
import type { Addr } from '../../wire/address.ts'

/** No fate is known. */
export const UNKNOWN = 0
/** The first fragment was left to the kernel. */
export const KERNELS = 1
/** The first fragment was dropped. */
export const DROPPED = 2
/** All fragments went on. */
export const COMPLETE = 3
export type Fate = typeof UNKNOWN | typeof KERNELS | typeof DROPPED | typeof COMPLETE

/**
 * Duplicates of a complete datagram's fragments come soon or not at all; and a sender with many datagrams under way may
 * use its identification again.
 */
const COMPLETE_SECONDS = 1

/** A record, of whichever shard, ends within so many seconds after its time is over. */
const RECORD_LATE_SECONDS = 2

const CELLS = 4096
const WORDS = 4
const cells = new Int32Array(CELLS * WORDS)
let timeout: Seconds = 0

export function attachFragmentFates(seconds: Seconds): void {
  timeout = seconds
  cells.fill(0)
}

const cellOf = (hash: number): number => (hash & (CELLS - 1)) * WORDS

/** A datagram's hash and key are as in fragment-table.ts. */
export function noteFate(hash: number, src: Addr, dst: Addr, idAndKey: number, fate: Fate): void {
  const at = cellOf(hash)
  cells[at] = src
  cells[at + 1] = dst
  cells[at + 2] = idAndKey
  cells[at + 3] = (now << 2) | fate
}

export function fateOf(hash: number, src: Addr, dst: Addr, idAndKey: number): Fate {
  const at = cellOf(hash)
  if (cells[at] !== src || cells[at + 1] !== dst || cells[at + 2] !== idAndKey) return UNKNOWN
  const fate = (cells[at + 3]! & 3) as Fate
  const age = now - (cells[at + 3]! >>> 2)
  return age <= (fate === COMPLETE ? COMPLETE_SECONDS : timeout + RECORD_LATE_SECONDS) ? fate : UNKNOWN
}
