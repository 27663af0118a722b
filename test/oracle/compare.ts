// Holds natloom against the kernel after every segment: whether it arrived at the other side and with which bytes, and
// the connection as conntrack lists it. The first difference of a sequence ends its comparison, since from there on the
// two remember different things.

import { print } from '../../src/testing/printer.ts'
import { viewOf } from '../datapath/packets.ts'
import { type Difference, INTENDED, type Intended } from './intended.ts'
import { describe, describeTracked, type Observation } from './observation.ts'
import { ReferenceTracker, type Settings } from './reference.ts'
import { printHead, printSegment, type Sequence } from './script.ts'

export interface Compared {
  /** Segments after which both were alike. */
  readonly alike: number
  readonly difference: Difference | undefined
}

export function compare(
  sequence: Sequence,
  kernel: readonly Observation[],
  natloom: readonly Observation[],
  settings: Settings,
): Compared {
  const tracker = new ReferenceTracker(sequence, settings)
  for (const [step, segment] of sequence.segments.entries()) {
    const judged = tracker.judge(segment)
    const [ours, theirs] = [natloom[step]!, kernel[step]!]
    if (isAlike(ours, theirs)) continue
    return {
      alike: step,
      difference: { sequence, step, segment, kernel: theirs, natloom: ours, before: kernel[step - 1], judged },
    }
  }
  return { alike: sequence.segments.length, difference: undefined }
}

function isAlike(a: Observation, b: Observation): boolean {
  if (a.arrived.length !== b.arrived.length) return false
  if (haveOtherBytes(a, b)) return false
  return describeTracked(a.tracked) === describeTracked(b.tracked)
}

export const ruleFor = (difference: Difference): Intended | undefined => INTENDED.find(({ holds }) => holds(difference))

/** Differences of one kind: the same cell met for the same reason, the same results; whichever side began. */
export function kindOfDifference({ judged, kernel, natloom }: Difference): string {
  const { cell, reason } = judged
  const where = cell ? `${cell.state} ${cell.reply ? 'reply' : 'original'} ${cell.kind}` : 'no cell'
  const result = (seen: Observation): string => describe(seen).replace(/ from (inside|outside)$/, '')
  const bytes = haveOtherBytes(kernel, natloom) ? ', other bytes' : ''
  return `${where} (${reason}): kernel ${result(kernel)}; natloom ${result(natloom)}${bytes}`
}

const haveOtherBytes = ({ arrived: a }: Observation, { arrived: b }: Observation): boolean =>
  a.length === b.length && a.some((frame, i) => Buffer.compare(frame, b[i]!) !== 0)

const HEADERS = 54

/** A frame as tcpdump prints it, with the bytes behind the shortest headers. */
function inWords(frame: Uint8Array): string {
  const behind = Buffer.from(frame).toString('latin1', HEADERS, HEADERS + 40)
  return `   ${print(viewOf(frame), 0, frame.length)} ${JSON.stringify(behind)}`
}

/** The sequence as a script, with what both have shown after each segment. */
export function story({ sequence, step, segment, kernel, natloom }: Difference): string {
  const lines = sequence.segments.slice(0, step).map(printSegment)
  return [
    printHead(sequence),
    ...lines,
    `${printSegment(segment)}`,
    `   kernel:  ${describe(kernel)}`,
    `   natloom: ${describe(natloom)}`,
    ...(haveOtherBytes(kernel, natloom) ? [...kernel.arrived.map(inWords), 'or', ...natloom.arrived.map(inWords)] : []),
  ].join('\n')
}
