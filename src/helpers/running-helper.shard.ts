// Which helper's code this shard runs at the moment, in a word that outlives the thread (helper-list.ts). Every call of
// a helper's code stands between enterHelper() and leaveHelper(), also what prints the error that it has thrown: that
// may be an object whose getters are the helper's.
//
// Plain stores: who reads the word has seen the thread end, or silent for seconds. A call costs two of them (measured
// with bench/helpers.ts: nothing that shows beside the call).
//
//   enterHelper()   before the call
//   leaveHelper()   after it, whether it has returned or thrown
// Never: natloom's own error that passes through a helper leaves the word set, or the helper would be blamed for it.
//
// Owner: this thread.

import type { Entry } from './helper-list.ts'

let word: Int32Array = new Int32Array(1)

export function attachRunningHelper(shared: Int32Array): void {
  word = shared
}

export function enterHelper(id: number, entry: Entry): void {
  word[0] = id | entry
}

export function leaveHelper(): void {
  word[0] = 0
}
