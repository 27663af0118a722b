// What the sequences have met, counted by the reference tracker while the kernel confirms it: after every segment the
// tracker must say of its fate, its state and its flags what the kernel shows. So a count here is the kernel's.

import { SEGMENTS, TCP_STATES } from '../../src/conntrack/tcp-state.ts'
import { describe, describeTracked, type Observation, type Tracked } from './observation.ts'
import {
  IGNORED_REASONS,
  INVALID_REASONS,
  type Judged,
  type Reason,
  ReferenceTracker,
  type Settings,
} from './reference.ts'
import { printHead, printSegment, type Segment, type Sequence } from './script.ts'

const AT_LEAST = 20
const WINDOW_TESTS = ['I', 'II', 'III', 'IV'] as const
/** What liberal tracking never says: whatever window test a segment fails, it is accepted (but for resets below). */
const OF_WINDOWS: readonly Reason[] = ['seq-over', 'ack-over', 'overshoot', 'seq-under', 'ack-under']
const SCALING = ['both offered', 'one offered', 'none offered', 'above 14 offered'] as const

export class Coverage {
  readonly #counts = new Map<string, number>()
  /** Where the tracker and the kernel don't agree: an error of the tracker, whose counts are worth nothing then. */
  readonly disagreements: string[] = []
  segments = 0

  constructor({ liberal }: Settings) {
    const asked = (reasons: readonly Reason[]) => reasons.filter((reason) => !liberal || !OF_WINDOWS.includes(reason))
    // A packet without an entry is original.
    for (const state of TCP_STATES)
      for (const kind of SEGMENTS)
        for (const direction of ['original', 'reply'])
          if (direction === 'original' || state !== 'NONE') this.#counts.set(`cell ${state} ${direction} ${kind}`, 0)
    for (const test of WINDOW_TESTS) this.#counts.set(`window ${test} failed alone`, 0)
    for (const reason of asked(INVALID_REASONS)) this.#counts.set(`invalid ${reason}`, 0)
    for (const reason of asked(IGNORED_REASONS)) this.#counts.set(`ignored ${reason}`, 0)
    for (const scaling of SCALING) this.#counts.set(`scaling ${scaling}`, 0)
  }

  /** Follows one sequence with what the kernel has shown of it. */
  add(sequence: Sequence, seen: readonly Observation[], settings: Settings): void {
    const tracker = new ReferenceTracker(sequence, settings)
    for (const [step, segment] of sequence.segments.entries()) {
      const before = tracker.entry?.state
      const judged = tracker.judge(segment)
      this.segments++
      const disagreement = differs(tracker, judged, seen[step]!)
      if (disagreement) {
        const story = sequence.segments.slice(0, step + 1).map((s, i) => `${printSegment(s)}   # ${describe(seen[i]!)}`)
        this.disagreements.push([`${sequence.name}: ${disagreement}`, printHead(sequence), ...story].join('\n'))
        return
      }
      this.#count(judged)
      if (before === 'SYN_SENT' && tracker.entry?.state === 'SYN_RECV')
        this.#countScaling(sequence.segments.slice(0, step + 1))
    }
  }

  #count({ cell, outcome, reason, failed = [] }: Judged): void {
    if (cell) this.#increase(`cell ${cell.state} ${cell.reply ? 'reply' : 'original'} ${cell.kind}`)
    if (failed.length === 1) this.#increase(`window ${failed[0]} failed alone`)
    if (outcome !== 'accepted' && reason !== 'not-admitted') this.#increase(`${outcome} ${reason}`)
  }

  #countScaling(segments: readonly Segment[]): void {
    const syns = segments.filter(({ flags }) => flags.includes('S'))
    const offers = (['c', 's'] as const).map((end) => syns.findLast((syn) => syn.end === end)?.options.wscale)
    const offered = offers.filter((scale) => scale !== undefined)
    this.#increase(`scaling ${['none', 'one', 'both'][offered.length]} offered`)
    if (offered.length === 2 && offered.some((scale) => scale > 14)) this.#increase('scaling above 14 offered')
  }

  #increase(key: string): void {
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1)
  }

  /** What has been met less often than asked for. */
  get missing(): string[] {
    return [...this.#counts].filter(([, count]) => count < AT_LEAST).map(([key, count]) => `${key}: ${count}`)
  }

  get counts(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#counts)
  }

  print(): string {
    const cell = (direction: string, kind: string) => (state: string) => {
      const count = this.#counts.get(`cell ${state} ${direction} ${kind}`)
      return (count === undefined ? '-' : String(count)).padStart(12)
    }
    const rows = ['original', 'reply'].flatMap((direction) =>
      SEGMENTS.map(
        (kind) => `${direction.padEnd(9)}${kind.padEnd(7)}${TCP_STATES.map(cell(direction, kind)).join('')}`,
      ),
    )
    const others = [...this.#counts]
      .filter(([key]) => !key.startsWith('cell'))
      .map(([key, count]) => `${key.padEnd(28)}${count}`)
    return [' '.repeat(16) + TCP_STATES.map((state) => state.padStart(12)).join(''), ...rows, '', ...others].join('\n')
  }
}

function differs({ entry }: ReferenceTracker, { outcome, reason }: Judged, seen: Observation): string | undefined {
  const expected: Tracked | undefined = entry && {
    state: entry.state,
    origin: entry.opener,
    seenReply: entry.seenReply,
    assured: entry.assured,
  }
  const shown = `${describe(seen)}, ${seen.counted ? '' : 'not '}counted`
  const said = `the tracker says ${outcome} (${reason}), ${describeTracked(expected)}; the kernel shows ${shown}`
  if ((outcome === 'invalid') === seen.arrived.length > 0) return said
  if (describeTracked(expected) !== describeTracked(seen.tracked)) return said
  const counts = outcome === 'accepted' && reason !== 'syn-again'
  return entry && seen.counted === !counts ? said : undefined
}
