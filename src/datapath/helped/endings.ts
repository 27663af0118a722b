// Ends a helped connection from the middle: an announcement can't be rewritten, and must not go out as it is. Each end
// gets a TCP reset (RFC 9293 3.5.2) with the number that it expects next (receiver-next.ts), in the numbers and from
// the address that it knows the other end by: the resets are made as if the ends had sent them, and are translated as
// all packets are. The row closes as by a reset.
//
// An end that has not had its reset, or had sent more meanwhile, sends on: its segments are dropped, and each is
// answered with a reset of the number that it names itself. Owner: this thread.

import { baseOf, TUPLE_WORDS } from '../../conntrack/connection-table.ts'
import { dstOf, hot, portsWordOf, srcOf } from '../../conntrack/connections.shard.ts'
import { type Direction, opposite, refOf } from '../../conntrack/terms.ts'
import { CELL, HELPER_RESETS, type HelperReset } from '../../counters/counters.ts'
import { counters } from '../../counters/own-counters.shard.ts'
import type { Row } from '../../memory/brand.ts'
import { externalEntry } from '../../nat/addresses.shard.ts'
import { ROUTE } from '../../routing/fib.ts'
import * as checksum from '../../wire/checksum.ts'
import * as ethernet from '../../wire/ethernet.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import * as tcp from '../../wire/tcp.ts'
import { leave } from '../egress/leave.ts'
import { portMacHigh, portMacLow, ROUTE_PORT, routeCache, routeLookup, routeType } from '../egress/route-cache.ts'
import { trackReset } from '../egress/tracking.ts'
import { NOT_LENT } from '../handover/handover-rings.ts'
import {
  AT,
  END,
  FLOW,
  HAIRPIN_LINE,
  IP,
  KEY,
  KIND,
  L4,
  LENGTH,
  LINE,
  port,
  REF,
  SPARE,
  TOKEN,
} from '../packet/burst.ts'
import { mem, scratchFrame } from '../packet/packet-memory.ts'
import { helpedConnectionOf, isRead } from './helped-connections.ts'
import { receiverNext } from './receiver-next.ts'
import { noteEnded } from './watch.ts'

const TTL = 64

/**
 * Ends a connection because of what is sent in `direction`. `unseen` is the number that the receiver of that expects if
 * nothing was seen of what it was sent, in its own numbering. The sender has been seen; else it is told when it sends
 * again.
 */
export function endByReset(row: Row, direction: Direction, unseen: number, why: HelperReset): void {
  const back = opposite(direction)
  const nextBack = nextOf(row, back)
  sendReset(row, direction, nextOf(row, direction) ?? unseen)
  if (nextBack !== undefined) sendReset(row, back, nextBack)
  trackReset(baseOf(row))
  noteEnded(row)
  counters[CELL.helperResets + HELPER_RESETS.indexOf(why)]! += 1
}

/** What the receiver of `direction` expects next, if anything was seen of it. */
function nextOf(row: Row, direction: Direction): number | undefined {
  const stream = helpedConnectionOf(row)?.streams[direction]
  const isInOrder = stream !== undefined && (isRead(row) || stream.holds)
  return isInOrder ? stream.receiverNext : receiverNext(row, direction)
}

/** Sends a reset to the receiver of `direction`, as if the other end had sent it. Without a route there is none. */
export function sendReset(row: Row, direction: Direction, seq: number): void {
  const base = baseOf(row)
  const destination = hot[base + opposite(direction) * TUPLE_WORDS]!
  const route = routeLookup(destination)
  const isOurs = routeType(route) === ROUTE.local && externalEntry(destination) >= 0
  if (!isOurs && routeCache[route + ROUTE_PORT]! < 0) return
  const length = ethernet.HEADER_LEN + ipv4.MIN_HEADER_LEN + tcp.MIN_HEADER_LEN
  const at = scratchFrame(length)
  if (at < 0) return
  const ip = at + ethernet.HEADER_LEN
  const segment = ip + ipv4.MIN_HEADER_LEN
  // What leaves by a link gets its addresses there. A hairpin's second half is looked at as if it had come by this
  // port.
  ethernet.setAddressWords(mem, at, portMacHigh(port), portMacLow(port), 0)
  ethernet.setEtherType(mem, at, ethernet.TYPE_IPV4)
  ipv4.setHeaderLen(mem, ip, ipv4.MIN_HEADER_LEN)
  ipv4.setTos(mem, ip, 0)
  ipv4.setTotalLength(mem, ip, length - ethernet.HEADER_LEN)
  ipv4.setId(mem, ip, 0)
  ipv4.setFragmentWord(mem, ip, ipv4.DONT_FRAGMENT)
  ipv4.setTtl(mem, ip, TTL)
  ipv4.setProtocol(mem, ip, ipv4.PROTO_TCP)
  ipv4.setSrc(mem, ip, srcOf(base, direction))
  ipv4.setDst(mem, ip, dstOf(base, direction))
  ipv4.writeChecksum(mem, ip)
  tcp.emit(mem, segment, 0, 0, tcp.RST)
  tcp.setPorts(mem, segment, portsWordOf(base, direction))
  tcp.setSeq(mem, segment, seq)
  checksum.writeTransportChecksum(mem, ip)
  AT[SPARE] = at
  LENGTH[SPARE] = length
  IP[SPARE] = ip
  L4[SPARE] = segment
  END[SPARE] = at + length
  KIND[SPARE] = FLOW
  TOKEN[SPARE] = NOT_LENT
  KEY[SPARE] = ipv4.PROTO_TCP
  REF[SPARE] = refOf(row, direction)
  LINE[SPARE] = isOurs ? HAIRPIN_LINE : route
  leave(SPARE)
}
