// The gateway that is watched for leaks: the real `natloom run` between the lab's hosts, with what a section of the
// recording does to it.

import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseMetrics, sumBy } from '../../src/lab/gateway/metrics-text.ts'
import { PATIENCE_MS } from '../../src/lab/world/patience.ts'
import type { Processes, Program } from '../../src/lab/world/processes.ts'
import { INSIDE_INTERFACE, OUTSIDE_INTERFACE, SERVER, type Topology } from '../../src/lab/world/topology.ts'

const COMMAND = fileURLToPath(new URL('../../src/control/main.js', import.meta.url))
const CRASHER = new URL('../kill/crasher.js', import.meta.url).href
const LOOK_EVERY_MS = 10

/** Metrics that say why something was not done, and the label that has the reason. */
const REASONS = [
  ['natloom_dropped_packets_total', 'reason'],
  ['natloom_announcements_refused_total', 'reason'],
  ['natloom_expectations_refused_total', 'reason'],
  ['natloom_helper_cut_offs_total', 'reason'],
] as const

export interface GatewayRun {
  readonly env?: Readonly<Record<string, string>>
  /** Its shards crash by themselves (kill/crasher.ts). */
  readonly crashes?: boolean
}

export class WatchedGateway {
  readonly #topology: Topology
  readonly #processes: Processes
  #program: Program | undefined

  constructor(topology: Topology, processes: Processes) {
    this.#topology = topology
    this.#processes = processes
  }

  get running(): boolean {
    const child = this.#program?.child
    return child !== undefined && child.exitCode === null && child.signalCode === null
  }

  #begin({ env = {}, crashes = false }: GatewayRun): void {
    const { gateway, directory } = this.#topology
    const how = crashes ? ['--import', CRASHER] : []
    this.#program = this.#processes.start(gateway, process.execPath, [...how, COMMAND, 'run'], {
      name: 'natloom run',
      env: {
        ...this.#names,
        NATLOOM_INSIDE: INSIDE_INTERFACE,
        NATLOOM_OUTSIDE: OUTSIDE_INTERFACE,
        NATLOOM_STATE_PATH: `${directory}/state.json`,
        NATLOOM_LOG_FORMAT: 'json',
        NATLOOM_WORKERS: '2',
        NATLOOM_IO_RING_MEGABYTES: '32',
        NATLOOM_HELPERS: 'ftp,irc',
        NATLOOM_SUPERVISION_RESTARTS: '1000',
        ...(crashes && { NATLOOM_LAB_CRASHES: JSON.stringify({ seed: 7, everyMs: 800, calmMs: 5000 }) }),
        ...env,
      },
    })
  }

  /** Resolves when the log has a line with this text. */
  #logged(text: string): Promise<void> {
    const program = this.#program
    return until(`the log says ${text}`, () => {
      if (!this.running) throw new Error(`natloom run has ended:\n${program?.output}`)
      return program?.output.includes(text) ?? false
    })
  }

  async start(run: GatewayRun = {}): Promise<void> {
    this.#begin(run)
    await this.#logged('"forwarding"')
  }

  /** Resolves when so many shards have crashed and were replaced. */
  async crashed(times: number): Promise<void> {
    const program = this.#program
    await until(`${times} shards have crashed`, () => {
      if (!this.running) throw new Error(`natloom run has ended:\n${program?.output}`)
      return (program?.output.split('the worker is replaced').length ?? 0) > times
    })
  }

  flush(): void {
    this.#topology.gateway.exec('nft', 'flush', 'ruleset')
  }

  /** Loads or unloads a helper by the command line. */
  async helper(...args: readonly string[]): Promise<void> {
    const program = this.#processes.start(this.#topology.gateway, process.execPath, [COMMAND, 'helper', ...args], {
      env: this.#names,
    })
    await program.text(PATIENCE_MS)
  }

  /** What it has counted so far of packets dropped, announcements refused and helpers cut off: by reason. */
  reasons(): Record<string, number> {
    const text = this.#topology.gateway.exec('curl', '-s', 'http://127.0.0.1:9464/metrics')
    const samples = parseMetrics(text)
    const named = REASONS.flatMap(([metric, label]) => [...sumBy(samples, metric, label)])
    return Object.fromEntries(named.filter(([, count]) => count > 0))
  }

  async kill(): Promise<void> {
    this.#program?.child.kill('SIGKILL')
    await this.#program?.within(PATIENCE_MS)
  }

  async stop(): Promise<void> {
    const program = this.#program
    program?.child.kill('SIGTERM')
    const ended = await program?.within(PATIENCE_MS)
    if (ended?.code !== 0)
      throw new Error(`natloom run ended with ${ended?.code ?? ended?.signal}:\n${program?.output}`)
  }

  /** The link to the outside goes down and comes back, with the route that goes with it. */
  async linkDownAndUp(forMs: number): Promise<void> {
    const { gateway } = this.#topology
    gateway.ip(`link set ${OUTSIDE_INTERFACE} down`)
    await delay(forMs)
    gateway.ip(`link set ${OUTSIDE_INTERFACE} up`)
    gateway.ip(`route replace default via ${SERVER}`)
  }

  get #names(): Record<string, string> {
    return { NATLOOM_CONFIG: '/dev/null', NATLOOM_API_SOCKET: `${this.#topology.directory}/api.sock` }
  }
}

async function until(what: string, isSo: () => boolean): Promise<void> {
  for (const deadline = Date.now() + PATIENCE_MS; !isSo(); await delay(LOOK_EVERY_MS))
    if (Date.now() > deadline) throw new Error(`${what}: not within ${PATIENCE_MS / 1000} s`)
}
