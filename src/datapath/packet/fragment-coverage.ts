// Which bytes of each fragmented datagram have come: ranges without overlap, in the units of eight bytes that offsets
// count in, and the length in all once the last fragment has said it. A datagram is complete when one range reaches
// from the first byte to that length, whatever came how often and in which order.
//
//   a fragment whose bytes      is                      by
//   are all new                 a piece of it
//   have all come               a duplicate             ip_fragment.c and inet_fragment.c: ignored
//   have come in part           an overlap              RFC 5722, RFC 3128: the whole datagram is given up
//   lie beyond the end, or      the same                inet_fragment.c
//   contradict it
//
// Asking changes nothing: examinePiece() is asked before a fragment goes on, addPiece() after it went. Owner: this
// thread, as of the records (fragment-table.ts).

import { ACCEPT, type Verdict } from '../../conntrack/terms.ts'
import { DROP } from '../../counters/drop-reasons.ts'
import type { Row } from '../../memory/brand.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import { END, IP, L4 } from './burst.ts'
import { mem } from './packet-memory.ts'

const DUPLICATE = DROP['fragment-duplicate']
const OVERLAP = DROP['fragment-overlap']
const TABLE_FULL = DROP['fragment-table-full']

/** Every other fragment of the longest datagram at an Ethernet's MTU (23), lost or late. */
const RANGES = 32
const RANGES_SHIFT = 5
const UNIT_SHIFT = 3

let ranges = new Int32Array(0)
let counts = new Uint8Array(0)
/** The datagram's payload in bytes, 0 until the last fragment has come. */
let totals = new Int32Array(0)

/** For records 1 .. `records`. */
export function attachFragmentCoverage(records: number): void {
  ranges = new Int32Array((records + 1) << RANGES_SHIFT)
  counts = new Uint8Array(records + 1)
  totals = new Int32Array(records + 1)
}

/** The fragment in hand: its units from `begin` to before `end`; where the datagram ends if it is the last, else 0. */
let begin = 0
let end = 0
let total = 0

const firstUnit = (range: number): number => range & 0xffff
const unitBehind = (range: number): number => range >>> 16

/** Takes packet i in hand, for the functions below. Returns the unit that it begins with. */
export function readPiece(i: number): number {
  const word = ipv4.fragmentWord(mem, IP[i]!)
  const payload = END[i]! - L4[i]!
  begin = word & ipv4.OFFSET_MASK
  end = begin + ((payload + 7) >> UNIT_SHIFT)
  total = (word & ipv4.MORE_FRAGMENTS) === 0 ? (begin << UNIT_SHIFT) + payload : 0
  return begin
}

/** Nothing of a datagram has come. */
export function clearCoverage(row: Row): void {
  counts[row] = 0
  totals[row] = 0
}

/** ACCEPT if the fragment in hand is a new piece of the record's datagram, or why it is not. Changes nothing. */
export function examinePiece(row: Row): Verdict {
  const first = row << RANGES_SHIFT
  const count = counts[row]!
  const known = totals[row]!
  if (known !== 0 && (total === 0 ? end >= (known + 7) >> UNIT_SHIFT : total !== known)) return OVERLAP
  if (total !== 0 && count > 0 && unitBehind(ranges[first + count - 1]!) > end) return OVERLAP
  let touches = false
  for (let r = first; r < first + count; r++) {
    const from = firstUnit(ranges[r]!)
    const to = unitBehind(ranges[r]!)
    // The last one is a duplicate only of a last one: what ended there before said that more follows.
    if (begin >= from && end <= to) return total === 0 || known !== 0 ? DUPLICATE : OVERLAP
    if (begin < to && end > from) return OVERLAP
    if (begin === to || end === from) touches = true
  }
  return count < RANGES || touches ? ACCEPT : TABLE_FULL
}

/** The fragment in hand, which was examined, has come. */
export function addPiece(row: Row): void {
  const first = row << RANGES_SHIFT
  let count = counts[row]!
  if (total !== 0) totals[row] = total
  let r = first
  while (r < first + count && unitBehind(ranges[r]!) < begin) r++
  const touchesLeft = r < first + count && unitBehind(ranges[r]!) === begin
  const right = touchesLeft ? r + 1 : r
  const touchesRight = right < first + count && firstUnit(ranges[right]!) === end
  if (touchesLeft && touchesRight) {
    ranges[r] = firstUnit(ranges[r]!) | (unitBehind(ranges[right]!) << 16)
    ranges.copyWithin(right, right + 1, first + count)
    count--
  } else if (touchesLeft) {
    ranges[r] = firstUnit(ranges[r]!) | (end << 16)
  } else if (touchesRight) {
    ranges[r] = begin | (unitBehind(ranges[r]!) << 16)
  } else {
    ranges.copyWithin(r + 1, r, first + count)
    ranges[r] = begin | (end << 16)
    count++
  }
  counts[row] = count
}

/** Every byte of the record's datagram has come. */
export function isComplete(row: Row): boolean {
  const range = ranges[row << RANGES_SHIFT]!
  const units = (totals[row]! + 7) >> UNIT_SHIFT
  return counts[row] === 1 && units !== 0 && firstUnit(range) === 0 && unitBehind(range) === units
}
