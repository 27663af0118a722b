// Whether a series of samples grows: the slope of a straight line by least squares through its last two thirds, told as
// what it makes over that time. The first third is left out, in which tables, caches and V8's generations find their
// size. What goes up and down by chance has a slope by chance, too: a line through N independent values that deviate by
// s rises by s * sqrt(12 / N) in one of three cases, and hardly ever by four times that. And a series as a line of
// characters, for people.

export interface Growth {
  /** Of the samples that are judged. */
  readonly mean: number
  readonly least: number
  readonly most: number
  /** What the line rises by from the first of them to the last. */
  readonly grown: number
  /** Of the samples, from their mean. */
  readonly deviation: number
}

/** Times what chance makes of a slope. */
const HARDLY_EVER = 4

/** What a series without growth may rise by, if so many of its values are independent of each other. */
export const byChance = ({ deviation }: Growth, independent: number): number =>
  HARDLY_EVER * deviation * Math.sqrt(12 / Math.max(1, independent))

export function growthOf(samples: readonly number[]): Growth {
  const judged = samples.slice(Math.floor(samples.length / 3))
  if (judged.length < 2) throw new RangeError(`${samples.length} samples are too few for a slope`)
  const mean = judged.reduce((sum, value) => sum + value, 0) / judged.length
  const middle = (judged.length - 1) / 2
  let covariance = 0
  let variance = 0
  let squares = 0
  for (const [i, value] of judged.entries()) {
    covariance += (i - middle) * (value - mean)
    variance += (i - middle) ** 2
    squares += (value - mean) ** 2
  }
  return {
    mean,
    least: Math.min(...judged),
    most: Math.max(...judged),
    grown: (covariance / variance) * (judged.length - 1),
    deviation: Math.sqrt(squares / judged.length),
  }
}

const LEVELS = '▁▂▃▄▅▆▇█'

/** The series in so many characters, each the mean of its samples, from 0 to the highest one. */
export function plotted(samples: readonly number[], width = 80): string {
  const columns = Math.min(width, samples.length)
  const means = Array.from({ length: columns }, (_, column) => {
    const from = Math.floor((column * samples.length) / columns)
    const own = samples.slice(from, Math.floor(((column + 1) * samples.length) / columns))
    return own.reduce((sum, value) => sum + value, 0) / own.length
  })
  const most = Math.max(...means, 1e-9)
  return means.map((mean) => LEVELS[Math.min(LEVELS.length - 1, Math.floor((mean / most) * LEVELS.length))]).join('')
}
