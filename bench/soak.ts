// `npm run prove:soak`: two hundred inside hosts that do what hosts do, and one that floods at random, through the real
// `natloom run` for twenty minutes. Memory and everything that is counted is sampled all the time. Ends with 1 if
// anything grows, anything is left when all is over, a shard restarts, or what the other hosts began failed.
//
//   --minutes N          20 by default
//   --seed N             decides who does what when, and which flood comes; 1 by default
//   --shards N           2 by default
//   --out FILE           bench/results/prove-soak.json by default; the plot is beside it, named .txt

import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { sum } from '../src/lab/gateway/metrics-text.ts'
import { run } from '../src/lab/world/namespace.ts'
import { PATIENCE_MS } from '../src/lab/world/patience.ts'
import { Processes } from '../src/lab/world/processes.ts'
import { Remote } from '../src/lab/world/remote.ts'
import { HOST_INTERFACE, REMOTE, removeLeftovers, SERVER, Topology } from '../src/lab/world/topology.ts'
import { FLOOD_NAMES } from '../test/attack/floods.ts'
import { wholeNumber } from './arguments.ts'
import { AttackedNatloom, GAUGES, type Left } from './attack/gateway.ts'
import { type Hosts, PLACES, startHosts } from './attack/hosts.ts'
import { describeMachine, machine } from './machine.ts'
import { revisionAt } from './other-build.ts'
import { byChance, type Growth, growthOf, plotted } from './soak/growth.ts'
import type { InsideHostsRequests } from './soak/inside-hosts.ts'
import type { Outcome } from './soak/services.ts'

const FAMILY = 'natloom-soak'
const HOSTS = Array.from({ length: 200 }, (_, i) => `10.0.0.${20 + i}`)
const ROWS = 8192
const EXPECTATIONS = 256
const BEGUN_A_SECOND = 40
const SAMPLES = 240
const FLOOD_RATE = 4000
const FLOOD_PACKETS = 8000
const FLOOD_EVERY_MS = 5000
const ANSWERED_WITHIN_MS = 300
/** Of what each kind of traffic begins: a busy machine may lose a packet too often in a row. */
const LEAST_SUCCESS = 0.99
/**
 * A process's memory moves by V8's generations, of some megabytes a thread: growth below this is not told from it. A
 * leak of 100 bytes for each of a flood's packets is 80 MB in the two thirds of twenty minutes that are judged.
 */
const MOST_MEMORY_GROWTH_MIB = 24
/** What is counted goes up and down with the floods: each of them is one independent value. */
const FLOOD_TAKES_S = (FLOOD_EVERY_MS + (FLOOD_PACKETS * 1000) / FLOOD_RATE) / 1000
/** Nothing is told from this few. A single row that is left is found when all counts must return to zero. */
const MOST_COUNT_GROWTH = 32

const { values: options } = parseArgs({
  options: {
    minutes: { type: 'string', default: '20' },
    seed: { type: 'string', default: '1' },
    shards: { type: 'string', default: '2' },
    out: { type: 'string', default: 'bench/results/prove-soak.json' },
  },
})

type Sample = Readonly<Record<string, number>>

/** What the process has in memory: its own (heaps and tables), and what it shares with the kernel (packets). */
function memoryOf(pid: number): Sample {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const megabytes = (field: string) => Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)![1]) / 1024
  return {
    'heaps and tables, MiB': megabytes('RssAnon'),
    'packet memory, MiB': megabytes('RssShmem') + megabytes('RssFile'),
  }
}

function sample(natloom: AttackedNatloom): Sample {
  const samples = natloom.samples()
  const counts = Object.entries(GAUGES).map(([words, name]) => [words, sum(samples, name)] as const)
  return {
    ...memoryOf(natloom.pid),
    "main thread's heap, MiB": sum(samples, 'nodejs_heap_size_used_bytes') / 2 ** 20,
    ...Object.fromEntries(counts),
  }
}

/** One flood after the other until it is told to end, each chosen by the seed. */
async function misbehave({ inside, outside, insideLink, outsideLink }: Hosts, seed: number, isOver: () => boolean) {
  const floods: Record<string, number> = {}
  for (let i = 0; !isOver(); i++) {
    const name = FLOOD_NAMES[Math.abs(Math.imul(seed * 31 + i, 0x9e3779b1) >> 8) % FLOOD_NAMES.length]!
    const plan = {
      name,
      packets: FLOOD_PACKETS,
      rate: FLOOD_RATE,
      isControl: false,
      places: { ...PLACES, server: REMOTE },
    }
    const [steps] = await Promise.all([
      inside.ask('prepareFlood', { ...plan, side: 'inside', link: insideLink }),
      outside.ask('prepareFlood', { ...plan, side: 'outside', link: outsideLink }),
    ])
    for (let step = 0; step < steps; step++) {
      await inside.ask('open', step)
      await delay(ANSWERED_WITHIN_MS)
    }
    await Promise.all([inside.ask('flood'), outside.ask('flood')])
    floods[name] = (floods[name] ?? 0) + 1
    await delay(FLOOD_EVERY_MS)
  }
  return floods
}

interface Soaked {
  readonly samples: readonly Sample[]
  readonly outcomes: Readonly<Record<string, Outcome>>
  readonly floods: Readonly<Record<string, number>>
  readonly restarts: number
  readonly memory: ReturnType<AttackedNatloom['memory']>
  readonly left: Left
  readonly wrong: readonly string[]
}

async function soak(topology: Topology, processes: Processes, seconds: number, seed: number): Promise<Soaked> {
  const { lan, outside } = topology
  const adds = HOSTS.map((address) => `addr add ${address}/24 dev ${HOST_INTERFACE}`).join('\n')
  run('ip', ['-n', lan.name, '-batch', '-'], adds)
  const hosts = await startHosts(topology, processes, REMOTE)
  const servers = processes.startModule(outside, new URL('./soak/servers.js', import.meta.url))
  await once(servers.child, 'message', { signal: AbortSignal.timeout(PATIENCE_MS) })
  const workers = wholeNumber('--shards', options.shards)
  const natloom = new AttackedNatloom(topology, processes, { workers, rows: ROWS, expectations: EXPECTATIONS })
  await natloom.forwarding()
  const users = new Remote<InsideHostsRequests>(lan, processes, new URL('./soak/inside-hosts.js', import.meta.url))
  const rate = BEGUN_A_SECOND
  await users.ask('begin', { hosts: HOSTS, server: SERVER, link: hosts.insideLink, seed, rate })

  const end = performance.now() + seconds * 1000
  const misbehaved = misbehave(hosts, seed, () => performance.now() > end)
  misbehaved.catch(() => {})
  const samples: Sample[] = []
  while (performance.now() < end) {
    samples.push(sample(natloom))
    await delay((seconds * 1000) / SAMPLES)
  }
  const floods = await misbehaved
  const outcomes = await users.ask('end')
  const [restarts, memory] = [natloom.restarts(), natloom.memory()]
  const left = await natloom.allOver()
  return { samples, outcomes, floods, restarts, memory, left, wrong: await natloom.stop() }
}

interface Series {
  readonly name: string
  readonly growth: Growth
  readonly mayGrow: number
  readonly values: readonly number[]
}

function seriesOf(samples: readonly Sample[], seconds: number): readonly Series[] {
  const floods = (seconds * 2) / 3 / FLOOD_TAKES_S
  return Object.keys(samples[0]!).map((name) => {
    const values = samples.map((each) => Math.round(each[name]! * 100) / 100)
    const growth = growthOf(values)
    const mayGrow = name.endsWith('MiB')
      ? MOST_MEMORY_GROWTH_MIB
      : Math.max(MOST_COUNT_GROWTH, byChance(growth, floods))
    return { name, growth, mayGrow, values }
  })
}

/** Ports rest for two minutes: until the first third is longer than that, their number rises. */
const isJudged = ({ name }: Series, seconds: number): boolean => name !== 'quarantine' || seconds > 3 * 120

function faultsOf(soaked: Soaked, series: readonly Series[], seconds: number): string[] {
  const { outcomes, restarts, memory, left, wrong } = soaked
  return [
    ...series
      .filter((each) => isJudged(each, seconds) && each.growth.grown > each.mayGrow)
      .map(({ name, growth }) => `${name} has grown by ${growth.grown.toFixed(1)}`),
    ...Object.entries(outcomes)
      .filter(([, { tried, succeeded }]) => succeeded < LEAST_SUCCESS * tried)
      .map(
        ([name, { tried, succeeded, failures }]) => `${name}: ${succeeded} of ${tried}, ${JSON.stringify(failures)}`,
      ),
    ...(restarts > 0 ? [`${restarts} shards were restarted`] : []),
    ...(memory.peak > memory.announced ? [`${memory.peak} MiB of ${memory.announced} announced`] : []),
    ...(Object.keys(left).length > 0 ? [`left: ${JSON.stringify(left)}`] : []),
    ...wrong,
  ]
}

function plot(series: readonly Series[]): string {
  const number = (value: number): string => value.toFixed(1).padStart(9)
  const lines = series.map(({ name, values, growth: { mean, most, grown } }) =>
    [name.padEnd(24), plotted(values), number(mean), number(most), number(grown)].join(' '),
  )
  const title = `${''.padEnd(24)} ${'from the begin to the end, from 0 up'.padEnd(80)}      mean      most     grown`
  return [title, ...lines].join('\n')
}

async function main(): Promise<void> {
  const seconds = Number(options.minutes) * 60
  if (!(seconds >= 30)) throw new RangeError(`--minutes ${options.minutes}: half a minute at least`)
  const seed = wholeNumber('--seed', options.seed, 0)
  removeLeftovers(FAMILY)
  const topology = Topology.create(FAMILY)
  const processes = new Processes()
  const remove = () => topology.remove()
  process.once('exit', remove)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))
  const on = machine()
  console.log(describeMachine(on))
  let soaked: Soaked
  try {
    soaked = await soak(topology, processes, seconds, seed)
  } finally {
    await processes.end()
    remove()
  }
  const series = seriesOf(soaked.samples, seconds)
  const faults = faultsOf(soaked, series, seconds)
  const { commit } = revisionAt('.')
  const command = `npm run prove:soak -- ${process.argv.slice(2).join(' ')}`.trim()
  const { samples: _, ...kept } = soaked
  const result = {
    date: new Date().toISOString(),
    machine: on,
    commit,
    command,
    seed,
    seconds,
    faults,
    ...kept,
    series,
  }
  mkdirSync(dirname(options.out), { recursive: true })
  writeFileSync(options.out, `${JSON.stringify(result)}\n`)
  const text = [describeMachine(on), `${command}, commit ${commit}, seed ${seed}`, '', plot(series)].join('\n')
  writeFileSync(options.out.replace(/\.json$/, '.txt'), `${text}\n`)

  console.log(plot(series))
  for (const [name, { tried, succeeded }] of Object.entries(soaked.outcomes))
    console.log(`${name}: ${succeeded} of ${tried}`)
  console.log(faults.length === 0 ? 'Nothing has grown, and nothing is left.' : faults.join('\n'))
  console.log(`kept in ${options.out}`)
  if (faults.length > 0) process.exitCode = 1
}

await main()
