// Which helper's code this shard runs at the moment, in a word that outlives the thread (helper-list.ts). Every call of
// a helper's code stands between enterHelper() and leaveHelper(), also what prints the error that it has thrown: that
// may be an object whose getters are the helper's.
//
// A helper that keeps more and more memory from call to call is found here as well: once a second, at the end of a
// call, the thread's heap is looked at, and if it is too large the thread ends, with the word still set. What natloom
// itself keeps for helped connections doesn't count: many of them are no fault of the helper whose call happens to end.
// V8's own limit is much higher, because it ends the whole process if one allocation goes far beyond it
// (coordinator/workers/thread-pool.ts).
//
// Plain stores: who reads the word has seen the thread end, or silent for seconds. A call costs two of them (measured
// with bench/helpers.ts: nothing that shows beside the call).
//
//   enterHelper()   before the call
//   leaveHelper()   after it, whether it has returned or thrown
// Never: natloom's own error that passes through a helper leaves the word set, or the helper would be blamed for it.
//
// Owner: this thread.

import { nowMs } from '../memory/clock.ts'
import type { Entry } from './helper-list.ts'

/** What a thread may use between calls: it needs a few megabytes. */
const MOST_HEAP = 256 << 20
const LOOK_EVERY_MS = 1000

let heapUsed: (() => number) | undefined
let heapOfNatloom: () => number = () => 0
let nextLook = 0

/**
 * `used` returns the bytes of this thread's heap that are in use; without it they are not limited. `own` returns those
 * of them that natloom takes for helped connections; it is asked only if there are too many otherwise.
 */
export function limitHeap(used: (() => number) | undefined, own: () => number = () => 0): void {
  heapUsed = used
  heapOfNatloom = own
  nextLook = 0
}

let word: Int32Array = new Int32Array(1)

export function attachRunningHelper(shared: Int32Array): void {
  word = shared
}

export function enterHelper(id: number, entry: Entry): void {
  word[0] = id | entry
}

export function leaveHelper(): void {
  if (nowMs >= nextLook && heapUsed !== undefined) lookAtHeap(heapUsed())
  word[0] = 0
}

function lookAtHeap(used: number): void {
  nextLook = nowMs + LOOK_EVERY_MS
  // Ends the thread. Of an error that leaves it only the text remains: coordinator/workers/thread-pool.ts knows it.
  if (used > MOST_HEAP && used > MOST_HEAP + heapOfNatloom()) throw new Error(`its heap is over ${MOST_HEAP >> 20} MB`)
}
