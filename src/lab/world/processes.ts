// The programs that the lab and the benches start inside namespaces, so that none outlives its starter: each gets
// SIGTERM when its starter dies, however that dies (PR_SET_PDEATHSIG by setpriv(1)), and end() ends all that are left.
// They have sessions of their own: an interrupt from the terminal reaches the starter alone, which ends them in order.

import type { ChildProcess, StdioOptions } from 'node:child_process'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Namespace } from './namespace.ts'

/** How a program ended. */
export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** How long a program that is told to end may take: whatever it still does then, it is killed. */
const END_WITHIN_MS = 30_000

/** What a program wrote, at most this many bytes of its end. */
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
      // Not `exit`: what it wrote last comes after that.
      child.once('close', (code, signal) => resolve({ code, signal }))
      child.once('error', reject)
    })
    // Whoever awaits it hears of it; a program that nobody awaits yet must not end the process.
    this.ended.catch(() => {})
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#output = (this.#output + text).slice(-KEPT_OUTPUT)
      })
  }

  /** Standard output and standard error, in the order they came. */
  get output(): string {
    return this.#output
  }

  /** Waits for its end; one that takes longer is killed, and that is an error. */
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

  /** Its whole output after an end with exit code 0; anything else is an error that shows the output. */
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

  /** Ends all that still run, with some time to do so by themselves. Nothing starts afterwards. */
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
