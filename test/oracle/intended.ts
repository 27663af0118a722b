// Where natloom is meant to differ from the kernel, each with the RFC that asks for it or the measurement behind it. A
// difference that none of these rules explains is a fault of one of the two.

import {
  bringsUnbelieved,
  hasOldNumber,
  isBeforeChange,
  isHeld,
  isResetWithoutText,
  isSynAsSent,
  repeats,
  type Situation,
  situationOf,
  waitsBehindGap,
} from './helped.ts'
import type { Observation, Tracked } from './observation.ts'
import { haveOtherBytes } from './observation.ts'
import { NATLOOMS, POLICIES, type Policy } from './policy.ts'
import { isExplainedBy } from './predictions.ts'
import type { Judged, Settings } from './reference.ts'
import type { Segment, Sequence } from './script.ts'

export interface Difference {
  readonly sequence: Sequence
  readonly settings: Settings
  readonly step: number
  readonly segment: Segment
  readonly kernel: Observation
  readonly natloom: Observation
  /** What natloom has shown from the first step to this one. */
  readonly history: readonly Observation[]
  /** What the reference tracker says of the segment: which cell, which windows, why. */
  readonly judged: Judged
  /** The connection as the reference tracker has it with natloom's policies. */
  readonly expected: Tracked | undefined
}

export interface Intended {
  readonly name: string
  /** The RFC's section, or what was measured. */
  readonly authority: string
  /** The switch of the reference tracker that says it. */
  readonly policy?: Policy
  /** Of what the tracker says nothing about: bytes that a helper reads. */
  readonly holds?: (situation: Situation, sequence: Sequence) => boolean
}

export const MOST_INTENDED = 20

const of = (policy: Policy, name: string, authority: string): Intended => ({ name, authority, policy })

export const INTENDED: readonly Intended[] = [
  of(
    'corrupted',
    'a segment with a wrong checksum that would move no more than the windows goes on, for its receiver to drop',
    'RFC 9293 3.1; measured: test/conntrack/corrupted-segments.test.ts',
  ),
  of('replies', 'what does not answer the SYN is no reply', 'RFC 9293 3.10.7.3'),
  of('refusals', 'a reset refuses a SYN only if it acknowledges that', 'RFC 9293 3.10.7.3, RFC 5961 3.2'),
  of('own-reset', "a client's own reset leaves the connection in CLOSE, for what is under way", 'RFC 7857 2.2'),
  of('synacks', 'a SYN/ACK that does not acknowledge the SYN opens nothing', 'RFC 9293 3.10.7.3'),
  of(
    'syns',
    'of two SYNs of one end, and of a made-up simultaneous open, the answer says which is the truth',
    'RFC 9293 3.10.7.3, RFC 7413 4.2.2, RFC 5961 1.2',
  ),
  of(
    'exact-resets',
    'a reset without the exact number, or that acknowledges nothing where it would answer, goes on and changes nothing',
    'RFC 5961 3.2, RFC 1337 3, RFC 9293 3.5.2',
  ),
  of('resets-at-end', "the number behind all that a reset's sender has sent is exact too", 'RFC 9293 3.10.5'),
  of('closing-reset', 'a second reset changes nothing, and is not noted', 'RFC 7857 7.1'),
  of(
    'notes',
    'what is dropped, or goes on unbelieved, tells nothing and has nothing forgotten that was noted',
    'RFC 5961 1.2: who guesses must not win; measured: test/oracle/policies.test.ts',
  ),
  of(
    'reopening',
    'in TIME_WAIT only a SYN opens anew that is ahead; another one is noted',
    'RFC 9293 3.10.7.4 (MAY-2)',
  ),
  of(
    'outside',
    'nobody outside opens what is not forwarded: neither anew nor in the middle',
    'RFC 5382 4.3, RFC 4787 5',
  ),
  {
    name: 'helped: what lies behind a gap waits, at most 64 KB ahead',
    authority: 'RFC 9293 3.10.7.4 (SHLD-31: held for processing in order); decision 0016',
    holds: waitsBehindGap,
  },
  {
    name: 'helped: what is not within the windows brings no new bytes',
    authority: 'RFC 9293 3.10.7.4 (not acceptable: dropped); decision 0041',
    holds: bringsUnbelieved,
  },
  {
    name: 'helped: the beginning of a line is held',
    authority: 'decision 0040; measured: test/datapath/helped/slow-senders.long.test.ts',
    holds: isHeld,
  },
  {
    name: 'helped: what comes again arrives as it came first, as far as it is missing',
    authority: 'RFC 9293 3.4: a number names one byte; decision 0016',
    holds: repeats,
  },
  {
    name: 'helped: a number of what was acknowledged before keeps its distance to that',
    authority: 'RFC 9293 3.10.7.4 (SEG.ACK =< SND.UNA is ignored); decision 0016',
    holds: hasOldNumber,
  },
  {
    name: 'helped: numbers in a rewritten line, and edges of SACK, are moved by what has changed before them',
    authority:
      'RFC 9293 3.4; measured: the kernel moves numbers from where the segment begins on, edges as the acknowledgement',
    holds: isBeforeChange,
  },
  { name: "helped: a SYN's number is its own", authority: 'RFC 9293 3.4.1', holds: isSynAsSent },
  {
    name: 'helped: a reset goes on without its text',
    authority: 'RFC 9293 3.5.3 (the text is for people); decision 0040',
    holds: isResetWithoutText,
  },
]

/** The rules that are needed to explain the difference; none if it is not meant. */
export function rulesFor(difference: Difference): readonly Intended[] {
  const { sequence, judged } = difference
  // Whoever looks at every byte sees damage, too. But a helper may have left by then.
  const isUnread = sequence.helped && judged.reason === 'checksum'
  if (isUnread) return byPolicies({ ...difference, sequence: { ...sequence, helped: false } })
  return (sequence.helped && ruleOfHelped(difference)) || byPolicies(difference)
}

function ruleOfHelped(difference: Difference): readonly Intended[] | undefined {
  const situation = situationOf(difference)
  const rule = INTENDED.find(({ holds }) => holds?.(situation, difference.sequence))
  return rule && [rule]
}

function byPolicies(difference: Difference): readonly Intended[] {
  const { natloom } = difference
  if (haveOtherBytes(difference.kernel, natloom) || !isExplainedBy(difference, natloom, NATLOOMS)) return []
  const needed = new Set<Policy>(POLICIES)
  for (const policy of POLICIES) {
    needed.delete(policy)
    if (!isExplainedBy(difference, natloom, needed)) needed.add(policy)
  }
  return INTENDED.filter(({ policy }) => policy !== undefined && needed.has(policy))
}
