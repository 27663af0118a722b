// A packet of a known connection, from its row to the wire. What could keep it from leaving is asked before anything
// changes: time to live, route, size; then it is tracked, counted, translated and sent. A packet whose connection a
// helper reads takes another way after the route is known (helped/helped.ts).

import { baseOf, CONN, HAIRPINNED, HELPED, TUPLE_WORDS } from '../conntrack/connection-table.ts'
import { hot } from '../conntrack/connections.shard.ts'
import type { Verdict } from '../conntrack/terms.ts'
import { ACCEPT, ACCEPT_AND_END, directionOf, INSIDE, OUTSIDE, rowOf } from '../conntrack/terms.ts'
import { DROP } from '../counters/drop-reasons.ts'
import { externalEntry } from '../nat/addresses.shard.ts'
import { endConnection } from '../nat/bindings.shard.ts'
import { ROUTE } from '../routing/fib.ts'
import type { Addr } from '../wire/address.ts'
import * as ipv4 from '../wire/ipv4.ts'
import { lengthOnLink } from './egress/fragmentation.ts'
import { leave } from './egress/leave.ts'
import { waitForNeighbour } from './egress/pending-packets.ts'
import { portIsUp, ROUTE_MTU, ROUTE_PORT, routeCache, routeLookup, routePort, routeType } from './egress/route-cache.ts'
import { MARTIAN_SOURCE } from './egress/source-validation.ts'
import { count, track } from './egress/tracking.ts'
import { translate } from './egress/translate.ts'
import { sendTo, sideOf } from './egress/transmit.ts'
import { forwardHelped } from './helped/helped.ts'
import { FRAGMENTATION_NEEDED, sendError, TIME_EXCEEDED } from './icmp/local-replies.ts'
import { AT, END, HAIRPIN, HAIRPIN_LINE, IP, ingress, LINE, REF, type RouteLine, side } from './packet/burst.ts'
import { mem } from './packet/packet-memory.ts'

const { state: STATE } = CONN
const TTL_EXPIRED = DROP['ttl-expired']
const TOO_BIG = DROP['too-big']
const NO_ROUTE = DROP['no-route']
const LINK_DOWN = DROP['link-down']

/** Forwards packet i, whose connection and direction REF names; REPEAT if that is over and the packet begins anew. */
export function forward(i: number): Verdict {
  const ref = REF[i]!
  const row = rowOf(ref)
  const direction = directionOf(ref)
  const base = baseOf(row)
  const ip = IP[i]!
  if (ipv4.ttl(mem, ip) <= 1) {
    sendError(i, TIME_EXCEEDED, 0)
    return TTL_EXPIRED
  }
  const destination = hot[base + (1 - direction) * TUPLE_WORDS]!
  const line = routeLookup(destination)
  const port = routeCache[line + ROUTE_PORT]!
  if (port < 0 || sideOf[port] === side) return notNow(i, line, destination)
  const mtu = routeCache[line + ROUTE_MTU]!
  const length = END[i]! - ip
  if (length > mtu && lengthOnLink(i) > mtu) return forwardOversize(i, line, mtu)
  const state = hot[base + STATE]!
  if ((state & (HELPED | HAIRPINNED)) !== 0) {
    if (isForgedHairpin(state)) return MARTIAN_SOURCE
    LINE[i] = line
    if ((state & HELPED) !== 0) return forwardHelped(i)
  }

  const verdict = track(i, base, direction)
  if (verdict !== ACCEPT && verdict !== ACCEPT_AND_END) return verdict
  count(base, row, direction, length)
  translate(i, base, direction)
  sendTo(line, AT[i]!, END[i]! - AT[i]!)
  if (verdict === ACCEPT_AND_END) endConnection(row)
  return ACCEPT
}

/**
 * The packet of a hairpin has come from outside, by an external address of ours: nobody there has that. The kernel
 * refuses such a source in any case (fib_frontend.c, fib_validate_source).
 */
const isForgedHairpin = (state: number): boolean =>
  (state & HAIRPINNED) !== 0 && side === OUTSIDE && (ingress & HAIRPIN) === 0

/** The route does not lead out now: a neighbour to wait for, a link that is down, our own address, or no way at all. */
function notNow(i: number, line: RouteLine, destination: Addr): Verdict {
  const port = routePort(line)
  if (side === INSIDE && routeType(line) === ROUTE.local && externalEntry(destination) >= 0)
    return forwardSlowly(i, HAIRPIN_LINE)
  if (routeType(line) !== ROUTE.unicast || port < 0 || sideOf[port] === side) return NO_ROUTE
  return portIsUp(port) ? waitForNeighbour(i, line, destination) : LINK_DOWN
}

function forwardOversize(i: number, line: RouteLine, mtu: number): Verdict {
  if ((ipv4.fragmentWord(mem, IP[i]!) & ipv4.DONT_FRAGMENT) !== 0) {
    sendError(i, FRAGMENTATION_NEEDED, mtu)
    return TOO_BIG
  }
  return forwardSlowly(i, line)
}

/** A packet that leaves as a hairpin, or in fragments. */
function forwardSlowly(i: number, line: RouteLine): Verdict {
  const row = rowOf(REF[i]!)
  const direction = directionOf(REF[i]!)
  const base = baseOf(row)
  const state = hot[base + STATE]!
  if (isForgedHairpin(state)) return MARTIAN_SOURCE
  LINE[i] = line
  if ((state & HELPED) !== 0) return forwardHelped(i)
  const verdict = track(i, base, direction)
  if (verdict !== ACCEPT && verdict !== ACCEPT_AND_END) return verdict
  count(base, row, direction, END[i]! - IP[i]!)
  const left = leave(i)
  if (verdict === ACCEPT_AND_END) endConnection(row)
  return left
}
