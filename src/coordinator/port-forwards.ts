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
 * Why port forwards, each of them valid by itself, can't stand together or with the external addresses, and what to do.
 * Undefined if they can.
 */
export function faultOfPortForwards(
  portForwards: readonly PortForwardConfig[],
  pool: readonly string[],
  natPorts: PortRange,
): string | undefined {
  const addresses = new Set(poolAddresses(pool))
  const parsed = portForwards.map(parsePortForward)
  const twins = twinsOf(parsed)
  if (twins) {
    const [one, other] = twins.map(portForwardText)
    return `${one} and ${other} have the same external port; forward another one, or leave one of them out`
  }
  for (const portForward of parsed) {
    const fault = addresses.size > 0 ? faultInPool(portForward, addresses, pool) : faultOfShared(portForward, natPorts)
    if (fault) return `${portForwardText(portForward)} ${fault}`
  }
  return undefined
}

/** The first two that have an external port in common. */
function twinsOf(portForwards: readonly PortForward[]): [PortForward, PortForward] | undefined {
  const byPort = new Map<string, PortForward[]>()
  for (const portForward of portForwards) {
    const { protocol, port, address } = portForward
    const others = byPort.get(`${protocol} ${port}`) ?? []
    const twin = others.find((other) => other.address === null || address === null || other.address === address)
    if (twin) return [twin, portForward]
    byPort.set(`${protocol} ${port}`, [...others, portForward])
  }
  return undefined
}

function faultInPool({ address, port, toAddress }: PortForward, addresses: ReadonlySet<Addr>, pool: readonly string[]) {
  const list = pool.join(', ')
  if (address !== null && !addresses.has(address))
    return `has no address of nat.pool (${list}); name one of them, or :${port} for all`
  if (addresses.has(toAddress))
    return `leads to an address of nat.pool (${list}); name the server by its address inside`
  return undefined
}

/** On a shared address the ports from nat.ports on are NAT's and, above those, the host's own connections'. */
function faultOfShared({ address, port, toAddress }: PortForward, { from, to }: PortRange): string | undefined {
  if (address === toAddress) return 'leads to where it comes from; name the server by its address inside'
  if (port < from) return undefined
  const whose = port <= to ? `nat.ports (${from}-${to})` : "the ports of the host's own connections, above nat.ports"
  return `has one of ${whose}; forward a port below nat.ports.from (${from})`
}
