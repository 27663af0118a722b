// What the coordinator (af-packet-open.ts) and the shard's driver (af-packet.ts) must agree on: the kernel's structures
// and where everything lies in the packet memory. Authority: packet(7), linux/if_packet.h (struct tpacket2_hdr), sendmmsg(2),
// poll(2); the x86-64 and arm64 ABI of 64-bit Linux.
//
// The packet memory is one address range for the rings of all shards, reserved at once and filled by MAP_FIXED mappings. Each set of rings has a part:
//
//   [ shard 0 ][ shard 1 ] ... [ the dispatcher, where a thread dispatches ][ shared ]
//   a part:  [ receive ring of port 0 | ... of port P-1 | scratch | control ]
//              kernel memory, shared with the socket      the shard's, both
//
// Where a thread dispatches, it has the rings, and the shards have none. Control holds what system calls point at and
// what a new worker on the same rings must know. Owner: the rings' driver, but for PORT_STATE.ring.

import { CACHE_LINE } from '../memory/region.ts'
import { BURST } from './driver.ts'
import type { Address } from './syscalls.ts'

// --- receive ring: 64 KB frames let a GSO super-packet in whole ---

export const FRAME_BYTES = 66048
export const BLOCK_BYTES = 4 << 20
export const FRAMES_A_BLOCK = 63
/** Below it, the bursts that build up while the thread isn't scheduled are lost. */
export const MIN_RING_BYTES = 16 << 20

/** Where frame i begins in its ring: the rest of a block after its last frame is unused. */
export const frameOffset = (i: number): number => {
  const block = (i / FRAMES_A_BLOCK) | 0
  return block * BLOCK_BYTES + (i - block * FRAMES_A_BLOCK) * FRAME_BYTES
}

/** The frame that a place in a ring belongs to. */
export const frameAt = (offset: number): number => {
  const block = (offset / BLOCK_BYTES) | 0
  return block * FRAMES_A_BLOCK + (((offset - block * BLOCK_BYTES) / FRAME_BYTES) | 0)
}

// struct tpacket2_hdr, in i32 words from the frame's begin
export const TP_STATUS = 0
export const TP_SNAPLEN = 2
/** tp_mac in the low half, tp_net in the high one. */
export const TP_MAC_NET = 3

export const TP_STATUS_KERNEL = 0
export const TP_STATUS_USER = 1
export const TP_STATUS_VLAN_VALID = 0x10
/** Ours alone: the kernel neither sets it nor fills a frame whose status isn't 0, and bit 0 is clear. */
export const TP_STATUS_LENT = 0x10000

// --- control: a block for poll(), then one for each port; offsets in bytes ---

const lines = (bytes: number): number => Math.ceil(bytes / CACHE_LINE) * CACHE_LINE

// struct pollfd: int fd, short events, short revents
export const POLLFD_BYTES = 8

// struct mmsghdr, struct iovec
export const MMSGHDR_BYTES = 64
export const MSG_IOV = 16
export const MSG_IOVLEN = 24
export const IOVEC_BYTES = 16
/** Messages that one sendmmsg() takes; more are sent early. */
export const BATCH = BURST

/** What outlives a worker, at the begin of a port's block. */
export const PORT_STATE = {
  /** i32: the frame that receive() looks at next. */
  next: 0,
  /** i32: the first frame that release() has not given back; equal to `next` outside a burst. */
  held: 4,
  /** f64: frames that the link refused to send. */
  sendFailures: 8,
  /** f64: frames lost because the ring was full. */
  receiveLosses: 16,
  /** f64: frames skipped because they bore a VLAN tag. */
  tagged: 24,
  /**
   * i32: counts what the coordinator does to the descriptor, odd while it puts another socket in its place. It is the
   * only writer.
   */
  socket: 32,
  /** i32: what `socket` said when the ring that lies in the packet memory was mapped. */
  mapped: 36,
  /**
   * Two i32: which frames of the burst from `held` on are lent, a bit each. Their status says so only until they are
   * given back, which may be before the burst is released.
   */
  lent: 40,
} as const
export const PORT_MESSAGES = CACHE_LINE
export const PORT_IOVECS = PORT_MESSAGES + BATCH * MMSGHDR_BYTES
const PORT_BYTES = PORT_IOVECS + BATCH * IOVEC_BYTES

/** One pollfd for each port, then the wake descriptor's. */
const pollBytes = (ports: number): number => lines((ports + 1) * POLLFD_BYTES)
/** From the begin of control. */
export const portControl = (ports: number, port: number): number => pollBytes(ports) + port * PORT_BYTES
export const controlBytes = (ports: number): number => portControl(ports, ports)

/**
 * Everything a worker needs to drive its ports: plain data, to be posted. The coordinator owns the descriptors and the
 * mapping for the process's life, so a worker that takes a dead one's place goes on with the same rings.
 */
export interface AfPacketRings {
  readonly packetMemoryAddress: Address
  readonly packetMemoryLength: number
  /** Offsets from the packet memory's begin, as all places are. Ring i begins at ringsAt + i * ringBytes. */
  readonly ringsAt: number
  /** Of each port, whole blocks; 0 where a dispatcher has the rings. */
  readonly ringBytes: number
  /** Of each ring. */
  readonly frames: number
  readonly scratchAt: number
  readonly scratchLength: number
  readonly controlAt: number
  /** All shards'. */
  readonly sharedAt: number
  readonly sharedLength: number
  /** An eventfd: `signal(wakeFd)` in any thread ends the driver's wait(). It stays its maker's to close. */
  readonly wakeFd: number
  /** A receiveFd of -1: no ring. */
  readonly ports: readonly { readonly name: string; readonly receiveFd: number; readonly sendFd: number }[]
}
