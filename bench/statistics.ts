// Medians and spreads. A median, because one round that the machine spent elsewhere must not move the figure; its
// spread beside it, because that is what the machine does.

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

/** Half of the way from least to most, as a share of the median. */
export const spread = ({ median, least, most }: Summary): number => (most - least) / 2 / median
