// Links, IPv4 addresses, routes and neighbours: parsed from the kernel's messages, listed and changed by requests.
// Authority: rtnetlink(7), RFC 3549 section 3, linux/if_link.h, if_addr.h, rtnetlink.h, neighbour.h. Addresses are i32
// as loaded from a packet.

import type { Addr } from '../wire/address.ts'
import { attributes, bytesOf, int32, type Message, NLM_F_CREATE, NLM_F_EXCL, textOf } from './netlink.ts'
import type { NetlinkSocket } from './netlink-socket.ts'

const AF_INET = 2

const RTM_GETLINK = 18
const RTM_GETADDR = 22
const RTM_NEWROUTE = 24
const RTM_DELROUTE = 25
const RTM_GETROUTE = 26
export const RTM_NEWNEIGH = 28
export const RTM_DELNEIGH = 29
const RTM_GETNEIGH = 30
const RTM_GETRULE = 34

/** Bit masks of the groups to listen to: RTMGRP_LINK, _NEIGH, _IPV4_IFADDR, _IPV4_ROUTE. */
export const GROUPS = 0x1 | 0x4 | 0x10 | 0x40

export const TABLE_MAIN = 254
export const TABLE_LOCAL = 255
export const RTN = {
  unicast: 1,
  local: 2,
  broadcast: 3,
  multicast: 5,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
} as const
/** States in which a neighbour's MAC is good: REACHABLE, STALE, DELAY, PROBE, NOARP, PERMANENT. */
export const NUD_VALID = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80
export const NUD_INCOMPLETE = 0x01
export const NUD_FAILED = 0x20
/** States that the kernel does not check: NOARP, PERMANENT. */
const NUD_FIXED = 0x40 | 0x80

const ARPHRD_ETHER = 1
const IFF_UP = 0x1
const IFF_RUNNING = 0x40
const IFA_F_SECONDARY = 0x01
const SCOPE_UNIVERSE = 0
const SCOPE_HOST = 254
const RTNH_F_DEAD = 0x01
const NTF_USE = 0x01
const NTF_EXT_LEARNED = 0x10

export interface Link {
  readonly index: number
  readonly name: string
  /** Its state is UP: set by the administrator (`ip link set up`). */
  readonly enabled: boolean
  /** Enabled, and the carrier is there. */
  readonly up: boolean
  readonly ethernet: boolean
  readonly mtu: number
  readonly mac: Uint8Array
  /** The index of the interface that it is a part of, 0 if it is none; and as what: `bridge`, `bond`, `vrf`. */
  readonly master: number
  readonly partOf: string
}

export interface Address {
  readonly index: number
  readonly address: Addr
  readonly prefixLength: number
  /** May be chosen as the source of the host's own packets: not secondary, of global scope. */
  readonly primary: boolean
}

export interface Route {
  readonly table: number
  readonly destination: Addr
  readonly length: number
  /** RTN_*. */
  readonly type: number
  /** RTPROT_*: who made it. */
  readonly protocol: number
  /** The interface of the next hop, of several next hops the first that is alive; 0 if there is none. */
  readonly index: number
  /** 0: on-link. */
  readonly gateway: Addr
  /** 0: none. */
  readonly source: Addr
  /** 0: none. */
  readonly mtu: number
  readonly metric: number
}

export interface Neighbour {
  readonly index: number
  readonly address: Addr
  /** NUD_* bits. */
  readonly state: number
  readonly mac: Uint8Array
  /**
   * The kernel itself found the MAC and checks it: it is neither fixed nor set by another program (a routing daemon).
   */
  readonly learned: boolean
}

const NO_MAC = new Uint8Array(6)

function linkOf({ body }: Message): Link {
  const found = attributes(body, 16)
  const flags = body.getUint32(8, true)
  const mac = found.get(1) // IFLA_ADDRESS
  const info = found.get(18) // IFLA_LINKINFO
  const partOf = info && attributes(info, 0).get(4) // IFLA_INFO_SLAVE_KIND
  return {
    index: body.getInt32(4, true),
    name: textOf(found.get(3) ?? new DataView(new ArrayBuffer(0))), // IFLA_IFNAME
    enabled: (flags & IFF_UP) !== 0,
    up: (flags & (IFF_UP | IFF_RUNNING)) === (IFF_UP | IFF_RUNNING),
    ethernet: body.getUint16(2, true) === ARPHRD_ETHER,
    mtu: found.get(4)?.getUint32(0, true) ?? 0, // IFLA_MTU
    mac: mac?.byteLength === 6 ? bytesOf(mac) : NO_MAC,
    master: found.get(10)?.getUint32(0, true) ?? 0, // IFLA_MASTER
    partOf: partOf ? textOf(partOf) : '',
  }
}

function addressOf({ body }: Message): Address | undefined {
  if (body.getUint8(0) !== AF_INET) return undefined
  const found = attributes(body, 8)
  const address = found.get(2) ?? found.get(1) // IFA_LOCAL; IFA_ADDRESS is the peer of a point-to-point link
  if (!address) return undefined
  return {
    index: body.getUint32(4, true),
    address: address.getInt32(0, true),
    prefixLength: body.getUint8(1),
    primary: (body.getUint8(2) & IFA_F_SECONDARY) === 0 && body.getUint8(3) === SCOPE_UNIVERSE,
  }
}

/** Undefined for routes that we don't follow: other families, routes for one type of service, dead next hops. */
function routeOf({ body }: Message): Route | undefined {
  if (body.getUint8(0) !== AF_INET || body.getUint8(3) !== 0) return undefined
  const found = attributes(body, 12)
  const address = (type: number): Addr => found.get(type)?.getInt32(0, true) ?? 0
  const number = (type: number): number => found.get(type)?.getUint32(0, true) ?? 0
  let hop = { index: number(4), gateway: address(5), via: found.has(18) } // RTA_OIF, RTA_GATEWAY, RTA_VIA
  const paths = found.get(9) // RTA_MULTIPATH
  if (paths) {
    const alive = firstAlive(paths)
    if (!alive) return undefined
    hop = alive
  } else if (body.getUint32(8, true) & RTNH_F_DEAD) {
    return undefined
  }
  const metrics = found.get(8) // RTA_METRICS
  return {
    table: number(15) || body.getUint8(4), // RTA_TABLE
    destination: address(1), // RTA_DST
    length: body.getUint8(1),
    type: body.getUint8(7),
    protocol: body.getUint8(5),
    // A next hop of another family (RFC 5549) is not resolved by ARP; as a route by a third interface it is the
    // kernel's.
    index: hop.via ? 0 : hop.index,
    gateway: hop.gateway,
    source: address(7), // RTA_PREFSRC
    mtu: (metrics && attributes(metrics, 0).get(2)?.getUint32(0, true)) ?? 0, // RTAX_MTU
    metric: number(6), // RTA_PRIORITY
  }
}

function firstAlive(paths: DataView): { index: number; gateway: Addr; via: boolean } | undefined {
  for (let at = 0; paths.byteLength - at >= 8; ) {
    const length = paths.getUint16(at, true) // struct rtnexthop: length u16, flags u8, hops u8, index i32
    if (length < 8 || at + length > paths.byteLength) return undefined
    if ((paths.getUint8(at + 2) & RTNH_F_DEAD) === 0) {
      const found = attributes(new DataView(paths.buffer, paths.byteOffset + at, length), 8)
      return { index: paths.getInt32(at + 4, true), gateway: found.get(5)?.getInt32(0, true) ?? 0, via: found.has(18) }
    }
    at += (length + 3) & ~3
  }
  return undefined
}

export function neighbourOf({ body }: Message): Neighbour | undefined {
  const found = attributes(body, 12)
  const address = found.get(1) // NDA_DST
  if (body.getUint8(0) !== AF_INET || address?.byteLength !== 4) return undefined
  const mac = found.get(2) // NDA_LLADDR
  const state = body.getUint16(8, true)
  return {
    index: body.getInt32(4, true),
    address: address.getInt32(0, true),
    state: mac?.byteLength === 6 ? state : state & ~NUD_VALID,
    mac: mac?.byteLength === 6 ? bytesOf(mac) : NO_MAC,
    learned: (state & NUD_FIXED) === 0 && (body.getUint8(10) & NTF_EXT_LEARNED) === 0,
  }
}

export const listLinks = (socket: NetlinkSocket): Link[] =>
  socket.dump({ what: 'listing interfaces', type: RTM_GETLINK, fixed: new Uint8Array(16) }, linkOf)

export const listAddresses = (socket: NetlinkSocket): Address[] =>
  socket.dump(
    { what: 'listing addresses', type: RTM_GETADDR, fixed: Uint8Array.of(AF_INET, 0, 0, 0, 0, 0, 0, 0) },
    addressOf,
  )

/** The result is filtered by table, because kernels before 4.20 list all tables. */
export function listRoutes(socket: NetlinkSocket, table: number): Route[] {
  const fixed = Uint8Array.of(AF_INET, 0, 0, 0, table, 0, 0, 0, 0, 0, 0, 0)
  const attribute = [15, int32(table)] as const // RTA_TABLE
  const rows = socket.dump({ what: 'listing routes', type: RTM_GETROUTE, fixed, attributes: [attribute] }, routeOf)
  return rows.filter((route) => route.table === table)
}

export const listNeighbours = (socket: NetlinkSocket): Neighbour[] =>
  socket.dump(
    { what: 'listing neighbours', type: RTM_GETNEIGH, fixed: Uint8Array.of(AF_INET, ...new Array(11).fill(0)) },
    neighbourOf,
  )

/** The priorities that the kernel itself gives rules: those that lead to the tables local, main and default. */
const KERNELS_RULES = [0, 32766, 32767]

/** Priorities of the policy rules (`ip rule`) that somebody has added. */
export const listAddedRules = (socket: NetlinkSocket): number[] =>
  socket.dump(
    { what: 'listing policy rules', type: RTM_GETRULE, fixed: Uint8Array.of(AF_INET, ...new Array(11).fill(0)) },
    ({ body }) => {
      const priority = attributes(body, 12).get(6)?.getUint32(0, true) ?? 0 // struct fib_rule_hdr, FRA_PRIORITY
      return KERNELS_RULES.includes(priority) ? undefined : priority
    },
  )

/** Has the kernel find or confirm a neighbour's MAC, as if the host itself had sent a packet to it. */
export function useNeighbour(socket: NetlinkSocket, index: number, address: Addr, create: boolean): void {
  const fixed = new Uint8Array(12) // struct ndmsg: family, index i32 @4, state u16 @8, flags @10
  const view = new DataView(fixed.buffer)
  view.setUint8(0, AF_INET)
  view.setInt32(4, index, true)
  view.setUint8(10, NTF_USE)
  const flags = create ? NLM_F_CREATE : 0
  const attribute = [1, int32(address)] as const
  socket.request({ what: 'resolving a neighbour', type: RTM_NEWNEIGH, flags, fixed, attributes: [attribute] })
}

const localRoute = (protocol: number): Uint8Array =>
  Uint8Array.of(AF_INET, 32, 0, 0, TABLE_LOCAL, protocol, SCOPE_HOST, RTN.local, 0, 0, 0, 0)

/** Makes an address that no interface has the host's own. Throws NetlinkError, EEXIST if it is the host's already. */
export function addLocalRoute(socket: NetlinkSocket, address: Addr, index: number, protocol: number): void {
  const attributes = [
    [1, int32(address)],
    [4, int32(index)],
  ] as const
  const fixed = localRoute(protocol)
  const flags = NLM_F_CREATE | NLM_F_EXCL
  socket.request({ what: 'adding a local route', type: RTM_NEWROUTE, flags, fixed, attributes })
}

export function deleteLocalRoute(socket: NetlinkSocket, address: Addr, index: number, protocol: number): void {
  const attributes = [
    [1, int32(address)],
    [4, int32(index)],
  ] as const
  const fixed = localRoute(protocol)
  socket.request({ what: 'deleting a local route', type: RTM_DELROUTE, fixed, attributes })
}
