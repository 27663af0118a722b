// A packet of a known connection, from the row to the wire. What could keep it from leaving is asked before anything
// changes: time to live, route, size; then it is tracked, counted, translated and sent. One whose connection a helper
// reads goes another way in between (helped.ts).

import { CONN, CONN_SHIFT, HELPED, TUPLE_WORDS } from '../conntrack/connection-table.ts'
import { hot } from '../conntrack/connections.shard.ts'
import type { Direction } from '../conntrack/terms.ts'
import { ACCEPT, ACCEPT_AND_END, INSIDE } from '../conntrack/terms.ts'
import { DROP } from '../counters/drop-reasons.ts'
import type { Row } from '../memory/brand.ts'
import { endConnection, externalEntry } from '../nat/bindings.shard.ts'
import { ROUTE } from '../routing/fib.ts'
import type { Addr } from '../wire/address.ts'
import * as ipv4 from '../wire/ipv4.ts'
import { lengthOnLink } from './egress/fragmentation.ts'
import { HAIRPIN_LINE, leave } from './egress/leave.ts'
import { waitForNeighbour } from './egress/pending-packets.ts'
import { portIsUp, ROUTE_MTU, ROUTE_PORT, routeCache, routeLookup, routePort, routeType } from './egress/route-cache.ts'
import { count, track } from './egress/tracking.ts'
import { translate } from './egress/translate.ts'
import { sendTo, sideOf } from './egress/transmit.ts'
import { forwardHelped } from './helped/helped.ts'
import { FRAGMENTATION_NEEDED, sendError, TIME_EXCEEDED } from './icmp/local-replies.ts'
import { AT, END, IP, side } from './packet/burst.ts'
import { mem } from './packet/packet-memory.ts'

const { state: STATE } = CONN
const TTL_EXPIRED = DROP['ttl-expired']
const TOO_BIG = DROP['too-big']
const NO_ROUTE = DROP['no-route']
const LINK_DOWN = DROP['link-down']

/** What becomes of packet i of a live connection, going in `direction`. */
export function forward(i: number, row: Row, direction: Direction): number {
  const base = row << CONN_SHIFT
  const ip = IP[i]!
  if (ipv4.ttl(mem, ip) <= 1) {
    sendError(i, TIME_EXCEEDED, 0)
    return TTL_EXPIRED
  }
  const destination = hot[base + (1 - direction) * TUPLE_WORDS]!
  const line = routeLookup(destination)
  const port = routeCache[line + ROUTE_PORT]!
  if (port < 0 || sideOf[port] === side) return notNow(i, row, direction, line, destination)
  const mtu = routeCache[line + ROUTE_MTU]!
  const length = END[i]! - ip
  if (length > mtu && lengthOnLink(i) > mtu) return forwardOversize(i, row, direction, line, mtu)
  if ((hot[base + STATE]! & HELPED) !== 0) return forwardHelped(i, row, direction, line)

  const verdict = track(i, base, direction)
  if (verdict !== ACCEPT && verdict !== ACCEPT_AND_END) return verdict
  count(base, row, direction, length)
  translate(i, base, direction)
  sendTo(line, AT[i]!, END[i]! - AT[i]!)
  if (verdict === ACCEPT_AND_END) endConnection(row)
  return ACCEPT
}

/** The route does not lead out now: a neighbour to wait for, a link that is down, our own address, or no way at all. */
function notNow(i: number, row: Row, direction: Direction, line: number, destination: Addr): number {
  const port = routePort(line)
  if (side === INSIDE && routeType(line) === ROUTE.local && externalEntry(destination) >= 0)
    return forwardSlowly(i, row, direction, HAIRPIN_LINE)
  if (routeType(line) !== ROUTE.unicast || port < 0 || sideOf[port] === side) return NO_ROUTE
  return portIsUp(port) ? waitForNeighbour(i, line, destination) : LINK_DOWN
}

function forwardOversize(i: number, row: Row, direction: Direction, line: number, mtu: number): number {
  if ((ipv4.fragmentWord(mem, IP[i]!) & ipv4.DONT_FRAGMENT) !== 0) {
    sendError(i, FRAGMENTATION_NEEDED, mtu)
    return TOO_BIG
  }
  return forwardSlowly(i, row, direction, line)
}

/** What is no plain sending: a hairpin, or in pieces. */
function forwardSlowly(i: number, row: Row, direction: Direction, line: number): number {
  const base = row << CONN_SHIFT
  if ((hot[base + STATE]! & HELPED) !== 0) return forwardHelped(i, row, direction, line)
  const verdict = track(i, base, direction)
  if (verdict !== ACCEPT && verdict !== ACCEPT_AND_END) return verdict
  count(base, row, direction, END[i]! - IP[i]!)
  const left = leave(i, base, direction, line)
  if (verdict === ACCEPT_AND_END) endConnection(row)
  return left
}
