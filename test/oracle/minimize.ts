// Makes a sequence that shows a difference as short and as plain as it can be and still show the same kind of it. All
// candidates of a round run at the same time.

import { type Compared, kindOfDifference } from './compare.ts'
import { MOST_AT_ONCE } from './frames.ts'
import type { Difference } from './intended.ts'
import { DEFAULT_WINDOW, type Segment, type Sequence } from './script.ts'

const ROUNDS = 64

export function minimize(
  difference: Difference,
  compareAll: (sequences: readonly Sequence[]) => Compared[],
): Difference {
  const kind = kindOfDifference(difference)
  let least = difference
  for (let round = 0; round < ROUNDS; round++) {
    const candidates = smaller(least).slice(0, MOST_AT_ONCE)
    const found = compareAll(candidates).find(({ fault: shown }) => shown && kindOfDifference(shown) === kind)
    if (!found) break
    least = found.fault!
  }
  return least
}

/** One step smaller each, the shortest first. */
function smaller({ sequence, step }: Difference): Sequence[] {
  const segments = sequence.segments.slice(0, step + 1)
  const made: Sequence[] = []
  const add = (change: Partial<Sequence>) => made.push({ ...sequence, segments, ...change })
  for (let size = segments.length >> 1; size >= 1; size >>= 1)
    for (let first = 0; first + size <= segments.length - 1; first += size)
      add({ segments: segments.toSpliced(first, size) })
  if (segments.length < sequence.segments.length) add({})
  for (const [at, segment] of segments.entries())
    for (const change of plainer(segment)) add({ segments: segments.with(at, { ...segment, ...change }) })
  if (sequence.isn.join() !== '1000,5000') add({ isn: [1000, 5000] })
  if (sequence.opener !== 'inside') add({ opener: 'inside' })
  return made
}

function plainer({ options, window, length, urgent, flags }: Segment): Partial<Segment>[] {
  const { sack, wscale, ...rest } = options
  return [
    ...(Object.keys(options).length > 0 ? [{ options: {} }] : []),
    ...(Object.keys(rest).length > 0
      ? [{ options: { ...(sack && { sack }), ...(wscale !== undefined && { wscale }) } }]
      : []),
    ...(window !== DEFAULT_WINDOW ? [{ window: DEFAULT_WINDOW }] : []),
    ...(length > 0 ? [{ length: 0, text: '' }] : []),
    ...(urgent > 0 ? [{ urgent: 0 }] : []),
    ...(/[PU]/.test(flags) ? [{ flags: flags.replace(/[PU]/g, '') }] : []),
  ]
}
