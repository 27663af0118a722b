// What has been done and must be undone, the newest first. Each step of the start pushes its undoing as soon as it has
// taken effect, so that a start that fails half-way, a stop and a failure all end in the same way.
//
// Each undoing has a deadline, so that the whole has one: a thread that can't be ended, or a client that doesn't read
// its answer, doesn't keep the host's rules from being taken back. The deadline ends the waiting, not the undoing
// itself. What threads use is not freed while one may still run: the end of the process does that.

export interface Problem {
  /** What could not be undone. */
  readonly what: string
  readonly error: unknown
  /** Its deadline has passed: it may still be under way, and so may a thread that it was to end. */
  readonly late: boolean
}

export interface UndoOptions {
  /** The deadline, from when it begins. */
  readonly withinMs?: number
  /** It frees memory or descriptors that threads use: passed over if an undoing before it was late. */
  readonly frees?: boolean
}

interface Step extends Required<UndoOptions> {
  readonly what: string
  readonly undo: () => unknown
}

const WITHIN_MS = 3000

export class UndoStack {
  readonly #steps: Step[] = []

  /** `undo` may return a promise. */
  push(what: string, undo: () => unknown, { withinMs = WITHIN_MS, frees = false }: UndoOptions = {}): void {
    this.#steps.push({ what, undo, withinMs, frees })
  }

  /**
   * Undoes every step, the newest first, and empties the stack. A step that fails or is late doesn't keep older ones
   * from it.
   */
  async unwind(): Promise<Problem[]> {
    const problems: Problem[] = []
    for (let step = this.#steps.pop(); step; step = this.#steps.pop()) {
      const { what, frees } = step
      if (frees && problems.some(({ late }) => late)) continue
      try {
        if (await isDone(step)) continue
        const error = new Error(`not done within ${step.withinMs / 1000} s, going on without it`)
        problems.push({ what, error, late: true })
      } catch (error) {
        problems.push({ what, error, late: false })
      }
    }
    return problems
  }
}

/** False if its deadline passes first. */
async function isDone({ undo, withinMs }: Step): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(resolve, withinMs, false)
  })
  try {
    return await Promise.race([Promise.resolve(undo()).then(() => true), late])
  } finally {
    clearTimeout(timer)
  }
}
