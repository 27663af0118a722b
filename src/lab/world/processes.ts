// The programs that the lab and the benches start inside namespaces. None outlives its starter: each gets SIGTERM when
// the starter ends, however it ends (PR_SET_PDEATHSIG by setpriv(1)), and end() ends all that still run. They have
// sessions of their own, so that an interrupt from the terminal reaches the starter alone, which ends them in order.

import type { ChildProcess, StdioOptions } from 'node:child_process'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Namespace } from './namespace.ts'

/** How a program ended. */
export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** A program that was told to end and takes longer is killed. */
const END_WITHIN_MS = 30_000

/** So many characters of what a program wrote are kept, the last ones. */
const KEPT_OUTPUT = 65536

export class Program {
  readonly child: ChildProcess
  readonly ended: Promise<Ended>
  readonly #name: string
  #output = ''

  constructor(name: string, child: ChildProcess) {
    this.#name = name
    this.child = child
    this.ended = new Promise((resolve, reject) => {
      // Not `exit`, because the last output comes after that.
      child.once('close', (code, signal) => resolve({ code, signal }))
      child.once('error', reject)
    })
    // An error that nobody awaits yet must not end this process; it is still there for code that awaits `ended` later.
    this.ended.catch(() => {})
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#output = (this.#output + text).slice(-KEPT_OUTPUT)
      })
  }

  /** The end of standard output and standard error, in the order in which they came. */
  get output(): string {
    return this.#output
  }

  /** Waits for its end. If that takes longer, the program is killed, and this throws. */
  async within(milliseconds: number): Promise<Ended> {
    const timeout = new AbortController()
    const late = delay(milliseconds, undefined, { signal: timeout.signal, ref: false }).then(() => {
      this.child.kill('SIGKILL')
      throw new Error(`${this.#name} did not end within ${milliseconds / 1000} s`)
    })
    try {
      return await Promise.race([this.ended, late])
    } finally {
      timeout.abort()
      late.catch(() => {})
    }
  }

  /** Waits for its end; returns its output. Throws with the output if the exit code is not 0. */
  async text(milliseconds: number): Promise<string> {
    const { code, signal } = await this.within(milliseconds)
    if (code !== 0) throw new Error(`${this.#name} ended with ${code ?? signal}:\n${this.#output}`)
    return this.#output
  }
}

export class Processes {
  readonly #running = new Set<Program>()
  #over = false

  /** Starts a program inside a namespace. */
  start(host: Namespace, program: string, args: readonly string[], options: Start = {}): Program {
    if (this.#over) throw new Error(`${program} is not started: all is being ended`)
    const started = new Program(
      options.name ?? program,
      host.spawn('setpriv', ['--pdeathsig', 'TERM', program, ...args], {
        stdio: options.stdio ?? ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, LC_ALL: 'C', ...options.env },
        detached: true,
      }),
    )
    this.#running.add(started)
    const forget = () => this.#running.delete(started)
    started.ended.then(forget, forget)
    return started
  }

  /** Starts a compiled module as a Node process that reports by messages; `argument` reaches it as JSON. */
  startModule(host: Namespace, module: URL, argument: unknown = null, options: Start = {}): Program {
    const path = fileURLToPath(module)
    return this.start(host, process.execPath, [path, JSON.stringify(argument)], {
      name: path.slice(path.lastIndexOf('/') + 1),
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      ...options,
    })
  }

  /** Tells all programs that still run to end, and kills those that don't. Nothing can be started afterwards. */
  async end(): Promise<void> {
    this.#over = true
    await Promise.allSettled(
      [...this.#running].map((program) => {
        program.child.kill('SIGTERM')
        return program.within(END_WITHIN_MS)
      }),
    )
  }
}

interface Start {
  readonly name?: string
  readonly env?: Readonly<Record<string, string>>
  readonly stdio?: StdioOptions
}
