// A driver without a kernel: tests and benches put frames in and take out what was sent. It obeys the ring rules that
// a real link imposes: fixed slots, a frame not released keeps its slot, a full ring loses what arrives.
// Authority: the contract in driver.ts.
//
// Arena, all of it shared memory, so that another thread may inject and wake through a LoopbackDriver of its own over
// the same arena, made with the same options (what was sent is collected only by the one that flushes):
//
//   [ words | slots of port 0 | slots of port 1 | ... | scratch ]   once a shard, then   [ shared ]
//   slot:  length u32 @0 | lent i32 @4 | virtio-net header @8 | frame @18 (so that the IPv4 header lies on 4 bytes)
// A slot's `lent` is 1 from lend() to giveBack(): RELEASED stops before it.
//
// Words, running counts that wrap at 2^32:
//   BELL       one                  whoever injects or wakes   a sleeper waits on it
//   WOKEN      one                  whoever wakes; the shard   set by wake(), cleared by wait()
//   INJECTED   one a port           the injector               slots filled
//   RELEASED   one a port           the shard                  slots given back; never runs past INJECTED
//   LOST       one a port           the injector               frames that found no slot

import { sharedMemory } from '../memory/region.ts'
import { BURST, type Driver, VIRTIO_NET_HEADER } from './driver.ts'

const BELL = 0
const WOKEN = 1
const PORT_WORDS = 2
const INJECTED = 0
const RELEASED = 1
const LOST = 2
const WORDS_A_PORT = 3

const LENT_AT = 4
const VIRTIO_AT = 8
const FRAME_AT = VIRTIO_AT + VIRTIO_NET_HEADER
const LINE = 64
const MAX_WAIT_MS = 50

const lines = (bytes: number): number => Math.ceil(bytes / LINE) * LINE

export interface LoopbackOptions {
  /** How many interfaces; default 2. */
  readonly ports?: number
  /** Receive slots of each port, a power of two; default 256. */
  readonly slots?: number
  /** Bytes of a slot, a multiple of 64; what doesn't fit is cut off. Default 66048: a super-packet, as in af-packet. */
  readonly slotBytes?: number
  /** Default 1 MiB. */
  readonly scratchBytes?: number
  /** Which of how many shards with drivers of these options over one arena this is; default 0 of 1. */
  readonly shard?: number
  readonly shards?: number
  /** Bytes that all shards share, after their own; default 0. */
  readonly sharedBytes?: number
  /** Memory to use, at least arenaBytes(options); default: its own. */
  readonly arena?: SharedArrayBuffer
  /** Plays a link that refuses to send: true counts a failure. The frame is a view, valid during the call. */
  readonly refuse?: (port: number, frame: Uint8Array) => boolean
  /** False: what is sent is counted and forgotten, for benches. Default true. */
  readonly keepSent?: boolean
}

interface Shape {
  readonly ports: number
  readonly slots: number
  readonly slotBytes: number
  /** Where this shard's part begins, and from there. */
  readonly wordsAt: number
  readonly ringsAt: number
  readonly scratchAt: number
  readonly scratchBytes: number
  readonly sharedAt: number
  readonly sharedBytes: number
}

function shapeOf(options: LoopbackOptions): Shape {
  const { ports = 2, slots = 256, slotBytes = 66048, scratchBytes = 1 << 20 } = options
  const { shard = 0, shards = 1, sharedBytes = 0 } = options
  if (slotBytes % LINE !== 0 || slotBytes <= LINE)
    throw new RangeError(`loopback: slotBytes ${slotBytes}, allowed: multiples of ${LINE} above it`)
  if (slots < 1 || (slots & (slots - 1)) !== 0) throw new RangeError(`loopback: ${slots} slots, allowed: powers of two`)
  const words = lines((PORT_WORDS + ports * WORDS_A_PORT) * 4)
  const ownBytes = lines(words + ports * slots * slotBytes + scratchBytes)
  const wordsAt = shard * ownBytes
  const ringsAt = wordsAt + words
  return {
    ...{ ports, slots, slotBytes, wordsAt, ringsAt },
    ...{ scratchAt: ringsAt + ports * slots * slotBytes, scratchBytes },
    ...{ sharedAt: shards * ownBytes, sharedBytes },
  }
}

export function arenaBytes(options: LoopbackOptions = {}): number {
  const { sharedAt, sharedBytes } = shapeOf(options)
  return sharedAt + sharedBytes
}

export class LoopbackDriver implements Driver {
  readonly arena: SharedArrayBuffer
  readonly scratchAt: number
  readonly scratchLength: number
  readonly sharedAt: number
  readonly sharedLength: number
  readonly ports: number

  readonly #shape: Shape
  readonly #bytes: Uint8Array
  readonly #words: Int32Array
  readonly #mem: DataView
  /** The arena in i32 words: a slot's second says whether it is lent. */
  readonly #lent: Int32Array
  /** How far receive() has listed, by port; release() publishes it. */
  readonly #received: Int32Array
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
    this.arena = options.arena ?? sharedMemory(needed)
    if (this.arena.byteLength < needed)
      throw new RangeError(`loopback: an arena of ${this.arena.byteLength} bytes, needed: ${needed}`)
    this.#shape = shape
    this.ports = shape.ports
    this.scratchAt = shape.scratchAt
    this.scratchLength = shape.scratchBytes
    this.sharedAt = shape.sharedAt
    this.sharedLength = shape.sharedBytes
    this.#bytes = new Uint8Array(this.arena)
    this.#mem = new DataView(this.arena)
    this.#lent = new Int32Array(this.arena)
    this.#words = new Int32Array(this.arena, shape.wordsAt, PORT_WORDS + shape.ports * WORDS_A_PORT)
    this.#received = new Int32Array(shape.ports)
    for (let port = 0; port < shape.ports; port++)
      this.#received[port] = Atomics.load(this.#words, this.#word(port, RELEASED))
    this.#sent = Array.from({ length: shape.ports }, () => [])
    this.#sentFrames = new Float64Array(shape.ports)
    this.#failures = new Float64Array(shape.ports)
    this.#refuse = options.refuse
    this.#keepSent = options.keepSent ?? true
  }

  // --- the far end of the links ---

  /**
   * A frame arrives on a port, with a virtio-net header of 10 bytes or zeros for one. False if the ring is full: the
   * frame is lost and counted. One thread injects into a port.
   */
  inject(port: number, frame: Uint8Array, virtioHeader?: Uint8Array): boolean {
    if (port < 0 || port >= this.ports) throw new RangeError(`loopback: port ${port}, allowed: 0 to ${this.ports - 1}`)
    if (virtioHeader && virtioHeader.length !== VIRTIO_NET_HEADER)
      throw new RangeError(
        `loopback: a virtio-net header of ${virtioHeader.length} bytes, allowed: ${VIRTIO_NET_HEADER}`,
      )
    const filled = Atomics.load(this.#words, this.#word(port, INJECTED))
    if (this.pending(port) === this.#shape.slots) {
      Atomics.add(this.#words, this.#word(port, LOST), 1)
      return false
    }
    const slot = this.#slot(port, filled)
    const length = Math.min(frame.length, this.#shape.slotBytes - FRAME_AT)
    this.#mem.setUint32(slot, length, true)
    this.#bytes.fill(0, slot + VIRTIO_AT, slot + FRAME_AT)
    if (virtioHeader) this.#bytes.set(virtioHeader, slot + VIRTIO_AT)
    this.#bytes.set(length < frame.length ? frame.subarray(0, length) : frame, slot + FRAME_AT)
    Atomics.add(this.#words, this.#word(port, INJECTED), 1)
    this.#ring()
    return true
  }

  /** Frames injected into a port and not yet released by the shard. */
  pending(port: number): number {
    return (
      (Atomics.load(this.#words, this.#word(port, INJECTED)) - Atomics.load(this.#words, this.#word(port, RELEASED))) |
      0
    )
  }

  /** Copies of what was sent through a port since the last takeSent(), oldest first. */
  sent(port: number): readonly Uint8Array[] {
    return this.#sent[port].map((copy) => copy.subarray(VIRTIO_NET_HEADER))
  }

  /** The same, and forgets them; with their virtio-net headers before the frames if asked. */
  takeSent(port: number, withVirtioHeader = false): Uint8Array[] {
    const copies = this.#sent[port].splice(0)
    return withVirtioHeader ? copies : copies.map((copy) => copy.subarray(VIRTIO_NET_HEADER))
  }

  /** How many frames a port has taken since the start. */
  sentFrames(port: number): number {
    return this.#sentFrames[port]
  }

  /** Ends a wait(), the present or the next one. From any thread. */
  wake(): void {
    Atomics.store(this.#words, WOKEN, 1)
    this.#ring()
  }

  // --- the shard's side ---

  receive(port: number, at: Int32Array, length: Int32Array): number {
    const first = this.#received[port]
    const ready = (Atomics.load(this.#words, this.#word(port, INJECTED)) - first) | 0
    const count = Math.min(ready, BURST)
    for (let i = 0; i < count; i++) {
      const slot = this.#slot(port, first + i)
      at[i] = slot + FRAME_AT
      length[i] = this.#mem.getUint32(slot, true)
    }
    this.#received[port] = first + count
    return count
  }

  lend(at: number): number {
    const slot = at - FRAME_AT
    Atomics.store(this.#lent, (slot + LENT_AT) >> 2, 1)
    return slot
  }

  giveBack(token: number): void {
    Atomics.store(this.#lent, (token + LENT_AT) >> 2, 0)
  }

  reclaim(named: ReadonlySet<number>): void {
    for (let port = 0; port < this.ports; port++)
      for (let i = 0; i < this.#shape.slots; i++)
        if (!named.has(this.#slot(port, i))) this.giveBack(this.#slot(port, i))
  }

  release(port: number): void {
    let released = Atomics.load(this.#words, this.#word(port, RELEASED))
    while (released !== this.#received[port] && !this.#isLent(port, released)) released = (released + 1) | 0
    Atomics.store(this.#words, this.#word(port, RELEASED), released)
  }

  #isLent(port: number, count: number): boolean {
    return Atomics.load(this.#lent, (this.#slot(port, count) + LENT_AT) >> 2) === 1
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
    // The bell is read before the queues are looked at: what rings in between ends the wait at once.
    const bell = Atomics.load(this.#words, BELL)
    const idle = Atomics.load(this.#words, WOKEN) === 0 && !this.#anyReady()
    if (idle) Atomics.wait(this.#words, BELL, bell, Math.min(timeoutMs, MAX_WAIT_MS))
    Atomics.store(this.#words, WOKEN, 0)
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
      if (Atomics.load(this.#words, this.#word(port, INJECTED)) !== this.#received[port]) return true
    return false
  }

  #ring(): void {
    Atomics.add(this.#words, BELL, 1)
    Atomics.notify(this.#words, BELL)
  }

  #word(port: number, word: number): number {
    return PORT_WORDS + port * WORDS_A_PORT + word
  }

  #slot(port: number, count: number): number {
    const { ringsAt, slots, slotBytes } = this.#shape
    return ringsAt + (port * slots + (count & (slots - 1))) * slotBytes
  }
}
