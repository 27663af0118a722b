// What `#faults` is in a test that crashes shards of its own: a throw, when the test says. It is to be mocked in:
// vi.mock('#faults', () => import('./armed.ts')).
// The state is on the global object, because a gateway in a test has a shard's modules anew at each start.

import type { FaultPoint } from './points.ts'

export class Crash extends Error {
  readonly point: FaultPoint

  constructor(point: FaultPoint) {
    super(`crashed as ordered: ${point}`)
    this.name = 'Crash'
    this.point = point
  }
}

interface Armed {
  /** Points to pass before the crash; none comes if it is infinite. */
  left: number
  /** Only this one counts, if there is one. */
  only: FaultPoint | undefined
  /** The point that it crashed at, until somebody asks. */
  crashedAt: FaultPoint | undefined
}

const ARMED = Symbol.for('natloom.faults')
const holder = globalThis as { [ARMED]?: Armed }
holder[ARMED] ??= { left: Number.POSITIVE_INFINITY, only: undefined, crashedAt: undefined }
const armed = holder[ARMED]

export function faultPoint(point: string): void {
  if (armed.only !== undefined && armed.only !== point) return
  if (armed.left-- > 0) return
  disarm()
  armed.crashedAt = point as FaultPoint
  throw new Crash(point as FaultPoint)
}

/** A crash comes after so many points, or after so many times that `only` this one was reached. */
export function arm(points: number, only?: FaultPoint): void {
  armed.left = points
  armed.only = only
}

export function disarm(): void {
  armed.left = Number.POSITIVE_INFINITY
  armed.only = undefined
}

/** Runs it; the point at which it crashed, if it did. */
export function crashOf(run: () => void): FaultPoint | undefined {
  armed.crashedAt = undefined
  try {
    run()
  } catch (error) {
    if (armed.crashedAt === undefined) throw error
  }
  return armed.crashedAt
}
