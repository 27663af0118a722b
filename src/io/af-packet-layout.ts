// What the coordinator (af-packet-open.ts) and the driver (af-packet.ts) must agree on: the kernel's structures and
// where everything lies in the packet memory. Authority: packet(7), linux/if_packet.h (struct tpacket2_hdr),
// sendmmsg(2), poll(2); the x86-64 and arm64 ABI of 64-bit Linux.
//
// The packet memory is one address range, reserved at once and filled by MAP_FIXED mappings. Each driver has a part of
// it:
//
//   [ shard 0 ][ shard 1 ] ... [ the dispatcher, where a thread dispatches ][ shared ]
//   a part:  [ receive ring of port 0 | ... of port P-1 | scratch | control ]
//              kernel memory, shared with the socket      written by the driver alone
//
// Where a thread dispatches, it has the receive rings, and the shards have none. Control holds what system calls point
// at and what a worker must know that goes on with a dead one's rings. Owner of a part: the driver that was given its
// rings, except PORT_STATE.socket, which only the coordinator writes.

import { CACHE_LINE } from '../memory/region.ts'
import { BURST } from './driver.ts'
import type { Address } from './syscalls.ts'

// --- receive ring: 64 KB frames let a GSO super-packet in whole ---

export const FRAME_BYTES = 66048
export const BLOCK_BYTES = 4 << 20
export const FRAMES_A_BLOCK = 63
/** A smaller ring loses the packets that come while the thread isn't scheduled. */
export const MIN_RING_BYTES = 16 << 20

/** Where frame i begins, from the begin of its ring. The rest of a block after its last frame is unused. */
export const frameOffset = (i: number): number => {
  const block = (i / FRAMES_A_BLOCK) | 0
  return block * BLOCK_BYTES + (i - block * FRAMES_A_BLOCK) * FRAME_BYTES
}

/** The number of the frame that a byte of a ring belongs to; the opposite of frameOffset. */
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
/** natloom's own: the kernel doesn't set this bit, nor fill a frame whose status isn't 0. Bit 0 is clear beside it. */
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

/** What must outlive a worker, as offsets from the begin of a port's block. */
export const PORT_STATE = {
  /** i32: the frame that receive() looks at next. */
  next: 0,
  /** i32: the first frame that release() has not given back yet; equal to `next` outside a burst. */
  unreleased: 4,
  /** f64: count of frames that the link refused to send. */
  sendFailures: 8,
  /** f64: count of frames lost because the ring was full. */
  receiveLosses: 16,
  /**
   * i32: counts the steps by which the coordinator gives the descriptor another socket: odd while it does so. Written
   * by the coordinator alone.
   */
  socket: 32,
  /** i32: the value of `socket` when the ring that lies in the packet memory was mapped. */
  mapped: 36,
  /**
   * Two i32: which frames of the burst, counted from `unreleased`, are lent, a bit each. The status word of a frame
   * says so only until the frame is given back, which may be before the burst is released.
   */
  lent: 40,
} as const
export const PORT_MESSAGES = CACHE_LINE
export const PORT_IOVECS = PORT_MESSAGES + BATCH * MMSGHDR_BYTES
const PORT_BYTES = PORT_IOVECS + BATCH * IOVEC_BYTES

/** One pollfd for each port, then the wake descriptor's. */
const pollBytes = (ports: number): number => lines((ports + 1) * POLLFD_BYTES)
/** Where a port's block begins, from the begin of control. */
export const portControl = (ports: number, port: number): number => pollBytes(ports) + port * PORT_BYTES
export const controlBytes = (ports: number): number => portControl(ports, ports)

/**
 * Everything that a driver needs to know of its part of the packet memory: plain data, which is posted to a worker. The
 * coordinator owns descriptors and mappings as long as the process lives, so a worker that follows a dead one goes on
 * with the same rings.
 */
export interface AfPacketRings {
  readonly packetMemoryAddress: Address
  readonly packetMemoryLength: number
  /** An offset from the packet memory's begin, as all that follow. Port i's ring begins at ringsAt + i * ringBytes. */
  readonly ringsAt: number
  /** Length of each port's ring, in whole blocks; 0 where a dispatcher has the rings. */
  readonly ringBytes: number
  /** How many frames a ring has. */
  readonly frames: number
  readonly scratchAt: number
  readonly scratchLength: number
  readonly controlAt: number
  /** The range that all shards share. */
  readonly sharedAt: number
  readonly sharedLength: number
  /** An eventfd: `signal(wakeFd)` in any thread ends the driver's wait(). Its maker closes it. */
  readonly wakeFd: number
  /** By port; receiveFd is -1 where there is no ring. */
  readonly ports: readonly { readonly name: string; readonly receiveFd: number; readonly sendFd: number }[]
}

// --- the packet memory as a whole ---

/** A packet is named by an i32 offset. */
export const MAX_PACKET_MEMORY_BYTES = 2 ** 31 - 1
const SCRATCH_BYTES = 8 << 20
const PAGE = 4096
export const pages = (bytes: number): number => Math.ceil(bytes / PAGE) * PAGE

export interface PacketMemoryOptions {
  /** Interfaces. */
  readonly ports: number
  readonly shards: number
  /** Who has receive rings: each shard, or the dispatcher alone. */
  readonly dispatch: 'kernel' | 'thread'
  /** Size of each receive ring, rounded down to whole blocks. */
  readonly ringBytes: number
  /** Size of the range that all shards share. */
  readonly sharedBytes: number
  /** Size of the scratch area in each part, rounded up to whole pages; default 8 MiB. */
  readonly scratchBytes?: number | undefined
}

/** Where everything lies, as AfPacketRings says it. */
export interface PacketMemoryLayout {
  /** By shard and, behind them, the dispatcher's where there is one. */
  readonly parts: readonly Pick<
    AfPacketRings,
    'ringsAt' | 'ringBytes' | 'frames' | 'scratchAt' | 'scratchLength' | 'controlAt'
  >[]
  readonly sharedAt: number
  readonly sharedLength: number
  readonly packetMemoryLength: number
}

/** Whether it is too large (MAX_PACKET_MEMORY_BYTES) is for the caller to see. */
export function packetMemoryLayout(options: PacketMemoryOptions): PacketMemoryLayout {
  const { ports, shards, dispatch, sharedBytes } = options
  const blocks = Math.floor(options.ringBytes / BLOCK_BYTES)
  const rings = { ringBytes: blocks * BLOCK_BYTES, frames: blocks * FRAMES_A_BLOCK }
  const none = { ringBytes: 0, frames: 0 }
  const drivers = Array.from({ length: shards }, () => (dispatch === 'kernel' ? rings : none))
  if (dispatch === 'thread') drivers.push(rings)
  const scratchLength = pages(options.scratchBytes ?? SCRATCH_BYTES)
  const sharedLength = pages(sharedBytes)
  let end = 0
  const parts = drivers.map((driver) => {
    const scratchAt = end + ports * driver.ringBytes
    const controlAt = scratchAt + scratchLength
    const part = { ...driver, ringsAt: end, scratchAt, scratchLength, controlAt }
    end = controlAt + pages(controlBytes(ports))
    return part
  })
  return { parts, sharedAt: end, sharedLength, packetMemoryLength: end + sharedLength }
}
