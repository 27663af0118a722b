// `npm run prove:fuzz`: random sequences of packets through one shard and through four, held against a reference NAT
// (test/datapath/reference-nat.ts). Nothing may throw, nothing may be delivered that the reference refuses, and when
// time has passed nothing may be left: no row, port, record, byte, frame. Ends with 1 if anything was wrong; a failing
// sequence is printed packet by packet with its seed, and `--seed S --sequences 1` plays it alone. Keeps what came of
// it in bench/results/.
//
//   --sequences N        through each number of shards, ten million by default
//   --seed N             that of the first
//   --shards LIST        1,4 by default
//   --processes N        at a time; half of the cores by default
//   --minutes N          begins nothing more after so many; what was played until then is told
//   --out FILE           bench/results/prove-fuzz.json by default

import { execFile } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs, promisify } from 'node:util'
import { wholeNumber } from './arguments.ts'
import { makeBundle } from './fuzz-bundle.ts'
import type { Lot } from './fuzz-lot.ts'
import { describeMachine, machine } from './machine.ts'
import { revisionAt } from './other-build.ts'

const LOT = 250_000
/** Megabytes: nearly all that a sequence makes is gone with it. */
const YOUNG = '--max-semi-space-size=32'
/** A failing sequence says nothing of the others; but from so many on, each shows the same. */
const MOST_FAILURES = 10
const FILTERINGS = ['address-dependent', 'address-and-port-dependent', 'endpoint-independent'] as const
const PROGRAM = fileURLToPath(new URL('./fuzz-lot.js', import.meta.url))

const { values: options } = parseArgs({
  options: {
    sequences: { type: 'string', default: '10000000' },
    seed: { type: 'string', default: '20261130' },
    shards: { type: 'string', default: '1,4' },
    processes: { type: 'string', default: String(Math.max(1, availableParallelism() >> 1)) },
    minutes: { type: 'string', default: '1440' },
    out: { type: 'string', default: 'bench/results/prove-fuzz.json' },
  },
})

/** What has come of the lots through one number of shards. */
interface Total {
  readonly shards: number
  sequences: number
  packets: number
  delivered: number
  readonly reached: Record<string, number>
  readonly drops: Record<string, number>
  readonly failures: Lot['failures'][number][]
}

interface Work {
  readonly total: Total
  readonly first: number
  readonly count: number
  readonly filtering: (typeof FILTERINGS)[number]
}

const wanted = wholeNumber('--sequences', options.sequences)
const seed = wholeNumber('--seed', options.seed, 0)
const totals = options.shards.split(',').map(
  (text): Total => ({
    shards: wholeNumber('--shards', text),
    ...{ sequences: 0, packets: 0, delivered: 0, reached: {}, drops: {}, failures: [] },
  }),
)

/** Lots by turns through each number of shards, so that an early end leaves each with its share. */
function* work(): Generator<Work> {
  for (let done = 0, lot = 0; done < wanted; done += LOT, lot++)
    for (const total of totals) {
      const filtering = FILTERINGS[lot % FILTERINGS.length]!
      yield { total, first: seed + done, count: Math.min(LOT, wanted - done), filtering }
    }
}

const execute = promisify(execFile)

async function play({ total, first, count, filtering }: Work): Promise<void> {
  const args = [YOUNG, PROGRAM, ...[total.shards, filtering, first, count].map(String)]
  const { stdout } = await execute(process.execPath, args, { maxBuffer: 1 << 26 })
  const lot = JSON.parse(stdout) as Lot
  total.sequences += count
  total.packets += lot.packets
  total.delivered += lot.delivered
  for (const key of ['reached', 'drops'] as const)
    for (const [name, times] of Object.entries(lot[key])) total[key][name] = (total[key][name] ?? 0) + times
  total.failures.push(...lot.failures)
  for (const failure of lot.failures) {
    console.log(`\nseed ${failure.seed}, ${total.shards} shards, filtering ${filtering}: ${failure.fault}`)
    console.log(failure.lines.map((line) => `  ${line}`).join('\n'))
  }
}

const on = machine()
console.log(`${describeMachine(on)}\n`)
makeBundle()
const began = performance.now()
const isOver = (): boolean => performance.now() - began > Number(options.minutes) * 60_000
const lots = work()
let lastSaid = began

async function playUntilOver(): Promise<void> {
  for (const lot of lots) {
    if (isOver() || totals.some(({ failures }) => failures.length >= MOST_FAILURES)) return
    await play(lot)
    if (performance.now() - lastSaid < 60_000) continue
    lastSaid = performance.now()
    console.log(totals.map(({ shards, sequences }) => `${shards} shards: ${sequences} sequences`).join(', '))
  }
}

const processes = wholeNumber('--processes', options.processes)
await Promise.all(Array.from({ length: processes }, playUntilOver))

const seconds = Math.round((performance.now() - began) / 1000)
const right = totals.every(({ failures, sequences }) => failures.length === 0 && sequences > 0)
for (const { shards, sequences, packets, delivered, failures } of totals)
  console.log(
    `${shards} shards: ${sequences} sequences, ${packets} packets, ${delivered} left; ${failures.length} wrong`,
  )
const command = ['node', 'dist/bench/fuzz.js', ...process.argv.slice(2)].join(' ')
const date = new Date().toISOString()
const result = { date, machine: on, revision: revisionAt(process.cwd()), command, wanted, seconds, right, totals }
mkdirSync(dirname(options.out), { recursive: true })
writeFileSync(options.out, `${JSON.stringify(result, null, 2)}\n`)
console.log(`${seconds} s; kept in ${options.out}`)
process.exitCode = right ? 0 : 1
