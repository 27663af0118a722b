// The names of protocols that the configuration takes. Authority: IANA's registry of protocol numbers; names as in
// /etc/protocols.

import { PROTO_DCCP, PROTO_ICMP, PROTO_TCP, PROTO_UDP, PROTO_UDPLITE } from '../wire/ipv4.ts'

/** Those of `nat.protocols`: protocols without ports that people route through a NAT. */
export const PROTOCOL_NUMBERS: Readonly<Record<string, number>> = {
  igmp: 2,
  ipencap: 4,
  dccp: PROTO_DCCP,
  ipv6: 41,
  rsvp: 46,
  gre: 47,
  esp: 50,
  ah: 51,
  ospf: 89,
  pim: 103,
  vrrp: 112,
  l2tp: 115,
  sctp: 132,
  udplite: PROTO_UDPLITE,
}

/** Those of a rule of `filter`: every flow's. */
export const FLOW_PROTOCOLS: Readonly<Record<string, number>> = {
  tcp: PROTO_TCP,
  udp: PROTO_UDP,
  icmp: PROTO_ICMP,
  ...PROTOCOL_NUMBERS,
}

const NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(FLOW_PROTOCOLS).map(([name, number]) => [number, name]),
)

/** A protocol's name, or its number if it has none here. */
export const protocolName = (number: number): string => NAMES.get(number) ?? String(number)
