// Why a gateway can't start, beyond what host/, io/ and metrics/ say themselves. Control plane only; the message says
// what is wrong, where, and what to do. control/errors.ts makes exit codes of them.

/** The exit code after a failure while running: `gatewayFailed` in control/exit-codes.ts. */
export const EXIT_GATEWAY_FAILED = 4

export type GatewayErrorCode =
  /** The machine's byte order is the other one. */
  | 'GATEWAY_BYTE_ORDER'
  /** The kernel's own NAT gives out the same ports of the same address. */
  | 'GATEWAY_KERNEL_NAT'
  /** The host listens on a port that is to be forwarded. */
  | 'GATEWAY_FORWARD'
  /** A thread did not begin to work in time, or ended before it did. */
  | 'GATEWAY_THREAD'

export class GatewayError extends Error {
  override readonly name = 'GatewayError'
  readonly code: GatewayErrorCode
  /** Undefined: the host lacks something, as control/errors.ts takes it. */
  readonly exitCode: number | undefined
  constructor(code: GatewayErrorCode, message: string) {
    super(message)
    this.code = code
    this.exitCode = code === 'GATEWAY_THREAD' ? EXIT_GATEWAY_FAILED : undefined
  }
}

export type HelperErrorCode =
  /** It can't be imported, or what it exports is no helper. */
  | 'HELPER_MODULE'
  /** There is one of its name. */
  | 'HELPER_EXISTS'
  /** There is none of that name. */
  | 'HELPER_UNKNOWN'
  /** A shard could not load it. */
  | 'HELPER_SHARD'
  /** There are too many. */
  | 'HELPER_LIMIT'

export class HelperError extends Error {
  override readonly name = 'HelperError'
  readonly code: HelperErrorCode
  /** `configuration` in control/exit-codes.ts: starting again changes nothing. */
  readonly exitCode = 2
  constructor(code: HelperErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
