// `npm run bench:limits`: each maximum of the configuration, started: how long `natloom run` takes from the command to
// forwarding, how much processor time that costs, how much memory it has then, how much the plan says it may come to
// have, and how long a shard's turns are. The result is kept, and the table in docs/limits.md is written from it.
//
//   --runs N            starts of each maximum, and measurements of its turns, 3 by default; the median counts
//   --only TEXT         only maxima whose name contains it; then nothing is kept
//   --out FILE          bench/results/limits.json by default

import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { loadConfig } from '../src/control/config.ts'
import { memoryPlan } from '../src/coordinator/memory-plan.ts'
import { PATIENCE_MS } from '../src/lab/world/patience.ts'
import { Processes, type Program } from '../src/lab/world/processes.ts'
import { INSIDE_INTERFACE, OUTSIDE_INTERFACE, removeLeftovers, Topology } from '../src/lab/world/topology.ts'
import { wholeNumber } from './arguments.ts'
import { COMMON, MAXIMA, type Maximum } from './limits/maxima.ts'
import { type Limit, type Limits, withTable } from './limits/table.ts'
import type { Turns } from './limits/turns.ts'
import { describeMachine, machine } from './machine.ts'
import { summary } from './statistics.ts'

const FAMILY = 'natloom-limits'
const COMMAND = fileURLToPath(new URL('../src/control/main.js', import.meta.url))
const TURNS = fileURLToPath(new URL('./limits/turns.js', import.meta.url))
const DOCUMENT = 'docs/limits.md'
const MEBIBYTE = 2 ** 20

const { values: options } = parseArgs({
  options: {
    runs: { type: 'string', default: '3' },
    only: { type: 'string' },
    out: { type: 'string', default: 'bench/results/limits.json' },
  },
})

const variablesOf = ({ variables }: Maximum): Record<string, string> => ({
  ...COMMON,
  NATLOOM_INSIDE: INSIDE_INTERFACE,
  NATLOOM_OUTSIDE: OUTSIDE_INTERFACE,
  ...variables,
})

interface Start {
  /** From the command to the line `forwarding` in its log, in milliseconds. */
  readonly start: number
  /** Milliseconds of all threads until then. */
  readonly processor: number
  /** Bytes at most until then. */
  readonly resident: number
}

async function start(topology: Topology, processes: Processes, maximum: Maximum): Promise<Start> {
  const began = performance.now()
  const program = processes.start(topology.gateway, process.execPath, [COMMAND, 'run'], {
    name: 'natloom run',
    env: {
      ...variablesOf(maximum),
      NATLOOM_STATE_PATH: `${topology.directory}/state.json`,
      NATLOOM_API_SOCKET: `${topology.directory}/api.sock`,
    },
  })
  await forwards(program)
  const figures = { start: performance.now() - began, ...usedBy(program.child.pid!) }
  program.child.kill('SIGTERM')
  const { code, signal } = await program.within(PATIENCE_MS)
  if (code !== 0) throw new Error(`natloom run ended with ${code ?? signal} after SIGTERM:\n${program.output}`)
  return figures
}

async function forwards(program: Program): Promise<void> {
  const forwarding = new Promise<void>((resolve) => {
    program.child.stderr?.on('data', () => {
      if (program.output.includes('"forwarding"')) resolve()
    })
  })
  const failed = program.ended.then(({ code, signal }) => {
    throw new Error(`natloom run ended by itself with ${code ?? signal}:\n${program.output}`)
  })
  failed.catch(() => {})
  await Promise.race([forwarding, failed])
}

/** By proc(5). */
function usedBy(pid: number): Pick<Start, 'processor' | 'resident'> {
  const ticks = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
  const kibibytes = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]!
  return { processor: (Number(ticks[11]) + Number(ticks[12])) * 10, resident: Number(kibibytes) * 1024 }
}

/** Each in a process of its own; the one whose longest turn is the median of all. */
function turnsOf(maximum: Maximum, runs: number): Turns {
  const env = { ...process.env, ...variablesOf(maximum) }
  const all = Array.from(
    { length: runs },
    (): Turns => JSON.parse(execFileSync(process.execPath, [TURNS], { env, encoding: 'utf8' })),
  )
  all.sort((a, b) => a.longest - b.longest)
  return all[Math.floor(runs / 2)]!
}

async function measured(topology: Topology, processes: Processes, maximum: Maximum, runs: number): Promise<Limit> {
  const starts: Start[] = []
  for (let i = 0; i < runs; i++) starts.push(await start(topology, processes, maximum))
  const median = (key: keyof Start): number => summary(starts.map((each) => each[key])).median
  const { total } = memoryPlan(loadConfig({ env: variablesOf(maximum) }).config)
  return {
    what: maximum.what,
    startSeconds: rounded(median('start') / 1000, 2),
    processorSeconds: rounded(median('processor') / 1000, 2),
    residentMebibytes: Math.round(median('resident') / MEBIBYTE),
    plannedMebibytes: Math.round(total / MEBIBYTE),
    ...(maximum.turns && { turns: turnsOf(maximum, runs) }),
  }
}

const rounded = (value: number, digits: number): number => Number(value.toFixed(digits))

async function main(): Promise<void> {
  const runs = wholeNumber('--runs', options.runs)
  const { only } = options
  const on = machine()
  console.log(`${describeMachine(on)}\n`)
  removeLeftovers(FAMILY)
  const topology = Topology.create(FAMILY)
  const processes = new Processes()
  const remove = () => topology.remove()
  process.once('exit', remove)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))
  const limits: Limit[] = []
  try {
    for (const maximum of MAXIMA.filter(({ what }) => only === undefined || what.includes(only))) {
      const limit = await measured(topology, processes, maximum, runs)
      limits.push(limit)
      console.log(JSON.stringify(limit))
    }
  } finally {
    await processes.end()
    remove()
  }
  if (only !== undefined) return
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim()
  const load = rounded(loadavg()[0]!, 1)
  const result: Limits = { date: new Date().toISOString(), machine: on, commit, runs, load, limits }
  mkdirSync(dirname(options.out), { recursive: true })
  writeFileSync(options.out, `${JSON.stringify(result, null, 2)}\n`)
  writeFileSync(DOCUMENT, withTable(readFileSync(DOCUMENT, 'utf8'), result))
  console.log(`\nkept in ${options.out}, and in the table of ${DOCUMENT}`)
}

await main()
