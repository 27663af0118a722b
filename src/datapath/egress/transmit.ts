// Where a packet leaves: its Ethernet addresses, the driver's send queue, the counters. Owner: this thread.

import type { Side } from '../../conntrack/terms.ts'
import { CELL } from '../../counters/counters.ts'
import { counters } from '../../counters/own-counters.shard.ts'
import type { Driver } from '../../io/driver.ts'
import type { Column } from '../../memory/brand.ts'
import * as ethernet from '../../wire/ethernet.ts'
import type { At, LinkPort, RouteLine } from '../packet/burst.ts'
import { mem } from '../packet/packet-memory.ts'
import { ROUTE_MAC, ROUTE_PORT, routeCache } from './route-cache.ts'

const SENT_PACKETS = CELL.sentPackets
const SENT_BYTES = CELL.sentBytes

let driver: Driver
/** The ingress word has a byte for a port (packet/burst.ts). */
const MOST_PORTS = 256
/** Side of each port. A constant array, since V8 folds where it lies (measured: 1 ns a packet). */
export const sideOf = new Int32Array(MOST_PORTS) as Column<Side>

export function attachTransmit(toDriver: Driver, sides: readonly Side[]): void {
  driver = toDriver
  sideOf.fill(0)
  sideOf.set(sides)
}

/** Queues a frame of `length` bytes by a route. */
export function sendTo(line: RouteLine, at: At, length: number): void {
  ethernet.setAddressWords(
    mem,
    at,
    routeCache[line + ROUTE_MAC]!,
    routeCache[line + ROUTE_MAC + 1]!,
    routeCache[line + ROUTE_MAC + 2]!,
  )
  sendBy(routeCache[line + ROUTE_PORT]!, at, length)
}

/** Queues a finished frame for a port. */
export function sendBy(port: LinkPort, at: At, length: number): void {
  driver.send(port, at, length)
  const side = sideOf[port]!
  counters[SENT_PACKETS + side]! += 1
  counters[SENT_BYTES + side]! += length - ethernet.HEADER_LEN
}
