// A process in another namespace that does what it is asked: Remote asks, answerRequests() is the process's side.
// Requests and answers go over the channel that Node gives a child process.

import type { Namespace } from './namespace.ts'
import type { Processes, Program } from './processes.ts'

// biome-ignore lint/suspicious/noExplicitAny: only `any` lets a function with other parameters be one of these
type Requests = Readonly<Record<string, (...args: any[]) => unknown>>

interface Request {
  readonly id: number
  readonly what: string
  readonly args: readonly unknown[]
}

interface Answer {
  readonly id: number
  readonly value?: unknown
  readonly error?: string
}

/** Starts a compiled module as a process in a host, and asks it. `R` are the functions that the process has. */
export class Remote<R extends Requests> {
  readonly host: Namespace
  readonly #program: Program
  readonly #unanswered = new Map<number, (answer: Answer) => void>()
  #next = 0

  constructor(host: Namespace, processes: Processes, module: URL) {
    this.host = host
    this.#program = processes.startModule(host, module)
    this.#program.child.on('message', (message) => {
      const answer = message as Answer
      this.#unanswered.get(answer.id)?.(answer)
      this.#unanswered.delete(answer.id)
    })
  }

  /** Calls a function of the process; throws if it throws there. */
  async ask<K extends keyof R & string>(what: K, ...args: Parameters<R[K]>): Promise<Awaited<ReturnType<R[K]>>> {
    const id = this.#next++
    const answered = new Promise<Answer>((resolve) => this.#unanswered.set(id, resolve))
    this.#program.child.send({ id, what, args } satisfies Request)
    const { value, error } = await answered
    if (error !== undefined) throw new Error(`${what} ${args.join(' ')}: ${error}`)
    return value as Awaited<ReturnType<R[K]>>
  }
}

/** Makes this process answer requests until its starter ends. */
export function answerRequests(requests: Requests): void {
  process.on('message', async ({ id, what, args }: Request) => {
    const work = async () => requests[what]?.(...args)
    const answer: Answer = await work().then(
      (value) => ({ id, value }),
      (error) => ({ id, error: String(error) }),
    )
    process.send?.(answer)
  })
  process.on('disconnect', () => process.exit())
}
