// Crashes shards of a gateway that knows nothing of it. `node --import` loads this module before natloom, in each of
// its threads, and it throws out of an Atomics operation of a shard's or the dispatcher's thread. By Atomics a shard
// publishes words of ports, rows, rings, orders and sleepers, so a crash leaves something half done. A seed decides
// which thread crashes, when, and at which operation. The crash points that the code itself names (`#faults`) are
// finer; bench/kill.ts says which of the two is used.

import { isMainThread, threadId } from 'node:worker_threads'

/** The environment variable that has Crashes as JSON. natloom ignores variables of the lab. */
export const CRASHES = 'NATLOOM_LAB_CRASHES'

export interface Crashes {
  readonly seed: number
  /** Between two crashes of one shard, on average. */
  readonly everyMs: number
  /** How long after its start a thread doesn't crash. */
  readonly calmMs: number
}

const OPERATIONS = ['load', 'store', 'add', 'exchange', 'compareExchange'] as const
/** The most operations of the drawn kind that pass before the one that crashes. */
const DEEPEST = 64
/** If the drawn operation does not come within this time, any other one crashes. */
const PATIENCE_MS = 300

/** Shards and dispatcher are threads of piscina. The watcher is not, and its crash would end the gateway. */
const isShard = (): boolean => !isMainThread && /piscina/.test(process.argv[1] ?? '')

/** Random numbers in [0, 1) from a seed, by Mulberry32. */
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
