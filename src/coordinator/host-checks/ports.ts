// Checks of ports: those that NAT takes of an address that it shares with the host, and those that are forwarded.

import type { HostFacts } from '../../host/facts.ts'
import type { PortForward } from '../../nat/port-forward-rules.ts'
import { ROUTE } from '../../routing/fib.ts'
import { type Addr, formatAddress } from '../../wire/address.ts'
import { PROTO_TCP, PROTO_UDP } from '../../wire/ipv4.ts'
import { type GatewayConfig, hostPortRange, sharesAddress } from '../config.ts'
import { firstAddress } from '../interfaces/links.ts'
import { parsePortForward, portForwardText } from '../port-forwards.ts'
import { error, type HostCheck, warning } from './finding.ts'

const PROTOCOLS = [
  ['TCP', PROTO_TCP],
  ['UDP', PROTO_UDP],
] as const
/** Of many ports, so many are named. */
const NAMED = 8

/** The outside address that NAT shares with the host, as far as there is one: none, or one. */
function sharedAddresses({ inside }: GatewayConfig, host: HostFacts): readonly Addr[] {
  const address = firstAddress(host.links().slice(inside.length))
  return address === undefined ? [] : [address]
}

/** The host's own sockets keep their ports: NAT gives none of those to anybody. */
export const socketsInNatPorts: HostCheck = (config, host) => {
  if (!sharesAddress(config)) return []
  const { ports } = config.nat
  const addresses = sharedAddresses(config, host)
  return PROTOCOLS.flatMap(([name, protocol]) => {
    const taken = [...host.portsInUse(addresses, ports, protocol)].sort((a, b) => a - b)
    if (taken.length === 0) return []
    const list = taken.slice(0, NAMED).join(', ') + (taken.length > NAMED ? ' ...' : '')
    return [
      warning(
        `the host has sockets on ${taken.length} ${name} ports of nat.ports (${ports.from}-${ports.to}), which NAT ` +
          `leaves out: ${list}`,
        `see whose they are by ss -n${name === 'TCP' ? 't' : 'u'}ap, and move servers to ports below ${ports.from}`,
      ),
    ]
  })
}

/** While it runs, natloom moves the host's ephemeral ports out of NAT's. */
export const portRange: HostCheck = (config, host) => {
  const wanted = hostPortRange(config)
  const { from, to } = host.portRange()
  if (wanted === null || (from === wanted.from && to === wanted.to) || host.mayWritePortRange()) return []
  return [
    error(
      'HOST_SYSCTL',
      `net.ipv4.ip_local_port_range is ${from}-${to} and can't be changed from here`,
      `set it from outside before the start (sysctl -w net.ipv4.ip_local_port_range="${wanted.from} ${wanted.to}"), ` +
        'or mount /proc/sys writable',
    ),
  ]
}

/** A server of the host would never receive anything again on a shared address's port that is forwarded. */
export const servedForwards: HostCheck = (config, host) => {
  if (!sharesAddress(config)) return []
  const addresses = sharedAddresses(config, host)
  const portForwards = config.forward.map(parsePortForward)
  const served = PROTOCOLS.flatMap(([, protocol]) => {
    const those = portForwards.filter((portForward) => portForward.protocol === protocol)
    if (those.length === 0) return []
    // One question for all of them: a host with thousands of port forwards would start for a minute otherwise.
    const ports = those.map(({ port }) => port)
    const taken = host.portsInUse(addresses, { from: Math.min(...ports), to: Math.max(...ports) }, protocol)
    return those.filter(({ port }) => taken.has(port))
  })
  if (served.length === 0) return []
  return [
    error(
      'GATEWAY_FORWARD',
      [
        'the host itself has sockets on ports that are to be forwarded:',
        ...served.map((portForward) => `  ${portForwardText(portForward)}`),
      ].join('\n'),
      'stop that server or bind it to an inside address, or forward another port',
    ),
  ]
}

/** A port forward of an address that NAT doesn't have. Of a pool the configuration's check has said so. */
export const forwardAddresses: HostCheck = (config, host) => {
  const [shared] = sharedAddresses(config, host)
  if (!sharesAddress(config) || shared === undefined) return []
  return config.forward
    .map(parsePortForward)
    .filter(({ address }) => address !== null && address !== shared)
    .map((portForward) =>
      warning(
        `forward ${portForwardText(portForward)}: ${formatAddress(portForward.address as Addr)} is not the address ` +
          `that NAT has here, which is ${formatAddress(shared)}, so nothing will come by it`,
        `write from: :${portForward.port}, whatever the address is, or correct it`,
      ),
    )
}

/** A port forward to a server that the routes don't lead to by an inside interface. */
export const forwardTargets: HostCheck = (config, host) =>
  config.forward
    .map(parsePortForward)
    .filter(({ toAddress }) => !leadsInside(config, host, toAddress))
    .map((portForward: PortForward) => {
      const server = formatAddress(portForward.toAddress)
      return warning(
        `forward ${portForwardText(portForward)}: the routes don't lead to ${server} by an inside interface ` +
          `(${config.inside.join(', ')})`,
        `correct to:, or the route (ip route get ${server})`,
      )
    })

function leadsInside({ inside }: GatewayConfig, host: HostFacts, address: Addr): boolean {
  const { type, port } = host.routeTo(address)
  return type === ROUTE.unicast && port >= 0 && port < inside.length
}
