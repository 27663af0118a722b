// Port forwards as the configuration's key `forward` writes them: `{ proto: tcp, from: :21, to: 10.0.0.5:21 }`. Reads
// them into numbers, writes them for people, and finds which can't stand together. What a port forward does to a packet
// is in nat/port-forwards.shard.ts. `:21` stands for that port of every external address, whichever there are.

import type { PortRange } from '../host/port-range.ts'
import type { PortForward } from '../nat/port-forward-rules.ts'
import { type Addr, formatAddress, parseAddress } from '../wire/address.ts'
import { PROTO_TCP, PROTO_UDP } from '../wire/ipv4.ts'
import { poolAddresses } from './address-range.ts'

export interface PortForwardConfig {
  readonly proto: 'tcp' | 'udp'
  /** `:PORT` for every external address, or `ADDRESS:PORT` for one. */
  readonly from: string
  /** `ADDRESS:PORT` of a server inside. */
  readonly to: string
}

const PROTOCOLS = { tcp: PROTO_TCP, udp: PROTO_UDP } as const
const ENDPOINT = /^([^:]*):([1-9][0-9]{0,4})$/
const HIGHEST_PORT = 65535

/** Address as loaded, null if the text has none; port numeric. Throws RangeError. */
export function parseEndpoint(text: string): { address: number | null; port: number } {
  const [, address = '', port = ''] = ENDPOINT.exec(text) ?? []
  if (port === '' || Number(port) > HIGHEST_PORT) throw new RangeError(`"${text}" is no address:port`)
  return { address: address === '' ? null : parseAddress(address), port: Number(port) }
}

/** Throws RangeError for a port forward that the configuration's schema refuses. */
export function parsePortForward({ proto, from, to }: PortForwardConfig): PortForward {
  const external = parseEndpoint(from)
  const { address: toAddress, port: toPort } = parseEndpoint(to)
  if (toAddress === null) throw new RangeError(`"${to}" names no server`)
  return { protocol: PROTOCOLS[proto], ...external, toAddress, toPort }
}

export const portForwardText = ({ protocol, address, port, toAddress, toPort }: PortForward): string => {
  const external = address === null ? '' : formatAddress(address)
  return `${protocol === PROTOCOLS.tcp ? 'tcp' : 'udp'} ${external}:${port} -> ${formatAddress(toAddress)}:${toPort}`
}

/**
 * Why port forwards, each of them valid by itself, can't stand together or with the external addresses. The text reads
 * on after "allowed: ". Undefined if they can.
 */
export function faultOfPortForwards(
  portForwards: readonly PortForwardConfig[],
  pool: readonly string[],
  natPorts: PortRange,
): string | undefined {
  const parsed = portForwards.map(parsePortForward)
  const addresses = poolAddresses(pool)
  for (const [i, portForward] of parsed.entries()) {
    const twin = parsed.slice(0, i).find((other) => overlap(other, portForward))
    if (twin)
      return `each external port once, but ${portForwardText(twin)} and ${portForwardText(portForward)} have the same`
    const fault = addresses.length > 0 ? faultInPool(portForward, addresses) : faultOfShared(portForward, natPorts)
    if (fault) return fault
  }
  return undefined
}

const overlap = (a: PortForward, b: PortForward): boolean =>
  a.protocol === b.protocol &&
  a.port === b.port &&
  (a.address === null || b.address === null || a.address === b.address)

function faultInPool(portForward: PortForward, pool: readonly Addr[]): string | undefined {
  if (portForward.address === null || pool.includes(portForward.address)) return undefined
  return `addresses of nat.pool, which ${portForwardText(portForward)} has not`
}

/** On a shared address the ports from nat.ports on are NAT's and, above those, the host's own connections'. */
function faultOfShared(portForward: PortForward, { from, to }: PortRange): string | undefined {
  if (portForward.port < from) return undefined
  const whose = portForward.port <= to ? `nat.ports (${from}-${to})` : "the host's own, which lie above nat.ports"
  const wrong = `${portForwardText(portForward)} is one of ${whose}`
  return `ports below nat.ports.from (${from}) of an address shared with the host; ${wrong}`
}
