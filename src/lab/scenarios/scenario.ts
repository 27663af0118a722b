// A scenario of the lab: loads that run at the same time through one gateway. A load sends things that can be counted,
// and tells how many of them arrived as they should.

import type { Gateway, HelperName, PortForward } from '../gateway/gateway-options.ts'
import { type Flow, newTally, type Report, type Tally } from '../traffic/traffic.ts'
import type { Processes } from '../world/processes.ts'
import type { Topology } from '../world/topology.ts'

export interface Stage {
  readonly topology: Topology
  readonly processes: Processes
  /** Flows of the traffic that were answered; loads add to it. */
  readonly flows: Flow[]
}

export interface Load {
  readonly name: string
  /** Hosts inside reach each other by their external endpoints, which the kernel's masquerade doesn't let them. */
  readonly hairpins?: true
  /** Sends all of it; resolves with the count. `seen` is called with the count so far. */
  start(stage: Stage, seen: (tally: Tally) => void): Promise<Tally>
}

export interface Scenario {
  readonly name: string
  /** One line for people. */
  readonly summary: string
  /** Tools that it needs beyond the lab's own (world/host-tools.ts). */
  readonly tools?: readonly string[]
  /** Shards of the gateway, unless the command line says another number. */
  readonly workers?: number
  readonly helpers?: readonly HelperName[]
  readonly portForwards?: readonly PortForward[]
  /** Starts what the loads need in the hosts. */
  prepare?(stage: Stage): Promise<void>
  /** Runs before the loads and tells step by step what happens. Throws if something doesn't go as it should. */
  story?(stage: Stage, gateway: Gateway): AsyncIterable<string>
  readonly loads: readonly Load[]
}

/** A load that is a traffic program in the LAN host or in the outside host; `options` are what the program is told. */
export const traffic = (
  name: string,
  module: URL,
  options: unknown | ((stage: Stage) => unknown),
  host: 'lan' | 'outside' = 'lan',
): Load => ({
  name,
  start(stage, seen) {
    const { processes, topology, flows } = stage
    const argument = typeof options === 'function' ? options(stage) : options
    const program = processes.startModule(topology[host], module, argument)
    return new Promise((resolve, reject) => {
      program.child.on('message', (message) => {
        const report = message as Report
        if (report.kind === 'progress') seen(report.tally)
        if (report.kind === 'flows') flows.push(...report.flows)
        if (report.kind === 'finished') resolve(report.tally)
      })
      program.ended.then(
        ({ code, signal }) => reject(new Error(`${name}: ended with ${code ?? signal}:\n${program.output}`)),
        reject,
      )
    })
  },
})

export interface Services {
  /** The source addresses of all that reached these services. */
  readonly sources: ReadonlySet<string>
}

/** Starts the outside host's services; resolves when they listen. */
export function startServices({ topology, processes }: Stage): Promise<Services> {
  const server = processes.startModule(topology.outside, new URL('../traffic/traffic-server.js', import.meta.url))
  const sources = new Set<string>()
  return new Promise((resolve, reject) => {
    server.child.on('message', (message) => {
      const report = message as Report
      if (report.kind === 'source') sources.add(report.address)
      if (report.kind === 'ready') resolve({ sources })
    })
    server.ended.then(() => reject(new Error(`the outside's services ended:\n${server.output}`)), reject)
  })
}

/** A load and its count. */
export interface Outcome {
  readonly load: Load
  readonly tally: Tally
}

/** Is told how the loads proceed. */
export interface Audience {
  seen(outcome: Outcome): unknown
  ended(outcome: Outcome): void
}

/** Runs all loads at once to their ends. A load that fails is a wrong outcome; the others go on. */
export function runLoads(stage: Stage, loads: readonly Load[], audience: Audience): Promise<Outcome[]> {
  return Promise.all(
    loads.map(async (load) => {
      let newest = newTally(0)
      const see = (tally: Tally) => {
        newest = tally
        audience.seen({ load, tally })
      }
      try {
        see(await load.start(stage, see))
      } catch (error) {
        see({ ...newest, problems: [...newest.problems, (error as Error).message] })
      }
      const outcome = { load, tally: newest }
      audience.ended(outcome)
      return outcome
    }),
  )
}
