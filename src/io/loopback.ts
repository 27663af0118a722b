// A driver without a kernel: tests and benches put frames in and take out what was sent. It obeys the ring rules that a
// real link imposes: slots are filled in order, a frame that isn't given back keeps its slot and stops the ring there,
// a full ring loses what arrives. Authority: the contract in driver.ts.
//
// The packet memory is shared memory, one for all shards. Another thread may inject, wake and give back through a
// LoopbackDriver of its own over the same packet memory, made with the same options; what was sent is collected by the
// one that flushes. A new driver may follow a dead one.
//
//   [ shard 0: words | slots of port 0 | slots of port 1 | ... | scratch ][ shard 1: ... ] ... [ shared ]
//   slot:  state i32 @0 | length u32 @4 | virtio-net header @8 | frame @18 (so that the IPv4 header lies on 4 bytes)
//
//   state    who may touch it   what happens next
//   FREE     the injector       it fills the slot and counts INJECTED
//   FILLED   the shard          receive() lists it, once; release() frees it
//   LENT     another thread     lend() has stored it; release() passes it over; giveBack() or reclaim() frees it
// Never: freeing a slot that is LENT by release(); filling a slot that is not FREE.
//
// Words, running counts that wrap at 2^32 (but for WOKEN):
//   word       how many     written by              says
//   DOORBELL   one          injectors, wakers       a sleeper waits until it changes
//   WOKEN      one          wakers, the shard       set by wake(), cleared by wait()
//   INJECTED   one a port   the injector            slots filled
//   LISTED     one a port   the shard               slots that receive() has listed
//   RELEASED   one a port   the shard               slots that release() has passed; never runs past LISTED
//   FREED      one a port   the shard, borrowers    slots freed
//   LOST       one a port   the injector            frames that found no free slot

import { CACHE_LINE, sharedMemory } from '../memory/region.ts'
import { BURST, type Driver, MAX_WAIT_MS, VIRTIO_NET_HEADER } from './driver.ts'

const DOORBELL = 0
const WOKEN = 1
const PORT_WORDS = 2
const INJECTED = 0
const LISTED = 1
const RELEASED = 2
const FREED = 3
const LOST = 4
const WORDS_A_PORT = 5

const FREE = 0
const FILLED = 1
const LENT = 2

const LENGTH_AT = 4
const VIRTIO_AT = 8
const FRAME_AT = VIRTIO_AT + VIRTIO_NET_HEADER

const lines = (bytes: number): number => Math.ceil(bytes / CACHE_LINE) * CACHE_LINE

export interface LoopbackOptions {
  /** How many interfaces; default 2. */
  readonly ports?: number
  /** Receive slots of each port, a power of two; default 256. */
  readonly slots?: number
  /** Bytes of a slot, a multiple of 64; what doesn't fit is cut off. Default 66048: a super-packet, as in af-packet. */
  readonly slotBytes?: number
  /** Size of each shard's scratch; default 1 MiB. */
  readonly scratchBytes?: number
  /** Which shard's driver it is, of how many over one packet memory; default 0 of 1. */
  readonly shard?: number
  readonly shards?: number
  /** Size of the range that all shards share, behind the last one's part; default 0. */
  readonly sharedBytes?: number
  /** Memory to use, at least packetMemoryBytes(options); default: memory of its own. */
  readonly packetMemory?: SharedArrayBuffer
  /** Plays a link that refuses to send: true counts a failure. The frame is a view, valid during the call. */
  readonly refuse?: (port: number, frame: Uint8Array) => boolean
  /** False: what is sent is counted and forgotten, for benches. Default true. */
  readonly keepSent?: boolean
}

/** Offsets of rings and scratch are in a shard's own part; shard s has its part at s * shardBytes. */
interface Shape {
  readonly ports: number
  readonly slots: number
  readonly slotBytes: number
  readonly ringsAt: number
  readonly scratchAt: number
  readonly scratchBytes: number
  readonly shardBytes: number
  readonly sharedAt: number
  readonly sharedBytes: number
}

function shapeOf(options: LoopbackOptions): Shape {
  const { ports = 2, slots = 256, slotBytes = 66048, scratchBytes = 1 << 20 } = options
  const { shard = 0, shards = 1, sharedBytes = 0 } = options
  if (slotBytes % CACHE_LINE !== 0 || slotBytes <= CACHE_LINE)
    throw new RangeError(`loopback: slotBytes ${slotBytes}, allowed: multiples of ${CACHE_LINE} above it`)
  if (slots < 1 || (slots & (slots - 1)) !== 0) throw new RangeError(`loopback: ${slots} slots, allowed: powers of two`)
  if (shard < 0 || shard >= shards) throw new RangeError(`loopback: shard ${shard}, allowed: 0 to ${shards - 1}`)
  const ringsAt = lines((PORT_WORDS + ports * WORDS_A_PORT) * 4)
  const scratchAt = ringsAt + ports * slots * slotBytes
  const shardBytes = scratchAt + lines(scratchBytes)
  const sharedAt = shards * shardBytes
  return { ports, slots, slotBytes, ringsAt, scratchAt, scratchBytes, shardBytes, sharedAt, sharedBytes }
}

/** How large the packet memory must be that the drivers of all shards are given. */
export function packetMemoryBytes(options: LoopbackOptions = {}): number {
  const { sharedAt, sharedBytes } = shapeOf(options)
  return sharedAt + sharedBytes
}

export class LoopbackDriver implements Driver {
  readonly packetMemory: SharedArrayBuffer
  readonly scratchAt: number
  readonly scratchLength: number
  readonly sharedAt: number
  readonly sharedLength: number
  readonly ports: number
  readonly receiveSlots: number

  readonly #shape: Shape
  readonly #bytes: Uint8Array
  /** The packet memory in i32 words. */
  readonly #words: Int32Array
  /** Where this shard's part begins. */
  readonly #base: number
  readonly #mem: DataView
  /** By port, as LISTED and RELEASED. */
  readonly #listed: Int32Array
  readonly #released: Int32Array
  /**
   * Slots of the present burst that are lent. A slot's state says so only until it is given back, which may be before
   * release().
   */
  readonly #lent = new Set<number>()
  /** Whether #takeOver() was called: only for the shard, as a driver that just injects must not release its frames. */
  #tookOver = false
  readonly #queuedPort = new Int32Array(BURST)
  readonly #queuedAt = new Int32Array(BURST)
  readonly #queuedLength = new Int32Array(BURST)
  #queued = 0
  readonly #sent: Uint8Array[][]
  readonly #sentFrames: Float64Array
  readonly #failures: Float64Array
  readonly #refuse: LoopbackOptions['refuse']
  readonly #keepSent: boolean

  constructor(options: LoopbackOptions = {}) {
    const shape = shapeOf(options)
    const needed = shape.sharedAt + shape.sharedBytes
    this.packetMemory = options.packetMemory ?? sharedMemory(needed)
    if (this.packetMemory.byteLength < needed)
      throw new RangeError(`loopback: packet memory of ${this.packetMemory.byteLength} bytes, needed: ${needed}`)
    this.#shape = shape
    this.#base = (options.shard ?? 0) * shape.shardBytes
    this.ports = shape.ports
    this.receiveSlots = shape.slots
    this.scratchAt = this.#base + shape.scratchAt
    this.scratchLength = shape.scratchBytes
    this.sharedAt = shape.sharedAt
    this.sharedLength = shape.sharedBytes
    this.#bytes = new Uint8Array(this.packetMemory)
    this.#mem = new DataView(this.packetMemory)
    this.#words = new Int32Array(this.packetMemory, 0, this.packetMemory.byteLength >> 2)
    this.#listed = new Int32Array(shape.ports)
    this.#released = new Int32Array(shape.ports)
    for (let port = 0; port < shape.ports; port++)
      this.#listed[port] = Atomics.load(this.#words, this.#word(port, LISTED))
    this.#sent = Array.from({ length: shape.ports }, () => [])
    this.#sentFrames = new Float64Array(shape.ports)
    this.#failures = new Float64Array(shape.ports)
    this.#refuse = options.refuse
    this.#keepSent = options.keepSent ?? true
  }

  // --- the far end of the links ---

  /**
   * A frame arrives on a port, with this virtio-net header of 10 bytes or one of zeros. Returns false if the ring is
   * full: the frame is lost and counted. Only one thread may inject into a port.
   */
  inject(port: number, frame: Uint8Array, virtioHeader?: Uint8Array): boolean {
    if (port < 0 || port >= this.ports) throw new RangeError(`loopback: port ${port}, allowed: 0 to ${this.ports - 1}`)
    if (virtioHeader && virtioHeader.length !== VIRTIO_NET_HEADER)
      throw new RangeError(
        `loopback: a virtio-net header of ${virtioHeader.length} bytes, allowed: ${VIRTIO_NET_HEADER}`,
      )
    const filled = Atomics.load(this.#words, this.#word(port, INJECTED))
    const slot = this.#slot(port, filled)
    if (Atomics.load(this.#words, slot >> 2) !== FREE) {
      Atomics.add(this.#words, this.#word(port, LOST), 1)
      return false
    }
    const length = Math.min(frame.length, this.#shape.slotBytes - FRAME_AT)
    this.#mem.setUint32(slot + LENGTH_AT, length, true)
    this.#bytes.fill(0, slot + VIRTIO_AT, slot + FRAME_AT)
    if (virtioHeader) this.#bytes.set(virtioHeader, slot + VIRTIO_AT)
    this.#bytes.set(length < frame.length ? frame.subarray(0, length) : frame, slot + FRAME_AT)
    Atomics.store(this.#words, slot >> 2, FILLED)
    Atomics.add(this.#words, this.#word(port, INJECTED), 1)
    this.#ringDoorbell()
    return true
  }

  /** Frames injected into a port whose slots are not free again: neither released nor, if lent, given back. */
  pending(port: number): number {
    return (
      (Atomics.load(this.#words, this.#word(port, INJECTED)) - Atomics.load(this.#words, this.#word(port, FREED))) | 0
    )
  }

  /** Copies of what was sent through a port since the last takeSent(), oldest first. */
  sent(port: number): readonly Uint8Array[] {
    return this.#sent[port].map((copy) => copy.subarray(VIRTIO_NET_HEADER))
  }

  /** As sent(), and forgets them. Each frame has its virtio-net header in front if asked for. */
  takeSent(port: number, withVirtioHeader = false): Uint8Array[] {
    const copies = this.#sent[port].splice(0)
    return withVirtioHeader ? copies : copies.map((copy) => copy.subarray(VIRTIO_NET_HEADER))
  }

  /** How many frames a port has taken since the start. */
  sentFrames(port: number): number {
    return this.#sentFrames[port]
  }

  /** Ends the present wait(), or the next one. Any thread may call it. */
  wake(): void {
    Atomics.store(this.#words, this.#own(WOKEN), 1)
    this.#ringDoorbell()
  }

  // --- the shard's side ---

  receive(port: number, at: Int32Array, length: Int32Array): number {
    if (!this.#tookOver) this.#takeOver()
    const first = this.#listed[port]
    const ready = (Atomics.load(this.#words, this.#word(port, INJECTED)) - first) | 0
    const count = Math.min(ready, BURST)
    for (let i = 0; i < count; i++) {
      const slot = this.#slot(port, first + i)
      at[i] = slot + FRAME_AT
      length[i] = this.#mem.getUint32(slot + LENGTH_AT, true)
    }
    this.#listed[port] = first + count
    Atomics.store(this.#words, this.#word(port, LISTED), first + count)
    return count
  }

  holds(port: number, frames: number): boolean {
    return ((Atomics.load(this.#words, this.#word(port, INJECTED)) - this.#released[port]) | 0) >= frames
  }

  release(port: number): void {
    const first = this.#released[port]
    const count = (this.#listed[port] - first) | 0
    let freed = 0
    for (let i = 0; i < count; i++) {
      const slot = this.#slot(port, first + i)
      if (this.#lent.delete(slot)) continue
      Atomics.store(this.#words, slot >> 2, FREE)
      freed++
    }
    this.#released[port] = first + count
    Atomics.add(this.#words, this.#word(port, FREED), freed)
    Atomics.store(this.#words, this.#word(port, RELEASED), first + count)
  }

  lend(at: number): number {
    const { ringsAt, scratchAt, slots, slotBytes } = this.#shape
    const inRings = at - this.#base - ringsAt
    if (inRings < 0 || at - this.#base >= scratchAt) return -1
    const port = Math.floor(inRings / (slots * slotBytes))
    const i = (Math.floor(inRings / slotBytes) - port * slots - this.#released[port]) & (slots - 1)
    if (i >= ((this.#listed[port] - this.#released[port]) | 0)) return -1
    const slot = at - (inRings % slotBytes)
    this.#lent.add(slot)
    Atomics.store(this.#words, slot >> 2, LENT)
    return slot
  }

  giveBack(token: number): void {
    if (Atomics.compareExchange(this.#words, token >> 2, LENT, FREE) !== LENT) return
    const { ringsAt, slots, slotBytes, shardBytes } = this.#shape
    const base = token - (token % shardBytes)
    const port = Math.floor((token - base - ringsAt) / (slots * slotBytes))
    Atomics.add(this.#words, wordAt(base, port, FREED), 1)
  }

  reclaim(inUse: ReadonlySet<number>): void {
    if (!this.#tookOver) this.#takeOver()
    for (let port = 0; port < this.ports; port++)
      for (let i = 0; i < this.#shape.slots; i++) {
        const slot = this.#slot(port, i)
        if (!inUse.has(slot)) this.giveBack(slot)
      }
  }

  send(port: number, at: number, length: number): void {
    if (this.#queued === BURST) this.flush()
    this.#queuedPort[this.#queued] = port
    this.#queuedAt[this.#queued] = at
    this.#queuedLength[this.#queued] = length
    this.#queued++
  }

  flush(): void {
    for (let i = 0; i < this.#queued; i++) {
      const port = this.#queuedPort[i]
      const at = this.#queuedAt[i]
      const end = at + this.#queuedLength[i]
      if (this.#refuse?.(port, this.#bytes.subarray(at, end))) {
        this.#failures[port]++
        continue
      }
      this.#sentFrames[port]++
      if (this.#keepSent) this.#sent[port].push(Uint8Array.from(this.#bytes.subarray(at - VIRTIO_NET_HEADER, end)))
    }
    this.#queued = 0
  }

  wait(timeoutMs: number): void {
    // The doorbell is read before the rings are looked at, so that a frame that comes in between ends the wait at once.
    const rung = Atomics.load(this.#words, this.#own(DOORBELL))
    const idle = Atomics.load(this.#words, this.#own(WOKEN)) === 0 && !this.#anyReady()
    if (idle) Atomics.wait(this.#words, this.#own(DOORBELL), rung, Math.min(timeoutMs, MAX_WAIT_MS))
    Atomics.store(this.#words, this.#own(WOKEN), 0)
  }

  sendFailures(port: number): number {
    return this.#failures[port]
  }

  receiveLosses(port: number): number {
    return Atomics.load(this.#words, this.#word(port, LOST)) >>> 0
  }

  /** Memory only: nothing to give back. */
  close(): void {
    this.#queued = 0
  }

  #anyReady(): boolean {
    for (let port = 0; port < this.ports; port++)
      if (Atomics.load(this.#words, this.#word(port, INJECTED)) !== this.#listed[port]) return true
    return false
  }

  /**
   * Goes on after a driver of this shard that died. Frames that it had listed may be half rewritten, so they are
   * released unread. Frames that it had lent stay so until reclaim().
   */
  #takeOver(): void {
    this.#tookOver = true
    for (let port = 0; port < this.ports; port++) {
      const released = Atomics.load(this.#words, this.#word(port, RELEASED))
      this.#listed[port] = Atomics.load(this.#words, this.#word(port, LISTED))
      this.#released[port] = released
      for (let i = 0; i < ((this.#listed[port] - released) | 0); i++) {
        const slot = this.#slot(port, released + i)
        // A slot of the burst that is FREE was lent, and given back already.
        if (Atomics.load(this.#words, slot >> 2) !== FILLED) this.#lent.add(slot)
      }
      this.release(port)
    }
  }

  #ringDoorbell(): void {
    Atomics.add(this.#words, this.#own(DOORBELL), 1)
    Atomics.notify(this.#words, this.#own(DOORBELL))
  }

  /** Which i32 is this shard's DOORBELL or WOKEN. */
  #own(word: number): number {
    return (this.#base >> 2) + word
  }

  /** Which i32 is a port's word. */
  #word(port: number, word: number): number {
    return wordAt(this.#base, port, word)
  }

  /** Where the slot begins that comes after `count` others. */
  #slot(port: number, count: number): number {
    const { ringsAt, slots, slotBytes } = this.#shape
    return this.#base + ringsAt + (port * slots + (count & (slots - 1))) * slotBytes
  }
}

/** Which i32 of the packet memory is a port's word, for the shard whose part begins at `base`. */
const wordAt = (base: number, port: number, word: number): number =>
  (base >> 2) + PORT_WORDS + port * WORDS_A_PORT + word
