// TCP segments that come in fragments. The window tests see the first fragment alone, which says what the segment
// acknowledges and where it begins, but not where it ends. So that the other end may acknowledge all of it, each later
// fragment moves its sender's end to what it brings; nothing else of the connection changes by it, since its first
// fragment has told all that there is to tell. Linux puts datagrams together before it tracks them
// (nf_defrag_ipv4.c), with the same result.
//
// Only a segment that was believed is noted: what comes after one that went on for its receiver to judge moves nothing.
// A cache: a newer segment takes the place of an older one, whose sender sends it again. Owner: this thread.

import { baseOf } from '../../conntrack/connection-table.ts'
import { generationOf } from '../../conntrack/connections.shard.ts'
import * as segment from '../../conntrack/tcp-segment.ts'
import { extendEnd } from '../../conntrack/tcp-window.shard.ts'
import { directionOf, rowOf } from '../../conntrack/terms.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import { END, IP, L4, REF } from '../packet/burst.ts'
import { identificationOf } from '../packet/identification.ts'
import { mem } from '../packet/packet-memory.ts'

const CELL_BITS = 10
const WORDS = 4
/** Ref of the connection, its row's generation, the datagram's identification, the number of its byte 0. */
const cells = new Int32Array(WORDS << CELL_BITS)

const cellOf = (ref: number, identification: number): number =>
  ((Math.imul(ref, 0x9e3779b1) ^ Math.imul(identification, 0x85ebca6b)) >>> (32 - CELL_BITS)) * WORDS

/** Packet i, a first fragment, has the segment in hand, which was believed. */
export function noteFirstFragment(i: number): void {
  const ref = REF[i]!
  const identification = identificationOf(i)
  const at = cellOf(ref, identification)
  cells[at] = ref
  cells[at + 1] = generationOf(rowOf(ref))
  cells[at + 2] = identification
  // Bytes count from the segment's header, which has no numbers, and SYN and FIN have one each.
  cells[at + 3] = (segment.end - (END[i]! - L4[i]!)) | 0
}

/** Packet i, a later fragment of TCP, goes on: its sender has sent what it brings. */
export function extendByLaterFragment(i: number): void {
  const ref = REF[i]!
  const row = rowOf(ref)
  const identification = identificationOf(i)
  const at = cellOf(ref, identification)
  if (cells[at] !== ref || cells[at + 1] !== generationOf(row) || cells[at + 2] !== identification) return
  const offset = (ipv4.fragmentWord(mem, IP[i]!) & ipv4.OFFSET_MASK) << 3
  extendEnd(baseOf(row), directionOf(ref), (cells[at + 3]! + offset + END[i]! - L4[i]!) | 0)
}
