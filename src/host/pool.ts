// Makes those of the pool's addresses that no interface has the host's own, by a /32 route in the local table, so that
// the kernel answers ARP for them. Authority: ip-route(8), RFC 826. The routes are recognised by their protocol number;
// they vanish with their interface and are made again when it is back.

import type { Addr } from '../wire/address.ts'
import { NETLINK_ROUTE, NetlinkError, NetlinkSocket } from './netlink-socket.ts'
import { addLocalRoute, deleteLocalRoute, listAddresses, listLinks, listRoutes, TABLE_LOCAL } from './rtnetlink.ts'

/** An RTPROT_* number that no routing daemon uses; `ip route show table local proto 99` lists our routes. */
const POOL_PROTOCOL = 99

/**
 * Makes a route for each address of `pool` that no interface has, by the first of the `outside` interfaces that is up,
 * and removes those of `before` that aren't wanted any more. Throws NetlinkError.
 */
export function applyPool(pool: readonly Addr[], outside: readonly string[], before: readonly Addr[]): void {
  const socket = new NetlinkSocket(NETLINK_ROUTE)
  try {
    const links = new Map(listLinks(socket).map(({ name, index, enabled }) => [name, enabled ? index : 0]))
    const out = outside.map((name) => links.get(name) ?? 0).find((index) => index > 0)
    const owned = new Set(listAddresses(socket).map(({ address }) => address))
    const wanted = new Set(pool.filter((address) => !owned.has(address)))
    for (const route of listRoutes(socket, TABLE_LOCAL)) {
      const { destination, index, length } = route
      if (route.protocol !== POOL_PROTOCOL || length !== 32) continue
      if (wanted.has(destination) && index === out) wanted.delete(destination)
      else if (pool.includes(destination) || before.includes(destination))
        deleteLocalRoute(socket, destination, index, POOL_PROTOCOL)
    }
    if (out !== undefined) for (const address of wanted) add(socket, address, out)
  } finally {
    socket.close()
  }
}

function add(socket: NetlinkSocket, address: Addr, out: number): void {
  try {
    addLocalRoute(socket, address, out, POOL_PROTOCOL)
  } catch (error) {
    // EEXIST: the address has become local meanwhile. ENETDOWN, ENODEV: the interface is gone; when it is back,
    // applyPool is called again.
    if (!(error instanceof NetlinkError) || !['EEXIST', 'ENETDOWN', 'ENODEV'].includes(error.errno)) throw error
  }
}
