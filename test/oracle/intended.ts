// Where natloom is meant to differ from the kernel, each with the RFC that asks for it or the measurement behind it. A
// difference that none of these rules explains is a fault of one of the two.

import type { Observation } from './observation.ts'
import type { Judged } from './reference.ts'
import type { Segment, Sequence } from './script.ts'

export interface Difference {
  readonly sequence: Sequence
  readonly step: number
  readonly segment: Segment
  readonly kernel: Observation
  readonly natloom: Observation
  /** What the kernel showed before this segment. */
  readonly before: Observation | undefined
  /** What the reference tracker says of the segment: which cell, which windows, why. */
  readonly judged: Judged
}

export interface Intended {
  readonly name: string
  /** The RFC's section, or what was measured. */
  readonly authority: string
  readonly holds: (difference: Difference) => boolean
}

export const MOST_INTENDED = 20

export const INTENDED: readonly Intended[] = []
