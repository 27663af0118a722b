// A million random operations on the expectation table by the threads of several shards; in half of the runs threads
// crash. Shows how fast they are and that no invariant is broken (test/conntrack/expectation-threads.ts); ends with 1
// if one is.
//
//   node dist/bench/expectations.js [OPERATIONS [SEED]]

import { expectAmongThreads } from '../test/conntrack/expectation-threads.ts'
import { numberAt } from './arguments.ts'

const operations = numberAt(1, 'OPERATIONS', 1_000_000)
const seed = numberAt(2, 'SEED', 1, 0)
const POINTS_A_CRASH = 30_000

for (const shards of [2, 4])
  for (const crashEvery of [0, POINTS_A_CRASH]) {
    const report = await expectAmongThreads(shards, Math.ceil(operations / shards), seed, crashEvery)
    const { seconds, ...counts } = report
    const perSecond = Math.round(report.operations / seconds)
    console.log(JSON.stringify({ shards, seed, crashEvery, ...counts, operationsPerSecond: perSecond }))
    const { violations, unaccounted, miscounted, slotsHeld, leaked, left, crashes } = report
    const wrong = [Object.keys(violations).length, miscounted, slotsHeld, leaked, ...Object.values(left)]
    if (wrong.some((count) => count !== 0) || Math.abs(unaccounted) > crashes) process.exitCode = 1
  }
