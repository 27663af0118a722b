// One packet socket: how it is made, prepared for receiving or for sending, and bound.
// Authority: packet(7), linux/if_packet.h, net/packet/af_packet.c (bind), socket(7).

import { BLOCK_BYTES, FRAME_BYTES, FRAMES_A_BLOCK } from './af-packet-layout.ts'
import { AfPacketError } from './errors.ts'
import {
  AF_PACKET,
  bind,
  getsockname,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SOCK_CLOEXEC,
  SOCK_RAW,
  SOL_PACKET,
  SOL_SOCKET,
  SystemCallError,
  setsockopt,
  setsockoptInt,
  socket,
} from './syscalls.ts'

const PACKET_RX_RING = 5
const PACKET_VERSION = 10
const PACKET_RESERVE = 12
const PACKET_VNET_HDR = 15
const PACKET_QDISC_BYPASS = 20
const TPACKET_V2 = 1
const ARPHRD_ETHER = 1

/** Protocols to bind a socket to: IPv4 for one that receives, none for one that only sends. */
export const ETH_P_IP = 0x0800
export const ETH_P_NONE = 0

// struct sockaddr_ll
const SOCKADDR_LL_BYTES = 20
const SLL_PROTOCOL = 2
const SLL_IFINDEX = 4
const SLL_HATYPE = 8

const SEND_BUFFER_BYTES = 16 << 20

/** Makes a socket and notes it in `opened`. Its protocol is 0, so it receives nothing before it is bound. */
export function packetSocket(opened: number[]): number {
  try {
    const fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0)
    opened.push(fd)
    return fd
  } catch (error) {
    if (error instanceof SystemCallError && error.code === 'EPERM')
      throw new AfPacketError('not-permitted', 'packet sockets are not permitted: run as root or with CAP_NET_RAW')
    throw error
  }
}

/**
 * Makes the receive ring of a socket, to be mapped. The order matters: version, header and reserve are set first,
 * because they shape the frames of the ring.
 */
export function prepareReceiving(fd: number, name: string, ringBytes: number): void {
  setsockoptInt(fd, SOL_PACKET, PACKET_VERSION, TPACKET_V2)
  setsockoptInt(fd, SOL_PACKET, PACKET_VNET_HDR, 1)
  // Moves the Ethernet header by two bytes, so that the IPv4 header lies on a multiple of four.
  setsockoptInt(fd, SOL_PACKET, PACKET_RESERVE, 2)
  const blocks = ringBytes / BLOCK_BYTES
  const request = Uint32Array.of(BLOCK_BYTES, blocks, FRAME_BYTES, blocks * FRAMES_A_BLOCK)
  try {
    setsockopt(fd, SOL_PACKET, PACKET_RX_RING, new Uint8Array(request.buffer))
  } catch (error) {
    if (error instanceof SystemCallError && error.code === 'ENOMEM')
      throw new AfPacketError(
        'ring-memory',
        `the kernel has no ${ringBytes >> 20} MiB for the receive ring of ${name}: free memory, or make the ring ` +
          'smaller',
      )
    throw error
  }
}

export function prepareSending(fd: number, qdiscBypass: boolean): void {
  setsockoptInt(fd, SOL_PACKET, PACKET_VNET_HDR, 1)
  setQdiscBypass(fd, qdiscBypass)
  try {
    setsockoptInt(fd, SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER_BYTES)
  } catch (error) {
    if (!(error instanceof SystemCallError && error.code === 'EPERM')) throw error
    // In a user namespace only net.core.wmem_max bytes may be had.
    setsockoptInt(fd, SOL_SOCKET, SO_SNDBUF, SEND_BUFFER_BYTES)
  }
}

/** May be set at any time, also while another thread sends. */
export function setQdiscBypass(fd: number, bypass: boolean): void {
  setsockoptInt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, bypass ? 1 : 0)
}

export function bindTo(fd: number, name: string, index: number, protocol: number): void {
  const address = new DataView(new ArrayBuffer(SOCKADDR_LL_BYTES))
  const bytes = new Uint8Array(address.buffer)
  address.setUint16(0, AF_PACKET, true)
  address.setUint16(SLL_PROTOCOL, protocol)
  address.setInt32(SLL_IFINDEX, index, true)
  const missing = (): AfPacketError =>
    new AfPacketError('interface-missing', `there is no interface ${name} here: name one that \`ip link\` lists`)
  // Index 0 would bind to all interfaces.
  if (index === 0) throw missing()
  try {
    bind(fd, bytes)
  } catch (error) {
    if (error instanceof SystemCallError && error.code === 'ENODEV') throw missing()
    throw error
  }
  getsockname(fd, bytes)
  const hardwareType = address.getUint16(SLL_HATYPE, true)
  if (hardwareType !== ARPHRD_ETHER)
    throw new AfPacketError(
      'not-ethernet',
      `interface ${name} has no Ethernet header (hardware type ${hardwareType}), as tunnels, PPP and the loopback: ` +
        'allowed are Ethernet-like interfaces (cards, bridges, VLANs, veth, bonds)',
    )
}
