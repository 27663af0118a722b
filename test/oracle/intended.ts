// Where natloom is meant to differ from the kernel, each with the RFC that asks for it or the measurement behind it. A
// difference that none of these rules explains is a fault of one of the two.

import type { Difference } from './compare.ts'

export interface Intended {
  readonly name: string
  /** The RFC's section, or what was measured. */
  readonly authority: string
  readonly holds: (difference: Difference) => boolean
}

export const MOST_INTENDED = 20

export const INTENDED: readonly Intended[] = []
