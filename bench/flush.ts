// `npm run prove:flush`: somebody flushes the whole nft ruleset of a gateway that forwards, again and again, as
// Debian's `systemctl reload nftables` does. The gateway's kernel forwards by itself (ip_forward), so what the rules
// don't hide from it leaves untranslated. For each way in which natloom may own its rules (host/rule-tables.ts):
//
//   flushes              not one untranslated frame, no answer of the kernel's, no connection broken, no datagram lost
//   SIGKILL              the rules stay: nothing leaves
//   a flush after it     the rules are nobody's and go: what leaves until the next start is measured, not judged
// Prints what was seen, keeps it in bench/results/, and ends with 1 if anything that is judged was wrong.
//
//   --flushes N          50 by default
//   --every MS           from one flush to the next, 250 by default
//   --way WAY            persistent, pair; both by default
//   --out FILE           bench/results/prove-flush.json by default

import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { startServices } from '../src/lab/scenarios/scenario.ts'
import { ECHO_PORT } from '../src/lab/traffic/traffic.ts'
import { hostLosses } from '../src/lab/world/host-losses.ts'
import { PATIENCE_MS } from '../src/lab/world/patience.ts'
import { Processes } from '../src/lab/world/processes.ts'
import { INSIDE_HOSTS, removeLeftovers, SERVER, Topology } from '../src/lab/world/topology.ts'
import { wholeNumber } from './arguments.ts'
import { FlushedGateway, type Seen, Watch } from './flush/gateway.ts'
import type { StreamsOptions, StreamsReport } from './kill/streams.ts'
import { describeMachine, machine } from './machine.ts'
import { revisionAt } from './other-build.ts'

const FAMILY = 'natloom-flush'
const WAYS = ['persistent', 'pair'] as const
const STREAMS = 64
const CONNECTIONS = 8
/** Of each stream; all together as many datagrams as two cores carry beside everything else. */
const DATAGRAM_EVERY_MS = 20
/** How long the gateway stays dead before somebody flushes, and before it starts again. */
const DEAD_MS = 1000

const { values: options } = parseArgs({
  options: {
    flushes: { type: 'string', default: '50' },
    every: { type: 'string', default: '250' },
    way: { type: 'string', multiple: true, default: [...WAYS] },
    out: { type: 'string', default: 'bench/results/prove-flush.json' },
  },
})

interface Result {
  readonly way: string
  readonly flushes: number
  /** Tables that natloom made again. */
  readonly restored: number
  readonly datagrams: number
  /** Datagrams without an echo and new flows without an answer. */
  readonly unanswered: number
  /** What the hosts' own sockets and links lost. */
  readonly hostsLost: number
  readonly pieces: number
  readonly newFlows: number
  /** What was seen of the kernel while natloom ran, while it was dead, and from a flush then to the next start. */
  readonly running: Seen
  readonly dead: Seen
  readonly deadAndFlushed: Seen & { readonly milliseconds: number }
  readonly wrong: readonly string[]
}

async function flushed(topology: Topology, processes: Processes, way: string): Promise<Result> {
  const flushes = wholeNumber('--flushes', options.flushes)
  const everyMs = wholeNumber('--every', options.every)
  await startServices({ topology, processes, flows: [] })
  const watch = new Watch(topology)
  const gateway = new FlushedGateway(topology, processes, way)
  await gateway.start()
  const asked: StreamsOptions = {
    host: SERVER,
    port: ECHO_PORT,
    from: INSIDE_HOSTS,
    streams: STREAMS,
    connections: CONNECTIONS,
    everyMs: DATAGRAM_EVERY_MS,
  }
  const streams = processes.startModule(topology.lan, new URL('./kill/streams.js', import.meta.url), asked)
  await once(streams.child, 'message')
  const lostBefore = hostLosses([topology.lan, topology.gateway, topology.outside])
  watch.begin()
  for (let i = 0; i < flushes; i++) {
    gateway.flush()
    await gateway.complete()
    await delay(everyMs)
  }
  const running = watch.end()
  const restored = gateway.restored()
  streams.child.send('end')
  const [report] = (await once(streams.child, 'message')) as [StreamsReport]
  const lostAfter = hostLosses([topology.lan, topology.gateway, topology.outside])
  const hostsLost = lostAfter.sockets - lostBefore.sockets + lostAfter.links - lostBefore.links
  const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0)
  // A new flow begins with a datagram or a segment that the hosts may lose like any other.
  const unanswered = sum(report.streams.map((stream) => stream.lost)) + report.fleeting.unanswered
  const lost = Math.max(0, unanswered - hostsLost)

  const more = processes.startModule(topology.lan, new URL('./kill/streams.js', import.meta.url), asked)
  await once(more.child, 'message')
  watch.begin()
  await gateway.kill()
  await delay(DEAD_MS)
  const dead = watch.end()
  watch.begin()
  const began = performance.now()
  gateway.flush()
  await delay(DEAD_MS)
  await gateway.start()
  const milliseconds = Math.round(performance.now() - began)
  const deadAndFlushed = { ...watch.end(), milliseconds }
  more.child.kill('SIGTERM')
  await more.within(PATIENCE_MS)
  const stopped = await gateway.stop()

  const expected = way === 'pair' ? flushes : 0
  const wrong = [
    ...report.problems,
    ...watch.wrong('while natloom ran', running),
    ...watch.wrong('after SIGKILL', dead),
    ...(lost > 0 ? [`${lost} datagrams or new flows had no answer`] : []),
    ...(restored === expected ? [] : [`${restored} tables were made again after ${flushes} flushes, not ${expected}`]),
    ...stopped,
  ]
  return {
    way,
    flushes,
    restored,
    datagrams: sum(report.streams.map(({ sent }) => sent)),
    unanswered,
    hostsLost,
    pieces: sum(report.connections.map(({ pieces }) => pieces)),
    newFlows: report.fleeting.begun,
    running,
    dead,
    deadAndFlushed,
    wrong,
  }
}

async function inTopology(way: string): Promise<Result> {
  const topology = Topology.create(FAMILY)
  const processes = new Processes()
  const remove = () => topology.remove()
  process.once('exit', remove)
  try {
    return await flushed(topology, processes, way)
  } finally {
    await processes.end()
    remove()
    process.off('exit', remove)
  }
}

const seenText = ({ untranslated, forwarded, answered }: Seen): string =>
  `${untranslated} untranslated frames, ${forwarded} forwarded and ${answered} answered by the kernel`

function print(result: Result): void {
  const { way, flushes, restored, datagrams, unanswered, hostsLost, pieces, newFlows } = result
  const { running, dead, deadAndFlushed, wrong } = result
  console.log(
    [
      `rules owned as ${way}`,
      `  flushes         ${flushes}; tables made again ${restored}`,
      `  while it ran    ${seenText(running)}`,
      `  UDP             ${STREAMS} streams, ${datagrams} datagrams`,
      `  TCP             ${CONNECTIONS} connections, ${pieces} pieces echoed`,
      `  new flows       ${newFlows}`,
      `  unanswered      ${unanswered} of all these; the hosts themselves lost ${hostsLost}`,
      `  after SIGKILL   ${seenText(dead)}`,
      `  then flushed    ${seenText(deadAndFlushed)} in ${deadAndFlushed.milliseconds} ms until the next start`,
      ...wrong.map((line) => `  WRONG: ${line}`),
      '',
    ].join('\n'),
  )
}

async function main(): Promise<number> {
  const on = machine()
  console.log(`${describeMachine(on)}\n`)
  removeLeftovers(FAMILY)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))
  const ways: Result[] = []
  for (const way of options.way) {
    const result = await inTopology(way)
    print(result)
    ways.push(result)
  }
  const right = ways.every(({ wrong }) => wrong.length === 0)
  console.log(right ? 'Nothing leaked, nothing broke.' : 'Not all was right: see above.')
  const revision = revisionAt(process.cwd())
  const command = ['node', 'dist/bench/flush.js', ...process.argv.slice(2)].join(' ')
  const result = { date: new Date().toISOString(), machine: on, revision, command, right, ways }
  mkdirSync(dirname(options.out), { recursive: true })
  writeFileSync(options.out, `${JSON.stringify(result, null, 2)}\n`)
  console.log(`kept in ${options.out}`)
  return right ? 0 : 1
}

process.exit(await main())
