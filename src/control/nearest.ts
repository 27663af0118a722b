// "Did you mean": the candidate that the fewest typing errors turn into the given name. Authority: the
// Damerau-Levenshtein distance in its optimal string alignment form: an insertion, a deletion, a substitution and a
// swap of neighbours count one each.

function distance(a: string, b: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1
      row[j] = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + cost)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        row[j] = Math.min(row[j]!, beforeLast[j - 2]! + 1)
    }
    beforeLast = last
    last = row
  }
  return last[b.length]!
}

/** The candidate whose spelling is nearest to `name`; of several equally near ones the first. */
export function nearest<T>(name: string, candidates: readonly T[], spelling: (candidate: T) => string): T | undefined {
  let best: T | undefined
  let least = Number.POSITIVE_INFINITY
  for (const candidate of candidates) {
    const apart = distance(name.toLowerCase(), spelling(candidate).toLowerCase())
    if (apart < least) {
      least = apart
      best = candidate
    }
  }
  return best
}

/** Whether one name is probably the other one mistyped. */
export const alike = (a: string, b: string): boolean =>
  distance(a.toLowerCase(), b.toLowerCase()) <= Math.max(1, Math.floor(Math.max(a.length, b.length) / 3))
