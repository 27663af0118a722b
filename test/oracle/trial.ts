// One trial: sequences through both gateways at the same settings, lot after lot, and what has come of it. Prints as a
// person reads it, and is kept as JSON by `npm run prove:oracle`.

import { type Compared, compare, kindOfDifference, story } from './compare.ts'
import { Coverage } from './coverage.ts'
import { type Difference, rulesFor } from './intended.ts'
import { minimize } from './minimize.ts'
import type { Gateway, Observation } from './observation.ts'
import type { Settings } from './reference.ts'
import type { Sequence } from './script.ts'

/** How many sequences are under way at the same time. Of one inside endpoint eight connections can be expected. */
const LOT = 1000
const HELPED_LOT = 8
/** Of so many kinds of fault the script is made as short as it can be; it takes a second or so each. */
const MINIMIZED = 24

export interface Fault {
  readonly kind: string
  readonly count: number
  /** The shortest script that shows it. */
  readonly script: string
}

export interface Report {
  readonly settings: Settings
  readonly sequences: number
  /** Segments that the kernel was given; those after which both were alike, before a sequence's first difference. */
  readonly segments: number
  readonly alike: number
  /** Segments after which natloom was as the kernel is but for its policies, also behind a difference that is meant. */
  readonly asMeant: number
  /** How often each intended difference was met. */
  readonly intended: Readonly<Record<string, number>>
  readonly faults: readonly Fault[]
  readonly coverage: Readonly<Record<string, number>>
  readonly missing: readonly string[]
  readonly disagreements: readonly string[]
  readonly seconds: number
}

export class Trial {
  readonly coverage: Coverage
  readonly #kernel: Gateway
  readonly #natloom: Gateway
  readonly #settings: Settings
  readonly #intended: Difference[] = []
  readonly #faults: Difference[] = []
  readonly #began = performance.now()
  #sequences = 0
  #alike = 0
  #asMeant = 0

  constructor(kernel: Gateway, natloom: Gateway, settings: Settings) {
    this.#kernel = kernel
    this.#natloom = natloom
    this.#settings = settings
    this.coverage = new Coverage(settings)
  }

  run(sequences: readonly Sequence[]): void {
    for (const lot of lotsOf(sequences)) {
      const compared = this.#compare(lot, (sequence, seen) => this.coverage.add(sequence, seen, this.#settings))
      for (const { alike, asMeant, intended, fault } of compared) {
        this.#alike += alike
        this.#asMeant += asMeant
        if (intended) this.#intended.push(intended)
        if (fault) this.#faults.push(fault)
      }
      this.#sequences += lot.length
    }
  }

  #compare(
    lot: readonly Sequence[],
    each: (sequence: Sequence, seen: readonly Observation[]) => void = () => {},
  ): Compared[] {
    const kernel = this.#kernel.run(lot)
    const natloom = this.#natloom.run(lot)
    return lot.map((sequence, i) => {
      each(sequence, kernel[i]!)
      return compare(sequence, kernel[i]!, natloom[i]!, this.#settings)
    })
  }

  /** Minimizes one sequence of each kind of difference that is not intended. */
  report(): Report {
    const seconds = (performance.now() - this.#began) / 1000
    const intended: Record<string, number> = {}
    const kinds = new Map<string, Difference[]>()
    for (const difference of this.#intended)
      for (const { name } of rulesFor(difference)) intended[name] = (intended[name] ?? 0) + 1
    for (const fault of this.#faults) {
      const kind = kindOfDifference(fault)
      kinds.set(kind, [...(kinds.get(kind) ?? []), fault])
    }
    const byFrequency = [...kinds].toSorted(([, a], [, b]) => b.length - a.length)
    const faults = byFrequency.map(([kind, shown], place) => {
      const shortest = shown.reduce((a, b) => (a.step <= b.step ? a : b))
      const least =
        place < MINIMIZED ? minimize(shortest, (tried) => lotsOf(tried).flatMap((lot) => this.#compare(lot))) : shortest
      return { kind, count: shown.length, script: story(least) }
    })
    return {
      settings: this.#settings,
      sequences: this.#sequences,
      segments: this.coverage.segments,
      alike: this.#alike,
      asMeant: this.#asMeant,
      intended,
      faults,
      coverage: this.coverage.counts,
      missing: this.coverage.missing,
      disagreements: this.coverage.disagreements,
      seconds: Math.round(seconds * 10) / 10,
    }
  }
}

function lotsOf(sequences: readonly Sequence[]): Sequence[][] {
  const cut = (of: readonly Sequence[], size: number) =>
    Array.from({ length: Math.ceil(of.length / size) }, (_, i) => of.slice(i * size, (i + 1) * size))
  const helped = sequences.filter((sequence) => sequence.helped)
  return [
    ...cut(
      sequences.filter((sequence) => !sequence.helped),
      LOT,
    ),
    ...cut(helped, HELPED_LOT),
  ]
}

export function printReport(report: Report, coverage: Coverage): string {
  const { settings, sequences, segments, alike, asMeant, intended, faults, seconds } = report
  return [
    `pickup ${settings.pickup ? 'on' : 'off'}, ${settings.liberal ? 'liberal' : 'strict'}: ${sequences} sequences, ` +
      `${segments} segments, ${alike} alike, ${asMeant} as meant, ${seconds} s`,
    '',
    coverage.print(),
    '',
    ...Object.entries(intended).map(([name, count]) => `intended, ${count} times: ${name}`),
    ...faults.map(({ kind, count, script }) => `\n${count} times: ${kind}\n${script}`),
  ].join('\n')
}
