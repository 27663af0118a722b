// A start that can be given up while it is under way. What it waits for (a helper's module, a thread's first report, a
// shard's first turn) may take its whole time limit, or depend on code that isn't natloom's; somebody who asks the
// gateway to stop doesn't wait for that. Nothing is undone before the start has ended, because a step that is still
// under way would do anew what has just been undone.

import { GatewayError } from './errors.ts'

export class StoppableStart {
  #giveUp: (reason: GatewayError) => void = () => {}
  /** Rejects when the start is given up. */
  readonly #givenUp: Promise<never>
  #steps: Promise<void> = Promise.resolve()

  constructor() {
    this.#givenUp = new Promise((_, reject) => {
      this.#giveUp = reject
    })
    // Rejected after the start has ended, it is nobody's: that must not end the process.
    this.#givenUp.catch(() => {})
  }

  /** Takes the steps of the start. Rejects with what a step throws, or with GATEWAY_STOPPED. */
  run(steps: () => Promise<void>): Promise<void> {
    this.#steps = steps().then(() => this.unlessStopped(Promise.resolve()))
    return this.#steps
  }

  /** What a step resolves with. Throws GatewayError GATEWAY_STOPPED as soon as the start is given up. */
  unlessStopped<T>(step: Promise<T>): Promise<T> {
    return Promise.race([this.#givenUp, step])
  }

  /** Gives up what is under way, and resolves once no step is. */
  async giveUp(): Promise<void> {
    this.#giveUp(new GatewayError('GATEWAY_STOPPED', 'stopped before it had started'))
    await this.#steps.catch(() => {})
  }
}
