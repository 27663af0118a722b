// Medians and spreads. A median doesn't move when the machine did something else during one round; the spread beside it
// shows how much the machine does so.

export interface Summary {
  readonly median: number
  readonly least: number
  readonly most: number
}

export function summary(values: readonly number[]): Summary {
  const sorted = [...values].sort((a, b) => a - b)
  if (sorted.length === 0) throw new RangeError('no values to summarise')
  const middle = sorted.length >> 1
  const upper = sorted[middle] as number
  return {
    median: sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] as number) + upper) / 2,
    least: sorted[0] as number,
    most: sorted.at(-1) as number,
  }
}

/** Half of the distance between least and most, as a share of the median. */
export const spread = ({ median, least, most }: Summary): number => (most - least) / 2 / median
