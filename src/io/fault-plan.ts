// What a bad path does to packets, for tests and the lab: how often it loses, duplicates and reorders them, how long it
// delays them, and what that means for each single frame. What happens to a frame follows from the seed and from how
// many frames came before it by the same port in the same direction, so a run with the same frames is the same run.
// faulty.ts carries it out.

/** Probabilities for each frame, from 0 to 1. A frame that is lost is neither duplicated nor reordered. */
export interface Faults {
  readonly loss: number
  readonly duplicate: number
  readonly reorder: number
  /** How many frames of the same port overtake one that is reordered, 1 to 1000. */
  readonly by: number
  /** Milliseconds that each frame is under way, and as many more at most, by chance: 0 to 60000. */
  readonly delay: number
  readonly jitter: number
}

export interface FaultPlan {
  readonly seed: number
  /** By port; undefined: nothing happens to its frames. */
  readonly receive: readonly (Faults | undefined)[]
  readonly send: readonly (Faults | undefined)[]
}

class FaultPlanError extends Error {
  override readonly name = 'FaultPlanError'
  readonly code = 'FAULT_PLAN'
  readonly exitCode = 2
}

const MOST_PORTS = 256
const DEFAULT_BY = 3
const LONGEST_DELAY = 60_000

/**
 * Reads `loss=0.02,duplicate=0.02,reorder=0.05,by=3,delay=100,jitter=20,seed=7,on=receive`, a plan for all ports.
 * Defaults: probabilities and times of 0, `by` 3, `seed` 1, `on` receive (or send, or both). With `port=0` it is for
 * that port (those of inside interfaces come first); such plans stand behind each other with `;` between, and a later
 * one holds where two are for the same: `delay=400;delay=20,port=1`. The seed is the first one's. Throws
 * FaultPlanError.
 */
export function parseFaults(text: string): FaultPlan {
  const plans = text.split(';').map(parsePlan)
  const receive: (Faults | undefined)[] = []
  const send: (Faults | undefined)[] = []
  for (const { faults, on, port } of plans) {
    const [from, to] = port === undefined ? [0, MOST_PORTS] : [port, port + 1]
    for (let i = from; i < to; i++) {
      if (on !== 'send') receive[i] = faults
      if (on !== 'receive') send[i] = faults
    }
  }
  return { seed: plans[0]!.seed, receive, send }
}

interface Plan {
  readonly faults: Faults
  readonly on: string
  readonly port: number | undefined
  readonly seed: number
}

function parsePlan(text: string): Plan {
  const given = new Map<string, string>()
  for (const part of text.split(',').map((each) => each.trim())) {
    const [name, value, ...more] = part.split('=')
    if (!name || value === undefined || more.length > 0)
      throw new FaultPlanError(`faults ${JSON.stringify(text)}: ${JSON.stringify(part)} is no NAME=VALUE`)
    given.set(name, value)
  }
  const take = (name: string, or: number, least: number, most: number): number => {
    const value = given.has(name) ? Number(given.get(name)) : or
    given.delete(name)
    if (!(value >= least && value <= most))
      throw new FaultPlanError(`faults ${JSON.stringify(text)}: ${name} is a number from ${least} to ${most}`)
    return value
  }
  const faults: Faults = {
    loss: take('loss', 0, 0, 1),
    duplicate: take('duplicate', 0, 0, 1),
    reorder: take('reorder', 0, 0, 1),
    by: take('by', DEFAULT_BY, 1, 1000),
    delay: take('delay', 0, 0, LONGEST_DELAY),
    jitter: take('jitter', 0, 0, LONGEST_DELAY),
  }
  const port = given.has('port') ? take('port', 0, 0, MOST_PORTS - 1) : undefined
  const seed = take('seed', 1, 0, 2 ** 32 - 1)
  const on = given.get('on') ?? 'receive'
  given.delete('on')
  if (!['receive', 'send', 'both'].includes(on))
    throw new FaultPlanError(`faults ${JSON.stringify(text)}: on is receive, send or both`)
  if (given.size > 0)
    throw new FaultPlanError(
      `faults ${JSON.stringify(text)}: there is no ${[...given.keys()].join(', ')}, ` +
        'but loss, duplicate, reorder, by, delay, jitter, seed, on, port',
    )
  return { faults, on, port, seed }
}

/** What happens to a frame. */
const PASS = 0
export const LOSE = 1
export const DUPLICATE = 2
export const REORDER = 3

/**
 * Decides what happens to each frame of one port and direction, by random numbers of its own (a Weyl sequence, mixed as
 * in MurmurHash3).
 */
export class Decider {
  readonly #faults: Faults
  #state: number

  constructor(faults: Faults, seed: number) {
    this.#faults = faults
    this.#state = seed | 0
  }

  get by(): number {
    return this.#faults.by
  }

  /** What happens to the next frame. */
  next(): number {
    // Three numbers for each frame, so that another probability of loss doesn't change what happens to later frames.
    const isLost = this.#random() < this.#faults.loss
    const isDuplicated = this.#random() < this.#faults.duplicate
    const isReordered = this.#random() < this.#faults.reorder
    return isLost ? LOSE : isReordered ? REORDER : isDuplicated ? DUPLICATE : PASS
  }

  get isDelayed(): boolean {
    return this.#faults.delay + this.#faults.jitter > 0
  }

  /** Milliseconds that the next frame is under way. */
  nextDelay(): number {
    return this.#faults.delay + (this.#faults.jitter === 0 ? 0 : this.#random() * this.#faults.jitter)
  }

  #random(): number {
    this.#state = (this.#state + 0x9e3779b9) | 0
    let mixed = this.#state
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b)
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
    return ((mixed ^ (mixed >>> 16)) >>> 0) / 2 ** 32
  }
}
