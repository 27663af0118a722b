// What datagrams came with that left with another identification (packet/identification.ts): an ICMP error quotes the
// number that was chosen here, and its receiver is to be told its own (RFC 5508 REQ-4). Of first fragments and of what
// is cut here alone, since an error about a later fragment shows no ports. A cache: a newer one takes the place, and an
// error whose number is not remembered keeps it, which hosts don't look at. Owner: this thread.

import { baseOf, CONN } from '../../conntrack/connection-table.ts'
import { hot } from '../../conntrack/connections.shard.ts'
import { type Ref, rowOf } from '../../conntrack/terms.ts'

const CELLS = 4096
const CELL_BITS = 12
const WORDS = 4
/** Ref of the connection and its row's generation, then chosen and original number. */
const cells = new Int32Array(CELLS * WORDS)

const cellOf = (ref: Ref, chosen: number): number =>
  ((Math.imul(ref, 0x9e3779b1) ^ Math.imul(chosen, 0x85ebca6b)) >>> (32 - CELL_BITS)) * WORDS

const generationOf = (ref: Ref): number => hot[baseOf(rowOf(ref)) + CONN.generation]!

/** A datagram of a connection, in ref's direction, leaves with another identification than it came with. */
export function rememberIdentification(ref: Ref, chosen: number, original: number): void {
  const at = cellOf(ref, chosen)
  cells[at] = ref
  cells[at + 1] = generationOf(ref)
  cells[at + 2] = chosen
  cells[at + 3] = original
}

/** What a datagram that left with this identification came with; the same number if that is not known. */
export function originalIdentification(ref: Ref, chosen: number): number {
  const at = cellOf(ref, chosen)
  const isIt = cells[at] === ref && cells[at + 1] === generationOf(ref) && cells[at + 2] === chosen
  return isIt ? cells[at + 3]! : chosen
}
