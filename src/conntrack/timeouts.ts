// How long a connection lives without traffic, in seconds. The defaults are the RFCs' (4787 REQ-5, 5382 REQ-5,
// 5508 REQ-2, 7857 2.1-2.2); Linux's shorter ones are a preset of the configuration.

import type { Column, Seconds } from '../memory/brand.ts'
import { TCP_STATES, type TcpState } from './tcp-state.ts'

export interface Timeouts {
  tcp: Record<TcpState, Seconds>
  /** At most, after a segment was repeated three times without an answer, or before a closed window. */
  tcpRetransmission: Seconds
  /** At most, while an end has sent what the other one has not acknowledged. */
  tcpUnacknowledged: Seconds
  /** Both of an assured connection too, as in Linux: against RFC 5382 REQ-5. */
  tcpShortensAssured: boolean
  udpUnreplied: Seconds
  udpStream: Seconds
  /** UDP to port 53: RFC 4787 REQ-5a allows less for a well-known port, or a resolver empties the pool. */
  udpDns: Seconds
  icmp: Seconds
  generic: Seconds
  greUnreplied: Seconds
  greStream: Seconds
  fragment: Seconds
}

export const DEFAULT_TIMEOUTS: Timeouts = {
  tcp: {
    NONE: 0,
    SYN_SENT: 240,
    SYN_RECV: 240,
    ESTABLISHED: 7440,
    FIN_WAIT: 240,
    CLOSE_WAIT: 240,
    LAST_ACK: 240,
    TIME_WAIT: 240,
    CLOSE: 240,
    SYN_SENT2: 240,
  },
  tcpRetransmission: 300,
  tcpUnacknowledged: 300,
  tcpShortensAssured: false,
  udpUnreplied: 300,
  udpStream: 300,
  udpDns: 30,
  icmp: 60,
  generic: 600,
  greUnreplied: 30,
  greStream: 180,
  fragment: 30,
}

/** By number of the state, for the hot path. */
export const tcpTimeouts = (timeouts: Timeouts): Column<Seconds> =>
  Int32Array.from(TCP_STATES, (state) => timeouts.tcp[state]) as Column<Seconds>
