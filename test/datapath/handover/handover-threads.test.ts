import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { expect, it } from 'vitest'
import { HandoverRings } from '../../../src/datapath/handover/handover-rings.ts'
import { allocate, sharedMemory } from '../../../src/memory/region.ts'
import type { RingReport, RingThread } from './ring-thread.ts'

const SHARDS = 2
const CONSUMER = 1

/** The thread runs from dist/, as the product's do. */
const path = fileURLToPath(new URL('../../../dist/test/datapath/handover/ring-thread.js', import.meta.url))

/** What the consumer says in the end, when each of these producers has put so many entries. */
async function reportOf(producers: readonly number[], entries: number, lockStep: boolean): Promise<RingReport> {
  const { buffer } = allocate((region) => new HandoverRings(region, SHARDS))
  const common = { rings: buffer, shards: SHARDS, consumer: CONSUMER, entries, lockStep, wakes: sharedMemory(64) }
  const thread = (data: RingThread): Worker => new Worker(path, { workerData: data })
  const consumer = thread(common)
  const threads = [consumer, ...producers.map((producer) => thread({ ...common, producer }))]
  const report = new Promise<RingReport>((resolve) => consumer.once('message', resolve))
  const failures = threads.map((each) => new Promise<never>((_, reject) => each.once('error', reject)))
  try {
    return await Promise.race([report, ...failures])
  } finally {
    await Promise.all(threads.map((each) => each.terminate()))
  }
}

it('what a shard and the dispatcher put for a third thread comes whole and in order', async () => {
  const { received, disorder, missedWakes } = await reportOf([0, SHARDS], 200_000, false)
  expect({ received, disorder, missedWakes }).toEqual({ received: [200_000, 0, 200_000], disorder: 0, missedWakes: 0 })
})

it('a consumer sleeps through nothing that comes while it is about to sleep', async () => {
  const { received, sleeps, missedWakes } = await reportOf([0], 30_000, true)
  expect({ received, missedWakes }).toEqual({ received: [30_000, 0, 0], missedWakes: 0 })
  expect(sleeps).toBeGreaterThan(0)
})
