// The netlink watcher's thread, seen from the main thread: started, its reports passed on, stopped. What the thread
// does is in host/watcher.ts; its entry point is workers/netlink.ts.

import { Worker } from 'node:worker_threads'
import { reasonOf } from '../../host/errors.ts'
import type { LinkReport } from '../../host/host-tables.ts'
import type { NetlinkThreadData, WatcherReport } from '../../host/watcher.ts'
import { signal } from '../../io/syscalls.ts'
import { sharedMemory } from '../../memory/region.ts'
import { workerFile } from './entry-points.ts'
import { ThreadError } from './errors.ts'

export interface NetlinkThreadOptions extends Omit<NetlinkThreadData, 'stop'> {
  /** Our interfaces or their addresses have changed; also called once before `started` resolves. */
  changed(links: readonly LinkReport[]): void
  /** The kernel's tables don't fit into the shared memory; the message says which. */
  overflow(message: string): void
  /** Another program, which this text names, has changed the nft ruleset. */
  rulesetChanged(by: string): void
  /** The thread has ended without having been stopped. */
  failed(error: ThreadError): void
}

export class NetlinkThread {
  /** Resolves once the first snapshot is published. Throws ThreadError. */
  readonly started: Promise<void>
  readonly #worker: Worker
  readonly #ended: Promise<void>
  readonly #stop = new Int32Array(sharedMemory(4))
  readonly #wakeFd: number

  constructor({ changed, overflow, rulesetChanged, failed, ...data }: NetlinkThreadOptions) {
    const stop = this.#stop.buffer as SharedArrayBuffer
    this.#wakeFd = data.wakeFd
    this.#worker = new Worker(workerFile('netlink'), { workerData: { ...data, stop } satisfies NetlinkThreadData })
    let reason = 'it ended'
    this.#worker.on('error', (error) => {
      reason = reasonOf(error)
    })
    this.#ended = new Promise((resolve) => this.#worker.once('exit', () => resolve()))
    const failure = this.#ended.then(
      () => new ThreadError(`the thread that watches the kernel's routes failed: ${reason}`),
    )
    this.started = new Promise((resolve, reject) => {
      this.#worker.on('message', (report: WatcherReport) => {
        if (report.kind === 'overflow') return overflow(report.message)
        if (report.kind === 'ruleset') return rulesetChanged(report.by)
        changed(report.links)
        resolve()
      })
      failure.then(reject)
    })
    failure.then((error) => {
      if (!this.#stopping) failed(error)
    })
  }

  get #stopping(): boolean {
    return Atomics.load(this.#stop, 0) !== 0
  }

  async stop(): Promise<void> {
    Atomics.store(this.#stop, 0, 1)
    signal(this.#wakeFd)
    await this.#ended
  }
}
