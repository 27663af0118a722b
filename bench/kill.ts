// `npm run bench:kill`: shards of a running gateway crash again and again under traffic. No established connection may
// break, and afterwards every connection must be in the shard that owns it. Measured is the gap that each crash makes
// in a stream that the crashed shard carries: of a datagram sent each millisecond, the longest time in which none came
// back. Ends with 1 if anything broke.
//
//   --crashes N                 30 by default
//   --workers N                 2 by default
//   --dispatch kernel|thread    kernel by default
//   --every MS                  between two crashes of one shard, 1000 by default (--by atomics)
//   --points N                  crash points that a shard passes between two crashes, 20000 by default (--by faults)
//   --seed N                    as printed by a run that is to be repeated
//   --by atomics|faults         where to crash: at Atomics operations, or at the crash points of a build that has them
//   --out FILE                  bench/results/kill.json by default

import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { type Connection, connections } from '../src/control/api-client.ts'
import { Placement } from '../src/lab/gateway/placement.ts'
import { startServices } from '../src/lab/scenarios/scenario.ts'
import { ECHO_PORT, type Flow } from '../src/lab/traffic/traffic.ts'
import { PATIENCE_MS } from '../src/lab/world/patience.ts'
import { Processes } from '../src/lab/world/processes.ts'
import { INSIDE_HOSTS, removeLeftovers, SERVER, Topology } from '../src/lab/world/topology.ts'
import { wholeNumber } from './arguments.ts'
import { gapsOf } from './kill/gaps.ts'
import { type Crash, CrashingGateway, hasFaults, MEANS } from './kill/gateway.ts'
import type { StreamsOptions, StreamsReport } from './kill/streams.ts'
import { describeMachine, machine } from './machine.ts'
import { summary } from './statistics.ts'

const FAMILY = 'natloom-kill'
/** How long no thread crashes at first: streams are opened, and the machine's own pauses are seen. */
const CALM_MS = 1500
/** Between two crashes a machine that has no time may take so long; longer is a hang. */
const SLOWEST_MS = 30_000
/** How long the successor of the last crashed shard carries traffic. */
const SETTLES_MS = 3000

const { values: options } = parseArgs({
  options: {
    crashes: { type: 'string', default: '30' },
    workers: { type: 'string', default: '2' },
    dispatch: { type: 'string', default: 'kernel' },
    every: { type: 'string', default: '1000' },
    points: { type: 'string', default: '20000' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    by: { type: 'string', default: 'atomics' },
    out: { type: 'string', default: 'bench/results/kill.json' },
  },
})

const positive = (name: 'crashes' | 'workers' | 'every' | 'points' | 'seed'): number =>
  wholeNumber(`--${name}`, options[name])

function means(): (typeof MEANS)[number] {
  const by = MEANS.find((one) => one === options.by)
  if (by === undefined) throw new RangeError(`--by ${options.by}: allowed are ${MEANS.join(', ')}`)
  if (by === 'faults' && !hasFaults())
    throw new RangeError('--by faults: package.json has no import #faults; say --by atomics')
  return by
}

interface Run {
  readonly crashes: readonly Crash[]
  readonly report: StreamsReport
  readonly listed: readonly Connection[]
  readonly wrong: readonly string[]
}

async function run(topology: Topology, processes: Processes, wanted: number): Promise<Run> {
  const crashes: Crash[] = []
  let enough: () => void = () => {}
  const allCrashed = new Promise<void>((resolve) => {
    enough = resolve
  })
  const [workers, everyMs] = [positive('workers'), positive('every')]
  await startServices({ topology, processes, flows: [] })
  const gateway = new CrashingGateway(topology, processes, {
    workers,
    dispatch: options.dispatch,
    by: means(),
    points: positive('points'),
    seed: positive('seed'),
    everyMs,
    calmMs: CALM_MS,
    crashed(crash) {
      crashes.push(crash)
      console.log(`  ${String(crashes.length).padStart(3)}  ${crash.worker}: ${crash.reason}`)
      if (crashes.length === wanted) enough()
    },
  })
  await gateway.forwards()
  const failed = gateway.failed()
  failed.catch(() => {})
  const asked: StreamsOptions = {
    host: SERVER,
    port: ECHO_PORT,
    from: INSIDE_HOSTS,
    streams: 4 * workers,
    connections: 8 * workers,
  }
  const streams = processes.startModule(topology.lan, new URL('./kill/streams.js', import.meta.url), asked)
  await Promise.race([once(streams.child, 'message'), failed])
  // Enough time for one shard alone to crash that often and to be replaced each time.
  const patience = Math.max(CALM_MS + 2 * everyMs, SLOWEST_MS) * (wanted + 5)
  const late = delay(patience, undefined, { ref: false }).then(() => {
    throw new Error(`${crashes.length} of ${wanted} crashes within ${patience / 1000} s`)
  })
  late.catch(() => {})
  await Promise.race([allCrashed, failed, late])
  // The successor of the last shard that crashed must carry traffic, too.
  await Promise.race([delay(SETTLES_MS), failed])
  // Shards go on crashing, but no stream can tell what those after the end have cost.
  const measured = [...crashes]
  streams.child.send('end')
  const [report] = (await Promise.race([once(streams.child, 'message'), failed])) as [StreamsReport]
  const placement = new Placement()
  const listed: Connection[] = []
  for await (const connection of connections(gateway.apiSocket)) {
    placement.add(connection)
    listed.push(connection)
  }
  const flows: Flow[] = [...report.streams, ...report.connections].map(({ flow }) => flow)
  gateway.program.child.kill('SIGTERM')
  const { code, signal } = await gateway.program.within(PATIENCE_MS)
  const stopped = code === 0 ? [] : [`natloom run ended with ${code ?? signal} after SIGTERM`]
  return { crashes: measured, report, listed, wrong: [...report.problems, ...placement.wrong(flows), ...stopped] }
}

const ms = (value: number): string => `${Math.round(value)} ms`

async function main(): Promise<number> {
  const wanted = positive('crashes')
  const on = machine()
  console.log(`${describeMachine(on)}\n`)
  console.log(
    `${options.workers} shards by ${options.dispatch} dispatch, crashes by ${means()}, --seed ${options.seed}\n`,
  )
  removeLeftovers(FAMILY)
  const topology = Topology.create(FAMILY)
  const processes = new Processes()
  const remove = () => topology.remove()
  process.once('exit', remove)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))
  let outcome: Run
  try {
    outcome = await run(topology, processes, wanted)
  } finally {
    await processes.end()
    remove()
  }

  const { crashes, report, listed, wrong } = outcome
  const { gaps, calm } = gapsOf(crashes, report.streams, listed)
  const gap = summary(gaps)
  const pieces = report.connections.reduce((sum, { pieces }) => sum + pieces, 0)
  const datagrams = report.streams.reduce((sum, { received }) => sum + received, 0)
  const lost = report.streams.reduce((sum, { lost }) => sum + lost, 0)
  console.log(
    [
      '',
      `  crashes       ${crashes.length}`,
      `  gap           median ${ms(gap.median)}, most ${ms(gap.most)}; without a crash at most ${ms(calm)}`,
      `  TCP           ${report.connections.length} connections, ${pieces} pieces echoed`,
      `  UDP           ${report.streams.length} streams, ${datagrams} datagrams echoed, ${lost} lost`,
      `  new flows     ${report.fleeting.begun}, of which ${report.fleeting.unanswered} had no answer`,
      '',
      ...wrong.map((line) => `  ${line}`),
      wrong.length === 0 ? 'Nothing that was established broke.' : 'Not all was right: see above.',
    ].join('\n'),
  )
  const { seed, workers, dispatch, by, out } = options
  const result = { date: new Date().toISOString(), machine: on, seed, workers, dispatch, by, gap, calm, gaps, wrong }
  mkdirSync(dirname(out), { recursive: true })
  writeFileSync(out, `${JSON.stringify(result, null, 2)}\n`)
  console.log(`kept in ${out}`)
  return wrong.length === 0 ? 0 : 1
}

process.exit(await main())
