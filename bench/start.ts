// `npm run bench:start`: how long `natloom run` takes from the command to forwarding, and how long the first packets of
// a fresh gateway take, on a quiet machine and beside busy loops. Each run is a gateway with nothing but its interfaces
// configured, between the lab's namespaces; its neighbours are known, and both ends have been run hot on paths that
// don't go through it. A first packet's time is a round trip, there and back, through two paths that no packet took
// before.
//
//   --runs N            10 by default, of each phase
//   --loops N           busy loops of the second phase, 6 by default; 0: no second phase
//   --out FILE          bench/results/start.json by default

import { mkdirSync, writeFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { PATIENCE_MS } from '../src/lab/world/patience.ts'
import { Processes, type Program } from '../src/lab/world/processes.ts'
import { Remote } from '../src/lab/world/remote.ts'
import {
  GATEWAY_INSIDE,
  INSIDE_INTERFACE,
  OUTSIDE_INTERFACE,
  removeLeftovers,
  SERVER,
  Topology,
} from '../src/lab/world/topology.ts'
import { wholeNumber } from './arguments.ts'
import { besideBusyLoops } from './busy-loops.ts'
import { describeMachine, machine } from './machine.ts'
import type { Requests } from './start/host.ts'
import { summary } from './statistics.ts'

const FAMILY = 'natloom-start'
const COMMAND = fileURLToPath(new URL('../src/control/main.js', import.meta.url))
const HOST = new URL('./start/host.js', import.meta.url)
const PORT = 7
const HEATING = 300
/** Later flows of the same gateway, to compare the first one with. */
const LATER_FLOWS = 100

const { values: options } = parseArgs({
  options: {
    runs: { type: 'string', default: '10' },
    loops: { type: 'string', default: '6' },
    out: { type: 'string', default: 'bench/results/start.json' },
  },
})

/** Milliseconds. */
interface Run {
  /** From the command to the line `forwarding` in its log. */
  readonly start: number
  /** The first round trip, by UDP. */
  readonly firstUdp: number
  /** The first TCP handshake, behind it. */
  readonly firstTcp: number
  /** The medians of the flows that follow. */
  readonly laterUdp: number
  readonly laterTcp: number
}
const FIGURES: readonly (readonly [keyof Run, string])[] = [
  ['start', 'command to forwarding'],
  ['firstUdp', 'first packet, UDP, there and back'],
  ['firstTcp', 'first TCP handshake'],
  ['laterUdp', 'later flows, UDP'],
  ['laterTcp', 'later TCP handshakes'],
]

interface World {
  readonly topology: Topology
  readonly processes: Processes
  readonly lan: Remote<Requests>
  readonly gateway: Remote<Requests>
}

async function populated(topology: Topology, processes: Processes): Promise<World> {
  const host = (of: typeof topology.lan) => new Remote<Requests>(of, processes, HOST)
  const [lan, gateway, outside] = [host(topology.lan), host(topology.gateway), host(topology.outside)]
  await outside.ask('serve', PORT)
  await gateway.ask('serve', PORT)
  return { topology, processes, lan, gateway }
}

/** Neither the ends' code nor the neighbour tables may be what the first packet waits for. */
async function heat({ lan, gateway }: World): Promise<void> {
  for (let i = 0; i < HEATING; i++) {
    await Promise.all([lan.ask('udp', GATEWAY_INSIDE, PORT), gateway.ask('udp', SERVER, PORT)])
    await Promise.all([lan.ask('tcp', GATEWAY_INSIDE, PORT), gateway.ask('tcp', SERVER, PORT)])
  }
}

function natloom({ topology, processes }: World): Program {
  return processes.start(topology.gateway, process.execPath, [COMMAND, 'run'], {
    name: 'natloom run',
    env: {
      NATLOOM_CONFIG: '/dev/null',
      NATLOOM_INSIDE: INSIDE_INTERFACE,
      NATLOOM_OUTSIDE: OUTSIDE_INTERFACE,
      NATLOOM_STATE_PATH: `${topology.directory}/state.json`,
      NATLOOM_API_SOCKET: `${topology.directory}/api.sock`,
      NATLOOM_LOG_FORMAT: 'json',
    },
  })
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

async function run(world: World): Promise<Run> {
  await heat(world)
  const began = performance.now()
  const program = natloom(world)
  await forwards(program)
  const start = performance.now() - began
  const [firstUdp, firstTcp] = [await world.lan.ask('udp', SERVER, PORT), await world.lan.ask('tcp', SERVER, PORT)]
  const [udp, tcp]: [number[], number[]] = [[], []]
  for (let flow = 0; flow < LATER_FLOWS; flow++) {
    udp.push(await world.lan.ask('udp', SERVER, PORT))
    tcp.push(await world.lan.ask('tcp', SERVER, PORT))
  }
  program.child.kill('SIGTERM')
  const { code, signal } = await program.within(PATIENCE_MS)
  if (code !== 0) throw new Error(`natloom run ended with ${code ?? signal} after SIGTERM:\n${program.output}`)
  return { start, firstUdp, firstTcp, laterUdp: summary(udp).median, laterTcp: summary(tcp).median }
}

const shown = (ms: number): string => ms.toFixed(ms < 100 ? 2 : 0).padStart(8)

async function phase(world: World, runs: number, loops: number) {
  const taken = await besideBusyLoops(loops, async () => {
    const all: Run[] = []
    for (let i = 0; i < runs; i++) {
      const figures = await run(world)
      console.log(`  ${String(i + 1).padStart(3)} ${FIGURES.map(([key]) => shown(figures[key])).join('')}`)
      all.push(figures)
    }
    return all
  })
  const load = Math.round(loadavg()[0]! * 10) / 10
  const figures = Object.fromEntries(FIGURES.map(([key]) => [key, summary(taken.map((each) => each[key]))]))
  return { loops, load, figures, taken }
}

async function main(): Promise<void> {
  const runs = wholeNumber('--runs', options.runs)
  const loops = wholeNumber('--loops', options.loops, 0)
  const on = machine()
  console.log(`${describeMachine(on)}\n`)
  removeLeftovers(FAMILY)
  const topology = Topology.create(FAMILY)
  const processes = new Processes()
  const remove = () => topology.remove()
  process.once('exit', remove)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))
  const phases = []
  try {
    const world = await populated(topology, processes)
    for (const beside of loops > 0 ? [0, loops] : [0]) {
      console.log(beside > 0 ? `beside ${beside} busy loops` : 'without busy loops')
      phases.push(await phase(world, runs, beside))
    }
  } finally {
    await processes.end()
    remove()
  }
  for (const { loops, load, figures } of phases) {
    console.log(`\n${loops} busy loops, the machine's load ${load}: median, least, most of ${runs} runs, ms`)
    for (const [key, text] of FIGURES) {
      const { median, least, most } = figures[key]!
      console.log(`  ${text.padEnd(36)}${shown(median)}${shown(least)}${shown(most)}`)
    }
  }
  mkdirSync(dirname(options.out), { recursive: true })
  const result = { date: new Date().toISOString(), machine: on, runs, phases }
  writeFileSync(options.out, `${JSON.stringify(result, null, 2)}\n`)
  console.log(`\nkept in ${options.out}`)
}

await main()
