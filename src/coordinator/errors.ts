// What keeps a gateway from starting, apart from what the host (host/errors.ts), the packet sockets (io/errors.ts),
// helpers and threads refuse. None has an exit code of its own, so control/errors.ts counts it as "the host lacks
// something".

import type { HostErrorCode } from '../host/errors.ts'

export type GatewayErrorCode =
  /** The machine is big-endian. */
  | 'GATEWAY_BYTE_ORDER'
  /** The kernel's own NAT may give out the same ports of the same address. */
  | 'GATEWAY_KERNEL_NAT'
  /** The host listens on a port that is to be forwarded. */
  | 'GATEWAY_FORWARD'
  /** There is no address space for shared memory. */
  | 'GATEWAY_MEMORY'
  /** It was stopped while it started. */
  | 'GATEWAY_STOPPED'

export class GatewayError extends Error {
  override readonly name = 'GatewayError'
  readonly code: GatewayErrorCode | HostErrorCode
  constructor(code: GatewayErrorCode | HostErrorCode, message: string) {
    super(message)
    this.code = code
  }
}
