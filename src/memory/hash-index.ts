// The index of every table: open addressing over cells of two i32 words, [hash, ref], with linear probing and
// backward-shift deletion (no tombstones, so an index never ages). It maps a hash to candidates; the caller compares
// the key in the row that a ref names. ref = row << 1 | tag, where the tag tells the directions of a connection apart;
// row 0 is never used, so a ref of 0 means an empty cell.
//
// Measured (bench/functions.ts): at most half full, or a miss walks far; tag bytes and cuckoo buckets lose, for want
// of SIMD compares. Owner: the shard whose table it indexes, the only writer. It is derived: a shard that starts
// again on old memory clears it and inserts every live row.

import { fault } from './fault-points.ts'
import type { Region } from './region.ts'

export class HashIndex {
  /** [hash, ref] pairs; the hot path reads them directly. */
  readonly cells: Int32Array
  /** Number of cells - 1; hash & mask is where a probe begins. */
  readonly mask: number

  /** Room for `entries` refs at half load. */
  constructor(region: Region, entries: number) {
    const size = 2 ** Math.ceil(Math.log2(Math.max(8, entries * 2)))
    this.cells = region.i32(size * 2)
    this.mask = size - 1
  }

  /** The first cell with this hash, -1 if there is none. */
  first(hash: number): number {
    return this.#seek(hash, hash & this.mask)
  }

  /** The next cell with this hash after cell `position`, -1 if there is none. */
  next(hash: number, position: number): number {
    return this.#seek(hash, (position + 1) & this.mask)
  }

  refAt(position: number): number {
    return this.cells[position * 2 + 1]!
  }

  insert(hash: number, ref: number): void {
    const { cells, mask } = this
    let position = hash & mask
    while (cells[position * 2 + 1] !== 0) position = (position + 1) & mask
    cells[position * 2] = hash
    fault('cell with a hash and no row')
    cells[position * 2 + 1] = ref
  }

  /** Takes the one cell that holds this pair; false if there is none. */
  remove(hash: number, ref: number): boolean {
    const { cells, mask } = this
    let hole = hash & mask
    for (;;) {
      const found = cells[hole * 2 + 1]!
      if (found === 0) return false
      if (found === ref && cells[hole * 2] === hash) break
      hole = (hole + 1) & mask
    }
    // Move back every later entry of the cluster that the hole would cut off from where its probe begins.
    for (let scan = (hole + 1) & mask; cells[scan * 2 + 1] !== 0; scan = (scan + 1) & mask) {
      const home = cells[scan * 2]! & mask
      if (((scan - home) & mask) < ((scan - hole) & mask)) continue
      cells[hole * 2] = cells[scan * 2]!
      cells[hole * 2 + 1] = cells[scan * 2 + 1]!
      fault('cell moved, and still where it was')
      hole = scan
    }
    cells[hole * 2] = 0
    cells[hole * 2 + 1] = 0
    return true
  }

  clear(): void {
    this.cells.fill(0)
  }

  #seek(hash: number, start: number): number {
    const { cells, mask } = this
    for (let position = start; cells[position * 2 + 1] !== 0; position = (position + 1) & mask)
      if (cells[position * 2] === hash) return position
    return -1
  }
}
