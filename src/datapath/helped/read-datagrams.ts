// Datagrams of helped connections, one by one: a helper reads each, and may rewrite it (nf_conntrack_helper.c,
// nf_nat_mangle_udp_packet). None is held: what can't be rewritten now is dropped, for its sender to repeat. Owner:
// this thread.

import { CONN, CONN_SHIFT, HELPED } from '../../conntrack/connection-table.ts'
import { hot } from '../../conntrack/connections.shard.ts'
import { ACCEPT, directionOf, rowOf, type Verdict } from '../../conntrack/terms.ts'
import { CELL } from '../../counters/counters.ts'
import { DROP } from '../../counters/drop-reasons.ts'
import { counters } from '../../counters/own-counters.shard.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import { leave } from '../egress/leave.ts'
import { FLOW, IP, KIND, REF } from '../packet/burst.ts'
import { mem } from '../packet/packet-memory.ts'
import { isSuperPacket, payloadText, rewriteDatagram } from './datagrams.ts'
import { cutOff, datagramReadingOf, isRead, type Reading } from './helped-connections.ts'
import { call, context, endIfSlow, WHOLE, withdrawMade, without } from './helper-call.ts'
import { datagramNames, fragmentMayName, isBinary, isGuarded } from './watch.ts'

const { state: STATE } = CONN
const HELPER_VERDICT = DROP['helper-verdict']
const HELPER_FAILED = DROP['helper-failed']

/** What becomes of packet i of a helped connection that is not of TCP. */
export function datagram(i: number): Verdict {
  const row = rowOf(REF[i]!)
  // A helper reads whole datagrams: neither fragments, nor super-packets, whose datagrams can't be told apart.
  const isWhole = KIND[i] === FLOW && !isSuperPacket(i)
  const reading = isWhole ? datagramReadingOf(row) : undefined
  if (!isRead(row) && !isGuarded(row)) hot[(row << CONN_SHIFT) + STATE]! &= ~HELPED
  const verdict = reading === undefined ? unread(i) : readDatagram(i, reading)
  return verdict === ACCEPT ? leave(i) : verdict
}

/** What no helper reads goes on unless it names, or begins to name, the inside address that a helper was to rewrite. */
function unread(i: number): Verdict {
  const hasMore = KIND[i] !== FLOW && (ipv4.fragmentWord(mem, IP[i]!) & ipv4.MORE_FRAGMENTS) !== 0
  const names = hasMore ? fragmentMayName : datagramNames
  return names(rowOf(REF[i]!), directionOf(REF[i]!), payloadText(i), true) ? HELPER_FAILED : ACCEPT
}

/** Lets the helper read packet i, and rewrites it. ACCEPT, or why it is to be dropped. */
function readDatagram(i: number, reading: Reading): Verdict {
  const { row } = reading
  const direction = directionOf(REF[i]!)
  const text = payloadText(i)
  if (!call(reading, direction, text, WHOLE)) {
    endIfSlow(row)
    return HELPER_VERDICT
  }
  const { mangled, isRefused, mustWait } = context
  const isCutOff = !isRead(row)
  const isRewritten = mangled.length > 0 && rewriteDatagram(i, text, mangled)
  // A datagram is not held: what can't be rewritten now is dropped, for its sender to repeat.
  const isUndone = isCutOff || isRefused || mustWait || (mangled.length > 0 && !isRewritten)
  const left = isRewritten ? without(text, mangled) : text
  const isDropped = isUndone && datagramNames(row, direction, left, isBinary(row))
  if (isDropped || (mangled.length > 0 && !isRewritten)) withdrawMade()
  if (!isDropped) {
    if (isRewritten) counters[CELL.helperRewrites]! += mangled.length
    if (context.isDone) cutOff(row, 'done')
  }
  endIfSlow(row)
  return isDropped ? HELPER_FAILED : ACCEPT
}
