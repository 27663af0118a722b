// What the reference tracker says of a segment, beside what a gateway has shown.

import { describeTracked, type Observation, type Tracked } from './observation.ts'
import type { Policy } from './policy.ts'
import { type Judged, ReferenceTracker, type Settings } from './reference.ts'
import type { Sequence } from './script.ts'

export const trackedBy = ({ entry }: ReferenceTracker): Tracked | undefined =>
  entry && { state: entry.state, origin: entry.opener, seenReply: entry.seenReply, assured: entry.assured }

/** The gateway has let the segment through as the tracker says, and has the connection that it says. */
export function agrees(tracker: ReferenceTracker, { outcome }: Judged, { arrived, tracked }: Observation): boolean {
  if ((outcome === 'invalid') === arrived.length > 0) return false
  return describeTracked(trackedBy(tracker)) === describeTracked(tracked)
}

export interface Asked {
  readonly sequence: Sequence
  readonly settings: Settings
  readonly step: number
}

/** What a gateway with these policies would show after this step of a sequence. */
export function isExplainedBy(
  { sequence, settings, step }: Asked,
  shown: Observation,
  policies: ReadonlySet<Policy>,
): boolean {
  const tracker = new ReferenceTracker(sequence, settings, policies)
  const judged = sequence.segments.slice(0, step + 1).map((segment) => tracker.judge(segment))
  return agrees(tracker, judged[step]!, shown)
}
