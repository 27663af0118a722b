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

/** Nanoseconds a packet. */
export interface Round {
  readonly before: number
  readonly now: number
}

export interface Measured {
  readonly flows: number
  readonly rounds: readonly Round[]
  readonly before: Summary
  readonly now: Summary
  /** The median of now, divided by that of before. */
  readonly ratio: number
}

/** Nanoseconds a packet, by the pipeline bench of the build in this folder. */
async function measureOnce(folder: string, flows: number, seconds: number, signal: AbortSignal): Promise<number> {
  const output = await run(folder, signal, process.execPath, PIPELINE, String(flows), String(seconds))
  const { nanosecondsPerPacket, dropped } = JSON.parse(output) as { nanosecondsPerPacket: number; dropped: number }
  if (dropped > 0) throw new Error(`${join(folder, PIPELINE)} dropped ${dropped} of its own packets: no figure`)
  return nanosecondsPerPacket
}

export const ns = (value: number): string => `${value.toFixed(1).padStart(7)} ns`
export const times = (ratio: number): string => ratio.toFixed(3)
export const flowsText = (flows: number): string => `${flows.toLocaleString('en').padStart(9)} flows`

/** Measures the builds in two folders by turns; the order changes each round. */
export async function byTurns(builds: Builds, plan: Plan, { say, signal }: Surroundings): Promise<Measured[]> {
  for (const folder of [builds.before, builds.now])
    if (!existsSync(join(folder, PIPELINE))) throw new Error(`${folder} has no ${PIPELINE} after its build`)
  const measured: Measured[] = []
  for (const flows of plan.flows) {
    const rounds: Round[] = []
    for (let i = 1; i <= plan.rounds; i++) {
      const round = { before: 0, now: 0 }
      for (const which of i % 2 === 1 ? (['before', 'now'] as const) : (['now', 'before'] as const))
        round[which] = await measureOnce(builds[which], flows, plan.seconds, signal)
      rounds.push(round)
      const { before, now } = round
      say(`${flowsText(flows)}, round ${i}: before ${ns(before)}, now ${ns(now)}, ratio ${times(now / before)}`)
    }
    const [before, now] = [summary(rounds.map((round) => round.before)), summary(rounds.map((round) => round.now))]
    measured.push({ flows, rounds, before, now, ratio: now.median / before.median })
  }
  return measured
}
