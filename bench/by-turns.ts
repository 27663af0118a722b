// Two builds of natloom, measured by turns: in each round a process of either build runs that build's own pipeline
// bench (pipeline.ts). So a machine that becomes slower slows both, and each figure comes from many processes, because
// a table's pages lie elsewhere in every process.

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { run, type Surroundings } from './other-build.ts'
import { type Summary, summary } from './statistics.ts'

/** The pipeline bench. Every revision that has one has it at this path. */
const PIPELINE = 'dist/bench/pipeline.js'

export interface Plan {
  readonly rounds: number
  readonly flows: readonly number[]
  readonly seconds: number
}

/** Where the two builds are. */
export interface Builds {
  readonly before: string
  readonly now: string
}

/** What is measured: an established packet, and opening a flow, which older pipeline benches don't tell. */
const FIGURES = ['packet', 'open TCP', 'open UDP'] as const
type Figure = (typeof FIGURES)[number]
type Figures = Readonly<Record<Figure, number>>

/** Nanoseconds. */
export interface Round {
  readonly before: number
  readonly now: number
}

export interface Measured {
  readonly flows: number
  readonly figure: Figure
  readonly rounds: readonly Round[]
  readonly before: Summary
  readonly now: Summary
  /** The median of now, divided by that of before. */
  readonly ratio: number
}

/** By the pipeline bench of the build in this folder; 0 for what it doesn't tell. */
async function measureOnce(folder: string, flows: number, seconds: number, signal: AbortSignal): Promise<Figures> {
  const output = await run(folder, signal, process.execPath, PIPELINE, String(flows), String(seconds))
  const { nanosecondsPerPacket, nanosecondsToOpen, dropped } = JSON.parse(output) as {
    readonly nanosecondsPerPacket: number
    readonly nanosecondsToOpen?: { readonly tcp: number; readonly udp: number }
    readonly dropped: number
  }
  if (dropped > 0) throw new Error(`${join(folder, PIPELINE)} dropped ${dropped} of its own packets: no figure`)
  const { tcp, udp } = nanosecondsToOpen ?? { tcp: 0, udp: 0 }
  return { packet: nanosecondsPerPacket, 'open TCP': tcp, 'open UDP': udp }
}

const ns = (value: number): string => `${value.toFixed(1).padStart(7)} ns`
const titleOf = (flows: number, figure: Figure): string =>
  `${flows.toLocaleString('en').padStart(9)} flows, ${figure.padEnd(8)}`
const compared = (before: number, now: number): string =>
  `before ${ns(before)}, now ${ns(now)}, ratio ${(now / before).toFixed(3)}`

export const resultText = ({ flows, figure, before, now }: Measured): string =>
  `${titleOf(flows, figure)}, medians: ${compared(before.median, now.median)}`

/** Measures the builds in two folders by turns; the order changes each round. */
export async function byTurns(builds: Builds, plan: Plan, { say, signal }: Surroundings): Promise<Measured[]> {
  for (const folder of [builds.before, builds.now])
    if (!existsSync(join(folder, PIPELINE))) throw new Error(`${folder} has no ${PIPELINE} after its build`)
  const measured: Measured[] = []
  for (const flows of plan.flows) {
    const rounds: { readonly before: Figures; readonly now: Figures }[] = []
    for (let i = 1; i <= plan.rounds; i++) {
      const measure = (folder: string) => measureOnce(folder, flows, plan.seconds, signal)
      const first = i % 2 === 1 ? await measure(builds.before) : undefined
      const now = await measure(builds.now)
      const before = first ?? (await measure(builds.before))
      rounds.push({ before, now })
      for (const figure of toldByAll(rounds))
        say(`${titleOf(flows, figure)}, round ${i}: ${compared(before[figure], now[figure])}`)
    }
    for (const figure of toldByAll(rounds)) {
      const each = rounds.map(({ before, now }) => ({ before: before[figure], now: now[figure] }))
      const [before, now] = [summary(each.map((round) => round.before)), summary(each.map((round) => round.now))]
      measured.push({ flows, figure, rounds: each, before, now, ratio: now.median / before.median })
    }
  }
  return measured
}

const toldByAll = (rounds: readonly { readonly before: Figures; readonly now: Figures }[]): readonly Figure[] =>
  FIGURES.filter((figure) => rounds.every(({ before, now }) => before[figure] > 0 && now[figure] > 0))
