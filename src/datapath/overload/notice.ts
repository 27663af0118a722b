// A word to people that this thread drops what it can't carry: once a minute at most, since drops have metrics, and
// `natloom drops` names the senders. Owner: this thread.

import type { Side } from '../../conntrack/terms.ts'
import { nowMs } from '../../memory/clock.ts'

const TOLD_EVERY_MS = 60_000

/** An entry of the log (shard-contract.ts, Report). */
interface Entry {
  readonly level: 'warn'
  readonly text: string
  readonly detail: Readonly<Record<string, unknown>>
}

let report: (entry: Entry) => void = () => {}
let nextMs = 0
/** Dropped since the last word, by side. */
const dropped = new Float64Array(2)

export function attachOverloadNotice(withReport: ((entry: Entry) => void) | undefined): void {
  report = withReport ?? (() => {})
  nextMs = 0
  dropped.fill(0)
}

export function noteShed(side: Side, packets: number): void {
  dropped[side]! += packets
}

/** To be called once a second. */
export function tellOverload(): void {
  const fromInside = dropped[0]!
  const fromOutside = dropped[1]!
  if (fromInside + fromOutside === 0 || nowMs < nextMs) return
  nextMs = nowMs + TOLD_EVERY_MS
  dropped.fill(0)
  report({
    level: 'warn',
    text: 'more packets come than this thread can carry: each sender has its share, and what is above it is dropped',
    detail: { reason: 'overload', fromInside, fromOutside },
  })
}
