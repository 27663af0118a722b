// Whether shards slow each other down: the pipeline (pipeline.ts) as two shards at once, in two threads on common
// memory as in a gateway, and in two processes that share nothing. False sharing would make the threads slower.
//
//   node dist/bench/contention.js [FLOWS [ROUNDS]]
//
// Rounds are interleaved; a round's figure is the mean of its two shards. The machine needs two idle processors.

import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Worker } from 'node:worker_threads'
import { numberAt } from './arguments.ts'
import { makeMemory, type PipelineResult } from './pipeline-memory.ts'
import { summary } from './statistics.ts'

const SHARDS = [0, 1]
const SECONDS = 2
const PIPELINE = new URL('./pipeline.js', import.meta.url)
const flows = numberAt(1, 'FLOWS', 1000)
const rounds = numberAt(2, 'ROUNDS', 7)
const run = promisify(execFile)

const argv = (shard: number): string[] => [flows, SECONDS, shard, SHARDS.length].map(String)
const mean = (results: readonly PipelineResult[]): number =>
  results.reduce((sum, { nanosecondsPerPacket }) => sum + nanosecondsPerPacket, 0) / results.length

async function inProcesses(): Promise<number> {
  const started = SHARDS.map((shard) => run(process.execPath, [fileURLToPath(PIPELINE), ...argv(shard)]))
  return mean((await Promise.all(started)).map(({ stdout }) => JSON.parse(stdout) as PipelineResult))
}

async function inThreads(): Promise<number> {
  const workerData = makeMemory(flows, SHARDS.length)
  const results = SHARDS.map(
    (shard) =>
      new Promise<PipelineResult>((resolve, reject) => {
        const worker = new Worker(PIPELINE, { argv: argv(shard), workerData })
        worker.once('message', resolve)
        worker.once('error', reject)
      }),
  )
  return mean(await Promise.all(results))
}

const taken: { readonly processes: number; readonly threads: number }[] = []
for (let round = 0; round < rounds; round++) {
  const first = round % 2 === 0
  const threads = first ? await inThreads() : 0
  const processes = await inProcesses()
  taken.push({ processes, threads: first ? threads : await inThreads() })
}
const { median: processes } = summary(taken.map((round) => round.processes))
const { median: threads } = summary(taken.map((round) => round.threads))
const ratio = summary(taken.map((round) => round.threads / round.processes))
const ns = (value: number): string => `${value.toFixed(1)} ns a packet`
console.log(`${flows} flows a shard, two shards at once, ${rounds} rounds of ${SECONDS} s, medians`)
console.log(`two processes  ${ns(processes)}`)
console.log(`two threads    ${ns(threads)}`)
const [middle, least, most] = [ratio.median, ratio.least, ratio.most].map((value) => value.toFixed(2))
console.log(`ratio          ${middle} (${least} to ${most}), wanted at most 1.15`)
