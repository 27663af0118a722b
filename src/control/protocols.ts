// The names that `nat.protocols` takes: protocols without ports that people route through a NAT. Authority: IANA's
// registry of protocol numbers; names as in /etc/protocols.

export const PROTOCOL_NUMBERS: Readonly<Record<string, number>> = {
  igmp: 2,
  ipencap: 4,
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
}
