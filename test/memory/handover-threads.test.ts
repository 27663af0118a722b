import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { expect, it } from 'vitest'
import { HandoverRings } from '../../src/memory/handover-rings.ts'
import { allocate, sharedMemory } from '../../src/memory/region.ts'
import type { RingReport, RingThread } from './ring-thread.ts'

const SHARDS = 2
const CONSUMER = 1
const ENTRIES = 200_000

/** The thread runs from dist/, as the product's do. */
const path = fileURLToPath(new URL('../../dist/test/memory/ring-thread.js', import.meta.url))

it('a shard and the dispatcher fill the rings of a third thread: in order, whole, and it sleeps through nothing', async () => {
  const { buffer } = allocate((region) => new HandoverRings(region, SHARDS))
  const common = { rings: buffer, shards: SHARDS, consumer: CONSUMER, entries: ENTRIES, wakes: sharedMemory(64) }
  const threads = [undefined, 0, SHARDS].map(
    (producer) =>
      new Worker(path, { workerData: { ...common, ...(producer !== undefined && { producer }) } satisfies RingThread }),
  )
  const report = new Promise<RingReport>((resolve) => threads[0]!.once('message', resolve))
  const failures = threads.map((thread) => new Promise<never>((_, reject) => thread.once('error', reject)))
  try {
    const { received, disorder, sleeps, missedWakes } = await Promise.race([report, ...failures])
    expect({ received, disorder, missedWakes }).toEqual({
      received: [ENTRIES, 0, ENTRIES],
      disorder: 0,
      missedWakes: 0,
    })
    expect(sleeps).toBeGreaterThan(0)
  } finally {
    await Promise.all(threads.map((thread) => thread.terminate()))
  }
})
