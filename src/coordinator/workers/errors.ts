// Why a gateway ends: one of its threads did not begin to work in time, ended before it did, or failed once too often.

/** The exit code after a failure while running: `gatewayFailed` in control/exit-codes.ts. */
export const EXIT_GATEWAY_FAILED = 4

export class ThreadError extends Error {
  override readonly name = 'ThreadError'
  readonly code = 'GATEWAY_THREAD'
  readonly exitCode = EXIT_GATEWAY_FAILED
}
