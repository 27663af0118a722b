// Finds the gap that each crash has made: among the streams that the crashed shard carried, the longest pause around
// the moment of the crash. Pauses at other times are the machine's own.

import type { Connection } from '../../src/control/api-client.ts'
import type { Crash } from './gateway.ts'
import type { Pause, StreamReport } from './streams.ts'

/** The log tells of a crash some time after it, because another thread writes it. */
const SLACK_MS = 50

export interface Gaps {
  /** By crash, in milliseconds; 0 if no stream had a pause then. */
  readonly gaps: readonly number[]
  /** The longest pause that no crash explains. */
  readonly calm: number
}

const lengthOf = ({ from, to }: Pause): number => to - from
const surrounds = ({ from, to }: Pause, { at }: Crash): boolean => from - SLACK_MS <= at && at <= to + SLACK_MS
const longest = (pauses: readonly Pause[]): number => Math.max(0, ...pauses.map(lengthOf))

export function gapsOf(
  crashes: readonly Crash[],
  streams: readonly StreamReport[],
  listed: readonly Connection[],
): Gaps {
  const shardOf = ({ flow }: StreamReport): number | undefined =>
    listed.find(
      ({ protocol, original: { source, sourcePort } }) =>
        protocol === flow.protocol && source === flow.source && sourcePort === flow.sourcePort,
    )?.shard
  const carried = streams.map((stream) => ({ worker: `shard ${shardOf(stream)}`, pauses: stream.pauses }))
  const explained = new Set<Pause>()
  const gaps = crashes.map((crash) => {
    // The dispatcher carries all streams.
    const affected = carried.filter(({ worker }) => worker === crash.worker || !crash.worker.startsWith('shard'))
    const pauses = affected.flatMap(({ pauses }) => pauses).filter((pause) => surrounds(pause, crash))
    for (const pause of pauses) explained.add(pause)
    return longest(pauses)
  })
  const others = streams.flatMap(({ pauses }) => pauses).filter((pause) => !explained.has(pause))
  return { gaps, calm: longest(others) }
}
