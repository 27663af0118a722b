// Holds natloom against the kernel after every segment: whether it arrived at the other side and with which bytes, and
// the connection as conntrack lists it. The first difference of a sequence ends its comparison, since from there on the
// two remember different things.

import { print } from '../../src/testing/printer.ts'
import { viewOf } from '../datapath/packets.ts'
import { type Difference, rulesFor } from './intended.ts'
import { describe, describeTracked, haveOtherBytes, type Observation } from './observation.ts'
import { NATLOOMS } from './policy.ts'
import { agrees, trackedBy } from './predictions.ts'
import { ReferenceTracker, type Settings } from './reference.ts'
import { printHead, printSegment, type Sequence } from './script.ts'

export interface Compared {
  /** Segments after which both were alike, before the first difference. */
  readonly alike: number
  /** Segments after which natloom was as its policies say. */
  readonly asMeant: number
  /** The first difference to the kernel, if it is meant. */
  readonly intended: Difference | undefined
  /** The first one that isn't, or where natloom differs from its policies. */
  readonly fault: Difference | undefined
}

export function compare(
  sequence: Sequence,
  kernel: readonly Observation[],
  natloom: readonly Observation[],
  settings: Settings,
): Compared {
  const kernels = new ReferenceTracker(sequence, settings)
  const natlooms = new ReferenceTracker(sequence, settings, NATLOOMS)
  let intended: Difference | undefined
  let alike = 0
  for (const [step, segment] of sequence.segments.entries()) {
    const judged = kernels.judge(segment)
    const isMeant = agrees(natlooms, natlooms.judge(segment), natloom[step]!)
    const isSame = isAlike(natloom[step]!, kernel[step]!)
    if (isSame && !intended) alike++
    if (isMeant && (isSame || intended)) continue
    const shown = { kernel: kernel[step]!, natloom: natloom[step]!, history: natloom.slice(0, step) }
    const difference: Difference = {
      sequence,
      settings,
      step,
      segment,
      ...shown,
      judged,
      expected: trackedBy(natlooms),
    }
    const explained = !isSame && !intended && rulesFor(difference).length > 0
    if (!explained) return { alike, asMeant: step, intended, fault: difference }
    intended = difference
    // Of a stream that a helper reads the tracker says too little from here on.
    if (sequence.helped) return { alike, asMeant: step, intended, fault: undefined }
  }
  return { alike, asMeant: sequence.segments.length, intended, fault: undefined }
}

function isAlike(a: Observation, b: Observation): boolean {
  if (a.arrived.length !== b.arrived.length) return false
  if (haveOtherBytes(a, b)) return false
  return describeTracked(a.tracked) === describeTracked(b.tracked)
}

/** Differences of one kind: the same cell met for the same reason, the same results; whichever side began. */
export function kindOfDifference({ judged, kernel, natloom }: Difference): string {
  const { cell, reason } = judged
  const where = cell ? `${cell.state} ${cell.reply ? 'reply' : 'original'} ${cell.kind}` : 'no cell'
  const result = (seen: Observation): string => describe(seen).replace(/ from (inside|outside)$/, '')
  const bytes = haveOtherBytes(kernel, natloom) ? ', other bytes' : ''
  return `${where} (${reason}): kernel ${result(kernel)}; natloom ${result(natloom)}${bytes}`
}

const HEADERS = 54

/** A frame as tcpdump prints it, with the bytes behind the shortest headers. */
function inWords(frame: Uint8Array): string {
  const behind = Buffer.from(frame).toString('latin1', HEADERS, HEADERS + 40)
  return `   ${print(viewOf(frame), 0, frame.length)} ${JSON.stringify(behind)}`
}

/** The sequence as a script, with what both have shown after each segment. */
export function story({ sequence, step, segment, kernel, natloom, expected }: Difference): string {
  const lines = sequence.segments.slice(0, step).map(printSegment)
  return [
    printHead(sequence),
    ...lines,
    `${printSegment(segment)}`,
    `   kernel:  ${describe(kernel)}`,
    `   natloom: ${describe(natloom)}`,
    `   meant:   ${describeTracked(expected)}`,
    ...(haveOtherBytes(kernel, natloom) ? [...kernel.arrived.map(inWords), 'or', ...natloom.arrived.map(inWords)] : []),
  ].join('\n')
}
