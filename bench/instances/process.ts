// So many small NATs in this process, in threads or in the caller's: starts them one after the other, measures, prints
// one JSON object. A process for each measure, because memory is given back to nobody.
//
//   node --expose-gc dist/bench/instances/process.js thread|modules COUNT

import { once } from 'node:events'
import { performance } from 'node:perf_hooks'
import { Worker } from 'node:worker_threads'
import { makeSmallMemory, SmallNat } from './nat.ts'

export interface InstancesResult {
  readonly kind: string
  readonly count: number
  /** Until one more NAT carries packets: the median, and the last one. */
  readonly startMs: number
  readonly lastStartMs: number
  /** Of the process, a NAT: its tables and packet memory, and all the rest. */
  readonly tablesKiB: number
  readonly instanceKiB: number
  /** A call with one packet, and with a burst of 64, going round all NATs. */
  readonly microsecondsOfOne: number
  readonly microsecondsOfBurst: number
}

const THREAD = new URL('./thread.js', import.meta.url)
const BURST = 64
const CALLS = 20_000
const MESSAGES = 3_000
/** Each instance is code of its own, which V8 compiles for itself after some thousands of calls. */
const WARM_CALLS = 8_000
const RUNS = 5
const KIB = 1024

const [, , kind = '', countText = ''] = process.argv
const count = Number(countText)

/** Carries a burst of so many packets; resolves or returns how many came out. */
type Carry = (packets: number) => number | Promise<number>

function inThread(memory: ReturnType<typeof makeSmallMemory>): Promise<Carry> {
  const worker = new Worker(THREAD, { workerData: memory })
  worker.once('error', (error) => {
    throw error
  })
  const answer = async (): Promise<number> => ((await once(worker, 'message')) as [number])[0]
  return answer().then(() => (packets: number) => {
    const answered = answer()
    worker.postMessage(packets)
    return answered
  })
}

async function inThisThread(memory: ReturnType<typeof makeSmallMemory>, instance: number): Promise<Carry> {
  const nat = await SmallNat.start(memory, instance)
  if (nat.carry(1) !== 1) throw new Error('the first packet did not come out')
  return (packets) => nat.carry(packets)
}

function residentKiB(): number {
  globalThis.gc?.()
  return process.memoryUsage().rss / KIB
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] as number
}

async function goRound(carriers: readonly Carry[], calls: number, packets: number): Promise<void> {
  for (let i = 0; i < calls; i++) {
    const carried = (carriers[i % carriers.length] as Carry)(packets)
    if ((typeof carried === 'number' ? carried : await carried) !== packets) throw new Error('a packet was lost')
  }
}

/**
 * Microseconds a call, going round all NATs: the best of some runs, since what else the machine does only adds to it.
 */
async function cost(carriers: readonly Carry[], packets: number): Promise<number> {
  if (kind === 'modules') for (const carry of carriers) await goRound([carry], WARM_CALLS, packets)
  const calls = kind === 'modules' ? CALLS : MESSAGES
  const runs: number[] = []
  for (let run = 0; run < RUNS; run++) {
    const began = performance.now()
    await goRound(carriers, calls, packets)
    runs.push(((performance.now() - began) * 1000) / calls)
  }
  return Math.min(...runs)
}

if ((kind !== 'thread' && kind !== 'modules') || !Number.isInteger(count) || count < 1) {
  console.error('usage: process.js thread|modules COUNT')
  process.exit(2)
}

const empty = residentKiB()
const memories = Array.from({ length: count }, makeSmallMemory)
const withTables = residentKiB()
const carriers: Carry[] = []
const starts: number[] = []
for (const [i, memory] of memories.entries()) {
  const began = performance.now()
  carriers.push(await (kind === 'thread' ? inThread(memory) : inThisThread(memory, i)))
  starts.push(performance.now() - began)
}
const started = residentKiB()
// Bursts first: they leave compiled code to the single packets.
const microsecondsOfBurst = Number((await cost(carriers, BURST)).toFixed(2))
const microsecondsOfOne = Number((await cost(carriers, 1)).toFixed(2))
const result: InstancesResult = {
  kind,
  count,
  startMs: Number(median(starts).toFixed(1)),
  lastStartMs: Number((starts.at(-1) as number).toFixed(1)),
  tablesKiB: Math.round((withTables - empty) / count),
  instanceKiB: Math.round((started - withTables) / count),
  microsecondsOfOne,
  microsecondsOfBurst,
}
console.log(JSON.stringify(result))
process.exit()
