// Where a captured frame's network packet begins, by the link that it was captured on
// (draft-ietf-opsawg-pcaplinktype, LINKTYPE_...). VLAN tags are passed over: a capture on a trunk is one network here.

import { TYPE_ARP, TYPE_IPV4, TYPE_IPV6, TYPE_VLAN } from '../wire/ethernet.ts'

const LINK_NULL = 0
export const LINK_ETHERNET = 1
/** LINKTYPE_RAW is 101; some systems write 12 or 14 for it. */
const RAW = [101, 12, 14]
const LINK_LOOP = 108
const LINK_LINUX_COOKED = 113
const LINK_IPV4 = 228
const LINK_IPV6 = 229
const LINK_LINUX_COOKED2 = 276

/** 802.1Q, 802.1ad, and what came before 802.1ad. */
const VLANS = [TYPE_VLAN, 0x88a8, 0x9100]
const MOST_TAGS = 4

const AF_INET = 2
/** IPv6's address family, which differs among Linux, the BSDs and macOS. */
const AF_INET6 = [10, 24, 28, 30]

const SUPPORTED = [
  LINK_NULL,
  LINK_ETHERNET,
  ...RAW,
  LINK_LOOP,
  LINK_LINUX_COOKED,
  LINK_IPV4,
  LINK_IPV6,
  LINK_LINUX_COOKED2,
]

/** The supported links, for messages. */
export const LINKS_IN_WORDS =
  'Ethernet (1), raw IP (101, 228, 229), Linux cooked (113, 276), BSD null and loop (0, 108)'

export const isSupported = (link: number): boolean => SUPPORTED.includes(link)

/** Why a frame is passed over. */
export type PassedOver = 'ipv6' | 'arp' | 'not-ip' | 'short' | 'link'

/** Where in a frame its IPv4 header begins, or why there is none. */
export function ipv4In(link: number, frame: Buffer): number | PassedOver {
  if (link === LINK_ETHERNET) return byEtherType(frame, 12)
  if (link === LINK_LINUX_COOKED) return byEtherType(frame, 14)
  if (link === LINK_LINUX_COOKED2) return cooked2(frame)
  if (link === LINK_NULL || link === LINK_LOOP) return byFamily(frame)
  if (RAW.includes(link) || link === LINK_IPV4 || link === LINK_IPV6) return byVersion(frame)
  return 'link'
}

/** For a frame with an EtherType at `at`, then perhaps VLAN tags, then the packet. */
function byEtherType(frame: Buffer, at: number): number | PassedOver {
  for (let tags = 0; tags <= MOST_TAGS; tags++, at += 4) {
    if (frame.length < at + 2) return 'short'
    const type = frame.readUInt16BE(at)
    if (!VLANS.includes(type)) return type === TYPE_IPV4 ? at + 2 : nameOf(type)
  }
  return 'not-ip'
}

/** For LINUX_SLL2, which has the EtherType first and the packet behind a header of 20 bytes. */
function cooked2(frame: Buffer): number | PassedOver {
  if (frame.length < 20) return 'short'
  const type = frame.readUInt16BE(0)
  if (!VLANS.includes(type)) return type === TYPE_IPV4 ? 20 : nameOf(type)
  // Behind the header a tag follows, then the EtherType of the tagged packet.
  const inner = byEtherType(frame.subarray(20), 2)
  return typeof inner === 'number' ? 20 + inner : inner
}

const nameOf = (type: number): PassedOver => (type === TYPE_IPV6 ? 'ipv6' : type === TYPE_ARP ? 'arp' : 'not-ip')

/**
 * For a header of an address family, in the byte order of the machine that captured (null) or of the network (loop).
 */
function byFamily(frame: Buffer): number | PassedOver {
  if (frame.length < 4) return 'short'
  const families = [frame.readUInt32LE(), frame.readUInt32BE()]
  if (families.includes(AF_INET)) return 4
  return families.some((family) => AF_INET6.includes(family)) ? 'ipv6' : 'not-ip'
}

function byVersion(frame: Buffer): number | PassedOver {
  if (frame.length === 0) return 'short'
  const version = frame[0]! >> 4
  return version === 4 ? 0 : version === 6 ? 'ipv6' : 'not-ip'
}
