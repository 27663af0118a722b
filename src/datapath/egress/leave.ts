// How a tracked packet leaves that is more than translated and sent: in pieces if the next link is smaller, or as a
// hairpin, to the shard that owns the external endpoint it is addressed to. Owner: this thread.

import { type Base, baseOf } from '../../conntrack/connection-table.ts'
import { dstOf, portsWordOf, srcOf } from '../../conntrack/connections.shard.ts'
import type { Direction, Verdict } from '../../conntrack/terms.ts'
import {
  ACCEPT,
  directionOf,
  invertPorts,
  keyWord,
  OUTSIDE,
  opposite,
  protocolIn,
  rowOf,
} from '../../conntrack/terms.ts'
import { DROP } from '../../counters/drop-reasons.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import { BY_HAIRPIN, handOver } from '../handover/handover.ts'
import { ownerOfTuple } from '../handover/packet-owner.ts'
import { AT, END, FLOW, HAIRPIN, HAIRPIN_LINE, IP, KEY, KIND, LINE, PORTS, PORTS_KNOWN, REF } from '../packet/burst.ts'
import { mem } from '../packet/packet-memory.ts'
import { lengthOnLink, sendSmaller } from './fragmentation.ts'
import { ROUTE_MTU, routeCache } from './route-cache.ts'
import { translate } from './translate.ts'
import { sendTo } from './transmit.ts'

const TOO_BIG = DROP['too-big']

/** Translates packet i, of the connection in REF, and lets it go by the route in LINE. */
export function leave(i: number): Verdict {
  const base = baseOf(rowOf(REF[i]!))
  const direction = directionOf(REF[i]!)
  const line = LINE[i]!
  translate(i, base, direction)
  if (line === HAIRPIN_LINE) return leaveToOurselves(i, base, direction)
  const mtu = routeCache[line + ROUTE_MTU]!
  if (END[i]! - IP[i]! > mtu && lengthOnLink(i) > mtu) return sendSmaller(i, line, mtu) ? ACCEPT : TOO_BIG
  sendTo(line, AT[i]!, END[i]! - AT[i]!)
  return ACCEPT
}

/**
 * To an external endpoint of our own (RFC 4787 REQ-9): its source is translated, and it goes to the shard that owns the
 * endpoint, as if it had come from outside. Its time to live is lowered there.
 */
function leaveToOurselves(i: number, base: Base, direction: Direction): Verdict {
  ipv4.restoreTtl(mem, IP[i]!)
  const other = opposite(direction)
  const ports = invertPorts(portsWordOf(base, other))
  // A fragment takes its translated ports along.
  PORTS[i] = ports
  const owner = ownerOfTuple(keyWord(protocolIn(KEY[i]!), OUTSIDE), dstOf(base, other), srcOf(base, other), ports)
  const flags = KIND[i] === FLOW ? HAIRPIN : HAIRPIN | PORTS_KNOWN
  return handOver(i, owner, OUTSIDE, flags, BY_HAIRPIN)
}
