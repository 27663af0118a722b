// The free rows of a side table: one that few rows of another table need, each of which names its row there in a
// column of its own. Nothing of this is in shared memory, since the column tells all: a side row is taken if the column
// of a live row names it. Row 0 is never used, so a column's 0 means none.
//
// A row is written before it is named, and named by nobody before it is given back: whatever a crash leaves between is
// a row of nobody, which recover() finds free. Owner: the shard that owns both tables.

import type { Row } from './brand.ts'

export class FreeRows {
  readonly #capacity: number
  /** Rows that were given back; those from `#next` on were never taken. A typed array takes memory where it is used. */
  readonly #given: Int32Array
  #count = 0
  #next = 1

  constructor(capacity: number) {
    this.#capacity = capacity
    this.#given = new Int32Array(capacity)
  }

  get isEmpty(): boolean {
    return this.#count === 0 && this.#next > this.#capacity
  }

  /** A free row, to be written and then named; 0 if there is none. Low rows are taken first. */
  take(): Row {
    if (this.#count > 0) return this.#given[--this.#count]!
    return this.#next > this.#capacity ? 0 : this.#next++
  }

  /** Nobody names the row any more. */
  give(row: Row): void {
    this.#given[this.#count++] = row
  }

  /** As new: no row is taken. */
  clear(): void {
    this.#count = 0
    this.#next = 1
  }

  /** On a dead shard's memory: all are free but those that are named. */
  recover(named: ReadonlySet<Row>): void {
    this.#count = 0
    this.#next = this.#capacity + 1
    for (let row = this.#capacity; row > 0; row--) if (!named.has(row)) this.#given[this.#count++] = row
  }
}
