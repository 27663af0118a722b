// What is measured through a gateway. Each measure starts the programs that it needs in the LAN and the outside host,
// takes its figure, and ends them.

import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import type { Processes, Program } from '../../src/lab/world/processes.ts'
import { HOST_INTERFACE, SERVER, type Topology } from '../../src/lab/world/topology.ts'
import type { ConnectionsClient, ConnectionsMade } from './connections-client.ts'
import type { ConnectionsServer } from './connections-server.ts'
import type { Echo } from './echo.ts'
import type { Flood } from './flood.ts'
import type { RoundTrip, RoundTripTimes } from './round-trip.ts'
import type { Count, Services } from './services.ts'

export interface Bench {
  readonly topology: Topology
  readonly processes: Processes
  /** How long a throughput is measured, in seconds. */
  readonly seconds: number
}

export interface Measure {
  readonly name: string
  readonly unit: string
  readonly better: 'more' | 'less'
  /** The project's aim for natloom's figure divided by the kernel's: at least, or at most where less is better. */
  readonly wanted?: number
  take(bench: Bench): Promise<number>
}

const IPERF_PORT = 5201
const FLOOD_PORT = 9
const ECHO_PORT = 7
/** The port of the connections' server: a new one for each measurement, so that no tuple comes twice. */
let connectionsPort = 10_000

const AT_A_TIME = 4
/** The kernel's NAT, too, loses one connection in some ten thousand. More than one in so many end the bench. */
const MOST_FAILURES = 1000
const FLOOD_PAYLOAD = 64
const WARM_UP_MS = 500
const GAP_MS = 2
const REQUESTS_A_SECOND = 400
/** A program that takes longer by this much hangs. */
const GRACE_MS = 15_000

const module = (name: string): URL => new URL(`./${name}.js`, import.meta.url)

async function message<T>(program: Program, patienceMs = GRACE_MS): Promise<T> {
  const ended = program.ended.then(({ code, signal }) => {
    throw new Error(`a load ended with ${code ?? signal}:\n${program.output}`)
  })
  const [value] = await Promise.race([
    once(program.child, 'message', { signal: AbortSignal.timeout(patienceMs) }),
    ended,
  ])
  return value as T
}

async function stop(program: Program): Promise<void> {
  program.child.kill('SIGTERM')
  await program.within(GRACE_MS)
}

const DIRECTIONS = { out: 'inside to outside', back: 'outside to inside' } as const

function tcp(streams: number, direction: keyof typeof DIRECTIONS, wanted?: number): Measure {
  return {
    name: `TCP ${streams} stream${streams > 1 ? 's' : ''}, ${DIRECTIONS[direction]}`,
    unit: 'Gb/s',
    better: 'more',
    ...(wanted === undefined ? {} : { wanted }),
    async take({ topology, processes, seconds }) {
      const server = processes.start(topology.outside, 'iperf3', ['-s', '-1', '-p', `${IPERF_PORT}`, '--forceflush'])
      await once(server.child.stdout as NodeJS.ReadableStream, 'data', { signal: AbortSignal.timeout(GRACE_MS) })
      const client = processes.start(topology.lan, 'iperf3', [
        ...['-c', SERVER, '-p', `${IPERF_PORT}`, '-t', `${seconds}`, '-O', '1', '-P', `${streams}`, '-J'],
        ...(direction === 'back' ? ['-R'] : []),
      ])
      const result = JSON.parse(await client.text((seconds + 1) * 1000 + GRACE_MS)) as IperfResult
      await server.within(GRACE_MS)
      return result.end.sum_received.bits_per_second / 1e9
    },
  }
}

/** The part of iperf3's JSON that is read. */
interface IperfResult {
  readonly end: { readonly sum_received: { readonly bits_per_second: number } }
}

function udp(flows: number, wanted?: number): Measure {
  return {
    name: `UDP ${FLOOD_PAYLOAD} bytes, ${flows} flow${flows > 1 ? 's' : ''}, inside to outside`,
    unit: 'kpps',
    better: 'more',
    ...(wanted === undefined ? {} : { wanted }),
    async take({ topology, processes, seconds }) {
      const services: Services = { floodPort: FLOOD_PORT, interface: HOST_INTERFACE }
      const outside = processes.startModule(topology.outside, module('services'), services)
      await message(outside)
      const count = (): Promise<Count> => {
        outside.child.send('count')
        return message<Count>(outside)
      }
      const windowMs = seconds * 1000
      const flood: Flood = {
        host: SERVER,
        port: FLOOD_PORT,
        flows,
        payload: FLOOD_PAYLOAD,
        milliseconds: 2 * WARM_UP_MS + windowMs,
      }
      const sender = processes.startModule(topology.lan, module('flood'), flood)
      await message(sender)
      await delay(WARM_UP_MS)
      const first = await count()
      await delay(windowMs)
      const last = await count()
      await sender.within(GRACE_MS)
      await stop(outside)
      return (last.packets - first.packets) / (last.atMs - first.atMs)
    },
  }
}

const connections: Measure = {
  name: `connect, request, close, ${AT_A_TIME} at a time`,
  unit: '1/s',
  better: 'more',
  wanted: 0.7,
  async take({ topology, processes, seconds }) {
    const port = connectionsPort++
    const service: ConnectionsServer = { port, threads: AT_A_TIME }
    const server = processes.startModule(topology.outside, module('connections-server'), service)
    await message(server)
    const load: ConnectionsClient = { host: SERVER, port, threads: AT_A_TIME, milliseconds: seconds * 1000 }
    const client = processes.startModule(topology.lan, module('connections-client'), load)
    const { made, failures, seconds: took } = await message<ConnectionsMade>(client, seconds * 1000 + GRACE_MS)
    await stop(server)
    const failed = Object.values(failures).reduce((sum, count) => sum + count, 0)
    if (failed > 0) console.log(`  ${failed} of ${made + failed} connections failed: ${JSON.stringify(failures)}`)
    if (failed > made / MOST_FAILURES) throw new Error(`${failed} of ${made + failed} connections failed`)
    return made / took
  },
}

const roundTrip: Measure = {
  name: `idle round trip, ${GAP_MS} ms gaps`,
  unit: 'us',
  better: 'less',
  wanted: 3,
  async take({ topology, processes, seconds }) {
    const service: Echo = { port: ECHO_PORT }
    const server = processes.startModule(topology.outside, module('echo'), service)
    await message(server)
    const requests = seconds * REQUESTS_A_SECOND
    const load: RoundTrip = { host: SERVER, port: ECHO_PORT, requests, gapMs: GAP_MS }
    const client = processes.startModule(topology.lan, module('round-trip'), load)
    const { medianUs, lost } = await message<RoundTripTimes>(client, requests * GAP_MS * 2 + GRACE_MS)
    await stop(server)
    if (lost > 0) throw new Error(`${lost} of ${requests} round trips had no answer`)
    return medianUs
  },
}

export const MEASURES: readonly Measure[] = [
  tcp(1, 'out', 0.75),
  tcp(1, 'back', 0.75),
  tcp(8, 'out'),
  tcp(8, 'back'),
  udp(1),
  udp(1000, 1.3),
  connections,
  roundTrip,
]
