// Forwards as a configuration writes them: `{ proto: tcp, from: :21, to: 10.0.0.5:21 }`. Text in, numbers out; what they
// mean is nat/port-forwards.shard.ts. Nothing here knows which external addresses there are: `:21` stands for all of them.

import type { PortRange } from '../host/port-range.ts'
import type { PortForward } from '../nat/port-forwards.shard.ts'
import { formatAddress, parseAddress } from '../wire/address.ts'
import { poolAddresses } from './address-range.ts'

export interface ForwardConfig {
  readonly proto: 'tcp' | 'udp'
  /** `:PORT` of every external address, or `ADDRESS:PORT` of one. */
  readonly from: string
  /** `ADDRESS:PORT` of a server inside. */
  readonly to: string
}

const PROTOCOLS = { tcp: 6, udp: 17 } as const
const ENDPOINT = /^([^:]*):([1-9][0-9]{0,4})$/
const HIGHEST_PORT = 65535

/** Address as loaded, null if there is none; port numeric. @throws RangeError */
export function parseEndpoint(text: string): { address: number | null; port: number } {
  const [, address = '', port = ''] = ENDPOINT.exec(text) ?? []
  if (port === '' || Number(port) > HIGHEST_PORT) throw new RangeError(`"${text}" is no address:port`)
  return { address: address === '' ? null : parseAddress(address), port: Number(port) }
}

/** @throws RangeError for what the configuration's schema would have refused. */
export function parseForward({ proto, from, to }: ForwardConfig): PortForward {
  const external = parseEndpoint(from)
  const { address: toAddress, port: toPort } = parseEndpoint(to)
  if (toAddress === null) throw new RangeError(`"${to}" names no server`)
  return { protocol: PROTOCOLS[proto], ...external, toAddress, toPort }
}

export const forwardText = ({ protocol, address, port, toAddress, toPort }: PortForward): string => {
  const external = address === null ? '' : formatAddress(address)
  return `${protocol === PROTOCOLS.tcp ? 'tcp' : 'udp'} ${external}:${port} -> ${formatAddress(toAddress)}:${toPort}`
}

/** What is wrong with forwards that are right each by itself, as what would be allowed; undefined if nothing is. */
export function faultOfForwards(
  forwards: readonly ForwardConfig[],
  pool: readonly string[],
  natPorts: PortRange,
): string | undefined {
  const parsed = forwards.map(parseForward)
  const addresses = poolAddresses(pool)
  for (const [i, forward] of parsed.entries()) {
    const twin = parsed.slice(0, i).find((other) => overlap(other, forward))
    if (twin) return `each external port once, but ${forwardText(twin)} and ${forwardText(forward)} have the same`
    const fault = addresses.length > 0 ? faultInPool(forward, addresses) : faultOfShared(forward, natPorts)
    if (fault) return fault
  }
  return undefined
}

const overlap = (a: PortForward, b: PortForward): boolean =>
  a.protocol === b.protocol &&
  a.port === b.port &&
  (a.address === null || b.address === null || a.address === b.address)

function faultInPool(forward: PortForward, pool: readonly number[]): string | undefined {
  if (forward.address === null || pool.includes(forward.address)) return undefined
  return `addresses of nat.pool, which ${forwardText(forward)} has not`
}

/** The host's own connections have the ports above NAT's. */
function faultOfShared(forward: PortForward, { from, to }: PortRange): string | undefined {
  if (forward.port < from) return undefined
  const whose = forward.port <= to ? `nat.ports (${from}-${to})` : "the host's own, which lie above nat.ports"
  return `ports below nat.ports.from (${from}) of an address shared with the host; ${forwardText(forward)} is one of ${whose}`
}
