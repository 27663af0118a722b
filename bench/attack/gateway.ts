// The gateway under attack: the real `natloom run`, with tables so small that a flood fills them in seconds and lives
// so short that all is over soon after; or the kernel's nft masquerade, as it is. What is read of natloom is what
// anybody may read: its metrics, its API, its log, and /proc.

import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Host } from '../../src/control/api-client.ts'
import { startKernel } from '../../src/lab/gateway/kernel-gateway.ts'
import { parseMetrics, type Sample, sum } from '../../src/lab/gateway/metrics-text.ts'
import { PATIENCE_MS } from '../../src/lab/world/patience.ts'
import type { Processes, Program } from '../../src/lab/world/processes.ts'
import { INSIDE_INTERFACE, OUTSIDE_INTERFACE, type Topology } from '../../src/lab/world/topology.ts'
import { FORWARDED_TCP, FORWARDED_UDP } from '../../test/attack/floods.ts'
import { INSIDE_SERVER } from './hosts.ts'

const COMMAND = fileURLToPath(new URL('../../src/control/main.js', import.meta.url))
const METRICS_URL = 'http://127.0.0.1:9464/metrics'
const LOOK_EVERY_MS = 1000
/** Longer than the lives below and the quarantine of ports together. */
const ALL_OVER_WITHIN_MS = 240_000

/** Seconds that whatever a flood has begun lives. */
const LIVES = {
  NATLOOM_TIMEOUTS_TCP_ESTABLISHED: '20',
  NATLOOM_TIMEOUTS_TCP_TRANSITORY: '5',
  NATLOOM_TIMEOUTS_TCP_CLOSING: '5',
  NATLOOM_TIMEOUTS_UDP: '8',
  NATLOOM_TIMEOUTS_UDP_DNS: '5',
  NATLOOM_TIMEOUTS_ICMP: '5',
  NATLOOM_TIMEOUTS_FRAGMENT: '5',
}

const FORWARDS = [
  { protocol: 'tcp', port: FORWARDED_TCP, to: INSIDE_SERVER },
  { protocol: 'udp', port: FORWARDED_UDP, to: INSIDE_SERVER },
] as const

/** Gauges of what there is, by the words of the verdict. */
export const GAUGES = {
  connections: 'natloom_connections',
  mappings: 'natloom_mappings',
  permissions: 'natloom_permissions',
  ports: 'natloom_ports_used',
  quarantine: 'natloom_ports_resting',
  expectations: 'natloom_expectations',
  helped: 'natloom_helped_connections',
  'waiting fragments': 'natloom_fragments_waiting',
} as const

export type Left = Readonly<Record<string, number>>

export interface AttackedOptions {
  readonly workers: number
  readonly rows: number
  readonly expectations: number
  readonly env?: Readonly<Record<string, string>>
}

/** What the verdict asks of a gateway; the kernel has nothing to say of itself. */
export interface Attacked {
  readonly name: string
  restarts(): number | undefined
  /** Peak of the resident memory, and what the start has announced, in MiB. */
  memory(): { readonly peak: number; readonly announced: number } | undefined
  /** What is still there of connections, ports and all else, without zeros, once nothing changes any more. */
  allOver(): Promise<Left>
  stop(): Promise<string[]>
}

export class AttackedNatloom implements Attacked {
  readonly name: string
  readonly #topology: Topology
  readonly #program: Program

  constructor(topology: Topology, processes: Processes, options: AttackedOptions) {
    const { workers, rows, expectations, env } = options
    this.name = `natloom, ${workers} shard${workers > 1 ? 's' : ''}`
    this.#topology = topology
    this.#program = processes.start(topology.gateway, process.execPath, [COMMAND, 'run'], {
      name: 'natloom run',
      env: {
        NATLOOM_CONFIG: '/dev/null',
        NATLOOM_INSIDE: INSIDE_INTERFACE,
        NATLOOM_OUTSIDE: OUTSIDE_INTERFACE,
        NATLOOM_STATE_PATH: `${topology.directory}/state.json`,
        NATLOOM_API_SOCKET: `${topology.directory}/api.sock`,
        NATLOOM_LOG_FORMAT: 'json',
        NATLOOM_WORKERS: String(workers),
        NATLOOM_IO_RING_MEGABYTES: '32',
        NATLOOM_CAPACITY_CONNECTIONS: String(rows),
        NATLOOM_CAPACITY_EXPECTATIONS: String(expectations),
        NATLOOM_FORWARD: FORWARDS.map(({ protocol, port, to }) => `${protocol} :${port} ${to}:${port}`).join(),
        ...LIVES,
        ...env,
      },
    })
  }

  /** Resolves when it forwards packets. */
  async forwarding(): Promise<void> {
    for (const deadline = Date.now() + PATIENCE_MS; this.#announced === undefined; await delay(20)) {
      if (this.hasEnded || Date.now() > deadline)
        throw new Error(`natloom run did not begin to forward:\n${this.#program.output}`)
    }
  }

  get pid(): number {
    return this.#program.child.pid!
  }

  get hasEnded(): boolean {
    return this.#program.child.exitCode !== null || this.#program.child.signalCode !== null
  }

  get #announced(): number | undefined {
    const found = /"memoryMegabytes":(\d+)/.exec(this.#program.output)
    if (found) this.#announcedMemory = Number(found[1])
    return this.#announcedMemory
  }
  #announcedMemory: number | undefined

  /** The end of its log. */
  get log(): string {
    return this.#program.output
  }

  samples(): Sample[] {
    return parseMetrics(this.#topology.gateway.exec('curl', '-s', METRICS_URL))
  }

  restarts(): number {
    return sum(this.samples(), 'natloom_shard_restarts_total')
  }

  memory(): { readonly peak: number; readonly announced: number } {
    const status = readFileSync(`/proc/${this.#program.child.pid}/status`, 'utf8')
    const peak = Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)![1]) / 1024
    return { peak: Math.round(peak), announced: this.#announced! }
  }

  /** What there is now, without zeros. */
  left(): Left {
    const samples = this.samples()
    const listed = JSON.parse(
      this.#topology.gateway.exec(
        ...(['curl', '-s', '--unix-socket', `${this.#topology.directory}/api.sock`] as const),
        'http://natloom/hosts',
      ),
    ) as Host[]
    // The row that hosts without one share is no host's: it stays, with what was refused there.
    const hosts = listed.filter(({ host, connections, ports, resting }) =>
      host === 'others' ? connections.used + ports.used + resting !== 0 : true,
    )
    const counts = Object.entries(GAUGES).map(([words, name]) => [words, sum(samples, name)] as const)
    return Object.fromEntries([...counts, ['hosts', hosts.length] as const].filter(([, count]) => count !== 0))
  }

  async allOver(): Promise<Left> {
    for (const deadline = Date.now() + ALL_OVER_WITHIN_MS; ; await delay(LOOK_EVERY_MS)) {
      const left = this.left()
      if (Object.keys(left).length === 0 || Date.now() > deadline) return left
    }
  }

  async stop(): Promise<string[]> {
    this.#program.child.kill('SIGTERM')
    const { code, signal } = await this.#program.within(PATIENCE_MS)
    return code === 0 ? [] : [`natloom run ended with ${code ?? signal}:\n${this.#program.output}`]
  }
}

export async function startAttackedKernel({ gateway }: Topology): Promise<Attacked> {
  const kernel = await startKernel(gateway, { portForwards: FORWARDS })
  return {
    name: 'nft masquerade',
    restarts: () => undefined,
    memory: () => undefined,
    allOver: async () => ({}),
    stop: () => kernel.stop(),
  }
}
