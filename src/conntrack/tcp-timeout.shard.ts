// How long a TCP connection may wait for more (nf_conntrack_proto_tcp.c; RFC 5382 REQ-5, RFC 7857 2.1): by its state,
// and less while it doesn't get on. It follows from the row and its window line, so that it can be worked out again
// after a crash. Owner: the shard.

import type { Seconds } from '../memory/brand.ts'
import { ASSURED, type Base, CONN, isFromOutside, SEEN_REPLY, stateOf } from './connection-table.ts'
import { hot, windows } from './connections.shard.ts'
import { ESTABLISHED, SYN_RECV } from './tcp-state.ts'
import { endShift, LAST_WINDOW_MASK, RETRANSMISSIONS_MASK, UNACKNOWLEDGED, WINDOW } from './tcp-window-table.ts'
import { DEFAULT_TIMEOUTS, type Timeouts, tcpTimeouts } from './timeouts.ts'

const { state: STATE } = CONN
const { last: LAST, ends: ENDS } = WINDOW

/** What somebody outside has opened, and has not acknowledged since the inside has answered, may be nobody's at all. */
const HALF_OPEN_FROM_OUTSIDE: Seconds = 60

let timeouts: Timeouts = DEFAULT_TIMEOUTS
let byState = tcpTimeouts(DEFAULT_TIMEOUTS)

export function attachTcpTimeouts(wanted: Timeouts): void {
  timeouts = wanted
  shortensAssured = wanted.tcpShortensAssured
  byState = tcpTimeouts(wanted)
}

/** The timeout of an assured connection may change with every segment. */
export let shortensAssured = DEFAULT_TIMEOUTS.tcpShortensAssured

/**
 * The seconds that a connection in its present state may wait for more. One that is half-open from outside waits a
 * minute at most: a server repeats its SYN/ACK for about as long. What is unacknowledged, repeated in vain or met by a
 * closed window waits less: in Linux always; by default only until the connection is assured, since RFC 5382 REQ-5
 * gives every established one two hours.
 */
export function tcpTimeoutOf(base: Base): Seconds {
  const word = hot[base + STATE]!
  const state = stateOf(word)
  const seconds = byState[state]!
  if (state === SYN_RECV && isFromOutside(word)) return Math.min(seconds, HALF_OPEN_FROM_OUTSIDE)
  if ((word & ASSURED) !== 0 && !shortensAssured) return seconds
  const last = windows[base + LAST]!
  const ends = windows[base + ENDS]!
  const isEstablished = state === ESTABLISHED
  const unanswered = isEstablished && (word & SEEN_REPLY) === 0
  const unacknowledged = (ends & ((UNACKNOWLEDGED << endShift(0)) | (UNACKNOWLEDGED << endShift(1)))) !== 0
  if ((last & RETRANSMISSIONS_MASK) === RETRANSMISSIONS_MASK) return Math.min(seconds, timeouts.tcpRetransmission)
  if (unacknowledged || unanswered) return Math.min(seconds, timeouts.tcpUnacknowledged)
  return (last & LAST_WINDOW_MASK) === 0 ? Math.min(seconds, timeouts.tcpRetransmission) : seconds
}
