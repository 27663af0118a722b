// The threads that workers run in, by piscina: one endless task each. What this adds to it is certainty: a life is over
// when nothing can touch the memory it was given any more.
//
//   a task ends by                   piscina                                     here
//   throw, stack overflow            rejects; the thread lives                   the thread is ended
//   process.exit, heap exhaustion    drops the thread, rejects, starts another   its exit is awaited
//   abort (wedged)                   rejects at once; terminates the thread      its exit is awaited
//   return                           resolves; the thread lives                  the thread is ended
// Which thread it was the worker has said itself (memory/control-words.ts).
//
// Never: a second task in a thread. Its modules hold the memory of the first (datapath/attach.ts), so a thread that a
// worker has entered is passed over until it is gone.

import type { Worker } from 'node:worker_threads'
import { Piscina } from 'piscina'
import { reasonOf } from '../../host/errors.ts'
import type { ControlWords } from '../../memory/control-words.ts'

/** A worker allocates next to nothing while it runs. One that does is to end alone, before the host has no memory. */
const HEAP_MEGABYTES = 256

/** One task in one thread. */
export interface Life {
  /** Resolves with the reason when it is over. */
  readonly over: Promise<string>
  /** Ends it by force, also if it has not begun. */
  abort(): void
}

export class ThreadPool {
  readonly #words: ControlWords
  readonly #size: number
  readonly #pool: Piscina
  /** By thread number: all that were given a task and live. */
  readonly #threads = new Map<number, Worker>()
  readonly #tasks = new Set<Promise<unknown>>()
  #closing = false

  /** `size` workers, numbered as the words are. */
  constructor(words: ControlWords, size: number) {
    this.#words = words
    this.#size = size
    this.#pool = new Piscina({
      minThreads: size,
      maxThreads: size,
      concurrentTasksPerWorker: 1,
      atomics: 'disabled',
      idleTimeout: Number.POSITIVE_INFINITY,
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MEGABYTES },
      loadBalancer: (_task, threads) => {
        this.#followThreads()
        return threads.find(({ id, currentUsage }) => currentUsage === 0 && !this.#isSpent(id)) ?? null
      },
    })
    // Of a thread that fails without a task. Whose it was has been told, and piscina replaces it.
    this.#pool.on('error', () => {})
  }

  /** Runs the file's default function in a thread that has run nothing. The worker was started by the words. */
  run(worker: number, filename: string, task: unknown): Life {
    const force = new AbortController()
    const result = this.#pool.run(task, { filename, signal: force.signal }).then(() => 'it ended', reasonOf)
    this.#tasks.add(result)
    const over = result.then(async (reason) => {
      this.#tasks.delete(result)
      await this.#endOf(worker)
      return reason
    })
    return { over, abort: () => force.abort() }
  }

  /** Waits so long for tasks that were told to end, then ends all threads. None is left afterwards. */
  async close(patienceMs: number): Promise<void> {
    this.#closing = true
    let late: NodeJS.Timeout | undefined
    const patience = new Promise((resolve) => {
      late = setTimeout(resolve, patienceMs)
    })
    await Promise.race([Promise.all(this.#tasks), patience])
    clearTimeout(late)
    const threads = [...this.#threads.values()]
    await this.#pool.destroy()
    // Piscina waits for those only that it has not dropped.
    await Promise.all(threads.map((thread) => thread.terminate()))
  }

  /** When it resolves, the worker that was last started in this place has no thread any more. */
  async #endOf(worker: number): Promise<void> {
    this.#words.stop(worker)
    const thread = this.#threads.get(this.#words.thread(worker))
    // Piscina would start another thread while all are to end: close() ends it then.
    if (!this.#closing) await thread?.terminate()
  }

  /** Piscina forgets a thread before it has ended, so each is kept here from before its first task. */
  #followThreads(): void {
    for (const thread of this.#pool.threads) {
      const { threadId } = thread
      if (threadId < 0 || this.#threads.has(threadId)) continue
      this.#threads.set(threadId, thread)
      thread.once('exit', () => this.#threads.delete(threadId))
    }
  }

  #isSpent(thread: number): boolean {
    for (let worker = 0; worker < this.#size; worker++) if (this.#words.thread(worker) === thread) return true
    return false
  }
}
