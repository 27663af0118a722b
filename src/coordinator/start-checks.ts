// What would make a gateway harmful or useless on this host, asked at the start before anything is changed. Each check
// throws GatewayError with what to do. Rights, tools and interfaces are checked by host/rights.ts and
// interfaces/links.ts.

import { endianness } from 'node:os'
import type { Host } from '../host/host.ts'
import { portsInUse } from '../host/sockets.ts'
import type { PortForward } from '../nat/port-forward-rules.ts'
import type { Addr } from '../wire/address.ts'
import type { GatewayConfig } from './config.ts'
import { portForwardText } from './port-forwards.ts'

type GatewayErrorCode =
  /** The machine is big-endian. */
  | 'GATEWAY_BYTE_ORDER'
  /** The kernel's own NAT may give out the same ports of the same address. */
  | 'GATEWAY_KERNEL_NAT'
  /** The host listens on a port that is to be forwarded. */
  | 'GATEWAY_FORWARD'
  /** It was stopped while it started. */
  | 'GATEWAY_STOPPED'

/** It has no exit code of its own, so control/errors.ts counts it as "the host lacks something". */
export class GatewayError extends Error {
  override readonly name = 'GatewayError'
  readonly code: GatewayErrorCode
  constructor(code: GatewayErrorCode, message: string) {
    super(message)
    this.code = code
  }
}

export const HIGHEST_PORT = 65535

/** Whether NAT shares the outside interface's own address with the host, because there is no pool. */
export const sharesAddress = ({ nat }: Pick<GatewayConfig, 'nat'>): boolean => nat.pool.length === 0

/** Words of packets are compared as loaded, which must be little-endian (wire/address.ts). */
export function checkByteOrder(): void {
  if (endianness() === 'LE') return
  throw new GatewayError('GATEWAY_BYTE_ORDER', 'this machine is big-endian: natloom runs on little-endian ones only')
}

/** The kernel's own source NAT may give out natloom's ports of an address that both share. */
export function refuseKernelNat(host: Host, config: GatewayConfig): void {
  const { outside, nat } = config
  if (!sharesAddress(config) || nat.sharedWithKernelNat) return
  const rules = host.kernelNat()
  if (rules.length === 0) return
  const { from, to } = nat.ports
  const list = rules.map(({ chain, handle, statement }) => `  ${chain}, handle ${handle}: ${statement}`)
  throw new GatewayError(
    'GATEWAY_KERNEL_NAT',
    [
      `the kernel itself translates what leaves by ${outside.join(', ')}, and may take ports ` +
        `${from}-${to}, which are natloom's:`,
      ...list,
      `give these rules other ports (masquerade to :${to + 1}-${HIGHEST_PORT}), remove them, or say ` +
        'nat.sharedWithKernelNat: true if they do no harm',
    ].join('\n'),
  )
}

/** A server of the host would never receive anything again on a shared address's port that is forwarded. */
export function refuseServedPorts(portForwards: readonly PortForward[], address: Addr | undefined): void {
  const served = portForwards.filter(hasSocket(portForwards, address === undefined ? [] : [address]))
  if (served.length === 0) return
  throw new GatewayError(
    'GATEWAY_FORWARD',
    [
      'the host itself has sockets on ports that are to be forwarded:',
      ...served.map((portForward) => `  ${portForwardText(portForward)}`),
      'stop that server or bind it to an inside address, or forward another port',
    ].join('\n'),
  )
}

/** Asks the kernel once for each protocol, not for each port. */
function hasSocket(portForwards: readonly PortForward[], addresses: readonly Addr[]): (of: PortForward) => boolean {
  const inUse = new Map<number, ReadonlySet<number>>()
  for (const protocol of new Set(portForwards.map(({ protocol }) => protocol))) {
    const ports = portForwards.filter((each) => each.protocol === protocol).map(({ port }) => port)
    const range = { from: Math.min(...ports), to: Math.max(...ports) }
    inUse.set(protocol, portsInUse(addresses, range, [protocol]))
  }
  return ({ protocol, port }) => inUse.get(protocol)!.has(port)
}
