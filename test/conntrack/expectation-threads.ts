// Several shards' threads that announce, match, withdraw, refresh and end masters at random while the coordinator
// expires and mends, on so few endpoints that they are always in each other's way, and with threads that crash and are
// replaced. What each finds is held against a ledger that all write: by handle, who has claimed it and whether it is
// over; by port, for which announcement it is reserved. Used by the test and by bench/expectations.ts.

import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { cutConnections, viewConnections } from '../../src/conntrack/connection-table.ts'
import { EXPECTATION, ExpectationTable, STATE as SLOT, stateOf, WIDTH } from '../../src/conntrack/expectation-table.ts'
import { HostTable } from '../../src/conntrack/host-table.ts'
import { ExpectationGc } from '../../src/coordinator/expectations/expectation-gc.ts'
import { CELL, counterBlock } from '../../src/counters/counters.ts'
import { EXPECT_REFUSALS, type ExpectRefusal } from '../../src/counters/expect-refusals.ts'
import { allocate, bytesOf, Region, sharedMemory } from '../../src/memory/region.ts'
import { Externals, POOL, TCP_SPACE } from '../../src/nat/externals.ts'
import { isMapped, reservationsIn } from '../../src/nat/port-words.ts'

/** What a thread is given (expectation-thread.ts). */
export interface ExpectationThread {
  readonly shard: number
  readonly shards: number
  /** Which life of the shard this is. */
  readonly epoch: number
  readonly operations: number
  readonly seed: number
  readonly table: SharedArrayBuffer
  readonly externals: SharedArrayBuffer
  readonly connections: SharedArrayBuffer
  readonly counters: SharedArrayBuffer
  /** By handle: LEDGER words. */
  readonly ledger: SharedArrayBuffer
  /** By port index: the announcement that it is reserved for. */
  readonly holders: SharedArrayBuffer
  /** Of all threads: see STATE; then, by shard, operations done, epoch, turns. */
  readonly state: SharedArrayBuffer
}

export const EXTERNALS = { capacity: 1, blockSize: 64 } as const
export const EXPECTATIONS = 64
/** Few enough that it is reached. */
const LIMIT = 24
export const CONNECTIONS = 64
/** Few ports, so that none may leak. */
const FIRST_BLOCK = 256
const BLOCKS = 16

// A word for each handle: bits 0-15 who claims it, as shard + 1 | epoch << 8, or 0; above that what it is.
export const CLAIMANT = 0xffff
export const OVER = 1 << 16
export const ASLEEP = 1 << 17
export const ledgerAt = (handle: number): number => (handle & 0xff) * 0x8000 + (handle >>> 16)
const LEDGER_WORDS = 256 * 0x8000

export const STATE = { second: 0, ended: 1, quiet: 2, serial: 3, shards: 16 } as const
/** Violations, by what they are. */
export const VIOLATIONS = [
  'claimed by two',
  'claimed when it was over',
  'claimed when it was inactive',
  'claimed and not what was asked for',
  'a port that is not reserved for it',
  'a port that could not be taken',
  'more than its class may have',
  'in force for two masters',
  'more than may stand',
] as const
export type Violation = (typeof VIOLATIONS)[number]
const SHARD_WORDS = 4
export const DONE = 0
export const EPOCH = 1
export const TURNS = 2
export const shardWord = (shard: number, word: number): number => STATE.shards + shard * SHARD_WORDS + word
const MOST_SHARDS = 8
export const violationWord = (violation: Violation): number => shardWord(MOST_SHARDS, 0) + VIOLATIONS.indexOf(violation)

export interface ExpectationReport {
  readonly operations: number
  /** Threads that were crashed and replaced. */
  readonly crashes: number
  readonly created: number
  readonly refreshed: number
  readonly matched: number
  readonly refused: Readonly<Record<ExpectRefusal, number>>
  readonly removed: number
  readonly ended: ExpectationGc['ended']
  readonly mended: ExpectationGc['mended']
  readonly violations: Partial<Record<Violation, number>>
  /** Created, and neither matched nor ended nor standing at the end. A crash may keep one from being counted. */
  readonly unaccounted: number
  /** At the end, when nobody does anything. */
  readonly miscounted: number
  readonly slotsHeld: number
  readonly leaked: number
  /** When all have expired. */
  readonly left: {
    readonly slots: number
    readonly count: number
    readonly reservations: number
    readonly ports: number
  }
  readonly seconds: number
}

const compiled = import.meta.url.endsWith('.ts')
  ? '../../dist/test/conntrack/expectation-thread.js'
  : './expectation-thread.js'

/** Each thread does so many operations; it crashes after `crashEvery` fault points on average, 0: never. */
export async function expectAmongThreads(
  shards: number,
  operations: number,
  seed: number,
  crashEvery: number,
): Promise<ExpectationReport> {
  const begin = performance.now()
  const { buffer, view: table } = allocate((region) => new ExpectationTable(region, { capacity: EXPECTATIONS, shards }))
  table.setLimit(LIMIT)
  const externals = allocate((region) => new Externals(region, EXTERNALS))
  externals.view.add(1, POOL)
  for (let block = 0; block < BLOCKS; block++) externals.view.lease(0, TCP_SPACE, FIRST_BLOCK + block, block % shards)
  const connections = Array.from(
    { length: shards },
    () => allocate((region) => cutConnections(region, CONNECTIONS)).buffer,
  )
  const counters = Array.from({ length: shards }, () => sharedMemory(bytesOf(counterBlock)))
  const state = new Int32Array(sharedMemory(4 * (violationWord(VIOLATIONS[0]) + VIOLATIONS.length)))
  state[STATE.second] = 1000
  const common = {
    ...{ shards, operations, table: buffer, externals: externals.buffer },
    ...{ ledger: sharedMemory(4 * LEDGER_WORDS), holders: sharedMemory(4 * externals.view.portWords.length) },
    state: state.buffer as SharedArrayBuffer,
  }
  let audits = 0
  let isQuiet = false
  const gc = new ExpectationGc({
    table,
    externals: externals.view,
    hosts: allocate((region) => new HostTable(region, { hosts: 16, shards })).view,
    connections: connections.map((memory) => viewConnections(new Region(memory), CONNECTIONS)),
    now: () => Atomics.load(state, STATE.second),
    // Where no thread is left, none holds anything.
    turns: (shard) => Atomics.load(state, shardWord(shard, TURNS)) + (isQuiet ? audits : 0),
  })
  let crashes = 0

  /** Lives of a shard until its operations are done. */
  async function live(shard: number): Promise<void> {
    for (let epoch = 1; ; epoch++) {
      Atomics.store(state, shardWord(shard, EPOCH), epoch)
      const data: ExpectationThread = {
        ...{ ...common, shard, epoch, seed: seed * 1000 + shard * 100 + epoch },
        ...{ connections: connections[shard]!, counters: counters[shard]! },
      }
      const isDone = await run(data, crashEvery)
      gc.reclaim(shard)
      if (isDone) return
      crashes++
    }
  }

  const lives = Promise.all(Array.from({ length: shards }, (_, shard) => live(shard)))
  await Promise.race([lives, keep(gc, state, shards)])
  await lives
  isQuiet = true
  const settle = (): void => {
    for (let i = 0; i < 4; i++) {
      audits++
      gc.look()
    }
  }
  settle()
  const sum = (cell: number, cells = 1): number =>
    counters.reduce((total, block) => {
      const own = counterBlock(new Region(block))
      return total + own.subarray(cell, cell + cells).reduce((a, b) => a + b, 0)
    }, 0)
  const slots = (): number => table.states.filter((word) => stateOf(word) !== SLOT.free).length
  const standing = slots()
  const created = sum(CELL.expectationsCreated)
  const matched = sum(CELL.expectationsMatched)
  const removed = sum(CELL.expectationsRemoved, 3)
  const endedBy = { ...gc.ended }
  const ended = Object.values(endedBy).reduce((a, b) => a + b, 0)
  const reserved = (): number => externals.view.portWords.reduce((total, word) => total + reservationsIn(word), 0)
  const before = { miscounted: table.count() - standing, leaked: reserved() - named(table) }
  const slotsHeld = table.states.filter(
    (word) => ![SLOT.free, SLOT.pending, SLOT.inactive].includes(stateOf(word) as 0),
  )
  Atomics.add(state, STATE.second, 100_000)
  settle()
  return {
    operations: Array.from({ length: shards }, (_, shard) => state[shardWord(shard, DONE)]!).reduce((a, b) => a + b),
    ...{ crashes, created, matched, removed, ended: endedBy, mended: gc.mended },
    refreshed: sum(CELL.expectationsRefreshed),
    refused: Object.fromEntries(
      EXPECT_REFUSALS.map((reason, number) => [reason, sum(CELL.expectationsRefused + number)]),
    ) as ExpectationReport['refused'],
    violations: Object.fromEntries(
      VIOLATIONS.map((name) => [name, state[violationWord(name)]!] as const).filter(([, count]) => count > 0),
    ),
    unaccounted: created - matched - removed - ended - standing,
    ...{ ...before, slotsHeld: slotsHeld.length },
    left: {
      ...{ slots: slots(), count: table.count(), reservations: reserved() },
      ports: externals.view.portWords.filter(isMapped).length,
    },
    seconds: (performance.now() - begin) / 1000,
  }
}

/** Reservations that slots name. */
function named(table: ExpectationTable): number {
  let count = 0
  for (const [slot, word] of table.states.entries())
    if (stateOf(word) !== SLOT.free && table.fields[slot * WIDTH + EXPECTATION.reservation] !== 0) count++
  return count
}

/** Resolves with true when the thread has done its operations, with false when it has crashed as ordered. */
function run(data: ExpectationThread, crashEvery: number): Promise<boolean> {
  const faults = `seed=${data.seed},every=${crashEvery},kinds=throw|exit`
  const worker = new Worker(fileURLToPath(new URL(compiled, import.meta.url)), {
    workerData: data,
    ...(crashEvery > 0 && {
      execArgv: ['--conditions=natloom-faults'],
      env: { ...process.env, NATLOOM_FAULTS: faults },
    }),
  })
  return new Promise((resolve, reject) => {
    worker.once('error', (error) => (/crashed as ordered/.test(error.message) ? undefined : reject(error)))
    worker.once('exit', (code) => resolve(code === 0))
  })
}

/** As the coordinator does, but all the time; a second goes by in a few milliseconds. */
async function keep(gc: ExpectationGc, state: Int32Array, shards: number): Promise<void> {
  for (let look = 0; Atomics.load(state, STATE.ended) < shards; look++) {
    gc.look()
    if (look % 8 === 0) Atomics.add(state, STATE.second, 1)
    if (look % 64 === 0) gc.dropHelper(3)
    if (gc.count > LIMIT + shards) Atomics.add(state, violationWord('more than may stand'), 1)
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}
