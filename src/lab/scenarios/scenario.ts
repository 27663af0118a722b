// What a scenario of the lab is: loads that run at the same time against one gateway. A load sends something that can
// be counted, and says of each whether it arrived as it should.

import type { Forward, Gateway, HelperName } from '../gateway/gateway-options.ts'
import { type Flow, newTally, type Report, type Tally } from '../traffic/traffic.ts'
import type { Processes } from '../world/processes.ts'
import type { Topology } from '../world/topology.ts'

export interface Stage {
  readonly topology: Topology
  readonly processes: Processes
  /** What the traffic had answers on: loads add to it. */
  readonly flows: Flow[]
}

export interface Load {
  readonly name: string
  /** Hosts inside talk to each other by their external endpoints: the kernel's masquerade lets nobody. */
  readonly hairpins?: true
  /** Sends it all; resolves with what came of it. `seen` shows how far it is. */
  start(stage: Stage, seen: (tally: Tally) => void): Promise<Tally>
}

export interface Scenario {
  readonly name: string
  /** One line for people. */
  readonly summary: string
  /** What it needs of the host beyond the lab's own tools (host-tools.ts). */
  readonly tools?: readonly string[]
  /** Of the gateway, if nothing else is asked for. */
  readonly workers?: number
  readonly helpers?: readonly HelperName[]
  readonly forwards?: readonly Forward[]
  /** What the loads need in the hosts. */
  prepare?(stage: Stage): Promise<void>
  /** Lines about one thing at a time, before the loads; throws if it doesn't go as it should. */
  story?(stage: Stage, gateway: Gateway): AsyncIterable<string>
  readonly loads: readonly Load[]
}

/** A load that is a traffic program in the LAN host, or outside. `options` may need to know where it all happens. */
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
  /** Addresses from which the outside was talked to. */
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

/** What came of a load. */
export interface Outcome {
  readonly load: Load
  readonly tally: Tally
}

export interface Audience {
  seen(outcome: Outcome): unknown
  ended(outcome: Outcome): void
}

/** Runs all loads at once to their ends. One that breaks is a wrong outcome, not an end of the others. */
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
