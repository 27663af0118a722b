// What has been done and must be undone, in reverse order. Each step of the start leaves its undoing here as soon as it
// has taken effect, so that a start that fails half-way, a stop and a failure all end in the same way.

export interface Problem {
  /** What could not be undone. */
  readonly what: string
  readonly error: unknown
}

interface Step {
  readonly what: string
  readonly undo: () => unknown
}

export class UndoStack {
  readonly #steps: Step[] = []

  add(what: string, undo: () => unknown): void {
    this.#steps.push({ what, undo })
  }

  /** Undoes everything, the newest first; a step that fails doesn't keep those below it from being undone. */
  async run(): Promise<Problem[]> {
    const problems: Problem[] = []
    for (let step = this.#steps.pop(); step; step = this.#steps.pop()) {
      try {
        await step.undo()
      } catch (error) {
        problems.push({ what: step.what, error })
      }
    }
    return problems
  }
}
