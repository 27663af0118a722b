// Failures of helpers that would have taken a shard's thread with them for good: what it was, how often, and which
// helpers are out of force because of it. A helper is contained at its first failure: it is out of force in every shard
// before the shard's next thread begins, until somebody loads it again.
//
//   the thread                                        why
//   did not turn for seconds, in the helper's code    endless-loop    (a loop, or a wait)
//   ran out of heap there                             out-of-memory
//   exited there (process.exit)                       exit
// What a helper throws is no such failure: only the connection goes on without it (datapath/helped/helper-errors.ts).
//
// Owner: the main thread.

import type { TaskEnd } from '../workers/thread-pool.ts'

export const HELPER_FAILURES = ['endless-loop', 'out-of-memory', 'exit'] as const
export type HelperFailure = (typeof HELPER_FAILURES)[number]

/** Undefined for ends that are never a helper's: what it throws is caught. */
const FAILURE_OF: Readonly<Record<TaskEnd['how'], HelperFailure | undefined>> = {
  silent: 'endless-loop',
  'out-of-memory': 'out-of-memory',
  exited: 'exit',
  threw: undefined,
  returned: undefined,
}

export const helperFailureOf = (how: TaskEnd['how']): HelperFailure | undefined => FAILURE_OF[how]

/** `endless loop`, for people. */
export const failureText = (why: HelperFailure): string => why.replaceAll('-', ' ')

/** Counts by helper and why; each helper that was ever in force has all of them, or its first one would not show. */
export class HelperFailureCounts {
  readonly #counts = new Map<string, Record<HelperFailure, number>>()

  /** The helper is in force. */
  know(helper: string): void {
    if (!this.#counts.has(helper)) this.#counts.set(helper, { 'endless-loop': 0, 'out-of-memory': 0, exit: 0 })
  }

  count(helper: string, why: HelperFailure): void {
    this.know(helper)
    this.#counts.get(helper)![why] += 1
  }

  all(): { readonly helper: string; readonly why: HelperFailure; readonly count: number }[] {
    return [...this.#counts].flatMap(([helper, counts]) =>
      HELPER_FAILURES.map((why) => ({ helper, why, count: counts[why] })),
    )
  }
}
