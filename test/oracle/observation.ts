// What is seen of a gateway after each segment, the same of the kernel and of natloom, so that it can be compared.

import type { TcpState } from '../../src/conntrack/tcp-state.ts'
import type { Sequence, Side } from './script.ts'

/** The connection that a sequence's tuple has, as the gateway lists it. */
export interface Tracked {
  readonly state: TcpState
  /** Where its first packet came from. */
  readonly origin: Side
  readonly seenReply: boolean
  readonly assured: boolean
}

export interface Observation {
  /** What arrived at the other side: nothing, the segment, or with a helper what was held before it too. */
  readonly arrived: readonly Uint8Array[]
  /** Frames that the gateway sent back to the side that the segment came from. */
  readonly answers: number
  readonly tracked: Tracked | undefined
  /** Whether the connection counted the segment; the kernel counts what has moved it. Undefined where not known. */
  readonly counted: boolean | undefined
}

export interface Gateway {
  /** All at the same time, one segment of each a step, at most frames.ts' MOST_AT_ONCE. By sequence and step. */
  run(sequences: readonly Sequence[]): Observation[][]
}

export function describeTracked(tracked: Tracked | undefined): string {
  if (tracked === undefined) return 'no entry'
  const { state, origin, seenReply, assured } = tracked
  return `${state}${seenReply ? '' : ' [UNREPLIED]'}${assured ? ' [ASSURED]' : ''} from ${origin}`
}

const FATES = ['dropped', 'passed']

export const describe = ({ arrived, tracked }: Observation): string =>
  `${FATES[arrived.length] ?? `became ${arrived.length}`}, ${describeTracked(tracked)}`

export const haveOtherBytes = ({ arrived: a }: Observation, { arrived: b }: Observation): boolean =>
  a.length === b.length && a.some((frame, i) => Buffer.compare(frame, b[i]!) !== 0)
