// Where a captured frame's network packet begins, by the link that it was captured on
// (draft-ietf-opsawg-pcaplinktype, LINKTYPE_...). VLAN tags are passed over: a capture on a trunk is one network here.

const LINK_NULL = 0
const LINK_ETHERNET = 1
/** LINKTYPE_RAW has 101; 12 and 14 are what some systems write in its place. */
const RAW = [101, 12, 14]
const LINK_LOOP = 108
const LINK_LINUX_COOKED = 113
const LINK_IPV4 = 228
const LINK_IPV6 = 229
const LINK_LINUX_COOKED2 = 276

const IPV4 = 0x0800
const IPV6 = 0x86dd
const ARP = 0x0806
const VLANS = [0x8100, 0x88a8, 0x9100]
const MOST_TAGS = 4

const AF_INET = 2
/** Linux, the BSDs, macOS: each has its own. */
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

/** For messages. */
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

/** The EtherType stands at `at`, what it is about behind it, tags in between. */
function byEtherType(frame: Buffer, at: number): number | PassedOver {
  for (let tags = 0; tags <= MOST_TAGS; tags++, at += 4) {
    if (frame.length < at + 2) return 'short'
    const type = frame.readUInt16BE(at)
    if (!VLANS.includes(type)) return type === IPV4 ? at + 2 : nameOf(type)
  }
  return 'not-ip'
}

/** The protocol stands in front, what it is about behind the whole header. */
function cooked2(frame: Buffer): number | PassedOver {
  if (frame.length < 20) return 'short'
  const type = frame.readUInt16BE(0)
  if (!VLANS.includes(type)) return type === IPV4 ? 20 : nameOf(type)
  // Its header ends in the address; a tag and the type that it stands before follow.
  const inner = byEtherType(frame.subarray(20), 2)
  return typeof inner === 'number' ? 20 + inner : inner
}

const nameOf = (type: number): PassedOver => (type === IPV6 ? 'ipv6' : type === ARP ? 'arp' : 'not-ip')

/** The address family is in the order of the machine that captured (null), or of the network (loop). */
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
