// Control plane of af-packet: makes the sockets and receive rings of all shards, maps them side by side into one packet memory,
// and binds them again to an interface that came back. Runs on the coordinator, which keeps what it makes: descriptors
// and mappings are lent to workers by number (see AfPacketSeat).
// Authority: packet(7), net/packet/af_packet.c (bind, notifier), mmap(2).
//
// Owner: the coordinator, but for one thing. Sockets in a fanout group can't be bound again: for an interface that is
// back new ones are made, and take the descriptors of the old. Their rings take the place of the old in the packet memory
// when the shard has read and given back the last frame there, and by the shard itself (af-packet.ts).

import { closeOff, FanoutGroup } from './af-packet-fanout.ts'
import {
  type AfPacketRings,
  BLOCK_BYTES,
  controlBytes,
  FRAMES_A_BLOCK,
  MIN_RING_BYTES,
  PORT_STATE,
  portControl,
} from './af-packet-layout.ts'
import { bindTo, ETH_P_ALL, NOTHING, packetSocket, prepareReceiving, prepareSending } from './af-packet-sockets.ts'
import { AfPacketError } from './errors.ts'
import {
  type Address,
  close,
  dup3,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  mmap,
  munmap,
  O_CLOEXEC,
  PROT_NONE,
  PROT_READ_WRITE,
  viewOf,
} from './syscalls.ts'

const SCRATCH_BYTES = 8 << 20
/** Packets are i32 offsets. */
const MAX_ARENA_BYTES = 2 ** 31 - 1

export interface AfPacketOptions {
  /** Becomes ports 0, 1, ... in this order. The index is the one in the calling thread's network namespace. */
  readonly interfaces: readonly Interface[]
  readonly shards: number
  /** Of each receive ring, at least 16 MiB, rounded down to whole blocks of 4 MiB. Taken from the kernel at once. */
  readonly ringBytes: number
  /** By port: send past the queue discipline (faster; ends any shaping on that interface). */
  readonly qdiscBypass: readonly boolean[]
  /** By shard: an eventfd that ends the driver's wait(); stays the caller's. */
  readonly wakeFds: readonly number[]
  /** Of the range that all shards share; default 0. */
  readonly sharedBytes?: number
  /**
   * Who sends a packet to its shard. The kernel: each shard has receive rings of its own. A thread: it has the rings, in
   * one set of rings behind the shards', and they have none.
   */
  readonly dispatch: 'kernel' | 'thread'
  /** The thread's eventfd, where one dispatches. */
  readonly dispatcherWakeFd?: number
  /** Of each shard's rings; default 8 MiB, page-aligned up. */
  readonly scratchBytes?: number
}

interface Interface {
  readonly name: string
  readonly index: number
}

/**
 * Opens all shards' ports in the calling thread's network namespace. Throws AfPacketError, SystemCallError, and then
 * leaves nothing open. Where the kernel dispatches among several shards, nothing is received before setDispatch().
 */
export function openAfPacket(options: AfPacketOptions): AfPacketPorts {
  const plan = ringsOf(options)
  const last = plan[plan.length - 1]!
  const { packetMemoryLength } = last
  const opened: number[] = []
  let packetMemoryAddress: Address = 0
  try {
    packetMemoryAddress = mmap(0, packetMemoryLength, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1)
    const isGroup = options.dispatch === 'kernel' && options.shards > 1
    // In the order of shards: see af-packet-fanout.ts.
    const rings = plan.map((rings) => openRings({ ...rings, packetMemoryAddress }, options, isGroup, opened))
    mapAnonymous(packetMemoryAddress, last.sharedAt, last.sharedLength)
    // Last, when nothing can fail any more: from here on packets fill the rings.
    const groups = options.interfaces.map(({ name, index }, port) => {
      const fds = rings.map(({ ports }) => ports[port]!.receiveFd).filter((fd) => fd >= 0)
      for (const fd of fds) bindTo(fd, name, index, ETH_P_ALL)
      return isGroup ? new FanoutGroup(fds) : undefined
    })
    for (const group of groups) group?.settle()
    return new AfPacketPorts(rings, options.shards, groups)
  } catch (error) {
    if (packetMemoryAddress !== 0) munmap(packetMemoryAddress, packetMemoryLength)
    for (const fd of opened) close(fd)
    throw error
  }
}

/** What openAfPacket() has opened, for as long as the process lives. */
export class AfPacketPorts {
  /** By shard. */
  readonly rings: readonly AfPacketRings[]
  /** Of the thread that dispatches, where one does. */
  readonly dispatcherRings: AfPacketRings | undefined
  readonly #all: readonly AfPacketRings[]
  /** By port, where the kernel dispatches among several shards. */
  readonly #groups: (FanoutGroup | undefined)[]

  constructor(all: readonly AfPacketRings[], shards: number, groups: readonly (FanoutGroup | undefined)[]) {
    this.#all = all
    this.rings = all.slice(0, shards)
    this.dispatcherRings = all[shards]
    this.#groups = [...groups]
  }

  /** Sets the program by which the kernel dispatches what comes by a port; nothing where it has nothing to decide. */
  setDispatch(port: number, program: Uint8Array): void {
    this.#groups[port]?.setProgram(program)
  }

  /**
   * Binds a port to its interface again after that vanished and came back under another index; the drivers go on. A
   * link that only went down and up needs nothing: the kernel hooks it in again. Throws AfPacketError, SystemCallError.
   */
  rebind(port: number, index: number): void {
    const { name } = this.#all[0]!.ports[port]!
    for (const { ports } of this.#all) bindTo(ports[port]!.sendFd, name, index, NOTHING)
    const group = this.#groups[port]
    if (group) this.#groups[port] = this.#remake(port, { name, index }, group.program)
    else
      for (const { ports } of this.#all)
        if (ports[port]!.receiveFd >= 0) bindTo(ports[port]!.receiveFd, name, index, ETH_P_ALL)
  }

  /** After any change of a link: what waited for it to be up is done. False if it still waits. Throws SystemCallError. */
  settle(port: number): boolean {
    return this.#groups[port]?.settle() ?? true
  }

  /** Gives everything back but the eventfds. When all workers have ended: a view of the packet memory must not be touched after. */
  close(): void {
    for (const { ports } of this.#all)
      for (const { receiveFd, sendFd } of ports) {
        if (receiveFd >= 0) close(receiveFd)
        close(sendFd)
      }
    const { packetMemoryAddress, packetMemoryLength } = this.#all[0]!
    munmap(packetMemoryAddress, packetMemoryLength)
  }

  #remake(port: number, { name, index }: Interface, program: Uint8Array | undefined): FanoutGroup {
    const made: number[] = []
    const fds = this.#all.map(({ ports }) => ports[port]!.receiveFd)
    try {
      for (const { ringBytes } of this.#all) bindTo(receiver(name, ringBytes, true, made), name, index, ETH_P_ALL)
      for (const [shard, rings] of this.#all.entries()) replace(rings, port, made[shard]!)
    } finally {
      for (const fd of made) close(fd)
    }
    const group = new FanoutGroup(fds, program)
    group.settle()
    return group
  }
}

/** The shard may look at any time: it sees that the descriptor is being given another socket, and then that it was. */
function replace({ packetMemoryAddress, controlAt, ports }: AfPacketRings, port: number, fd: number): void {
  const at = packetMemoryAddress + controlAt + portControl(ports.length, port) + PORT_STATE.socket
  const count = new Int32Array(viewOf(at, 4))
  Atomics.add(count, 0, 1)
  dup3(fd, ports[port]!.receiveFd, O_CLOEXEC)
  Atomics.add(count, 0, 1)
}

/** Where everything will lie. Throws AfPacketError if it is too much. */
function ringsOf(options: AfPacketOptions): AfPacketRings[] {
  const { interfaces, shards, wakeFds, sharedBytes = 0, dispatch, dispatcherWakeFd = -1 } = options
  const blocks = Math.floor(options.ringBytes / BLOCK_BYTES)
  const rings = { ringBytes: blocks * BLOCK_BYTES, frames: blocks * FRAMES_A_BLOCK }
  const none = { ringBytes: 0, frames: 0 }
  if (options.ringBytes < MIN_RING_BYTES)
    throw new AfPacketError(
      'ring-size',
      `a receive ring of ${options.ringBytes} bytes, allowed: ${MIN_RING_BYTES} (16 MiB) or more for each interface`,
    )
  const kinds = Array.from({ length: shards }, (_, shard) => ({
    ...(dispatch === 'kernel' ? rings : none),
    wakeFd: wakeFds[shard]!,
  }))
  if (dispatch === 'thread') kinds.push({ ...rings, wakeFd: dispatcherWakeFd })

  const scratchLength = pages(options.scratchBytes ?? SCRATCH_BYTES)
  const sharedLength = pages(sharedBytes)
  let end = 0
  const places = kinds.map((kind) => {
    const scratchAt = end + interfaces.length * kind.ringBytes
    const controlAt = scratchAt + scratchLength
    const place = { ...kind, ringsAt: end, scratchAt, scratchLength, controlAt }
    end = controlAt + pages(controlBytes(interfaces.length))
    return place
  })
  const packetMemoryLength = end + sharedLength
  if (packetMemoryLength > MAX_ARENA_BYTES) throw tooLarge(options, rings.ringBytes, packetMemoryLength)
  const packetMemory = { packetMemoryAddress: 0, packetMemoryLength, sharedAt: end, sharedLength }
  return places.map((place) => ({ ...packetMemory, ...place, ports: [] }))
}

function tooLarge(
  { interfaces, shards }: AfPacketOptions,
  ringBytes: number,
  packetMemoryLength: number,
): AfPacketError {
  const remedy = ringBytes > MIN_RING_BYTES ? 'lower io.ringMegabytes' : 'lower workers, rings are as small as can be'
  return new AfPacketError(
    'ring-size',
    `receive rings of ${ringBytes} bytes on ${interfaces.length} interfaces, and what lies beside them, are ` +
      `${Math.ceil(packetMemoryLength / 2 ** 20)} MiB for ${shards} shards, allowed: 2 GiB together; ${remedy}`,
  )
}

/** The rings with their sockets, its part of the packet memory mapped. The receiving ones are not bound yet. */
function openRings(rings: AfPacketRings, options: AfPacketOptions, isGroup: boolean, opened: number[]): AfPacketRings {
  const { packetMemoryAddress, ringsAt, ringBytes, scratchAt, controlAt } = rings
  const ports = options.interfaces.map(({ name, index }, port) => {
    const sendFd = packetSocket(opened)
    prepareSending(sendFd, options.qdiscBypass[port] ?? false)
    bindTo(sendFd, name, index, NOTHING)
    if (ringBytes === 0) return { name, sendFd, receiveFd: -1 }
    const receiveFd = receiver(name, ringBytes, isGroup, opened)
    const ring = packetMemoryAddress + ringsAt + port * ringBytes
    mmap(ring, ringBytes, PROT_READ_WRITE, MAP_SHARED | MAP_FIXED, receiveFd)
    return { name, sendFd, receiveFd }
  })
  mapAnonymous(packetMemoryAddress, scratchAt, controlAt + pages(controlBytes(ports.length)) - scratchAt)
  return { ...rings, ports }
}

function receiver(name: string, ringBytes: number, isGroup: boolean, opened: number[]): number {
  const fd = packetSocket(opened)
  prepareReceiving(fd, name, ringBytes)
  if (isGroup) closeOff(fd)
  return fd
}

function mapAnonymous(packetMemoryAddress: Address, at: number, length: number): void {
  if (length === 0) return
  const flags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED
  mmap(packetMemoryAddress + at, length, PROT_READ_WRITE, flags, -1)
}

const PAGE = 4096
const pages = (bytes: number): number => Math.ceil(bytes / PAGE) * PAGE
