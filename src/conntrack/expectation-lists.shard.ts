// The expectations that this shard has published, a list for each master, newest first: so that its limits are kept,
// and that what it still expects is found when it ends.
//
// Any shard may match an expectation, and the coordinator lets it expire: neither touches these lists. A list's node
// whose slot has another generation by then is dropped when it is met next.
//
// Owner: this thread; derived from the slots, and made anew when the shard starts again.

import type { Generation, Handle, Row } from '../memory/brand.ts'
import type { ExpectationTable } from './expectation-table.ts'
import {
  EXPECTATION,
  generationIn,
  generationOf,
  type Slot,
  STATE,
  slotOf,
  stateOf,
  WIDTH,
} from './expectation-table.ts'

const NONE = -1

let table: ExpectationTable
let mask = 0
/** By chain: its first slot. Masters whose rows differ by a multiple of the slots share one. */
let first = new Int32Array(0)
/** By slot: its neighbours, the chain it is in, and the handle that it was listed with (0: in none). */
let next = new Int32Array(0)
let previous = new Int32Array(0)
let chain = new Int32Array(0)
let listedAs = new Int32Array(0)

export function attachExpectationLists(shared: ExpectationTable): void {
  table = shared
  mask = shared.slots - 1
  first = new Int32Array(shared.slots).fill(NONE)
  next = new Int32Array(shared.slots).fill(NONE)
  previous = new Int32Array(shared.slots).fill(NONE)
  chain = new Int32Array(shared.slots)
  listedAs = new Int32Array(shared.slots)
}

export function list(handle: Handle, masterRow: Row): void {
  const slot = slotOf(handle)
  if (listedAs[slot] !== 0) unlist(slot)
  const which = masterRow & mask
  const before = first[which]!
  listedAs[slot] = handle
  chain[slot] = which
  previous[slot] = NONE
  next[slot] = before
  if (before !== NONE) previous[before] = slot
  first[which] = slot
}

export function unlist(slot: Slot): void {
  if (listedAs[slot] === 0) return
  listedAs[slot] = 0
  const [before, after] = [previous[slot]!, next[slot]!]
  if (before === NONE) first[chain[slot]!] = after
  else next[before] = after
  if (after !== NONE) previous[after] = before
}

/** The master's newest expectation, 0 if it has none. Also one that is just being matched. */
export const newestOf = (row: Row, generation: Generation): Handle => firstStanding(first[row & mask]!, row, generation)

/** The next older one of the same master; ask before `handle` is unlisted. */
export const olderThan = (handle: Handle, row: Row, generation: Generation): Handle =>
  firstStanding(next[slotOf(handle)]!, row, generation)

function firstStanding(from: Slot, row: Row, generation: Generation): Handle {
  let slot = from
  while (slot !== NONE) {
    const after = next[slot]!
    const handle = listedAs[slot]!
    if (isGone(slot, handle)) unlist(slot)
    else if (isOf(slot, row, generation)) return handle
    slot = after
  }
  return 0
}

function isGone(slot: Slot, handle: Handle): boolean {
  const word = table.word(slot)
  return stateOf(word) === STATE.free || generationOf(word) !== generationIn(handle)
}

function isOf(slot: Slot, row: Row, generation: Generation): boolean {
  const base = slot * WIDTH
  return (
    table.fields[base + EXPECTATION.masterRow] === row &&
    table.fields[base + EXPECTATION.masterGeneration] === generation
  )
}
