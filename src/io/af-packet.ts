// The default driver: packet sockets with a memory-mapped receive ring (TPACKET_V2) and virtio-net headers, sent by
// sendmmsg() straight out of that ring, each worker run to completion. Why these and not TPACKET_V3, a send ring or
// AF_XDP: decision 0022. Authority: packet(7), Documentation/networking/packet_mmap.rst, sendmmsg(2).
//
// Owner: the shard that was given the rings. The kernel fills frames; a frame's status word says whose it is:
//
//   status             whose     then
//   0                  kernel's  it fills the frame, stores the status last
//   bit 0              shard's   receive() lists it, once; send() may point at it
//   0x10000            another's lend() stored it; release() passes it over, giveBack() or reclaim() stores 0
//   0 again            kernel's  release() stored it, frames in ring order
// Never: storing 0 in a frame that was not listed, or by release() in one that was lent in its burst: it may have come
// back and been filled anew; leaving a frame behind (the kernel stops at it, and the last one
// filled makes poll() return at once).
//
// Order of memory: the kernel stores a frame, then its status; we must not load the frame before the status. x86 keeps
// loads in order and stores behind earlier loads, so plain accesses do there, at a tenth of the cost of Atomics
// (0.6-0.9 against 8-14 ns); elsewhere Atomics are used. What other threads store, lent frames, is by Atomics everywhere.

import { constants } from 'node:os'
import {
  type AfPacketRings,
  BATCH,
  frameAt,
  frameOffset,
  IOVEC_BYTES,
  MMSGHDR_BYTES,
  MSG_IOV,
  MSG_IOVLEN,
  POLLFD_BYTES,
  PORT_IOVECS,
  PORT_MESSAGES,
  PORT_STATE,
  portControl,
  TP_MAC_NET,
  TP_SNAPLEN,
  TP_STATUS,
  TP_STATUS_KERNEL,
  TP_STATUS_LENT,
  TP_STATUS_USER,
  TP_STATUS_VLAN_VALID,
} from './af-packet-layout.ts'
import { BURST, type Driver, VIRTIO_NET_HEADER } from './driver.ts'
import {
  type Address,
  drain,
  errno,
  getsockopt,
  MAP_FIXED,
  MAP_SHARED,
  MSG_DONTWAIT,
  mmap,
  POLLERR,
  POLLIN,
  PROT_READ_WRITE,
  poll,
  SO_ERROR,
  SOL_PACKET,
  SOL_SOCKET,
  sendmmsg,
  viewOf,
} from './syscalls.ts'

const { EAGAIN, EINTR, EMSGSIZE, EINVAL, ENOBUFS } = constants.errno
const ORDERED = process.arch === 'x64' || process.arch === 'ia32'
const MAX_WAIT_MS = 50
/** How often a batch is offered again to a link whose queue is full, before the rest of it is dropped. */
const PATIENCE = 16
const PACKET_STATISTICS = 6
const TWO_32 = 2 ** 32

export class AfPacketDriver implements Driver {
  readonly packetMemory: ArrayBuffer
  readonly scratchAt: number
  readonly scratchLength: number
  readonly sharedAt: number
  readonly sharedLength: number
  readonly ports: number

  readonly #rings: AfPacketRings
  /** The packet memory in i32 words. */
  readonly #words: Int32Array
  readonly #frames: number
  readonly #next: Int32Array
  readonly #held: Int32Array
  readonly #queued: Int32Array
  /** By port: frames of the present burst are lent, PORT_STATE.lent says which. */
  readonly #anyLent: Uint8Array
  /** The running counts in control, as the packet memory's f64 cells. */
  readonly #counts: Float64Array
  readonly #pollAddress: Address
  /** Struct tpacket_stats or an int; the kernel writes it. */
  readonly #optionValue = new Uint8Array(8)
  readonly #optionWords = new Uint32Array(this.#optionValue.buffer)

  constructor(rings: AfPacketRings) {
    this.#rings = rings
    this.packetMemory = viewOf(rings.packetMemoryAddress, rings.packetMemoryLength)
    this.scratchAt = rings.scratchAt
    this.scratchLength = rings.scratchLength
    this.sharedAt = rings.sharedAt
    this.sharedLength = rings.sharedLength
    this.ports = rings.ports.length
    this.#words = new Int32Array(this.packetMemory)
    this.#counts = new Float64Array(this.packetMemory)
    this.#frames = rings.frames
    this.#next = new Int32Array(this.ports)
    this.#held = new Int32Array(this.ports)
    this.#queued = new Int32Array(this.ports)
    this.#anyLent = new Uint8Array(this.ports)
    this.#pollAddress = rings.packetMemoryAddress + rings.controlAt
    for (let port = 0; port < this.ports; port++) {
      this.#preparePoll(port, rings.ports[port].receiveFd)
      this.#prepareMessages(port)
      this.#takeOver(port)
    }
    this.#preparePoll(this.ports, rings.wakeFd)
  }

  receive(port: number, at: Int32Array, length: Int32Array): number {
    if (this.#frames === 0) return 0
    const words = this.#words
    const ring = this.#ring(port)
    let next = this.#next[port]
    let count = 0
    // As many frames are looked at as a burst has, listed or not: tagged ones can't hold the shard up.
    for (let looked = 0; looked < BURST; looked++) {
      const frame = ring + frameOffset(next)
      const word = frame >> 2
      const status = ORDERED ? words[word + TP_STATUS] : Atomics.load(words, word + TP_STATUS)
      if ((status & TP_STATUS_USER) === 0) break
      if (++next === this.#frames) next = 0
      if ((status & TP_STATUS_VLAN_VALID) !== 0) {
        // The tag was taken off before the ring: untagged it would pass for traffic of this interface.
        this.#count(port, PORT_STATE.tagged, 1)
        continue
      }
      at[count] = frame + (words[word + TP_MAC_NET] & 0xffff)
      length[count] = words[word + TP_SNAPLEN]
      count++
    }
    this.#next[port] = next
    words[this.#control(port, PORT_STATE.next) >> 2] = next
    if (count === 0) {
      this.release(port)
      if (this.#state(port, PORT_STATE.socket) !== this.#state(port, PORT_STATE.mapped)) this.#mapAnew(port)
    }
    return count
  }

  release(port: number): void {
    const words = this.#words
    const ring = this.#ring(port)
    const next = this.#next[port]
    let held = this.#held[port]
    if (this.#anyLent[port] !== 0) held = this.#releaseUnlent(port)
    while (held !== next) {
      const status = ((ring + frameOffset(held)) >> 2) + TP_STATUS
      if (ORDERED) words[status] = TP_STATUS_KERNEL
      else Atomics.store(words, status, TP_STATUS_KERNEL)
      if (++held === this.#frames) held = 0
    }
    this.#held[port] = next
    words[this.#control(port, PORT_STATE.held) >> 2] = next
    if (this.#anyLent[port] !== 0) this.#forgetLent(port)
  }

  lend(at: number): number {
    const { ringsAt, ringBytes } = this.#rings
    const inRings = at - ringsAt
    if (inRings < 0 || inRings >= this.ports * ringBytes) return -1
    const port = Math.floor(inRings / ringBytes)
    const frame = frameAt(inRings - port * ringBytes)
    const place = (frame - this.#held[port] + this.#frames) % this.#frames
    if (place >= (this.#next[port] - this.#held[port] + this.#frames) % this.#frames) return -1
    const token = this.#ring(port) + frameOffset(frame)
    // In this order: a thread that dies in between leaves a frame whose status says it all.
    Atomics.store(this.#words, (token >> 2) + TP_STATUS, TP_STATUS_LENT)
    this.#noteLent(port, place)
    return token
  }

  giveBack(token: number): void {
    // A dead consumer's successor may give back what that one had given back already.
    Atomics.compareExchange(this.#words, (token >> 2) + TP_STATUS, TP_STATUS_LENT, TP_STATUS_KERNEL)
  }

  reclaim(named: ReadonlySet<number>): void {
    for (let port = 0; port < this.ports; port++)
      for (let frame = 0; frame < this.#frames; frame++) {
        const token = this.#ring(port) + frameOffset(frame)
        if (!named.has(token)) this.giveBack(token)
      }
  }

  send(port: number, at: number, length: number): void {
    if (this.#queued[port] === BATCH) this.#flushPort(port)
    const iovec = this.#control(port, PORT_IOVECS) + this.#queued[port]++ * IOVEC_BYTES
    this.#setAddress(iovec, at - VIRTIO_NET_HEADER)
    this.#words[(iovec >> 2) + 2] = length + VIRTIO_NET_HEADER
  }

  flush(): void {
    for (let port = 0; port < this.ports; port++) if (this.#queued[port] !== 0) this.#flushPort(port)
  }

  wait(timeoutMs: number): void {
    if (poll(this.#pollAddress, this.ports + 1, Math.min(timeoutMs, MAX_WAIT_MS)) <= 0) return
    for (let port = 0; port < this.ports; port++) {
      // A link that went down leaves an error at the socket, and poll() would return at once until it is taken.
      if ((this.#revents(port) & POLLERR) !== 0)
        getsockopt(this.#rings.ports[port].receiveFd, SOL_SOCKET, SO_ERROR, this.#optionValue)
    }
    if ((this.#revents(this.ports) & POLLIN) !== 0) drain(this.#rings.wakeFd)
  }

  sendFailures(port: number): number {
    return this.#counts[this.#control(port, PORT_STATE.sendFailures) >> 3]
  }

  /** A system call: ask once a second, not once a burst. */
  receiveLosses(port: number): number {
    if (this.#frames === 0) return 0
    // The kernel counts from the last asking: tp_packets, tp_drops.
    getsockopt(this.#rings.ports[port].receiveFd, SOL_PACKET, PACKET_STATISTICS, this.#optionValue)
    this.#count(port, PORT_STATE.receiveLosses, this.#optionWords[1])
    return this.#counts[this.#control(port, PORT_STATE.receiveLosses) >> 3]
  }

  /** Frames skipped since the start because they bore a VLAN tag: VLANs are named as interfaces of their own. */
  taggedFrames(port: number): number {
    return this.#counts[this.#control(port, PORT_STATE.tagged) >> 3]
  }

  /** Gives held frames back and forgets what was queued. Sockets and memory stay the coordinator's. */
  close(): void {
    for (let port = 0; port < this.ports; port++) {
      this.#queued[port] = 0
      this.release(port)
    }
  }

  #flushPort(port: number): void {
    const fd = this.#rings.ports[port].sendFd
    const messages = this.#rings.packetMemoryAddress + this.#control(port, PORT_MESSAGES)
    const count = this.#queued[port]
    this.#queued[port] = 0
    let patience = PATIENCE
    let next = 0
    while (next < count) {
      const taken = sendmmsg(fd, messages + next * MMSGHDR_BYTES, count - next, MSG_DONTWAIT)
      if (taken > 0) {
        next += taken
        patience = PATIENCE
        continue
      }
      const error = errno()
      if (error === EINTR) continue
      if (error === EMSGSIZE || error === EINVAL) {
        // This one frame is wrong for the link; those behind it are not.
        this.#count(port, PORT_STATE.sendFailures, 1)
        next++
        continue
      }
      if ((error === EAGAIN || error === ENOBUFS) && patience-- > 0) continue
      // A full queue, or the link is down or gone: the rest would fare no better.
      this.#count(port, PORT_STATE.sendFailures, count - next)
      return
    }
  }

  #prepareMessages(port: number): void {
    for (let i = 0; i < BATCH; i++) {
      const message = this.#control(port, PORT_MESSAGES) + i * MMSGHDR_BYTES
      this.#setAddress(message + MSG_IOV, this.#control(port, PORT_IOVECS) + i * IOVEC_BYTES)
      this.#words[(message + MSG_IOVLEN) >> 2] = 1
    }
  }

  #preparePoll(entry: number, fd: number): void {
    const pollfd = (this.#rings.controlAt + entry * POLLFD_BYTES) >> 2
    this.#words[pollfd] = fd
    this.#words[pollfd + 1] = POLLIN
  }

  /** What a dead worker had listed may be half rewritten: it is given back unread. What it had lent is not: reclaim(). */
  #takeOver(port: number): void {
    const held = this.#state(port, PORT_STATE.held)
    const next = this.#state(port, PORT_STATE.next)
    this.#held[port] = held
    this.#next[port] = next
    // It may have died between releasing its last burst and forgetting what of that was lent.
    if (held === next) this.#forgetLent(port)
    for (let frame = held, place = 0; frame !== next; place++) {
      const status = ((this.#ring(port) + frameOffset(frame)) >> 2) + TP_STATUS
      if (this.#isLent(port, place) || Atomics.load(this.#words, status) === TP_STATUS_LENT) this.#noteLent(port, place)
      if (++frame === this.#frames) frame = 0
    }
    this.release(port)
  }

  /** Returns the end of the burst: nothing is left to release. */
  #releaseUnlent(port: number): number {
    const next = this.#next[port]
    for (let frame = this.#held[port], place = 0; frame !== next; place++) {
      if (!this.#isLent(port, place))
        Atomics.store(this.#words, ((this.#ring(port) + frameOffset(frame)) >> 2) + TP_STATUS, TP_STATUS_KERNEL)
      if (++frame === this.#frames) frame = 0
    }
    return next
  }

  #noteLent(port: number, place: number): void {
    this.#words[this.#lentWord(port, place)] |= 1 << (place & 31)
    this.#anyLent[port] = 1
  }

  #isLent(port: number, place: number): boolean {
    return (this.#words[this.#lentWord(port, place)] & (1 << (place & 31))) !== 0
  }

  #forgetLent(port: number): void {
    for (let place = 0; place < BURST; place += 32) this.#words[this.#lentWord(port, place)] = 0
    this.#anyLent[port] = 0
  }

  #lentWord(port: number, place: number): number {
    return (this.#control(port, PORT_STATE.lent) >> 2) + (place >> 5)
  }

  /**
   * The coordinator has put another socket in the place of the one whose ring lies here (af-packet-open.ts). That one
   * gets no packets any more: once the last is read and given back, the other's ring is mapped over it.
   */
  #mapAnew(port: number): void {
    const words = this.#words
    const ring = this.#ring(port)
    const { packetMemoryAddress, ringBytes, ports } = this.#rings
    for (let frame = 0; frame < this.#frames; frame++)
      if (Atomics.load(words, ((ring + frameOffset(frame)) >> 2) + TP_STATUS) !== TP_STATUS_KERNEL) return
    const count = this.#control(port, PORT_STATE.socket) >> 2
    let socket: number
    // Once more if it was replaced again meanwhile: odd while that goes on, for the time of one system call.
    do {
      socket = Atomics.load(words, count)
      mmap(packetMemoryAddress + ring, ringBytes, PROT_READ_WRITE, MAP_SHARED | MAP_FIXED, ports[port].receiveFd)
    } while ((socket & 1) !== 0 || Atomics.load(words, count) !== socket)
    this.#next[port] = this.#held[port] = 0
    words[this.#control(port, PORT_STATE.next) >> 2] = 0
    words[this.#control(port, PORT_STATE.held) >> 2] = 0
    words[this.#control(port, PORT_STATE.mapped) >> 2] = socket
  }

  #ring(port: number): number {
    return this.#rings.ringsAt + port * this.#rings.ringBytes
  }

  /** An i32 of PORT_STATE. */
  #state(port: number, what: number): number {
    return this.#words[this.#control(port, what) >> 2]
  }

  #revents(entry: number): number {
    return this.#words[((this.#rings.controlAt + entry * POLLFD_BYTES) >> 2) + 1] >>> 16
  }

  #control(port: number, offset: number): number {
    return this.#rings.controlAt + portControl(this.ports, port) + offset
  }

  #count(port: number, what: number, by: number): void {
    this.#counts[this.#control(port, what) >> 3] += by
  }

  /** Stores the address of a place in the packet memory, in two halves: a BigInt would be allocated for each packet. */
  #setAddress(at: number, target: number): void {
    const address = this.#rings.packetMemoryAddress + target
    const high = Math.floor(address / TWO_32)
    this.#words[at >> 2] = address - high * TWO_32
    this.#words[(at >> 2) + 1] = high
  }
}
