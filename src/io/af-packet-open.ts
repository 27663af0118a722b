// Control plane of af-packet: makes the sockets and receive rings of one shard, maps them side by side into one arena,
// and binds them again to an interface that came back. Runs on the coordinator, which keeps what it makes: descriptors
// and mappings are lent to workers by number (see AfPacketSeat).
// Authority: packet(7), linux/if_packet.h, net/packet/af_packet.c (bind, notifier), socket(7).

import {
  type AfPacketSeat,
  BLOCK_BYTES,
  controlBytes,
  FRAME_BYTES,
  FRAMES_A_BLOCK,
  MIN_RING_BYTES,
} from './af-packet-layout.ts'
import {
  type Address,
  AF_PACKET,
  bind,
  close,
  getsockname,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  mmap,
  munmap,
  PROT_NONE,
  PROT_READ_WRITE,
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
const PACKET_IGNORE_OUTGOING = 23
const TPACKET_V2 = 1
const ETH_P_ALL = 3
const ARPHRD_ETHER = 1

// struct sockaddr_ll
const SOCKADDR_LL_BYTES = 20
const SLL_PROTOCOL = 2
const SLL_IFINDEX = 4
const SLL_HATYPE = 8

const SEND_BUFFER_BYTES = 16 << 20
const SCRATCH_BYTES = 8 << 20
/** Packets are i32 offsets. */
const MAX_ARENA_BYTES = 2 ** 31 - 1

export type AfPacketErrorCode = 'interface-missing' | 'not-ethernet' | 'not-permitted' | 'ring-size' | 'ring-memory'

/** Why the packet sockets can't be had; the message says what to do. */
export class AfPacketError extends Error {
  override readonly name = 'AfPacketError'
  readonly code: AfPacketErrorCode
  constructor(code: AfPacketErrorCode, message: string) {
    super(message)
    this.code = code
  }
}

export interface AfPacketOptions {
  /** Becomes ports 0, 1, ... in this order. The index is the one in the calling thread's network namespace. */
  readonly interfaces: readonly { readonly name: string; readonly index: number }[]
  /** Receive ring of each port, at least 16 MiB, rounded down to whole blocks of 4 MiB. Taken from the kernel at once. */
  readonly ringBytes: number
  /** By port: send past the queue discipline (faster; ends any shaping on that interface). */
  readonly qdiscBypass: readonly boolean[]
  /** An eventfd that ends the driver's wait(); stays the caller's. */
  readonly wakeFd: number
  /** Default 8 MiB, page-aligned up. */
  readonly scratchBytes?: number
}

/**
 * Opens a shard's ports in the calling thread's network namespace. Throws AfPacketError, and then leaves nothing open.
 */
export function openAfPacket(options: AfPacketOptions): AfPacketSeat {
  const { interfaces, wakeFd } = options
  const ringBytes = Math.floor(options.ringBytes / BLOCK_BYTES) * BLOCK_BYTES
  const scratchAt = interfaces.length * ringBytes
  const scratchLength = pages(options.scratchBytes ?? SCRATCH_BYTES)
  const controlAt = scratchAt + scratchLength
  const arenaLength = controlAt + pages(controlBytes(interfaces.length))
  if (options.ringBytes < MIN_RING_BYTES)
    throw new AfPacketError(
      'ring-size',
      `a receive ring of ${options.ringBytes} bytes, allowed: ${MIN_RING_BYTES} (16 MiB) or more for each interface`,
    )
  if (arenaLength > MAX_ARENA_BYTES)
    throw new AfPacketError(
      'ring-size',
      `${interfaces.length} receive rings of ${ringBytes} bytes and ${scratchLength} bytes beside them for one shard, ` +
        'allowed: 2 GiB together; give each interface a smaller ring',
    )

  const opened: number[] = []
  let arenaAddress: Address = 0
  try {
    arenaAddress = mmap(0, arenaLength, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1)
    const ports = interfaces.map(({ name, index }, port) => {
      const sendFd = packetSocket(opened)
      prepareSending(sendFd, options.qdiscBypass[port] ?? false)
      bindTo(sendFd, name, index, 0)
      const receiveFd = packetSocket(opened)
      prepareReceiving(receiveFd, name, ringBytes)
      mmap(arenaAddress + port * ringBytes, ringBytes, PROT_READ_WRITE, MAP_SHARED | MAP_FIXED, receiveFd)
      return { name, index, sendFd, receiveFd }
    })
    const anonymous = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED
    mmap(arenaAddress + scratchAt, arenaLength - scratchAt, PROT_READ_WRITE, anonymous, -1)
    // Last, when nothing can fail any more: from here on packets fill the rings.
    for (const { name, index, receiveFd } of ports) bindTo(receiveFd, name, index, ETH_P_ALL)
    return {
      arenaAddress,
      arenaLength,
      ringBytes,
      frames: (ringBytes / BLOCK_BYTES) * FRAMES_A_BLOCK,
      scratchAt,
      scratchLength,
      controlAt,
      wakeFd,
      ports: ports.map(({ name, sendFd, receiveFd }) => ({ name, sendFd, receiveFd })),
    }
  } catch (error) {
    if (arenaAddress !== 0) munmap(arenaAddress, arenaLength)
    for (const fd of opened) close(fd)
    throw error
  }
}

/**
 * Binds a port to its interface again after that vanished and came back under another index; the driver goes on with
 * the same sockets and the same ring. A link that only went down and up needs nothing: the kernel hooks it in again.
 */
export function rebind(seat: AfPacketSeat, port: number, index: number): void {
  const { name, sendFd, receiveFd } = seat.ports[port]
  bindTo(sendFd, name, index, 0)
  bindTo(receiveFd, name, index, ETH_P_ALL)
}

/** Gives everything back but wakeFd. Call it when the worker has ended: a view of the arena must not be touched after. */
export function closeSeat(seat: AfPacketSeat): void {
  for (const { receiveFd, sendFd } of seat.ports) {
    close(receiveFd)
    close(sendFd)
  }
  munmap(seat.arenaAddress, seat.arenaLength)
}

const PAGE = 4096
const pages = (bytes: number): number => Math.ceil(bytes / PAGE) * PAGE

/** Protocol 0: it receives nothing before it is bound. */
function packetSocket(opened: number[]): number {
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

/** The order matters: version, header and reserve shape the frames of the ring that is made last. */
function prepareReceiving(fd: number, name: string, ringBytes: number): void {
  setsockoptInt(fd, SOL_PACKET, PACKET_VERSION, TPACKET_V2)
  setsockoptInt(fd, SOL_PACKET, PACKET_VNET_HDR, 1)
  // Moves the Ethernet header by two bytes, and so the IPv4 header onto four.
  setsockoptInt(fd, SOL_PACKET, PACKET_RESERVE, 2)
  setsockoptInt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
  const blocks = ringBytes / BLOCK_BYTES
  const request = Uint32Array.of(BLOCK_BYTES, blocks, FRAME_BYTES, blocks * FRAMES_A_BLOCK)
  try {
    setsockopt(fd, SOL_PACKET, PACKET_RX_RING, new Uint8Array(request.buffer))
  } catch (error) {
    if (error instanceof SystemCallError && error.code === 'ENOMEM')
      throw new AfPacketError(
        'ring-memory',
        `the kernel has no ${ringBytes >> 20} MiB for the receive ring of ${name}: free memory, or make the ring smaller`,
      )
    throw error
  }
}

function prepareSending(fd: number, qdiscBypass: boolean): void {
  setsockoptInt(fd, SOL_PACKET, PACKET_VNET_HDR, 1)
  setsockoptInt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, qdiscBypass ? 1 : 0)
  try {
    setsockoptInt(fd, SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER_BYTES)
  } catch (error) {
    if (!(error instanceof SystemCallError && error.code === 'EPERM')) throw error
    // In a user namespace: as much as net.core.wmem_max allows.
    setsockoptInt(fd, SOL_SOCKET, SO_SNDBUF, SEND_BUFFER_BYTES)
  }
}

function bindTo(fd: number, name: string, index: number, protocol: number): void {
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
