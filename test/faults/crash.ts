// What `#faults` is under `node --conditions=natloom-faults`: worker threads that crash, in one way or another, at the
// points that the code names (fault-points.ts in each layer). It does so as the environment says:
//
//   NATLOOM_FAULTS=seed=1,every=5000,kinds=throw|exit|overflow
//
//   seed     decides, with the thread's number, when and how; default 1
//   every    points that a thread passes before it crashes, on average: 1 to twice as many less one, all alike
//   kinds    throw: an exception; exit: process.exit(); overflow: of the stack. Default: all three
// Without the variable nothing crashes, and the main thread never does. Owner: each thread its own countdown.

import { isMainThread, threadId } from 'node:worker_threads'

const overflow = (depth: number): number => 1 + overflow(depth + 1)

const KINDS: Readonly<Record<string, (point: string) => void>> = {
  throw: (point) => {
    throw new Error(`crashed as ordered: ${point}`)
  },
  exit: () => process.exit(9),
  overflow: () => void overflow(0),
}

interface Orders {
  readonly seed: number
  readonly every: number
  readonly kinds: readonly string[]
}

/** Throws RangeError: a misspelt order must not look like a gateway that survives everything. */
export function ordersOf(text: string): Orders {
  const said = new Map(text.split(',').map((part) => part.split('=', 2) as [string, string | undefined]))
  const unknown = [...said.keys()].filter((key) => !['seed', 'every', 'kinds'].includes(key))
  const seed = Number(said.get('seed') ?? 1)
  const every = Number(said.get('every'))
  const kinds = said.get('kinds')?.split('|') ?? Object.keys(KINDS)
  if (unknown.length > 0 || !Number.isInteger(seed) || !(every >= 1) || kinds.some((kind) => !(kind in KINDS)))
    throw new RangeError(`NATLOOM_FAULTS=${text}, allowed: seed=1,every=5000,kinds=${Object.keys(KINDS).join('|')}`)
  return { seed, every, kinds }
}

/** Mixes a word into another in 0 .. 2^32 - 1 (MurmurHash3's finaliser). */
function mixed(seed: number): number {
  let word = Math.imul(seed ^ (seed >>> 16), 0x85ebca6b)
  word = Math.imul(word ^ (word >>> 13), 0xc2b2ae35)
  return (word ^ (word >>> 16)) >>> 0
}

const text = process.env.NATLOOM_FAULTS
const orders = isMainThread || text === undefined ? undefined : ordersOf(text)
export const isToCrash: boolean = orders !== undefined
const draw = orders ? mixed(Math.imul(orders.seed, 0x9e3779b1) + threadId) : 0
/** Points to pass before the crash. */
let left = orders ? Math.floor((draw / 2 ** 32) * (2 * orders.every - 1)) : Number.POSITIVE_INFINITY

export function faultPoint(point: string): void {
  if (left-- > 0 || !orders) return
  // Whatever may still run in a thread that has crashed doesn't crash once more.
  left = Number.POSITIVE_INFINITY
  KINDS[orders.kinds[draw % orders.kinds.length]!]!(point)
}
