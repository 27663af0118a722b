// The kernel as oracle: TCP sequences through nft masquerade with `ct state invalid drop` and through natloom, compared
// after every segment: the kernel must confirm the reference tracker, everything must be covered, and natloom may
// differ only as intended.ts says. This is the short form; `npm run prove:oracle` (bench/oracle.ts) has more sequences.

import { writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { randomOf } from '../helpers/mutations.ts'
import { testNamespace } from '../leftovers.ts'
import { MOST_AT_ONCE } from './frames.ts'
import { generate } from './generator.ts'
import { INTENDED, MOST_INTENDED } from './intended.ts'
import { type Hosts, KernelGateway } from './kernel.ts'
import { NatloomGateway } from './natloom.ts'
import type { Settings } from './reference.ts'
import { parseSequence } from './script.ts'
import { scriptedSequences } from './scripted.ts'
import { printReport, type Report, Trial } from './trial.ts'

const SHORT = 2000
const GENERATED = Number(process.env.NLT_ORACLE ?? SHORT)
const SEED = Number(process.env.NLT_SEED ?? 20_261_130)
const LEAST_SCRIPTED = 300
/** A file, for who keeps them. */
const KEPT_IN = process.env.NLT_ORACLE_REPORTS

const AT: readonly Settings[] = [
  { pickup: false, liberal: false },
  { pickup: true, liberal: false },
  { pickup: false, liberal: true },
]

let hosts: Hosts
let kernel: KernelGateway
const reports: Report[] = []

beforeAll(() => {
  hosts = {
    lan: testNamespace('oracle-lan'),
    gateway: testNamespace('oracle-gw'),
    outside: testNamespace('oracle-wan'),
  }
  kernel = new KernelGateway(hosts)
})

afterAll(() => {
  kernel?.close()
  for (const host of Object.values(hosts ?? {})) host.delete()
  if (KEPT_IN) writeFileSync(KEPT_IN, JSON.stringify(reports))
})

it('has at least 300 scripted sequences, and at most 20 differences that are meant', () => {
  expect(scriptedSequences().length).toBeGreaterThanOrEqual(LEAST_SCRIPTED)
  expect(INTENDED.length).toBeLessThanOrEqual(MOST_INTENDED)
})

it('no frame that passes comes after its marker', () => {
  kernel.set(AT[0]!)
  const lines = ['c S 0', 's SA 0 ack 1', ...Array.from({ length: 30 }, (_, i) => `${i % 2 ? 's' : 'c'} A 1 ack 1`)]
  const sequences = Array.from({ length: MOST_AT_ONCE }, (_, i) =>
    parseSequence(`passes ${i}`, [`open ${i % 2 ? 'inside' : 'outside'}`, ...lines].join('\n')),
  )
  for (const seen of kernel.run(sequences)) expect(seen.every(({ arrived }) => arrived.length === 1)).toBe(true)
})

describe.each(AT)('TCP sequences, pickup $pickup, liberal $liberal', (settings) => {
  let report: Report

  beforeAll(async () => {
    kernel.set(settings)
    const trial = new Trial(kernel, await NatloomGateway.start({ tcp: settings }), settings)
    const random = randomOf(SEED)
    trial.run(scriptedSequences())
    trial.run(Array.from({ length: GENERATED }, (_, i) => generate(i, random, settings)))
    report = trial.report()
    reports.push(report)
    console.log(printReport(report, trial.coverage))
  })

  it('the kernel confirms what is counted as covered', () => expect(report.disagreements.slice(0, 3)).toEqual([]))
  it('every cell, window test, reason and scaling is met often enough', () => expect(report.missing).toEqual([]))
  it('natloom does what the kernel does, or what is meant', () =>
    expect(report.faults.map(({ kind }) => kind)).toEqual([]))
})

it('each difference that is meant has been met', () => {
  const met = new Set(reports.flatMap(({ intended }) => Object.keys(intended)))
  expect(INTENDED.map(({ name }) => name).filter((name) => !met.has(name))).toEqual([])
})
