// What has been done and must be undone, the newest first. Each step of the start pushes its undoing as soon as it has
// taken effect, so that a start that fails half-way, a stop and a failure all end in the same way.

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

  /** `undo` may return a promise. */
  push(what: string, undo: () => unknown): void {
    this.#steps.push({ what, undo })
  }

  /** Undoes every step, the newest first, and empties the stack. A step that fails doesn't keep older ones from it. */
  async unwind(): Promise<Problem[]> {
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
