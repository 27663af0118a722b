// The shards of a replay: threads with the same memory and the same datapath as a gateway's, in lock-step. An order is
// given to one shard, or to all one after the other. Afterwards each shard that another one has handed something over
// to gets a turn, until all rings are empty. Owner: main thread.

import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import type { GatewayMemory } from '../coordinator/memory.ts'
import { workerFile } from '../coordinator/workers/entry-points.ts'
import { HandoverRings } from '../datapath/handover/handover-rings.ts'
import { packetMemoryBytes } from '../io/loopback.ts'
import { Region, sharedMemory } from '../memory/region.ts'
import type { Done, Order, ReplayShard } from './messages.ts'

const SLOTS = 64
const SCRATCH_BYTES = 8 << 20

export class ReplayShards {
  readonly #workers: readonly Worker[]
  readonly #rings: HandoverRings

  readonly #onStep: () => void

  private constructor(workers: readonly Worker[], rings: HandoverRings, onStep: () => void) {
    this.#workers = workers
    this.#rings = rings
    this.#onStep = onStep
  }

  /**
   * Resolves when every shard has loaded its helpers. `onStep` is called after each step of a shard, which may have
   * published events.
   */
  static async start(
    { settings, shards, sharedPacketMemory }: GatewayMemory,
    onStep: () => void,
  ): Promise<ReplayShards> {
    const count = shards.length
    const shape = {
      ports: 2,
      slots: SLOTS,
      scratchBytes: SCRATCH_BYTES,
      shards: count,
      sharedBytes: sharedPacketMemory,
    }
    const packetMemory = sharedMemory(packetMemoryBytes(shape))
    const workers = shards.map(
      (memory, shard) =>
        new Worker(workerFile('replay'), {
          workerData: {
            memory,
            settings: settings[shard]!,
            driver: { ...shape, packetMemory, shard },
          } satisfies ReplayShard,
        }),
    )
    const started = new ReplayShards(workers, new HandoverRings(new Region(shards[0]!.handover), count), onStep)
    try {
      await Promise.all(workers.map((worker) => answer(worker)))
    } catch (error) {
      await started.end()
      throw error
    }
    return started
  }

  get count(): number {
    return this.#workers.length
  }

  /**
   * Gives an order to one shard, and turns to the shards that it hands over to. Resolves with the frames sent, in
   * order.
   */
  async order(shard: number, order: Order): Promise<Done['sent']> {
    const sent = [...(await this.#ask(shard, order))]
    for (let waiting = this.#waiting(); waiting >= 0; waiting = this.#waiting())
      sent.push(...(await this.#ask(waiting, { what: 'turn', milliseconds: order.milliseconds })))
    return sent
  }

  async orderAll(order: Order): Promise<Done['sent']> {
    const sent: Done['sent'][number][] = []
    for (let shard = 0; shard < this.count; shard++) sent.push(...(await this.order(shard, order)))
    return sent
  }

  async end(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()))
  }

  /** A shard whose rings are not empty, -1 if there is none. */
  #waiting(): number {
    for (let shard = 0; shard < this.count; shard++) if (this.#rings.hasMail(shard)) return shard
    return -1
  }

  async #ask(shard: number, order: Order): Promise<Done['sent']> {
    const worker = this.#workers[shard]!
    const all: Done['sent'][number][] = []
    for (;;) {
      worker.postMessage(order)
      const { sent, more } = await answer(worker)
      this.#onStep()
      all.push(...sent)
      if (!more) return all
    }
  }
}

/** The next message of a thread. Rejects if the thread fails instead. */
async function answer(worker: Worker): Promise<Done> {
  const [done] = await once(worker, 'message')
  return done as Done
}
