// The world of the gateway's tests: the lab's three hosts, an end host's process in each, and the real `natloom run`.

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import type { Namespace } from '../../src/lab/world/namespace.ts'
import { Processes, type Program } from '../../src/lab/world/processes.ts'
import { Remote } from '../../src/lab/world/remote.ts'
import { INSIDE_INTERFACE, OUTSIDE_INTERFACE, Topology } from '../../src/lab/world/topology.ts'
import { testFamily } from '../leftovers.ts'
import { PATIENCE_MS } from '../patience.ts'
import type { Requests } from './end-host.ts'

const COMMAND = new URL('../../dist/src/control/main.js', import.meta.url)
/** How often the state of a process is read until it is suspended: the kernel doesn't tell other processes of it. */
const POLL_MS = 10
const END_HOST = new URL('../../dist/test/coordinator/end-host.js', import.meta.url)

/** Asks an end host's process to do something. */
export class EndHost extends Remote<Requests> {
  constructor(host: Namespace, processes: Processes) {
    super(host, processes, END_HOST)
  }
}

/** A `natloom run` whose log is followed. */
export class Natloom {
  readonly program: Program
  #read = 0

  constructor(program: Program) {
    this.program = program
  }

  /** The first line of its log, after those that were waited for before, that contains this text. */
  async logged(text: string): Promise<Record<string, unknown>> {
    const deadline = AbortSignal.timeout(PATIENCE_MS)
    for (;;) {
      const lines = this.program.output.split('\n').slice(0, -1)
      const found = lines.findIndex((line, number) => number >= this.#read && line.includes(text))
      if (found >= 0) {
        this.#read = found + 1
        return JSON.parse(lines[found])
      }
      await this.#moreOutput(text, deadline)
    }
  }

  #moreOutput(text: string, deadline: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const { stderr } = this.program.child
      const fail = (why: string) => () =>
        reject(new Error(`${why} before "${text}" was logged:\n${this.program.output}\n${this.#threads()}`))
      const late = fail('time was over')
      stderr?.once('data', () => {
        deadline.removeEventListener('abort', late)
        resolve()
      })
      deadline.addEventListener('abort', late)
      this.program.ended.then(fail('natloom ended'))
    })
  }

  /** What each of its threads is doing: name, state, and where in the kernel it waits. */
  #threads(): string {
    const tasks = `/proc/${this.program.child.pid}/task`
    if (!existsSync(tasks)) return ''
    const read = (file: string) => readFileSync(file, 'utf8').trim()
    const each = readdirSync(tasks).map((task) => {
      const [state, , , , , , , , , , , user, system] = read(`${tasks}/${task}/stat`).split(') ')[1]!.split(' ')
      return `${read(`${tasks}/${task}/comm`)} ${state} ${read(`${tasks}/${task}/wchan`)} ${user}+${system} ticks`
    })
    return `its threads: ${each.join('; ')}`
  }

  kill(signal: NodeJS.Signals): void {
    this.program.child.kill(signal)
  }

  /** Stops its threads until SIGCONT. Resolves when the main thread, which reads signals, stands still. */
  async suspend(): Promise<void> {
    this.kill('SIGSTOP')
    const stat = `/proc/${this.program.child.pid}/stat`
    // The state follows the program's name, which stands in parentheses.
    while (!/\) T/.test(readFileSync(stat, 'utf8'))) await setTimeout(POLL_MS)
  }

  /** Its exit code, or the signal that ended it. */
  async ended(): Promise<number | NodeJS.Signals | null> {
    const { code, signal } = await this.program.within(PATIENCE_MS)
    return code ?? signal
  }

  stop(): Promise<number | NodeJS.Signals | null> {
    this.kill('SIGTERM')
    return this.ended()
  }
}

export class Network {
  readonly topology = Topology.create(testFamily())
  readonly processes = new Processes()
  readonly lan = new EndHost(this.topology.lan, this.processes)
  readonly gateway = new EndHost(this.topology.gateway, this.processes)
  readonly outside = new EndHost(this.topology.outside, this.processes)
  readonly statePath = `${this.topology.directory}/state.json`
  readonly apiSocket = `${this.topology.directory}/api.sock`

  /** What a command of natloom is told on the gateway. */
  readonly variables: Readonly<Record<string, string>> = {
    NATLOOM_CONFIG: '/dev/null',
    NATLOOM_INSIDE: INSIDE_INTERFACE,
    NATLOOM_OUTSIDE: OUTSIDE_INTERFACE,
    NATLOOM_STATE_PATH: this.statePath,
    NATLOOM_API_SOCKET: this.apiSocket,
    NATLOOM_LOG_FORMAT: 'json',
    NATLOOM_IO_RING_MEGABYTES: '16',
    NATLOOM_WORKERS: '1',
  }

  /** Starts `natloom run`; `env` beside what names the two interfaces. `by`: a command that runs it, as timeout(1). */
  natloom(env: Readonly<Record<string, string>> = {}, by: readonly string[] = []): Natloom {
    return this.started([...by, process.execPath, COMMAND.pathname, 'run'], env)
  }

  /** Starts a gateway by another command. */
  started([command, ...args]: readonly string[], env: Readonly<Record<string, string>> = {}): Natloom {
    const program = this.processes.start(this.topology.gateway, command!, args, {
      name: 'natloom run',
      env: { ...this.variables, ...env },
    })
    return new Natloom(program)
  }

  async forwarding(env: Readonly<Record<string, string>> = {}): Promise<Natloom> {
    const natloom = this.natloom(env)
    await natloom.logged('"forwarding"')
    return natloom
  }

  /** The gateway's nft ruleset, everybody's. */
  rules(): string {
    return this.gateway.host.exec('nft', 'list', 'ruleset')
  }

  /** From which ports the gateway's kernel takes those of its own connections. */
  hostPortRange(): string {
    return this.gateway.host.exec('cat', '/proc/sys/net/ipv4/ip_local_port_range')
  }

  async close(): Promise<void> {
    await this.processes.end()
    this.topology.remove()
  }
}
