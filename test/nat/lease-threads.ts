// Several shards' threads that take and give back ports at random while the coordinator moves blocks between them, and
// while the host opens and closes sockets on ports: the claims of all are held against each other in a table that every
// port's holder enters by compare-and-swap.
// Used by the test and by bench/leases.ts.

import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { moveFreeBlock } from '../../src/coordinator/leases/free-blocks.ts'
import { CELL, counterBlock } from '../../src/counters/counters.ts'
import { allocate, bytesOf, Region, sharedMemory } from '../../src/memory/region.ts'
import { Externals, SHARED, SPACES } from '../../src/nat/externals.ts'
import { isHostBound, isTaken } from '../../src/nat/port-words.ts'

/** What a thread is given (lease-thread.ts). */
export interface LeaseThread {
  readonly shard: number
  readonly shards: number
  readonly operations: number
  readonly seed: number
  readonly externals: SharedArrayBuffer
  readonly counters: SharedArrayBuffer
  /** By port index: the shard that holds the port, plus 1. */
  readonly claims: SharedArrayBuffer
  /** By port index: reservations that name the port now. */
  readonly names: SharedArrayBuffer
  /** By port index: the tick since which the host has had a socket on the port and its word has said so; 0: none. */
  readonly bound: SharedArrayBuffer
  /** Of all threads: see STATE. */
  readonly state: SharedArrayBuffer
}

export const OPTIONS = { capacity: 1, blockSize: 64 } as const
const FIRST_BLOCK = 256
/** Few enough that shards run short. */
const BLOCKS = 24
const PORTS = 65_536
const SOCKETS_A_TURN = 8
export const STATE = {
  ended: 0,
  violations: 1,
  done: 2,
  requests: 3,
  quiet: 4,
  unlisted: 5,
  tick: 6,
  words: 7,
} as const

export interface LeaseReport {
  readonly operations: number
  /** Blocks moved from shard to shard. */
  readonly moved: number
  /** Blocks that were frozen and stayed where they were. */
  readonly refused: number
  /**
   * Ports that two held at a time, that one held while a reservation named them, that were taken and nobody's, or that
   * were given while the host had a socket on them.
   */
  readonly violations: number
  /** Ports still taken when everything was given back. */
  readonly lost: number
  /** Ports that no shard would give then, and those that one counted wrongly. */
  readonly unlisted: number
  /** Gauges of used ports that were not zero then. */
  readonly miscounted: number
  /** Ports whose word said at the end that the host has a socket, and it had none, or the reverse. */
  readonly misbound: number
  /** Sockets that the host opened and closed. */
  readonly sockets: number
  readonly seconds: number
}

const compiled = import.meta.url.endsWith('.ts') ? '../../dist/test/nat/lease-thread.js' : './lease-thread.js'

/** Runs `shards` threads of so many operations each, and moves blocks until the last has ended. */
export async function leaseAmongThreads(shards: number, operations: number, seed: number): Promise<LeaseReport> {
  const { buffer, view: externals } = allocate((region) => new Externals(region, OPTIONS))
  const entry = externals.add(1, SHARED)
  for (let space = 0; space < SPACES; space++)
    for (let block = 0; block < BLOCKS; block++) externals.lease(entry, space, FIRST_BLOCK + block, block % shards)
  const claims = sharedMemory(externals.portWords.length * 4)
  const names = sharedMemory(externals.portWords.length * 4)
  const bound = sharedMemory(externals.portWords.length * 4)
  const state = new Int32Array(sharedMemory(STATE.words * 4))
  const counters = Array.from({ length: shards }, () => sharedMemory(bytesOf(counterBlock)))
  const begin = performance.now()
  const ends = counters.map((block, shard) => {
    const data: LeaseThread = {
      ...{ shard, shards, operations, seed: seed + shard, counters: block },
      ...{ externals: buffer, claims, names, bound, state: state.buffer as SharedArrayBuffer },
    }
    const worker = new Worker(fileURLToPath(new URL(compiled, import.meta.url)), { workerData: data })
    return new Promise<void>((resolve, reject) => {
      worker.once('error', reject)
      worker.once('exit', () => resolve())
    })
  })
  const sockets = new Sockets(externals, new Int32Array(bound), state)
  const moves = await Promise.race([moveBlocks(externals, state, shards, sockets), failure(ends)])
  const misbound = sockets.misbound()
  sockets.closeAll()
  // Leases stand still now: each shard looks at them once more, and at what it counts of its blocks.
  Atomics.store(state, STATE.quiet, 1)
  Atomics.notify(state, STATE.quiet)
  await Promise.all(ends)
  const used = counters.flatMap((block) => {
    const cells = counterBlock(new Region(block))
    return Array.from({ length: SPACES }, (_, space) => cells[CELL.portsUsed + space]!)
  })
  return {
    operations: Atomics.load(state, STATE.done),
    ...moves,
    violations: Atomics.load(state, STATE.violations),
    lost: externals.portWords.filter((word) => isTaken(word)).length,
    unlisted: Atomics.load(state, STATE.unlisted),
    miscounted: used.filter((count) => count !== 0).length,
    misbound,
    sockets: sockets.opened,
    seconds: (performance.now() - begin) / 1000,
  }
}

/** The host's sockets: opened and closed at random, on ports that NAT has, too. */
class Sockets {
  opened = 0
  readonly #externals: Externals
  readonly #bound: Int32Array
  readonly #state: Int32Array

  constructor(externals: Externals, bound: Int32Array, state: Int32Array) {
    this.#externals = externals
    this.#bound = bound
    this.#state = state
  }

  /** Opens or closes a socket. The word says it before a thread may hold that against anybody, and after. */
  change(random: number): void {
    const space = random % SPACES
    const port = FIRST_BLOCK * OPTIONS.blockSize + ((random >>> 2) % (BLOCKS * OPTIONS.blockSize))
    const at = this.#externals.portIndex(0, space, port)
    const tick = Atomics.add(this.#state, STATE.tick, 1) + 1
    if (this.#bound[at] !== 0) {
      Atomics.store(this.#bound, at, 0)
      this.#externals.setHostBound(0, space, port, false)
    } else {
      this.#externals.setHostBound(0, space, port, true)
      Atomics.store(this.#bound, at, tick)
      this.opened++
    }
  }

  misbound(): number {
    return this.#externals.portWords.filter((word, at) => isHostBound(word) !== (this.#bound[at] !== 0)).length
  }

  closeAll(): void {
    for (const [at, since] of this.#bound.entries())
      if (since !== 0) this.#externals.setHostBound(0, Math.floor(at / PORTS), at % PORTS, false)
  }
}

/** Never, unless a thread fails. */
const failure = (ends: readonly Promise<void>[]): Promise<never> =>
  new Promise((_, reject) => {
    for (const end of ends) end.catch(reject)
  })

/** As the coordinator does (block-leases.ts), and without being asked besides; ends with the threads' operations. */
async function moveBlocks(externals: Externals, state: Int32Array, shards: number, sockets: Sockets) {
  let moved = 0
  let refused = 0
  for (let turn = 0; Atomics.load(state, STATE.ended) < shards; turn++) {
    for (const { shard, entry, space } of externals.requests()) {
      const granted = moveFreeBlock(externals, entry, space, shard)
      if (granted) moved++
      externals.answer(shard, entry, space, granted)
    }
    const space = turn % SPACES
    if (moveFreeBlock(externals, 0, space, turn % shards)) moved++
    // Home, or to anybody else: also blocks with ports in use, which stay.
    const block = FIRST_BLOCK + ((turn * 7) % BLOCKS)
    if (externals.takeBack(0, space, block)) {
      externals.lease(0, space, block, (block + (turn >> 3)) % shards)
      moved++
    } else refused++
    for (let i = 0; i < SOCKETS_A_TURN; i++) sockets.change(Math.imul(turn * SOCKETS_A_TURN + i + 1, 0x9e3779b1) >>> 8)
    await new Promise((resolve) => setImmediate(resolve))
  }
  return { moved, refused }
}
