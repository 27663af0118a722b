// Crashes shards of a gateway that knows nothing of it: loaded before natloom by `node --import`, hence in each of its
// threads, it throws out of an Atomics operation of a shard's or the dispatcher's thread. Those are the points where a
// shard publishes: the words of ports, rows, rings, orders and sleepers; so a crash leaves one half of something behind.
// Which thread crashes when, at which operation and at its how manieth, is drawn from a seed. (The crash points that the
// code itself names, `#faults`, are finer; which of the two is in use says bench/kill.ts.)

import { isMainThread, threadId } from 'node:worker_threads'

/** In the environment as JSON; the name is one that natloom leaves to others. */
export const CRASHES = 'NATLOOM_LAB_CRASHES'

export interface Crashes {
  readonly seed: number
  /** Between two crashes of one shard, on average. */
  readonly everyMs: number
  /** From a thread's start: so long none crashes that the gateway began with. */
  readonly calmMs: number
}

const OPERATIONS = ['load', 'store', 'add', 'exchange', 'compareExchange'] as const
/** At most so many of the drawn operation pass first. */
const DEEPEST = 64
/** The operation that was drawn may never come: after this long, any does. */
const PATIENCE_MS = 300

/** The entry file of piscina's threads; the watcher has its own, and its end is the gateway's. */
const isShard = (): boolean => !isMainThread && /piscina/.test(process.argv[1] ?? '')

/** Mulberry32: numbers in [0, 1) that a seed decides. */
function numbers(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

function arm({ seed, everyMs, calmMs }: Crashes): void {
  const draw = numbers(seed + threadId * 7919)
  const operation = OPERATIONS[Math.floor(draw() * OPERATIONS.length)] as (typeof OPERATIONS)[number]
  let passing = Math.floor(draw() * DEEPEST)
  const begin = performance.now()
  const due = begin + calmMs + everyMs * (0.5 + draw())
  for (const name of OPERATIONS) {
    const original = Atomics[name] as (...args: unknown[]) => unknown
    const wrapped = (...args: unknown[]): unknown => {
      const late = performance.now() - due
      if (late >= 0 && (late > PATIENCE_MS || (name === operation && passing-- === 0))) {
        Object.assign(Atomics, { [name]: original })
        throw new Error(`crashed at Atomics.${name}`)
      }
      return original.apply(Atomics, args)
    }
    Object.assign(Atomics, { [name]: wrapped })
  }
}

const wanted = process.env[CRASHES]
if (wanted !== undefined && isShard()) arm(JSON.parse(wanted) as Crashes)
