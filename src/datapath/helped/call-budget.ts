// How long a helper may take. A shard serves all its connections from one thread, so a helper that computes for long
// delays the packets of all; but a call may also look long because the host did not run the thread. So a call is judged
// by the processor time of its thread, which is asked only if the wall clock says that the call was long.
//
//   first long call                its result counts; the helper is under suspicion for a minute
//   suspected, long by the wall,   the thread was not running: its result counts
//     not by processor time
//   suspected, long by both        its result counts; it is the connection's last call: cut off as `slow`
//
// To ask for the processor time is a system call (0.6 microseconds, against 0.05 for the wall clock), so it is asked at
// the begin of a call only while the helper is under suspicion; a first long call can't be judged by it.
// A finished result is always kept: its announcement must not go out with an inside address. Owner: this thread.

import { CELL } from '../../counters/counters.ts'
import { counters } from '../../counters/own-counters.shard.ts'
import type { Registered } from '../../helpers/registry.shard.ts'
import type { Milliseconds } from '../../memory/brand.ts'
import { LONGEST_CALL, SUSPICION } from './limits.ts'

/** Milliseconds, counted from any moment. */
export interface CallClocks {
  /** The wall clock. */
  wall(): Milliseconds
  /** Processor time of this thread. */
  cpu(): Milliseconds
}

/** Instead of the processor time at a call's begin: the helper is not under suspicion. */
const NOT_MEASURED = -1

let clocks: CallClocks | undefined
let suspectedUntil = new WeakMap<Registered, Milliseconds>()
/** Both clocks when the call in hand began. */
let wallAtBegin: Milliseconds = 0
let cpuAtBegin: Milliseconds = NOT_MEASURED

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

/** The call of this helper that has just ended took too long, by its processor time too. */
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
