// Turns a listing of the kernel's links, addresses and routes into the snapshot of the forwarding information base
// (routing/fib.ts) and into plain reports of our interfaces for the main thread. Nothing is kept here; readTables
// and indexesOf ask the kernel.

import { type FibPort, type FibRoute, NEIGHBOUR, type NeighbourState, ROUTE, type RouteType } from '../routing/fib.ts'
import type { Addr } from '../wire/address.ts'
import type { NetlinkSocket } from './netlink-socket.ts'
import {
  type Address,
  type Link,
  listAddresses,
  listLinks,
  listRoutes,
  NUD_FAILED,
  NUD_INCOMPLETE,
  NUD_VALID,
  type Route,
  RTN,
  TABLE_LOCAL,
  TABLE_MAIN,
} from './rtnetlink.ts'

export interface HostTables {
  /** By port number: the interface that has the port's name now. */
  readonly links: readonly (Link | undefined)[]
  /** By port number: the name of the interface that it is a part of. */
  readonly masters: readonly (string | undefined)[]
  /** By port number: the name that the interface has now which had the port's name before. */
  readonly renamed: readonly (string | undefined)[]
  readonly addresses: readonly Address[]
  readonly routes: readonly Route[]
}

/** One port's interface, as plain data for another thread. */
export interface LinkReport {
  readonly name: string
  /** False while no interface has this name. */
  readonly present: boolean
  /** The name that the interface has now which had this one before: it is missing, and its packets are not. */
  readonly renamedTo?: string | undefined
  /** The interface's index in the kernel, 0 while it is missing. Another index: the interface was made anew. */
  readonly index: number
  /** Its state is UP: set by the administrator (`ip link set up`). */
  readonly enabled: boolean
  /** Enabled, and with a carrier. */
  readonly up: boolean
  /** Its frames have an Ethernet header. */
  readonly ethernet: boolean
  readonly mtu: number
  /** `02:00:00:00:00:01` */
  readonly mac: string
  /** The interface that it is a port or slave of, and the kind of that: `bridge`, `bond`, `vrf`. */
  readonly master?: { readonly name: string; readonly kind: string } | undefined
  /** In the kernel's order: the host itself sends from the first primary one. */
  readonly addresses: readonly { readonly address: Addr; readonly prefixLength: number; readonly primary: boolean }[]
}

const MISSING: FibPort = { up: false, mtu: 0, address: 0, mac: new Uint8Array(6) }

/**
 * The indexes of the interfaces that have these names, or had them last (`before`) and are still there under another
 * one that is none of them. Throws NetlinkError.
 */
export function indexesOf(
  socket: NetlinkSocket,
  names: readonly string[],
  before: ReadonlyMap<string, number>,
): Map<string, number> {
  const links = listLinks(socket)
  const found = names.flatMap((wanted) => {
    const link =
      links.find(({ name }) => name === wanted) ??
      links.find(({ name, index }) => index === before.get(wanted) && !names.includes(name))
    return link ? [[wanted, link.index] as const] : []
  })
  return new Map(found)
}

/** `before`: by port number, the index of the interface that had the port's name last; 0 if none had. */
export function readTables(
  socket: NetlinkSocket,
  names: readonly string[],
  before: readonly number[] = [],
): HostTables {
  const all = listLinks(socket)
  const links = names.map((name) => all.find((link) => link.name === name))
  const masterOf = (link: Link | undefined): Link | undefined => all.find(({ index }) => index === link?.master)
  return {
    links,
    masters: links.map((link) => masterOf(link)?.name),
    renamed: links.map((link, port) => (link ? undefined : all.find(({ index }) => index === before[port])?.name)),
    addresses: listAddresses(socket),
    routes: [...listRoutes(socket, TABLE_LOCAL), ...listRoutes(socket, TABLE_MAIN)],
  }
}

export const linkReports = (
  names: readonly string[],
  { links, masters, renamed, addresses }: HostTables,
): LinkReport[] =>
  links.map((link, port) => ({
    name: names[port],
    present: link !== undefined,
    renamedTo: renamed[port],
    index: link?.index ?? 0,
    enabled: link?.enabled ?? false,
    up: link?.up ?? false,
    ethernet: link?.ethernet ?? false,
    mtu: link?.mtu ?? 0,
    mac: Array.from(link?.mac ?? MISSING.mac, (byte) => byte.toString(16).padStart(2, '0')).join(':'),
    master: masters[port] === undefined ? undefined : { name: masters[port], kind: link?.partOf ?? '' },
    addresses: addresses
      .filter(({ index }) => index === link?.index)
      .map(({ address, prefixLength, primary }) => ({ address, prefixLength, primary })),
  }))

export const fibPorts = ({ links, addresses }: HostTables): FibPort[] =>
  links.map((link) => {
    if (!link) return MISSING
    const own = addresses.filter(({ index }) => index === link.index)
    const address = (own.find(({ primary }) => primary) ?? own[0])?.address ?? 0
    return { up: link.up, mtu: link.mtu, address, mac: link.mac }
  })

const ROUTE_TYPES: ReadonlyMap<number, RouteType> = new Map<number, RouteType>([
  [RTN.unicast, ROUTE.unicast],
  [RTN.local, ROUTE.local],
  [RTN.broadcast, ROUTE.broadcast],
  [RTN.multicast, ROUTE.multicast],
  [RTN.blackhole, ROUTE.refused],
  [RTN.unreachable, ROUTE.refused],
  [RTN.prohibit, ROUTE.refused],
])

/** A route of a type that isn't listed above (throw) hides shorter prefixes and leads nowhere. */
export function fibRoutes({ links, routes }: HostTables): FibRoute[] {
  const ports = new Map(links.flatMap((link, port) => (link ? [[link.index, port]] : [])))
  return routes.map((route) => ({
    destination: route.destination,
    length: route.length,
    type: ROUTE_TYPES.get(route.type) ?? ROUTE.none,
    port: ports.get(route.index) ?? -1,
    gateway: route.gateway,
    source: route.source,
    mtu: route.mtu,
    metric: route.table === TABLE_LOCAL ? -1 : route.metric,
  }))
}

/** `unknown`: the kernel has an entry and doesn't look for its MAC (NUD_NONE). */
export function neighbourState(nud: number): NeighbourState {
  if (nud & NUD_VALID) return NEIGHBOUR.resolved
  if (nud & NUD_INCOMPLETE) return NEIGHBOUR.pending
  return nud & NUD_FAILED ? NEIGHBOUR.failed : NEIGHBOUR.unknown
}
