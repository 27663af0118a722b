// Makes those of the pool's addresses that no interface has the host's own, by a /32 route in the local table, so that
// the kernel answers ARP for them. Authority: ip-route(8), RFC 826. The routes are recognised by their protocol number;
// they vanish with their interface and are made again when it is back.

import type { Addr } from '../wire/address.ts'
import { NETLINK_ROUTE, NetlinkError, NetlinkSocket } from './netlink-socket.ts'
import { addLocalRoute, deleteLocalRoute, listAddresses, listLinks, listRoutes, TABLE_LOCAL } from './rtnetlink.ts'

/**
 * RTPROT_* numbers that mark the routes. Each natloom of a host has one of its own, so that an administrator can tell
 * them apart: `ip route show table local proto 99` lists those of the first. (Open/R has 99 too, but makes no routes in
 * the local table.)
 */
export const FIRST_ROUTE_PROTOCOL = 99
export const LAST_ROUTE_PROTOCOL = 159

export interface Pool {
  readonly addresses: readonly Addr[]
  /** Interfaces that the routes may go by, best first. */
  readonly outside: readonly string[]
  /** The RTPROT_* number that marks the routes. */
  readonly protocol: number
}

/**
 * Makes a route for each address of the pool that no interface has, by the first of the `outside` interfaces that is
 * up, and removes those of `before` that aren't wanted any more. Returns the addresses of the routes that it has made.
 * Throws NetlinkError.
 */
export function applyPool({ addresses, outside, protocol }: Pool, before: readonly Addr[]): Addr[] {
  const socket = new NetlinkSocket(NETLINK_ROUTE)
  try {
    const links = new Map(listLinks(socket).map(({ name, index, enabled }) => [name, enabled ? index : 0]))
    const out = outside.map((name) => links.get(name) ?? 0).find((index) => index > 0)
    const owned = new Set(listAddresses(socket).map(({ address }) => address))
    const wanted = new Set(addresses.filter((address) => !owned.has(address)))
    for (const route of listRoutes(socket, TABLE_LOCAL)) {
      const { destination, index, length } = route
      if (route.protocol !== protocol || length !== 32) continue
      // While all outside links are down, a route stays as it is: it takes effect again with its link.
      if (wanted.has(destination) && (index === out || out === undefined)) wanted.delete(destination)
      else if (addresses.includes(destination) || before.includes(destination))
        deleteLocalRoute(socket, destination, index, protocol)
    }
    return out === undefined ? [] : [...wanted].filter((address) => add(socket, address, out, protocol))
  } finally {
    socket.close()
  }
}

function add(socket: NetlinkSocket, address: Addr, out: number, protocol: number): boolean {
  try {
    addLocalRoute(socket, address, out, protocol)
    return true
  } catch (error) {
    // EEXIST: the address has become local meanwhile. ENETDOWN, ENODEV: the interface is gone; when it is back,
    // applyPool is called again.
    if (!(error instanceof NetlinkError) || !['EEXIST', 'ENETDOWN', 'ENODEV'].includes(error.errno)) throw error
    return false
  }
}
