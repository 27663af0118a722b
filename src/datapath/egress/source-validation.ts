// Source validation (RFC 1812 5.3.8, RFC 2827): whether the routes lead back to a packet's sender by the interface that
// the packet came by. The kernel's rp_filter doesn't guard a packet socket, so natloom asks itself: of a flow's first
// packet, of an ICMP error, of a SYN that it may answer. A sender that the default route leads to is as good as any.
// Owner: this thread.

import { DROP } from '../../counters/drop-reasons.ts'
import { ROUTE } from '../../routing/fib.ts'
import { HAIRPIN, ingress, port, SRC } from '../packet/burst.ts'
import { routeLookup, routePort, routeType } from './route-cache.ts'

export const MARTIAN_SOURCE = DROP['martian-source']

/** True if packet i has a source address that belongs elsewhere. */
export function isMartian(i: number): boolean {
  // The source of a hairpin's second half is an external endpoint of ours, so no route leads back to it.
  if ((ingress & HAIRPIN) !== 0) return false
  const back = routeLookup(SRC[i]!)
  return routeType(back) !== ROUTE.unicast || routePort(back) !== port
}
