// The default driver: packet sockets with a memory-mapped receive ring (TPACKET_V2) and virtio-net headers, sent by
// sendmmsg() straight out of that ring, each worker run to completion. Why these and not TPACKET_V3, a send ring or
// AF_XDP: decision 0022. Authority: packet(7), Documentation/networking/packet_mmap.rst, sendmmsg(2).
//
// Owner: the thread that was given the rings, called the shard here. The kernel fills frames; a frame's status word
// says who may touch it:
//
//   status    who             what happens next
//   0         the kernel      it fills the frame and stores the status last
//   bit 0     the shard       receive() lists the frame once; send() may point at it; release() stores 0, in ring order
//   0x10000   another thread  lend() has stored it; release() passes the frame over; giveBack() or reclaim() stores 0
// Never: storing 0 in a frame that was not listed; storing 0 by release() in a frame that was lent in its burst (it may
// have been given back and filled again); leaving a frame out (the kernel stops at it, and if it is the last one that
// was filled, poll() returns at once each time).
//
// Memory order: the kernel stores a frame, then its status, so the frame must not be loaded before the status. x86
// keeps loads in order and stores behind earlier loads; plain accesses suffice there, at a tenth of the cost of Atomics
// (0.6-0.9 against 8-14 ns). Other processors need Atomics. The status of lent frames, which other threads store, is
// accessed by Atomics on all processors.

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
} from './af-packet-layout.ts'
import { BURST, type Driver, MAX_WAIT_MS, VIRTIO_NET_HEADER } from './driver.ts'
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
/** How often a batch is offered again to a link whose queue is full, before the rest of it is dropped. */
const OFFERS = 16
const PACKET_STATISTICS = 6
const TWO_32 = 2 ** 32

export class AfPacketDriver implements Driver {
  readonly packetMemory: ArrayBuffer
  readonly scratchAt: number
  readonly scratchLength: number
  readonly sharedAt: number
  readonly sharedLength: number
  readonly ports: number
  readonly receiveSlots: number

  readonly #rings: AfPacketRings
  /** The packet memory in i32 words. */
  readonly #words: Int32Array
  /** How many frames a ring has. */
  readonly #frames: number
  /** By port, as the words of PORT_STATE. */
  readonly #next: Int32Array
  readonly #unreleased: Int32Array
  /** By port: how many frames flush() has to send. */
  readonly #queued: Int32Array
  /** By port: whether any frame of the present burst is lent. PORT_STATE.lent says which. */
  readonly #anyLent: Uint8Array
  /** The packet memory in f64 cells, for the running counts in control. */
  readonly #counts: Float64Array
  readonly #pollAddress: Address
  /** A socket option's value, written by the kernel: struct tpacket_stats or an int. */
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
    this.receiveSlots = rings.frames
    this.#words = new Int32Array(this.packetMemory)
    this.#counts = new Float64Array(this.packetMemory)
    this.#frames = rings.frames
    this.#next = new Int32Array(this.ports)
    this.#unreleased = new Int32Array(this.ports)
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
    while (count < BURST) {
      const frame = ring + frameOffset(next)
      const word = frame >> 2
      const status = ORDERED ? words[word + TP_STATUS] : Atomics.load(words, word + TP_STATUS)
      if ((status & TP_STATUS_USER) === 0) break
      if (++next === this.#frames) next = 0
      at[count] = frame + (words[word + TP_MAC_NET] & 0xffff)
      length[count] = words[word + TP_SNAPLEN]
      count++
    }
    this.#next[port] = next
    words[this.#control(port, PORT_STATE.next) >> 2] = next
    if (count === 0) {
      this.release(port)
      if (this.#state(port, PORT_STATE.socket) !== this.#state(port, PORT_STATE.mapped)) this.#mapNewRing(port)
    }
    return count
  }

  holds(port: number, frames: number): boolean {
    if (frames > this.#frames) return false
    const last = (this.#unreleased[port] + frames - 1) % this.#frames
    const word = ((this.#ring(port) + frameOffset(last)) >> 2) + TP_STATUS
    return ((ORDERED ? this.#words[word] : Atomics.load(this.#words, word)) & TP_STATUS_USER) !== 0
  }

  release(port: number): void {
    const words = this.#words
    const ring = this.#ring(port)
    const next = this.#next[port]
    let frame = this.#unreleased[port]
    if (this.#anyLent[port] !== 0) frame = this.#releaseUnlent(port)
    while (frame !== next) {
      const status = ((ring + frameOffset(frame)) >> 2) + TP_STATUS
      if (ORDERED) words[status] = TP_STATUS_KERNEL
      else Atomics.store(words, status, TP_STATUS_KERNEL)
      if (++frame === this.#frames) frame = 0
    }
    this.#unreleased[port] = next
    words[this.#control(port, PORT_STATE.unreleased) >> 2] = next
    if (this.#anyLent[port] !== 0) this.#forgetLent(port)
  }

  lend(at: number): number {
    const { ringsAt, ringBytes } = this.#rings
    const inRings = at - ringsAt
    if (inRings < 0 || inRings >= this.ports * ringBytes) return -1
    const port = Math.floor(inRings / ringBytes)
    const frame = frameAt(inRings - port * ringBytes)
    const i = (frame - this.#unreleased[port] + this.#frames) % this.#frames
    if (i >= (this.#next[port] - this.#unreleased[port] + this.#frames) % this.#frames) return -1
    const token = this.#ring(port) + frameOffset(frame)
    // The status first: #takeOver() reads the rest from it if the thread dies before the next line.
    Atomics.store(this.#words, (token >> 2) + TP_STATUS, TP_STATUS_LENT)
    this.#noteLent(port, i)
    return token
  }

  giveBack(token: number): void {
    // Compared first: the successor of a thread that died may give back what that thread had given back already.
    Atomics.compareExchange(this.#words, (token >> 2) + TP_STATUS, TP_STATUS_LENT, TP_STATUS_KERNEL)
  }

  reclaim(inUse: ReadonlySet<number>): void {
    for (let port = 0; port < this.ports; port++)
      for (let frame = 0; frame < this.#frames; frame++) {
        const token = this.#ring(port) + frameOffset(frame)
        if (!inUse.has(token)) this.giveBack(token)
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

  /** Costs a system call: to be asked once a second, not once a burst. */
  receiveLosses(port: number): number {
    if (this.#frames === 0) return 0
    // tp_packets, tp_drops: the kernel counts anew after each call.
    getsockopt(this.#rings.ports[port].receiveFd, SOL_PACKET, PACKET_STATISTICS, this.#optionValue)
    this.#count(port, PORT_STATE.receiveLosses, this.#optionWords[1])
    return this.#counts[this.#control(port, PORT_STATE.receiveLosses) >> 3]
  }

  /** Releases the present burst and forgets what was queued. Sockets and memory are the coordinator's to close. */
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
    let offers = OFFERS
    let next = 0
    while (next < count) {
      const taken = sendmmsg(fd, messages + next * MMSGHDR_BYTES, count - next, MSG_DONTWAIT)
      if (taken > 0) {
        next += taken
        offers = OFFERS
        continue
      }
      const error = errno()
      if (error === EINTR) continue
      if (error === EMSGSIZE || error === EINVAL) {
        // Only this frame is wrong for the link; those behind it may be right.
        this.#count(port, PORT_STATE.sendFailures, 1)
        next++
        continue
      }
      if ((error === EAGAIN || error === ENOBUFS) && offers-- > 0) continue
      // The link's queue is full, or the link is down or gone: the rest could not be sent either.
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

  /**
   * Goes on after a worker that died with these rings. Frames that it had listed may be half rewritten, so they are
   * released unread. Frames that it had lent stay so until reclaim().
   */
  #takeOver(port: number): void {
    const first = this.#state(port, PORT_STATE.unreleased)
    const next = this.#state(port, PORT_STATE.next)
    this.#unreleased[port] = first
    this.#next[port] = next
    // The worker may have died after releasing its last burst, before it forgot which frames of that were lent.
    if (first === next) this.#forgetLent(port)
    for (let frame = first, i = 0; frame !== next; i++) {
      const status = ((this.#ring(port) + frameOffset(frame)) >> 2) + TP_STATUS
      if (this.#isLent(port, i) || Atomics.load(this.#words, status) === TP_STATUS_LENT) this.#noteLent(port, i)
      if (++frame === this.#frames) frame = 0
    }
    this.release(port)
  }

  /** Gives back what is not lent of the present burst; returns the burst's end. */
  #releaseUnlent(port: number): number {
    const next = this.#next[port]
    for (let frame = this.#unreleased[port], i = 0; frame !== next; i++) {
      if (!this.#isLent(port, i))
        Atomics.store(this.#words, ((this.#ring(port) + frameOffset(frame)) >> 2) + TP_STATUS, TP_STATUS_KERNEL)
      if (++frame === this.#frames) frame = 0
    }
    return next
  }

  /** Frame i of the present burst is lent. */
  #noteLent(port: number, i: number): void {
    this.#words[this.#lentWord(port, i)] |= 1 << (i & 31)
    this.#anyLent[port] = 1
  }

  #isLent(port: number, i: number): boolean {
    return (this.#words[this.#lentWord(port, i)] & (1 << (i & 31))) !== 0
  }

  #forgetLent(port: number): void {
    for (let i = 0; i < BURST; i += 32) this.#words[this.#lentWord(port, i)] = 0
    this.#anyLent[port] = 0
  }

  /** Which i32 word has frame i's bit. */
  #lentWord(port: number, i: number): number {
    return (this.#control(port, PORT_STATE.lent) >> 2) + (i >> 5)
  }

  /**
   * Maps the ring of the socket that the coordinator has given the descriptor (af-packet-open.ts) over the ring of the
   * old socket. The old one gets no packets any more, but it stays until its last frame is read and given back.
   */
  #mapNewRing(port: number): void {
    const words = this.#words
    const ring = this.#ring(port)
    const { packetMemoryAddress, ringBytes, ports } = this.#rings
    for (let frame = 0; frame < this.#frames; frame++)
      if (Atomics.load(words, ((ring + frameOffset(frame)) >> 2) + TP_STATUS) !== TP_STATUS_KERNEL) return
    const count = this.#control(port, PORT_STATE.socket) >> 2
    let socket: number
    // Repeated if the coordinator replaced the socket meanwhile. The count is odd only for the time of a system call.
    do {
      socket = Atomics.load(words, count)
      mmap(packetMemoryAddress + ring, ringBytes, PROT_READ_WRITE, MAP_SHARED | MAP_FIXED, ports[port].receiveFd)
    } while ((socket & 1) !== 0 || Atomics.load(words, count) !== socket)
    this.#next[port] = this.#unreleased[port] = 0
    words[this.#control(port, PORT_STATE.next) >> 2] = 0
    words[this.#control(port, PORT_STATE.unreleased) >> 2] = 0
    words[this.#control(port, PORT_STATE.mapped) >> 2] = socket
  }

  /** Where a port's ring begins. */
  #ring(port: number): number {
    return this.#rings.ringsAt + port * this.#rings.ringBytes
  }

  /** Reads an i32 of PORT_STATE. */
  #state(port: number, field: number): number {
    return this.#words[this.#control(port, field) >> 2]
  }

  /** What poll() has said of a descriptor. */
  #revents(entry: number): number {
    return this.#words[((this.#rings.controlAt + entry * POLLFD_BYTES) >> 2) + 1] >>> 16
  }

  /** Where something of a port's control block lies. */
  #control(port: number, offset: number): number {
    return this.#rings.controlAt + portControl(this.ports, port) + offset
  }

  /** Adds to an f64 of PORT_STATE. */
  #count(port: number, field: number, by: number): void {
    this.#counts[this.#control(port, field) >> 3] += by
  }

  /** Stores an address in the packet memory in two halves, because a BigInt would be allocated for each packet. */
  #setAddress(at: number, target: number): void {
    const address = this.#rings.packetMemoryAddress + target
    const high = Math.floor(address / TWO_32)
    this.#words[at >> 2] = address - high * TWO_32
    this.#words[(at >> 2) + 1] = high
  }
}
