// This shard's table of port forwards (port-forward-rules.ts), by their external and by their inside endpoint. A
// forwarded endpoint needs no mapping and no lease: what comes to it opens a connection to the server, whoever sends
// it, and what the server itself sends from its port leaves by it (RFC 4787 REQ-1 would have it so, and FTP's port 20
// needs it). A connection by a port forward has mapping 0. Owner: this thread; a copy of what is configured.

import type { Addr, PortHost, ProtocolNumber } from '../wire/address.ts'
import type { PortForward } from './port-forward-rules.ts'

let byExternal = new Map<number, readonly PortForward[]>()
let byInside = new Map<number, readonly PortForward[]>()

/** Protocols fit a byte. */
const keyOf = (protocol: ProtocolNumber, port: PortHost): number => (protocol << 16) | port

export function attachPortForwards(forwards: readonly PortForward[]): void {
  byExternal = grouped(forwards, ({ protocol, port }) => keyOf(protocol, port))
  byInside = grouped(forwards, ({ protocol, toPort }) => keyOf(protocol, toPort))
}

function grouped(
  forwards: readonly PortForward[],
  key: (forward: PortForward) => number,
): Map<number, readonly PortForward[]> {
  const groups = new Map<number, PortForward[]>()
  for (const forward of forwards) {
    const group = groups.get(key(forward))
    if (group) group.push(forward)
    else groups.set(key(forward), [forward])
  }
  return groups
}

/** The port forward that dictates an endpoint of an external address. */
export function forwardTo(protocol: ProtocolNumber, address: Addr, port: PortHost): PortForward | undefined {
  const group = byExternal.get(keyOf(protocol, port))
  if (group === undefined) return undefined
  for (let i = 0; i < group.length; i++) if ((group[i]!.address ?? address) === address) return group[i]
  return undefined
}

/** The port forward that dictates what an inside endpoint sends; the first of several. */
export function forwardFrom(protocol: ProtocolNumber, address: Addr, port: PortHost): PortForward | undefined {
  const group = byInside.get(keyOf(protocol, port))
  if (group === undefined) return undefined
  for (let i = 0; i < group.length; i++) if (group[i]!.toAddress === address) return group[i]
  return undefined
}
