// A million random operations on ports by the threads of several shards while blocks move between them. Shows how fast
// they are, and that no port is given twice or while the host has a socket on it, and none is lost
// (test/nat/lease-threads.ts); ends with 1 if one was.
//
//   node dist/bench/leases.js [OPERATIONS [SEED]]

import { leaseAmongThreads } from '../test/nat/lease-threads.ts'
import { numberAt } from './arguments.ts'

const operations = numberAt(1, 'OPERATIONS', 1_000_000)
const seed = numberAt(2, 'SEED', 1, 0)
for (const shards of [2, 4]) {
  const report = await leaseAmongThreads(shards, Math.ceil(operations / shards), seed)
  const { seconds, ...counts } = report
  console.log(JSON.stringify({ shards, seed, ...counts, operationsPerSecond: Math.round(report.operations / seconds) }))
  const faults = report.violations + report.lost + report.unlisted + report.miscounted + report.misbound
  if (faults > 0) process.exitCode = 1
}
