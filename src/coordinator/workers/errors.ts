// Why a gateway ends: one of its threads did not begin to work in time, ended before it did, or failed once too often.

/** The exit code after a failure while running: `gatewayFailed` in control/exit-codes.ts. */
export const EXIT_GATEWAY_FAILED = 4
/** If the configuration must change before the gateway can start: `configuration` there. */
export const EXIT_CONFIGURATION = 2

export class ThreadError extends Error {
  override readonly name = 'ThreadError'
  readonly code = 'GATEWAY_THREAD'
  readonly exitCode: number
  constructor(message: string, exitCode: number = EXIT_GATEWAY_FAILED) {
    super(message)
    this.exitCode = exitCode
  }
}
