// How long a helper may take. A shard serves all its connections from one thread, so a helper that computes for long
// holds up everybody's packets; a thread that the host did not run for a while is nobody's fault. So a call is judged by
// the processor time of its thread, and only if the wall clock says that it was long.
//
//   first long call                its result counts; the helper is under suspicion for a minute
//   suspected, long by the wall,   the thread was not running: its result counts
//     not by processor time
//   suspected, long by both        its result counts; it is the connection's last call: cut off as `slow`
//
// The processor time is a system call (0.6 microseconds, against 0.05 for the wall clock), which is why the calls of
// a helper that nobody suspects are not measured by it: where the first long one began in it, nobody knows.
// A finished result is always kept: what it has announced may not go out with an inside address. Owner: this thread.

import { CELL } from '../../counters/counters.ts'
import { counters } from '../../counters/own-counters.shard.ts'
import type { Registered } from '../../helpers/registry.shard.ts'

/** Milliseconds, from any beginning. */
export interface CallClocks {
  /** Time as it goes by. */
  wall(): number
  /** Time that the processor has spent on this thread. */
  cpu(): number
}

/** What one call may take: far above what any needs, and above a pause of the collector. Milliseconds, as below. */
const LONGEST_CALL = 100
/** How long a helper is suspected after a call that took longer. */
const SUSPICION = 60_000

/** The processor time at a call's beginning, of a helper that nobody suspects. */
const NOT_MEASURED = -1

let clocks: CallClocks | undefined
let suspectedUntil = new WeakMap<Registered, number>()
/** Of the call in hand: when it began. */
let wallAtBegin = 0
let cpuAtBegin = NOT_MEASURED

/** Without clocks no call is measured. */
export function attachCallBudget(withClocks: CallClocks | undefined): void {
  clocks = withClocks
  suspectedUntil = new WeakMap()
}

export function beginCall(helper: Registered): void {
  if (clocks === undefined) return
  wallAtBegin = clocks.wall()
  const until = suspectedUntil.get(helper)
  cpuAtBegin = until !== undefined && wallAtBegin < until ? clocks.cpu() : NOT_MEASURED
}

/** The call that has just ended, of this helper, took too long, and was not the first to. */
export function isOverBudget(helper: Registered): boolean {
  if (clocks === undefined) return false
  const now = clocks.wall()
  if (now - wallAtBegin <= LONGEST_CALL) return false
  counters[CELL.helperSlowCalls]! += 1
  const isMeasured = cpuAtBegin !== NOT_MEASURED
  if (isMeasured && clocks.cpu() - cpuAtBegin <= LONGEST_CALL) return false
  suspectedUntil.set(helper, now + SUSPICION)
  return isMeasured
}
