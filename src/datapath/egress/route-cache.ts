// Where a packet goes next: port, MTU and the finished Ethernet addresses, from a small cache in front of the
// forwarding information base (routing/fib.ts), which the kernel's routes and neighbours make. A line of the cache
// holds the route to one destination in one version of the base; a new version makes every line stale at once. A place
// has two lines: with one, two destinations of the same place would evict each other with every packet (measured: 20 ns
// a packet with 280 destinations). Owner: this thread.

import type { Shard } from '../../memory/brand.ts'
import { sharedMemory } from '../../memory/region.ts'
import { type Fib, FOUND, NEIGHBOUR, ROUTE } from '../../routing/fib.ts'
import type { Addr } from '../../wire/address.ts'
import type { LinkPort, RouteLine } from '../packet/burst.ts'

/** 2 MB: as many as a large gateway has hosts behind it. */
const LINES_LOG = 16
const LINES = 1 << LINES_LOG
const LINE_WORDS = 8
const DESTINATION = 0
const VERSION = 1
/** The driver's port to send by; -1 while a packet can't be sent at once. */
export const ROUTE_PORT = 2
export const ROUTE_MTU = 3
/** The 12 bytes of destination and source MAC as three words. */
export const ROUTE_MAC = 4
/** Route type, port + 1 and neighbour state, a byte each. */
const DETAIL = 7

/** The cache; routeLookup() returns where a line begins. Aligned, so that a place's two lines are one cache line. */
export const routeCache = new Int32Array(sharedMemory(LINES * LINE_WORDS * 4))

let fib: Fib
/** Version of the forwarding information base that this turn routes by. */
export let version = 0
const found = new Int32Array(FOUND.words)

export function attachRoutes(base: Fib): void {
  fib = base
  routeCache.fill(0)
  followRoutes()
}

/** Takes note of the base's present version. Once a turn is enough. */
export function followRoutes(): void {
  version = fib.version()
}

/** Where the two lines that may hold a destination begin. */
export const routeCacheLineOf = (destination: Addr): RouteLine =>
  (Math.imul(destination, 0x9e3779b1) >>> (33 - LINES_LOG)) * (2 * LINE_WORDS)

/** The line for a destination. The next call may overwrite it. */
export function routeLookup(destination: Addr): RouteLine {
  const first = routeCacheLineOf(destination)
  if (routeCache[first + DESTINATION] === destination && routeCache[first + VERSION] === version) return first
  const second = first + LINE_WORDS
  if (routeCache[second + DESTINATION] === destination && routeCache[second + VERSION] === version) return second
  // The younger of the two stays, in the second place.
  routeCache.copyWithin(second, first, second)
  return fill(first, destination)
}

function fill(line: RouteLine, destination: Addr): RouteLine {
  fib.lookup(destination, found)
  const type = found[FOUND.type]!
  const port = found[FOUND.port]!
  const neighbour = found[FOUND.neighbour]!
  const ready = type === ROUTE.unicast && port >= 0 && neighbour === NEIGHBOUR.resolved && fib.portUp(port)
  routeCache[line + DESTINATION] = destination
  routeCache[line + VERSION] = version
  routeCache[line + ROUTE_PORT] = ready ? port : -1
  routeCache[line + ROUTE_MTU] = found[FOUND.mtu]!
  routeCache[line + ROUTE_MAC] = found[FOUND.mac0]!
  routeCache[line + ROUTE_MAC + 1] = found[FOUND.mac1]!
  routeCache[line + ROUTE_MAC + 2] = found[FOUND.mac2]!
  routeCache[line + DETAIL] = type | ((port + 1) << 8) | (neighbour << 16)
  return line
}

/** One of ROUTE. */
export const routeType = (line: RouteLine): number => routeCache[line + DETAIL]! & 0xff
/**
 * The driver's port that the route names, whether or not packets can be sent now; -1: an interface that is not ours.
 */
export const routePort = (line: RouteLine): LinkPort => ((routeCache[line + DETAIL]! >> 8) & 0xff) - 1
/** One of NEIGHBOUR. */
export const neighbourState = (line: RouteLine): number => (routeCache[line + DETAIL]! >> 16) & 0xff

/** The address of the next hop to a destination. */
export function gatewayOf(destination: Addr): Addr {
  fib.lookup(destination, found)
  return found[FOUND.gateway]!
}

export const portIsUp = (port: LinkPort): boolean => fib.portUp(port)
export const portAddress = (port: LinkPort): Addr => fib.portAddress(port)
export const portMacHigh = (port: LinkPort): number => fib.portMacHigh(port)
export const portMacLow = (port: LinkPort): number => fib.portMacLow(port)
export const requestNeighbour = (shard: Shard, port: LinkPort, address: Addr): boolean =>
  fib.requestNeighbour(shard, port, address)
