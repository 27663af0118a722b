// What connections are limited by: the sections `timeouts`, `tcp`, `capacity` and `icmp`. Authority for defaults: RFC
// 4787, 5382 and 5508, Linux's nf_conntrack.

import { FEWEST_CONNECTIONS } from '../../coordinator/memory-plan.ts'
import { choice, flag, integer, seconds, section } from './values.ts'

export const timeouts = section({
  preset: choice('rfc', 'linux')
    .default('rfc')
    .describe("What the keys beside it are by default: the RFCs' minima, or Linux's values by TCP state."),
  tcpEstablished: seconds().optional().describe('rfc 7440, linux 432000.'),
  tcpTransitory: seconds().optional().describe('While opening. rfc 240, linux 120 or 60.'),
  tcpClosing: seconds().optional().describe('After a FIN or RST. rfc 240, linux 120 to 10.'),
  udp: seconds().optional().describe('rfc 300, linux 30 one way and 120 both ways.'),
  udpDns: seconds().optional().describe('UDP to port 53: 30.'),
  icmp: seconds().optional().describe('Queries. rfc 60, linux 30.'),
  generic: seconds().optional().describe('Other protocols without ports: 600.'),
  gre: seconds().optional().describe('Before an answer: 30.'),
  greStream: seconds().optional().describe('After an answer: 180.'),
  fragment: seconds().optional().describe('The rest of a fragmented packet: 30.'),
})
  .prefault({})
  .describe('Seconds without a packet after which a connection is forgotten.')

export const tcp = section({
  pickup: flag()
    .default(false)
    .describe(
      'A segment in mid-stream from inside makes a connection, as after a restart. Its external port may be another ' +
        'than before, and then its server resets it.',
    ),
  liberal: flag()
    .default(false)
    .describe(
      'Segments beyond the windows that the ends have offered pass. For links where packets come by other ways.',
    ),
  answerUnsolicited: flag()
    .default(true)
    .describe(
      'A SYN from outside that nobody has asked for is answered after six seconds by ICMP port unreachable, unless ' +
        'its connection has been opened from inside meanwhile (RFC 5382 REQ-4). Off: by nothing.',
    ),
})
  .prefault({})
  .describe('How strictly TCP is tracked.')

export const capacity = section({
  connections: integer(FEWEST_CONNECTIONS, 16_777_216)
    .optional()
    .describe('Connections tracked at most. By default a 16th of the memory, but 16384 to 262144 rows.'),
  expectations: integer(16, 16_384)
    .default(4096)
    .describe('Connections that helpers have announced and that have not come yet, at most.'),
}).prefault({})

export const icmp = section({
  errorsPerSecond: integer(0, 1_000_000).default(1000).describe('ICMP errors that the gateway itself sends at most.'),
}).prefault({})
