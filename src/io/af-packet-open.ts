// Control plane of af-packet: makes the sockets and receive rings of all shards, maps them side by side into one packet
// memory, and binds them again to an interface that came back. Authority: packet(7), net/packet/af_packet.c (bind,
// notifier), mmap(2).
//
// Owner: the coordinator, which keeps descriptors and mappings and tells them to workers as numbers (AfPacketRings).
// One thing the driver does: sockets in a fanout group can't be bound again, so for an interface that came back new
// sockets are made, and get the descriptors of the old ones. The driver maps a new ring over the old one when it has
// read and given back the last frame there (af-packet.ts).

import { FanoutGroup } from './af-packet-fanout.ts'
import { REFUSE_ALL, setFilter, TAKE_OURS } from './af-packet-filter.ts'
import {
  type AfPacketRings,
  controlBytes,
  MAX_PACKET_MEMORY_BYTES,
  MIN_RING_BYTES,
  PORT_STATE,
  packetMemoryLayout,
  pages,
  portControl,
} from './af-packet-layout.ts'
import {
  bindTo,
  ETH_P_IP,
  ETH_P_NONE,
  packetSocket,
  prepareReceiving,
  prepareSending,
  setQdiscBypass,
} from './af-packet-sockets.ts'
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

export interface AfPacketOptions {
  /** Ports 0, 1, ... in this order. An index is the one in the calling thread's network namespace. */
  readonly interfaces: readonly Interface[]
  readonly shards: number
  /** Size of each receive ring, at least 16 MiB, rounded down to blocks of 4 MiB. The kernel allocates it at once. */
  readonly ringBytes: number
  /** By port: whether to send past the queue discipline (faster; ends any shaping on that interface). */
  readonly qdiscBypass: readonly boolean[]
  /** By shard: an eventfd that ends the driver's wait(). The caller closes it. */
  readonly wakeFds: readonly number[]
  /** Size of the range that all shards share; default 0. */
  readonly sharedBytes?: number
  /**
   * What takes a packet to its shard. The kernel: each shard has receive rings of its own. A thread: it alone has
   * receive rings, in a part of its own behind those of the shards.
   */
  readonly dispatch: 'kernel' | 'thread'
  /** The eventfd of the thread, where a thread dispatches. */
  readonly dispatcherWakeFd?: number
  /** Size of the scratch area in each part, rounded up to whole pages; default 8 MiB. */
  readonly scratchBytes?: number
}

interface Interface {
  readonly name: string
  readonly index: number
}

/**
 * Opens the ports of all shards in the calling thread's network namespace. If it throws (AfPacketError,
 * SystemCallError), nothing stays open. Where the kernel dispatches among several shards, nothing is received before
 * setDispatch().
 */
export function openAfPacket(options: AfPacketOptions): AfPacketPorts {
  const plan = layOut(options)
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
      for (const fd of fds) bindTo(fd, name, index, ETH_P_IP)
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

/** All that openAfPacket() has opened. */
export class AfPacketPorts {
  /** By shard. */
  readonly rings: readonly AfPacketRings[]
  /** Those of the thread that dispatches, where one does. */
  readonly dispatcherRings: AfPacketRings | undefined
  /** The shards' and the dispatcher's. */
  readonly #all: readonly AfPacketRings[]
  /** By port, where the kernel dispatches among several shards. */
  readonly #groups: (FanoutGroup | undefined)[]

  constructor(all: readonly AfPacketRings[], shards: number, groups: readonly (FanoutGroup | undefined)[]) {
    this.#all = all
    this.rings = all.slice(0, shards)
    this.dispatcherRings = all[shards]
    this.#groups = [...groups]
  }

  /** Sets the program by which the kernel dispatches what a port receives. Without effect where the kernel doesn't. */
  setDispatch(port: number, program: Uint8Array): void {
    this.#groups[port]?.setProgram(program)
  }

  /**
   * Binds a port to its interface again after the interface vanished and came back under another index; the drivers go
   * on. After a link was down the kernel does so by itself. Throws AfPacketError, SystemCallError.
   */
  rebind(port: number, index: number): void {
    const { name } = this.#all[0]!.ports[port]!
    for (const { ports } of this.#all) bindTo(ports[port]!.sendFd, name, index, ETH_P_NONE)
    const group = this.#groups[port]
    if (group) this.#groups[port] = this.#remake(port, { name, index }, group.program)
    else
      for (const { ports } of this.#all)
        if (ports[port]!.receiveFd >= 0) bindTo(ports[port]!.receiveFd, name, index, ETH_P_IP)
  }

  /** Has what a port sends go past the queueing discipline of its interface, or through it. Throws SystemCallError. */
  setQdiscBypass(port: number, bypass: boolean): void {
    for (const { ports } of this.#all) setQdiscBypass(ports[port]!.sendFd, bypass)
  }

  /**
   * To be called after any change of a link: does what had to wait until the link is up. Returns false if it still has
   * to wait. Throws SystemCallError.
   */
  settle(port: number): boolean {
    return this.#groups[port]?.settle() ?? true
  }

  /**
   * Gives everything back but the eventfds. To be called when all workers have ended, because a view of unmapped memory
   * must not be touched.
   */
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
      for (const { ringBytes } of this.#all) bindTo(receiver(name, ringBytes, true, made), name, index, ETH_P_IP)
      for (const [shard, rings] of this.#all.entries()) replaceSocket(rings, port, made[shard]!)
    } finally {
      for (const fd of made) close(fd)
    }
    const group = new FanoutGroup(fds, program)
    group.settle()
    return group
  }
}

/** Gives a port's descriptor another socket. The driver, which may look at any time, sees it by PORT_STATE.socket. */
function replaceSocket({ packetMemoryAddress, controlAt, ports }: AfPacketRings, port: number, fd: number): void {
  const at = packetMemoryAddress + controlAt + portControl(ports.length, port) + PORT_STATE.socket
  const count = new Int32Array(viewOf(at, 4))
  Atomics.add(count, 0, 1)
  dup3(fd, ports[port]!.receiveFd, O_CLOEXEC)
  Atomics.add(count, 0, 1)
}

/**
 * Lays out the packet memory: the parts of all shards and of the dispatcher. Throws AfPacketError if it is too large.
 */
function layOut(options: AfPacketOptions): AfPacketRings[] {
  const { interfaces, shards, wakeFds, sharedBytes = 0, dispatch, dispatcherWakeFd = -1 } = options
  const { ringBytes, scratchBytes } = options
  if (ringBytes < MIN_RING_BYTES)
    throw new AfPacketError(
      'ring-size',
      `a receive ring of ${ringBytes} bytes, allowed: ${MIN_RING_BYTES} (16 MiB) or more for each interface`,
    )
  const { parts, ...whole } = packetMemoryLayout({
    ports: interfaces.length,
    shards,
    dispatch,
    ringBytes,
    sharedBytes,
    scratchBytes,
  })
  if (whole.packetMemoryLength > MAX_PACKET_MEMORY_BYTES) throw tooLarge(options, whole.packetMemoryLength)
  return parts.map((part, i) => ({
    packetMemoryAddress: 0,
    ...whole,
    ...part,
    wakeFd: wakeFds[i] ?? dispatcherWakeFd,
    ports: [],
  }))
}

/** A configuration is refused earlier, by the same layout (coordinator/memory-plan.ts). */
function tooLarge({ interfaces, shards, ringBytes }: AfPacketOptions, packetMemoryLength: number): AfPacketError {
  const remedy = ringBytes > MIN_RING_BYTES ? 'lower io.ringMegabytes' : 'lower workers, rings are as small as can be'
  return new AfPacketError(
    'ring-size',
    `receive rings of ${ringBytes} bytes on ${interfaces.length} interfaces, and what lies beside them, are ` +
      `${Math.ceil(packetMemoryLength / 2 ** 20)} MiB for ${shards} shards, allowed: 2 GiB together; ${remedy}`,
  )
}

/** Makes the sockets of one driver and maps its part of the packet memory. Receiving sockets are not bound yet. */
function openRings(rings: AfPacketRings, options: AfPacketOptions, isGroup: boolean, opened: number[]): AfPacketRings {
  const { packetMemoryAddress, ringsAt, ringBytes, scratchAt, controlAt } = rings
  const ports = options.interfaces.map(({ name, index }, port) => {
    const sendFd = packetSocket(opened)
    prepareSending(sendFd, options.qdiscBypass[port] ?? false)
    bindTo(sendFd, name, index, ETH_P_NONE)
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
  setFilter(fd, isGroup ? REFUSE_ALL : TAKE_OURS)
  return fd
}

function mapAnonymous(packetMemoryAddress: Address, at: number, length: number): void {
  if (length === 0) return
  const flags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED
  mmap(packetMemoryAddress + at, length, PROT_READ_WRITE, flags, -1)
}
