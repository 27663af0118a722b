// The section `timeouts` as one value for each state of a connection: a preset's, replaced by the keys beside it.
// Authority: `rfc` RFC 5382 REQ-5 (TCP), RFC 7857 2.1 and 2.2 (closing), RFC 4787 REQ-5 (UDP), RFC 5508 REQ-2 (ICMP),
// what they leave open as in Linux; `linux` net/netfilter/nf_conntrack_proto_{tcp,udp,icmp,generic,gre}.c of 6.12.

import type { Timeouts } from '../coordinator/config.ts'
import type { Settings } from './schema.ts'

type TimeoutSettings = Settings['timeouts']

const COMMON = {
  tcpRetransmission: 300,
  tcpUnacknowledged: 300,
  udpDns: 30,
  generic: 600,
  greUnreplied: 30,
  greStream: 180,
  fragment: 30,
}

const opening = (seconds: number) => ({ SYN_SENT: seconds, SYN_RECV: seconds, SYN_SENT2: seconds })
const closing = (seconds: number) => ({
  FIN_WAIT: seconds,
  CLOSE_WAIT: seconds,
  LAST_ACK: seconds,
  TIME_WAIT: seconds,
  CLOSE: seconds,
})

const PRESETS: Readonly<Record<TimeoutSettings['preset'], Timeouts>> = {
  rfc: {
    tcp: { NONE: 0, ...opening(240), ESTABLISHED: 7440, ...closing(240) },
    tcpShortensAssured: false,
    udpUnreplied: 300,
    udpStream: 300,
    icmp: 60,
    ...COMMON,
  },
  linux: {
    tcp: {
      NONE: 0,
      SYN_SENT: 120,
      SYN_RECV: 60,
      ESTABLISHED: 432_000,
      FIN_WAIT: 120,
      CLOSE_WAIT: 60,
      LAST_ACK: 30,
      TIME_WAIT: 120,
      CLOSE: 10,
      SYN_SENT2: 120,
    },
    tcpShortensAssured: true,
    udpUnreplied: 30,
    udpStream: 120,
    icmp: 30,
    ...COMMON,
  },
}

export function timeoutsOf(settings: TimeoutSettings): Timeouts {
  const base = PRESETS[settings.preset]
  const { tcpEstablished, tcpTransitory, tcpClosing, udp } = settings
  return {
    tcp: {
      ...base.tcp,
      ...(tcpTransitory && opening(tcpTransitory)),
      ...(tcpEstablished && { ESTABLISHED: tcpEstablished }),
      ...(tcpClosing && closing(tcpClosing)),
    },
    tcpRetransmission: base.tcpRetransmission,
    tcpUnacknowledged: base.tcpUnacknowledged,
    tcpShortensAssured: base.tcpShortensAssured,
    udpUnreplied: udp ?? base.udpUnreplied,
    udpStream: udp ?? base.udpStream,
    udpDns: settings.udpDns ?? base.udpDns,
    icmp: settings.icmp ?? base.icmp,
    generic: settings.generic ?? base.generic,
    greUnreplied: settings.gre ?? base.greUnreplied,
    greStream: settings.greStream ?? base.greStream,
    fragment: settings.fragment ?? base.fragment,
  }
}

/** The value that all of these states have, undefined if they differ. */
const common = (first: number, ...others: number[]): number | undefined =>
  others.every((other) => other === first) ? first : undefined

/** The inverse, for `natloom check`: keys beside a preset that give these timeouts. Undefined where states differ. */
export function timeoutSettings(preset: TimeoutSettings['preset'], timeouts: Timeouts): TimeoutSettings {
  const { tcp, udpUnreplied, udpStream, greUnreplied, udpDns, icmp, generic, greStream, fragment } = timeouts
  return {
    preset,
    tcpEstablished: tcp.ESTABLISHED,
    tcpTransitory: common(tcp.SYN_SENT, tcp.SYN_RECV, tcp.SYN_SENT2),
    tcpClosing: common(tcp.FIN_WAIT, tcp.CLOSE_WAIT, tcp.LAST_ACK, tcp.TIME_WAIT, tcp.CLOSE),
    udp: common(udpUnreplied, udpStream),
    gre: greUnreplied,
    udpDns,
    icmp,
    generic,
    greStream,
    fragment,
  }
}
