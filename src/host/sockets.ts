// Lists the ports that the host's own sockets use on addresses that it shares with NAT. Authority: sock_diag(7),
// linux/inet_diag.h.

import type { Addr } from '../wire/address.ts'
import { PROTO_TCP, PROTO_UDP } from '../wire/ipv4.ts'
import { attributes, type Message } from './netlink.ts'
import { NETLINK_SOCK_DIAG, NetlinkSocket } from './netlink-socket.ts'
import type { PortRange } from './port-range.ts'

const SOCK_DIAG_BY_FAMILY = 20
const AF_INET = 2
const AF_INET6 = 10
const ALL_STATES = 0xffffffff
const INET_DIAG_REQ_BYTECODE = 1
const BYTECODE_SOURCE_AT_LEAST = 2
const BYTECODE_SOURCE_AT_MOST = 3
const INET_DIAG_SKV6ONLY = 11

// struct inet_diag_msg: family u8, state u8, timer u8, retransmissions u8, then the socket's id, which begins with
// source port and destination port (network order) and two addresses of 16 bytes; 72 bytes in all.
const SOURCE_PORT = 4
const SOURCE = 8
const LENGTH = 72
const MAPPED = 0xffff0000 | 0 // ::ffff:0:0/96, its third word as loaded

/**
 * The local ports within `range` of all sockets of these protocols, in whatever state, that are bound to one of
 * `addresses` or to every address. Throws NetlinkError.
 */
export function portsInUse(
  addresses: readonly Addr[],
  range: PortRange,
  protocols: readonly number[] = [PROTO_TCP, PROTO_UDP],
): Set<number> {
  const socket = new NetlinkSocket(NETLINK_SOCK_DIAG)
  const ports = new Set<number>()
  try {
    for (const family of [AF_INET, AF_INET6]) {
      for (const protocol of protocols) {
        const request = {
          what: 'listing the host’s sockets (kernel modules tcp_diag and udp_diag)',
          type: SOCK_DIAG_BY_FAMILY,
          fixed: everySocket(family, protocol),
          attributes: [[INET_DIAG_REQ_BYTECODE, sourcePortWithin(range)]] as const,
        }
        socket.dump(request, (message) => {
          if (concerns(message, addresses)) ports.add(message.body.getUint16(SOURCE_PORT))
          return undefined
        })
      }
    }
  } finally {
    socket.close()
  }
  return ports
}

/** struct inet_diag_req_v2: family u8, protocol u8, extensions u8, padding u8, states u32, an empty id of 48 bytes. */
function everySocket(family: number, protocol: number): Uint8Array {
  const fixed = new Uint8Array(56)
  fixed[0] = family
  fixed[1] = protocol
  new DataView(fixed.buffer).setUint32(4, ALL_STATES, true)
  return fixed
}

/**
 * A filter that the kernel runs, so that a host with many sockets outside of the range costs nothing. Each operation is
 * two words: code u8, bytes to skip if true u8, bytes to skip if false u16; then the port in the upper half. A jump to
 * exactly the end of the program accepts, a jump beyond it refuses.
 */
function sourcePortWithin({ from, to }: PortRange): Uint8Array {
  const program = new DataView(new ArrayBuffer(16))
  const operation = (at: number, code: number, port: number) => {
    program.setUint8(at, code)
    program.setUint8(at + 1, 8)
    program.setUint16(at + 2, program.byteLength - at + 4, true)
    program.setUint16(at + 6, port, true)
  }
  operation(0, BYTECODE_SOURCE_AT_LEAST, from)
  operation(8, BYTECODE_SOURCE_AT_MOST, to)
  return new Uint8Array(program.buffer)
}

function concerns({ body }: Message, addresses: readonly Addr[]): boolean {
  const word = (index: number) => body.getInt32(SOURCE + index * 4, true)
  if (body.getUint8(0) === AF_INET) return word(0) === 0 || addresses.includes(word(0))
  if (word(0) !== 0 || word(1) !== 0) return false
  if (word(2) === MAPPED) return word(3) === 0 || addresses.includes(word(3))
  // A socket bound to :: receives IPv4 too, unless IPV6_V6ONLY is set.
  const onlyV6 = attributes(body, LENGTH).get(INET_DIAG_SKV6ONLY)?.getUint8(0) === 1
  return word(2) === 0 && word(3) === 0 && !onlyV6
}
