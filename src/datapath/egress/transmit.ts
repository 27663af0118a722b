// The end of a packet's way: its Ethernet addresses, the driver's send queue, the counters. Owner: this thread.

import type { Side } from '../../conntrack/terms.ts'
import { CELL } from '../../counters/counters.ts'
import { counters } from '../../counters/own-counters.shard.ts'
import type { Driver } from '../../io/driver.ts'
import type { Column } from '../../memory/brand.ts'
import * as ethernet from '../../wire/ethernet.ts'
import { mem } from '../packet/packet-memory.ts'
import { ROUTE_MAC, ROUTE_PORT, routeCache } from './route-cache.ts'

const SENT_PACKETS = CELL.sentPackets
const SENT_BYTES = CELL.sentBytes

let driver: Driver
/** A port is a byte (route-cache.ts). */
const MOST_PORTS = 256
/** Side (conntrack/terms.ts) of each port. A constant array: V8 folds where it lies (measured: 1 ns a packet). */
export const sideOf = new Int32Array(MOST_PORTS) as Column<Side>

export function attachTransmit(toDriver: Driver, sides: readonly Side[]): void {
  driver = toDriver
  sideOf.fill(0)
  sideOf.set(sides)
}

/** Queues a frame of `length` bytes for the next hop that a route cache line names. */
export function sendTo(line: number, at: number, length: number): void {
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
export function sendBy(port: number, at: number, length: number): void {
  driver.send(port, at, length)
  const side = sideOf[port]!
  counters[SENT_PACKETS + side]! += 1
  counters[SENT_BYTES + side]! += length - ethernet.HEADER_LEN
}
