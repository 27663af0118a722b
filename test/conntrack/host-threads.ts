// Threads that count on one host table at once, as shards do, while the coordinator ends rows of hosts that have
// nothing: connections of few hosts begin, up to the limit, and end, so that hosts come and go all the time.

import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { BUCKET, HOST, HostTable } from '../../src/conntrack/host-table.ts'
import { HostGc } from '../../src/coordinator/hosts/host-gc.ts'
import { allocate, sharedMemory } from '../../src/memory/region.ts'

export interface HostThread {
  readonly shard: number
  readonly shards: number
  readonly table: SharedArrayBuffer
  readonly state: SharedArrayBuffer
  readonly operations: number
}

/** One bucket, and more hosts than it has rows; so many of them are at work at a time, which others follow. */
export const HOSTS = BUCKET
export const NAMES = 60
export const AT_WORK = 20
/** Connections of all threads after which a host goes and the next one comes. */
export const SHIFT = 256
export const LIMIT = 40

// Words of the state: of each shard its turns; then for all of them.
export const turnsWord = (shard: number): number => shard
export const [MOST, REFUSED, BEGUN] = [64, 65, 66]

export interface HostReport {
  /** Most that a host with a row of its own had at a time. */
  readonly most: number
  readonly begun: number
  readonly refused: number
  /** Rows that the coordinator has given back while threads were at work. */
  readonly ended: number
  /** What the table still counts when every connection has ended, and rows that are taken when all looks are taken. */
  readonly left: { readonly connections: number; readonly rows: number }
}

const compiled = '../../dist/test/conntrack/host-thread.js'

export async function countAmongThreads(shards: number, operations: number): Promise<HostReport> {
  const { buffer, view: table } = allocate((region) => new HostTable(region, { hosts: HOSTS, shards }))
  const shared = sharedMemory(4 * 128)
  const state = new Int32Array(shared)
  let audits = 0
  let isQuiet = false
  const gc = new HostGc({
    table,
    now: () => 0,
    turns: (shard) => Atomics.load(state, turnsWord(shard)) + (isQuiet ? audits : 0),
    limited: () => {},
  })
  let ended = 0
  const end = table.end.bind(table)
  table.end = (row, look) => {
    const isEnded = end(row, look)
    if (isEnded) ended++
    return isEnded
  }
  const threads = Promise.all(
    Array.from({ length: shards }, (_, shard) => run({ shard, shards, table: buffer, state: shared, operations })),
  )
  let isOver = false
  threads.finally(() => {
    isOver = true
  })
  while (!isOver) {
    gc.look()
    await new Promise((resolve) => setImmediate(resolve))
  }
  await threads
  const sum = (word: number) =>
    Array.from({ length: HOSTS + 1 }, (_, row) => table.sum(row, word)).reduce((total, each) => total + each, 0)
  const connections = sum(HOST.connections)
  const endedMeanwhile = ended
  isQuiet = true
  for (; audits < 4; audits++) gc.look()
  return {
    most: state[MOST]!,
    begun: state[BEGUN]!,
    refused: state[REFUSED]!,
    ended: endedMeanwhile,
    left: { connections, rows: table.names.filter((name) => name !== 0).length },
  }
}

function run(data: HostThread): Promise<void> {
  const worker = new Worker(fileURLToPath(new URL(compiled, import.meta.url)), { workerData: data })
  return new Promise((resolve, reject) => {
    worker.once('error', reject)
    worker.once('exit', () => resolve())
  })
}
