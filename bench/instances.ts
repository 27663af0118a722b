// What many small NATs in one process cost, either way that there is (docs/decisions/0020): a worker thread each, or an
// instance of the datapath's modules each in the caller's thread. Prints a table and keeps
// bench/results/instances.json.
//
//   node dist/bench/instances.js [--rounds N]        3 by default

import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { wholeNumber } from './arguments.ts'
import type { InstancesResult } from './instances/process.ts'
import { describeMachine, machine } from './machine.ts'
import { summary } from './statistics.ts'

const PROCESS = fileURLToPath(new URL('./instances/process.js', import.meta.url))
const MEASURES = [
  ...[1, 10, 50].map((count) => ['thread', count] as const),
  ...[1, 10, 50, 200].map((count) => ['modules', count] as const),
]
const FIGURES = [
  'startMs',
  'lastStartMs',
  'tablesKiB',
  'instanceKiB',
  'microsecondsOfOne',
  'microsecondsOfBurst',
] as const

function measureOnce(kind: string, count: number): InstancesResult {
  const args = ['--expose-gc', PROCESS, kind, String(count)]
  return JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' })) as InstancesResult
}

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '3' } } })
const rounds = wholeNumber('--rounds', values.rounds)
const on = machine()
console.log(`${describeMachine(on)}\n`)
console.log('            start ms      KiB of memory a NAT      microseconds a call')
console.log('NATs       each   last      tables   the rest    1 packet   64 packets')

const results = MEASURES.map(([kind, count]) => {
  const taken = Array.from({ length: rounds }, () => measureOnce(kind, count))
  const medians = FIGURES.map((figure) => [figure, summary(taken.map((one) => one[figure])).median] as const)
  const result = { kind, count, ...Object.fromEntries(medians) } as unknown as InstancesResult
  const cells = [
    `${String(count).padStart(3)} ${kind}`.padEnd(11),
    result.startMs.toFixed(1).padStart(4),
    result.lastStartMs.toFixed(1).padStart(7),
    String(result.tablesKiB).padStart(11),
    String(result.instanceKiB).padStart(11),
    result.microsecondsOfOne.toFixed(2).padStart(12),
    result.microsecondsOfBurst.toFixed(2).padStart(12),
  ]
  console.log(cells.join(''))
  return result
})

const directory = fileURLToPath(new URL('../../bench/results/', import.meta.url))
mkdirSync(directory, { recursive: true })
const kept = { date: new Date().toISOString(), machine: on, load: loadavg()[0], rounds, results }
writeFileSync(`${directory}instances.json`, `${JSON.stringify(kept, null, 2)}\n`)
