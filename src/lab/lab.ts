// `natloom lab [scenario]`: a gateway to watch. Makes a LAN, a gateway and an outside on this machine, starts the real
// `natloom run` between them, sends real traffic through it, shows what happens, and says at the end what was sent and
// what arrived. Whatever happens, it leaves the machine as it was:
//
//   what is made                            is removed by
//   namespaces, cables                      remove(): at the end, on a signal, on exit; after SIGKILL by the next lab
//   programs inside them                    end(), and PR_SET_PDEATHSIG (world/processes.ts)
//   what the gateway changes on its host    the gateway itself, when it stops; gateway/host-state-check.ts checks it

import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { CommanderError } from 'commander'
import { connections } from '../control/api-client.ts'
import { EXIT } from '../control/exit-codes.ts'
import { METRICS_URL, startGateway } from './gateway/gateway.ts'
import type { Gateway } from './gateway/gateway-options.ts'
import { hostState, leftBehind } from './gateway/host-state-check.ts'
import { parseMetrics } from './gateway/metrics-text.ts'
import { needlessHandovers, Placement } from './gateway/placement.ts'
import { type LabOptions, labOptions } from './lab-command.ts'
import { type Outcome, runLoads, type Scenario, type Stage, startServices } from './scenarios/scenario.ts'
import {
  gatewayFigures,
  gatewayLine,
  gatewaySummary,
  lossLines,
  progressLine,
  Screen,
  shardTable,
  trafficTable,
  untranslatedLine,
} from './screen/picture.ts'
import { isRight, newTally } from './traffic/traffic.ts'
import { hostLosses } from './world/host-losses.ts'
import { mayMakeNamespaces, missingTools, searchPath, TOOLS } from './world/host-tools.ts'
import { InsideFrames, setForwarding } from './world/inside-frames.ts'
import { TRAFFIC_LIMIT_MS } from './world/patience.ts'
import { Processes } from './world/processes.ts'
import { GATEWAY_OUTSIDE, removeLeftovers, SERVER, Topology } from './world/topology.ts'
import {
  inUserNamespace,
  prepareUserNamespace,
  runInUserNamespace,
  userNamespaceRefusal,
} from './world/user-namespace.ts'

const FAMILY = 'natloom-lab'
const DRAW_EVERY_MS = 200

/** The exit code if something was lost, wrong, or left behind. */
const WRONG = 1
/** The exit code if a signal ended the lab. */
const INTERRUPTED = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const

class Interrupted extends Error {
  readonly exitCode: number
  constructor(signal: keyof typeof INTERRUPTED) {
    super(`ended by ${signal}`)
    this.exitCode = INTERRUPTED[signal]
  }
}

/**
 * Runs the command; `argv` is what follows `natloom lab`. Resolves with the exit code: 0 if all traffic was right and
 * nothing is left behind, 1 if not, 2 for wrong usage, 3 if this machine lacks something, 128 + n after signal n.
 */
export async function lab(argv: string[]): Promise<number> {
  let options: LabOptions
  try {
    options = labOptions(argv)
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    return error.exitCode === 0 ? EXIT.ok : EXIT.configuration
  }

  process.env.PATH = searchPath(process.env.PATH ?? '')
  const missing = missingTools(process.env.PATH, [...TOOLS, ...(options.scenario.tools ?? [])])
  if (missing.length > 0) {
    for (const line of missing) console.error(`natloom lab: ${line}`)
    return EXIT.host
  }
  if (inUserNamespace()) prepareUserNamespace()
  else if (!mayMakeNamespaces()) {
    const refusal = userNamespaceRefusal()
    if (refusal === undefined) return runInUserNamespace()
    console.error(`natloom lab: this user may not make network namespaces: ${refusal}`)
    console.error('Run it as root, or allow user namespaces (sysctl kernel.apparmor_restrict_unprivileged_userns=0).')
    return EXIT.host
  }
  return perform(options, new Screen(process.stdout))
}

/** Rejects when a signal asks for the end. */
function interruption(): { readonly promise: Promise<never>; end(): void } {
  const signals = Object.keys(INTERRUPTED) as (keyof typeof INTERRUPTED)[]
  let onSignal: (signal: NodeJS.Signals) => void = () => {}
  const promise = new Promise<never>((_, reject) => {
    onSignal = (signal) => reject(new Interrupted(signal as keyof typeof INTERRUPTED))
  })
  promise.catch(() => {})
  for (const signal of signals) process.on(signal, onSignal)
  return {
    promise,
    end() {
      for (const signal of signals) process.off(signal, onSignal)
    },
  }
}

async function perform(options: LabOptions, screen: Screen): Promise<number> {
  const removed = removeLeftovers(FAMILY)
  if (removed.length > 0) screen.print(`removed what an earlier lab left: ${removed.join(', ')}`)

  const interrupted = interruption()
  const processes = new Processes()
  let topology: Topology | undefined
  const remove = () => topology?.remove()
  // For an exit that runs no `finally`.
  process.once('exit', remove)
  try {
    topology = Topology.create(FAMILY)
    const stage = { topology, processes, flows: [] }
    const wrong = await Promise.race([act(stage, options, screen), interrupted.promise])
    if (wrong.length > 0) screen.print('', ...wrong.map((line) => `  ${line}`))
    screen.print('', wrong.length === 0 ? 'All traffic right, nothing left behind.' : 'Not all was right: see above.')
    return wrong.length === 0 ? EXIT.ok : WRONG
  } catch (error) {
    screen.print(`natloom lab: ${(error as Error).message}`)
    return error instanceof Interrupted ? error.exitCode : WRONG
  } finally {
    screen.close()
    await processes.end()
    remove()
    process.off('exit', remove)
    interrupted.end()
  }
}

/** Starts the gateway, sends the traffic, stops the gateway. Resolves with a line for each thing that was wrong. */
async function act(stage: Stage, options: LabOptions, screen: Screen): Promise<string[]> {
  const { gateway: kind, dispatch } = options
  const { helpers, portForwards } = options.scenario
  const workers = options.workers ?? options.scenario.workers
  const loads = options.scenario.loads.filter(({ hairpins }) => kind === 'natloom' || !hairpins)
  const scenario = { ...options.scenario, loads }
  const host = stage.topology.gateway
  const stateFile = join(stage.topology.directory, 'state.json')
  const before = hostState(host, stateFile)
  const insideFrames = new InsideFrames(stage.topology.outside)
  if (kind === 'natloom') setForwarding(host, true)
  const services = await startServices(stage)
  await scenario.prepare?.(stage)
  const gateway = await startGateway(
    { kind, stateFile, workers, dispatch, helpers, portForwards, watched: true },
    stage.topology,
    stage.processes,
  )
  screen.print(`natloom lab ${scenario.name}: lan 10.0.0.2 --- gateway (${kind}) --- ${SERVER} outside`, '')
  for await (const line of scenario.story?.(stage, gateway) ?? []) screen.print(line)

  const wrong = await send(stage, scenario, gateway, screen)
  const misplaced = await checkPlacement(stage, gateway, screen)
  const stopped = await gateway.stop()
  const untranslated = insideFrames.count()
  screen.print('', untranslatedLine(untranslated))
  const strangers = [...services.sources].filter((address) => address !== GATEWAY_OUTSIDE)
  await stage.processes.end()
  return [
    ...wrong,
    ...misplaced,
    // The kernel's masquerade lets out what its own tracking takes for invalid.
    ...(untranslated > 0 && kind === 'natloom' ? [`${untranslated} frames left with an inside source`] : []),
    ...strangers.map((address) => `the outside saw ${address}, which is not the gateway's address`),
    ...stopped,
    ...leftBehind(before, hostState(host, stateFile)),
    ...stage.topology.processes().map((pid) => `left behind: process ${pid}`),
  ]
}

const problems = (name: string, { planned, arrived, lost, wrong, problems }: Outcome['tally']): string[] => [
  `${name}: ${arrived} of ${planned} arrived, ${lost} lost, ${wrong} wrong`,
  ...problems.map((text) => `${name}: ${text}`),
]

/** Shows what each shard did. Resolves with a line for each connection or packet that was in the wrong shard. */
async function checkPlacement(stage: Stage, gateway: Gateway, screen: Screen): Promise<string[]> {
  if (gateway.apiSocket === undefined) return []
  const samples = parseMetrics(gateway.metrics() ?? '')
  screen.print('', ...shardTable(samples))
  const placement = new Placement()
  let listed = 0
  for await (const connection of connections(gateway.apiSocket)) {
    placement.add(connection)
    listed++
  }
  const wrong = [...placement.wrong(stage.flows), ...needlessHandovers(samples)]
  if (wrong.length === 0)
    screen.print(
      '',
      `  each of ${listed} connections is in the one shard that owns both of its directions, ` +
        `and ${stage.flows.length} flows of the traffic are among them`,
    )
  return wrong
}

/** Sends the traffic, shows it and sums it up. Resolves with a line for each thing that was wrong. */
async function send(stage: Stage, scenario: Scenario, gateway: Gateway, screen: Screen): Promise<string[]> {
  const newest = new Map<string, Outcome>(scenario.loads.map((load) => [load.name, { load, tally: newTally(0) }]))
  let mostPorts = 0
  const figures = () => {
    const text = gateway.metrics()
    if (text === undefined) return undefined
    const now = gatewayFigures(parseMetrics(text))
    mostPorts = Math.max(mostPorts, now.portsUsed)
    return now
  }
  const timer = setInterval(() => {
    const now = figures()
    screen.draw([...[...newest.values()].map(progressLine), '', ...(now === undefined ? [] : [gatewayLine(now)])])
  }, DRAW_EVERY_MS)
  const { lan, gateway: host, outside } = stage.topology
  const summarise = (outcomes: readonly Outcome[]): string[] => {
    const last = figures()
    const { lines, wrong } = lossLines(outcomes, hostLosses([lan, host, outside]))
    screen.print(...(screen.live ? [] : ['']), ...trafficTable(outcomes), '')
    if (last !== undefined) screen.print(...gatewaySummary(last, mostPorts, METRICS_URL))
    screen.print(...lines)
    return wrong
  }
  const late = new AbortController()
  try {
    const outcomes = await Promise.race([
      runLoads(stage, scenario.loads, {
        seen: (outcome) => newest.set(outcome.load.name, outcome),
        ended(outcome) {
          if (!screen.live) screen.print(progressLine(outcome))
        },
      }),
      gateway.failed,
      delay(TRAFFIC_LIMIT_MS, undefined, { signal: late.signal }).then(() => {
        throw new Error(`the traffic took longer than ${TRAFFIC_LIMIT_MS / 1000} s`)
      }),
    ])
    await gateway.metricsFromNow()
    const lost = summarise(outcomes)
    return [...outcomes.flatMap(({ load, tally }) => (isRight(tally) ? [] : problems(load.name, tally))), ...lost]
  } catch (error) {
    // How far the traffic came may tell what went wrong.
    summarise([...newest.values()])
    throw error
  } finally {
    clearInterval(timer)
    late.abort()
  }
}
