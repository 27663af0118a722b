// The gateway whose shards crash: the real `natloom run`, with crasher.ts or with the crash points that a build for
// tests has (`#faults`). Its log is read as it is written, for it tells of each crash.

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { PATIENCE_MS } from '../../src/lab/world/patience.ts'
import type { Processes, Program } from '../../src/lab/world/processes.ts'
import { INSIDE_INTERFACE, OUTSIDE_INTERFACE, type Topology } from '../../src/lab/world/topology.ts'
import { CRASHES, type Crashes } from './crasher.ts'

const COMMAND = fileURLToPath(new URL('../../src/control/main.js', import.meta.url))
const CRASHER = new URL('./crasher.js', import.meta.url).href

export const MEANS = ['atomics', 'faults'] as const
export type Means = (typeof MEANS)[number]

/** Whether the checkout has crash points of its own. */
export const hasFaults = (): boolean => {
  const { imports = {} } = JSON.parse(readFileSync('package.json', 'utf8')) as { imports?: Record<string, unknown> }
  return '#faults' in imports
}

/** A worker that failed and was replaced. */
export interface Crash {
  /** As the log names it: `shard 1`. */
  readonly worker: string
  readonly reason: string
  /** The time in the log, as Date.now() counts. */
  readonly at: number
}

export interface CrashingOptions extends Crashes {
  readonly workers: number
  readonly dispatch: string
  readonly by: Means
  /** With `faults`: how many crash points a thread passes before it crashes, on average. */
  readonly points: number
  /** Called at each crash. */
  crashed(crash: Crash): void
}

export class CrashingGateway {
  readonly apiSocket: string
  readonly program: Program
  readonly #crashed: (crash: Crash) => void
  #forwarding: () => void = () => {}
  /** The begin of a line of the log whose end has not come yet. */
  #partial = ''

  constructor(topology: Topology, processes: Processes, options: CrashingOptions) {
    const { seed, everyMs, calmMs, workers, dispatch, by, points, crashed } = options
    this.apiSocket = `${topology.directory}/api.sock`
    this.#crashed = crashed
    const how = by === 'faults' ? ['--conditions=natloom-faults'] : ['--import', CRASHER]
    const crashes: Crashes = { seed, everyMs, calmMs }
    const told =
      by === 'faults' ? { NATLOOM_FAULTS: `seed=${seed},every=${points}` } : { [CRASHES]: JSON.stringify(crashes) }
    this.program = processes.start(topology.gateway, process.execPath, [...how, COMMAND, 'run'], {
      name: 'natloom run',
      env: {
        NATLOOM_CONFIG: '/dev/null',
        NATLOOM_INSIDE: INSIDE_INTERFACE,
        NATLOOM_OUTSIDE: OUTSIDE_INTERFACE,
        NATLOOM_STATE_PATH: `${topology.directory}/state.json`,
        NATLOOM_API_SOCKET: this.apiSocket,
        NATLOOM_LOG_FORMAT: 'json',
        NATLOOM_WORKERS: String(workers),
        NATLOOM_DISPATCH: dispatch,
        NATLOOM_SUPERVISION_RESTARTS: '1000',
        // Short times, so that flows that are over are deleted, too, and a successor has few of them to go through.
        NATLOOM_TIMEOUTS_TCP_TRANSITORY: '10',
        NATLOOM_TIMEOUTS_TCP_CLOSING: '5',
        NATLOOM_TIMEOUTS_UDP: '5',
        ...told,
      },
    })
    this.program.child.stderr?.on('data', (text: string) => this.#read(text))
  }

  /** Resolves when it forwards packets. */
  async forwards(): Promise<void> {
    const forwarding = new Promise<void>((resolve) => {
      this.#forwarding = resolve
    })
    const late = AbortSignal.timeout(PATIENCE_MS)
    const tooLate = new Promise<never>((_, reject) =>
      late.addEventListener('abort', () => reject(new Error(`natloom run did not begin:\n${this.program.output}`))),
    )
    await Promise.race([forwarding, this.failed(), tooLate])
  }

  /** Rejects when it ends by itself. */
  async failed(): Promise<never> {
    const { code, signal } = await this.program.ended
    throw new Error(`natloom run ended by itself with ${code ?? signal}:\n${this.program.output}`)
  }

  #read(text: string): void {
    const lines = (this.#partial + text).split('\n')
    this.#partial = lines.pop() ?? ''
    for (const line of lines) {
      if (!line.startsWith('{')) continue
      const { msg, worker, reason, time } = JSON.parse(line)
      if (msg === 'forwarding') this.#forwarding()
      if (String(msg).startsWith('a worker has failed')) this.#crashed({ worker, reason, at: Date.parse(time) })
    }
  }
}
