// `npm run prove:leaks`: records what leaves by the outside while a gateway starts, runs, fails in every way that can
// be brought about from outside, and stops, under traffic all the time. Its kernel forwards by itself (ip_forward), so
// that whatever is not hidden from it leaves as it is. While natloom's rules stand there must not be one frame with an
// inside source, nor, where a helper was to rewrite it, an inside address in what is said. What leaves while natloom is
// not there, or where it is told to let an announcement pass (onHelperFailure: pass), is measured and not judged.
// Prints what was seen, keeps it in bench/results/, and ends with 1 if anything that is judged was wrong.
//
//   --section NAME       only these; may be given again
//   --seconds N          how long each section lasts, 4 by default
//   --out FILE           bench/results/prove-leaks.json by default

import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { startServices } from '../src/lab/scenarios/scenario.ts'
import { ECHO_PORT } from '../src/lab/traffic/traffic.ts'
import { setForwarding } from '../src/lab/world/inside-frames.ts'
import { PATIENCE_MS } from '../src/lab/world/patience.ts'
import { Processes, type Program } from '../src/lab/world/processes.ts'
import {
  GATEWAY_OUTSIDE,
  HOST_INTERFACE,
  INSIDE_HOSTS,
  OUTSIDE_INTERFACE,
  removeLeftovers,
  SERVER,
  Topology,
} from '../src/lab/world/topology.ts'
import { wholeNumber } from './arguments.ts'
import type { StreamsOptions } from './kill/streams.ts'
import type { DialogueOptions, DialogueReport } from './leaks/dialogues.ts'
import { type GatewayRun, WatchedGateway } from './leaks/gateway.ts'
import { FTP, IRC } from './leaks/ports.ts'
import type { RecorderOptions, Recording } from './leaks/recorder.ts'
import { describeMachine, machine } from './machine.ts'
import { revisionAt } from './other-build.ts'

const FAMILY = 'natloom-leaks'

const { values: options } = parseArgs({
  options: {
    section: { type: 'string', multiple: true, default: [] },
    seconds: { type: 'string', default: '4' },
    out: { type: 'string', default: 'bench/results/prove-leaks.json' },
  },
})

interface Scene {
  readonly topology: Topology
  readonly gateway: WatchedGateway
  readonly recorder: Recorder
  /** How long a section lasts. */
  readonly ms: number
}

interface Section {
  readonly name: string
  readonly run?: GatewayRun
  readonly streams?: Pick<StreamsOptions, 'streams' | 'everyMs'>
  readonly dialogues?: Pick<DialogueOptions, 'each' | 'lingerMs'>
  /** The kernel doesn't forward by itself, as where natloom alone is the gateway. */
  readonly forwards?: false
  /** A reason that natloom must have counted, or the section did not bring about what it is for. */
  readonly must?: string
  /** What leaves is measured only: why. */
  readonly unjudged?: string
  /** Begins with natloom forwarding and the traffic under way. By default: time passes. */
  act?(scene: Scene): Promise<void>
}

class Recorder {
  readonly #program: Program

  constructor(topology: Topology, processes: Processes) {
    const asked: RecorderOptions = {
      interface: HOST_INTERFACE,
      inside: { first: 10 },
      addresses: INSIDE_HOSTS,
      ports: [FTP, IRC],
    }
    this.#program = processes.startModule(topology.outside, new URL('./leaks/recorder.js', import.meta.url), asked)
  }

  async ready(): Promise<void> {
    await once(this.#program.child, 'message')
  }

  async begin(): Promise<void> {
    this.#program.child.send('begin')
    await once(this.#program.child, 'message')
  }

  async end(): Promise<Recording> {
    this.#program.child.send('end')
    const [recording] = await once(this.#program.child, 'message')
    return recording as Recording
  }
}

/** Does something again and again for a section's time. */
async function often({ ms }: Scene, everyMs: number, step: () => unknown): Promise<void> {
  for (const end = Date.now() + ms; Date.now() < end; await delay(everyMs)) await step()
}

/** No host is refused anything before all of it is used up. */
const NO_LIMITS = { NATLOOM_LIMITS: 'connections 2000000 ports 65536 expectations 65536' }

const SECTIONS: readonly Section[] = [
  { name: 'running' },
  { name: 'crashes of shards', run: { crashes: true }, act: ({ gateway, ms }) => gateway.crashed(ms / 500) },
  {
    name: 'SIGKILL and restart',
    async act({ gateway, ms }) {
      await gateway.kill()
      await delay(ms / 2)
      await gateway.start()
      await delay(ms / 2)
    },
  },
  {
    name: 'no ports left',
    run: { env: { NATLOOM_NAT_PORTS_FROM: '16384', NATLOOM_NAT_PORTS_TO: '16511', ...NO_LIMITS } },
    must: 'no-port',
  },
  {
    // Nothing is refused: the oldest that is not assured makes room for each new one.
    name: 'no connection rows left',
    run: { env: { NATLOOM_CAPACITY_CONNECTIONS: '1024', ...NO_LIMITS } },
    streams: { streams: 1500, everyMs: 1000 },
  },
  {
    name: 'no expectations left',
    run: { env: { NATLOOM_CAPACITY_EXPECTATIONS: '16', ...NO_LIMITS } },
    dialogues: { each: 16, lingerMs: 3000 },
    must: 'global-limit',
  },
  { name: 'flushes of the ruleset', act: (scene) => often(scene, 300, () => scene.gateway.flush()) },
  {
    name: 'neighbour lost',
    async act({ topology, ms }) {
      topology.outside.ip(`link set ${HOST_INTERFACE} arp off`)
      topology.gateway.ip(`neigh flush dev ${OUTSIDE_INTERFACE}`)
      await delay(ms)
      topology.outside.ip(`link set ${HOST_INTERFACE} arp on`)
      await delay(ms / 2)
    },
  },
  {
    name: 'outside address lost',
    async act({ topology, ms }) {
      topology.gateway.ip(`addr del ${GATEWAY_OUTSIDE}/24 dev ${OUTSIDE_INTERFACE}`)
      await delay(ms / 2)
      topology.gateway.ip(`addr add ${GATEWAY_OUTSIDE}/24 dev ${OUTSIDE_INTERFACE}`)
      topology.gateway.ip(`route replace default via ${SERVER}`)
      await delay(ms / 2)
    },
  },
  {
    name: 'link down and up',
    async act(scene) {
      await scene.gateway.linkDownAndUp(scene.ms / 4)
      await delay(scene.ms / 2)
    },
  },
  {
    name: 'helpers unloaded and loaded',
    unjudged: 'who unloads a helper wants its protocol to pass',
    act: (scene) =>
      often(scene, 200, async () => {
        for (const name of ['ftp', 'irc']) await scene.gateway.helper('unload', name)
        for (const name of ['ftp', 'irc']) await scene.gateway.helper('load', name)
      }),
  },
  {
    name: 'announcements may pass',
    run: { env: { NATLOOM_ON_HELPER_FAILURE: 'pass' } },
    unjudged: 'onHelperFailure: pass',
  },
  { name: 'stop', forwards: false, act: stopAndRest },
  {
    name: 'stop, the kernel forwards',
    unjudged: 'as soon as the rules are gone the kernel forwards',
    act: stopAndRest,
  },
]
const LAST = SECTIONS.at(-1)!

async function stopAndRest({ gateway, ms }: Scene): Promise<void> {
  await gateway.stop()
  await delay(ms / 2)
}

interface Result extends Recording {
  readonly section: string
  readonly judged: boolean
  readonly dialogues: DialogueReport
  /** What natloom counted, by reason. */
  readonly reasons: Readonly<Record<string, number>>
  readonly wrong: readonly string[]
}

/** A gateway of its own, under traffic from before its start until after its end. */
async function record(section: Section, scene: Scene, processes: Processes): Promise<Result> {
  const { topology, gateway, recorder, ms } = scene
  const streaming: StreamsOptions = {
    host: SERVER,
    port: ECHO_PORT,
    from: INSIDE_HOSTS,
    streams: 16,
    connections: 8,
    everyMs: 10,
    ...section.streams,
  }
  const talking: DialogueOptions = {
    host: SERVER,
    from: INSIDE_HOSTS.slice(0, 4),
    each: 2,
    lingerMs: 0,
    ...section.dialogues,
  }
  setForwarding(topology.gateway, section.forwards !== false)
  await gateway.start(section.run)
  const streams = processes.startModule(topology.lan, new URL('./kill/streams.js', import.meta.url), streaming)
  await once(streams.child, 'message')
  const dialogues = processes.startModule(topology.lan, new URL('./leaks/dialogues.js', import.meta.url), talking)
  await once(dialogues.child, 'message')
  await recorder.begin()
  await (section.act ? section.act(scene) : delay(ms))
  const recording = await recorder.end()
  dialogues.child.send('end')
  const [report] = (await once(dialogues.child, 'message')) as [DialogueReport]
  const reasons = gateway.running ? gateway.reasons() : {}
  const judged = section.unjudged === undefined
  const result = { section: section.name, judged, dialogues: report, reasons, ...recording }
  if (gateway.running) await gateway.stop()
  streams.child.kill('SIGKILL')
  await streams.within(PATIENCE_MS)
  // With nothing in its way the kernel lets all out: a recorder that sees nothing then is blind.
  const blind = section === LAST && recording.insideSources === 0 ? [`${section.name}: the recorder saw nothing`] : []
  const missed =
    section.must !== undefined && !reasons[section.must] ? [`${section.name}: ${section.must} was not counted`] : []
  return { ...result, wrong: [...missed, ...(result.judged ? wrongOf(result) : lossOf(result)), ...blind] }
}

const lossOf = ({ section, lost }: Pick<Result, 'section' | 'lost'>): string[] =>
  lost > 0 ? [`${section}: ${lost} frames came too fast to be recorded`] : []

const wrongOf = (result: Omit<Result, 'wrong'>): string[] => [
  ...(result.insideSources > 0 ? [`${result.section}: ${result.insideSources} frames with an inside source`] : []),
  ...(result.insidePayloads > 0 ? [`${result.section}: ${result.insidePayloads} announced inside addresses`] : []),
  ...(result.insideSources + result.insidePayloads > 0 ? result.examples : []),
  ...lossOf(result),
]

function print({ section, judged, frames, insideSources, insidePayloads, dialogues, reasons, wrong }: Result): void {
  const { answered, reset, silent } = dialogues
  console.log(
    `  ${section.padEnd(28)} ${String(frames).padStart(8)} frames, ${insideSources} inside sources, ` +
      `${insidePayloads} in payloads${judged ? '' : ' (measured only)'}; dialogues ${answered} answered, ` +
      `${reset} reset, ${silent} silent`,
  )
  if (Object.keys(reasons).length > 0)
    console.log(
      `    ${Object.entries(reasons)
        .map(([reason, count]) => `${reason} ${count}`)
        .join(', ')}`,
    )
  for (const line of wrong) console.log(`    WRONG ${line}`)
}

async function inTopology(sections: readonly Section[]): Promise<Result[]> {
  const topology = Topology.create(FAMILY)
  const processes = new Processes()
  const remove = () => topology.remove()
  process.once('exit', remove)
  try {
    await startServices({ topology, processes, flows: [] })
    const talkers = processes.startModule(topology.outside, new URL('./leaks/talkers.js', import.meta.url))
    await once(talkers.child, 'message')
    const recorder = new Recorder(topology, processes)
    await recorder.ready()
    const gateway = new WatchedGateway(topology, processes)
    const scene = { topology, gateway, recorder, ms: wholeNumber('--seconds', options.seconds) * 1000 }
    const results: Result[] = []
    for (const section of sections) {
      const result = await record(section, scene, processes)
      print(result)
      results.push(result)
    }
    return results
  } finally {
    await processes.end()
    remove()
    process.off('exit', remove)
  }
}

function chosen(): readonly Section[] {
  const unknown = options.section.find((name) => SECTIONS.every((section) => section.name !== name))
  if (unknown !== undefined)
    throw new RangeError(`--section ${unknown}: allowed are ${SECTIONS.map(({ name }) => name).join(', ')}`)
  return options.section.length === 0 ? SECTIONS : SECTIONS.filter(({ name }) => options.section.includes(name))
}

async function main(): Promise<number> {
  const sections = chosen()
  const on = machine()
  console.log(`${describeMachine(on)}\n`)
  removeLeftovers(FAMILY)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))
  const results = await inTopology(sections)
  const right = results.every(({ wrong }) => wrong.length === 0)
  console.log(right ? '\nNothing leaked.' : '\nNot all was right: see above.')
  const command = ['node', 'dist/bench/leaks.js', ...process.argv.slice(2)].join(' ')
  const revision = revisionAt(process.cwd())
  mkdirSync(dirname(options.out), { recursive: true })
  const kept = { date: new Date().toISOString(), machine: on, revision, command, right, sections: results }
  writeFileSync(options.out, `${JSON.stringify(kept, null, 2)}\n`)
  console.log(`kept in ${options.out}`)
  return right ? 0 : 1
}

process.exit(await main())
