// The threads that workers run in: piscina's, with one endless task each. This file adds a guarantee: a task counts as
// ended only when its thread has exited, so that nothing can touch the memory that the task was given any more.
//
//   a task ends by                   piscina                                     here
//   throw, stack overflow            rejects; the thread lives                   the thread is terminated
//   process.exit, heap exhaustion    drops the thread, rejects, starts another   its exit is awaited
//   abort (wedged)                   rejects at once; terminates the thread      its exit is awaited
//   return                           resolves; the thread lives                  the thread is terminated
// Piscina doesn't tell which thread a task ran in; the worker writes its thread number into a control word
// (memory/control-words.ts).
//
// Never: a second task in a thread. Its modules are bound to the memory of the first (datapath/attach.ts), so the load
// balancer passes over a thread that a worker has entered until that thread has exited.

import type { Worker } from 'node:worker_threads'
import { Piscina } from 'piscina'
import { reasonOf } from '../../host/errors.ts'
import type { ControlWords } from '../../memory/control-words.ts'

/**
 * V8's limit of a thread's heap. Beyond it V8 ends the thread if it gets there in small steps, but the whole process if
 * one allocation goes more than 16 MB beyond, so it is larger than what can be allocated at once before the thread is
 * ended for other reasons: its own look at its heap (helpers/running-helper.shard.ts), the supervisor's at the process.
 */
export const HEAP_MEGABYTES = 2048

/** How a task has ended; `silent`: its heartbeat stood still, and so it was aborted. */
export interface TaskEnd {
  readonly how: 'returned' | 'threw' | 'exited' | 'out-of-memory' | 'silent'
  /** For people. */
  readonly reason: string
}

/** A task and the one thread that it runs in. */
export interface RunningTask {
  /** Resolves when the thread has exited. */
  readonly ended: Promise<TaskEnd>
  /** Ends the task by force, also if it has not begun. */
  abort(): void
}

export class ThreadPool {
  readonly #words: ControlWords
  readonly #size: number
  readonly #pool: Piscina
  /** By thread number: every thread that was given a task and has not exited. */
  readonly #threads = new Map<number, Worker>()
  readonly #tasks = new Set<Promise<unknown>>()
  #closing = false

  /** For `size` workers, numbered as in the control words. `heard` gets what a thread posts. */
  constructor(words: ControlWords, size: number, heard: (message: unknown) => void, heapMegabytes = HEAP_MEGABYTES) {
    this.#words = words
    this.#size = size
    this.#pool = new Piscina({
      minThreads: size,
      maxThreads: size,
      concurrentTasksPerWorker: 1,
      atomics: 'disabled',
      idleTimeout: Number.POSITIVE_INFINITY,
      resourceLimits: { maxOldGenerationSizeMb: heapMegabytes },
      loadBalancer: (_task, threads) => {
        this.#followThreads()
        return threads.find(({ id, currentUsage }) => currentUsage === 0 && !this.#isSpent(id)) ?? null
      },
    })
    // Emitted for a thread that fails while it has no task: its task's end was reported already, and piscina replaces
    // it.
    this.#pool.on('error', () => {})
    this.#pool.on('message', heard)
  }

  /** Runs the file's default function in a fresh thread. The worker's order word already says that it may run. */
  run(worker: number, filename: string, task: unknown): RunningTask {
    const force = new AbortController()
    const returned: TaskEnd = { how: 'returned', reason: 'it ended' }
    const result = this.#pool.run(task, { filename, signal: force.signal }).then(() => returned, endOf)
    this.#tasks.add(result)
    const ended = result.then(async (end) => {
      this.#tasks.delete(result)
      await this.#endOf(worker)
      return end
    })
    return { ended, abort: () => force.abort() }
  }

  /** Waits up to `patienceMs` for tasks that were told to end, then ends all threads. None is left afterwards. */
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
    // destroy() doesn't wait for threads that piscina has dropped.
    await Promise.all(threads.map((thread) => thread.terminate()))
  }

  /** Resolves when the thread of the worker's last task has exited. */
  async #endOf(worker: number): Promise<void> {
    this.#words.stop(worker)
    const thread = this.#threads.get(this.#words.thread(worker))
    // Terminating a thread makes piscina start another one. While everything ends, close() terminates the threads.
    if (!this.#closing) await thread?.terminate()
  }

  /** Piscina drops a thread before it has exited, so each thread is kept here from before its first task. */
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

/** Piscina passes an error on as it was thrown, as a copy without its code, or as the thread ended by it. */
function endOf(error: unknown): TaskEnd {
  const reason = reasonOf(error)
  const { code } = error as { code?: unknown }
  if (code === 'ERR_WORKER_OUT_OF_MEMORY' || HEAP_FULL.test(reason)) return { how: 'out-of-memory', reason }
  return { how: EXITED.test(reason) ? 'exited' : 'threw', reason }
}

/** Thrown by the thread itself (helpers/running-helper.shard.ts). */
const HEAP_FULL = /^its heap is over/
const EXITED = /^worker exited with code/
