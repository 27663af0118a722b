// Middleware around any driver that treats packets as a bad path does: it loses, duplicates and reorders some of them,
// and delays all, when they are received, when they are sent, or both, as a plan says (fault-plan.ts). For tests and
// the lab.
//
//   receive   link -> driver -> [lost | listed | listed twice | kept until `by` others have passed] -> shard
//   send      shard -> [the same] -> driver -> link
//
// Delayed is what that has left over: copied out (delay-line.ts), and listed or sent from a slot when its time has come
// by the clock that the driver was given. A shard that is about to sleep sleeps no longer than until then.
//
// A driver's frame may not be kept (driver.ts), so what is reordered or duplicated is copied into a slot, cut from the
// end of the driver's scratch. A frame larger than a slot, or without a free one, goes on as it is. When the shard is
// about to sleep, no others come that could overtake: then all copies go on. A copy can't be lent.
//
// Owner: the shard that has the driver.

import type { Milliseconds } from '../memory/brand.ts'
import { CACHE_LINE } from '../memory/region.ts'
import { DelayLine } from './delay-line.ts'
import { BURST, type Driver, VIRTIO_NET_HEADER } from './driver.ts'
import { Decider, DUPLICATE, type FaultPlan, type Faults, LOSE, REORDER } from './fault-plan.ts'

/** A copy of a frame, which is kept until so many others of its port have passed. */
interface Copy {
  /** Where the frame lies in its slot. */
  readonly at: number
  readonly length: number
  /** How many frames have still to pass. */
  passes: number
}

/** One direction of a port. */
class Path {
  readonly decider: Decider | undefined
  kept: Copy[] = []
  /** Copies that are listed or queued: their slots are free again after release() or flush(). */
  inUse: number[] = []
  /** What is under way; undefined where nothing is delayed. */
  readonly delayed: DelayLine | undefined

  constructor(faults: Faults | undefined, seed: number) {
    this.decider = faults && new Decider(faults, seed)
    this.delayed = this.decider?.isDelayed ? new DelayLine() : undefined
  }

  /** A frame has passed: takes the copies that have been overtaken as often as they should. */
  takeDue(): Copy[] {
    if (this.kept.length === 0) return []
    for (const copy of this.kept) copy.passes--
    const due = this.kept.filter(({ passes }) => passes <= 0)
    if (due.length > 0) this.kept = this.kept.filter(({ passes }) => passes > 0)
    return due
  }

  takeAll(): Copy[] {
    const all = this.kept
    this.kept = []
    return all
  }
}

/** From a slot's begin to its frame, so that the IPv4 header lies on a multiple of four. */
const FRAME_AT = 8 + VIRTIO_NET_HEADER
/** Where scratch is large enough for some large slots, a super-packet fits into each; else an ordinary frame. */
const LARGE_SLOT = 66048
const SMALL_SLOT = 2112
const FEWEST_LARGE = 8
const MOST_SLOTS = 64
/** Slots take at most one part in so many of the scratch. */
const SHARE = 4

export class FaultyDriver implements Driver {
  readonly packetMemory: ArrayBufferLike
  readonly scratchAt: number
  readonly scratchLength: number
  readonly sharedAt: number
  readonly sharedLength: number
  readonly ports: number
  readonly receiveSlots: number
  /** How many frames were treated so far. */
  readonly done = { lost: 0, duplicated: 0, reordered: 0 }

  readonly #inner: Driver
  readonly #clock: () => Milliseconds
  readonly #bytes: Uint8Array
  /** By port. */
  readonly #receiving: readonly Path[]
  readonly #sending: readonly Path[]
  readonly #slotBytes: number
  /** Where the frames of free slots begin. */
  readonly #free: number[] = []
  readonly #at = new Int32Array(BURST)
  readonly #length = new Int32Array(BURST)
  /** Whether the shard was about to sleep, so that all copies go on. */
  #idle = false

  /** `clock` tells the time, by which frames are delayed. */
  constructor(inner: Driver, { seed, receive, send }: FaultPlan, clock: () => Milliseconds) {
    this.#inner = inner
    this.#clock = clock
    this.packetMemory = inner.packetMemory
    this.ports = inner.ports
    this.receiveSlots = inner.receiveSlots
    this.sharedAt = inner.sharedAt
    this.sharedLength = inner.sharedLength
    this.#bytes = new Uint8Array(inner.packetMemory)
    const share = Math.floor(inner.scratchLength / SHARE)
    this.#slotBytes = share >= FEWEST_LARGE * LARGE_SLOT ? LARGE_SLOT : SMALL_SLOT
    const slots = Math.min(MOST_SLOTS, Math.floor(share / this.#slotBytes))
    const end = inner.scratchAt + inner.scratchLength
    const first = Math.floor((end - slots * this.#slotBytes) / CACHE_LINE) * CACHE_LINE
    for (let i = slots - 1; i >= 0; i--) this.#free.push(first + i * this.#slotBytes + FRAME_AT)
    this.scratchAt = inner.scratchAt
    this.scratchLength = first - inner.scratchAt
    const path = (plan: FaultPlan['receive'], direction: number) => (_: unknown, port: number) =>
      new Path(plan[port], Math.imul(seed + 1, 0x2545f491) ^ (direction << 16) ^ port)
    this.#receiving = Array.from({ length: inner.ports }, path(receive, 0))
    this.#sending = Array.from({ length: inner.ports }, path(send, 1))
  }

  receive(port: number, at: Int32Array, length: Int32Array): number {
    const path = this.#receiving[port]!
    const { decider } = path
    if (!decider) return this.#inner.receive(port, at, length)
    const arrived = this.#inner.receive(port, this.#at, this.#length)
    let listed = 0
    const list = (frame: number, bytes: number): void => {
      at[listed] = frame
      length[listed] = bytes
      listed++
    }
    // A frame that has arrived must be listed now, so room is left for those; a copy may wait for the next burst.
    const listCopies = (copies: readonly Copy[], arriving: number): void => {
      for (const copy of copies) {
        if (listed + arriving >= BURST) path.kept.push(copy)
        else {
          path.inUse.push(copy.at)
          list(copy.at, copy.length)
        }
      }
    }
    if (arrived === 0 && this.#idle) listCopies(path.takeAll(), 0)
    for (let i = 0; i < arrived; i++) {
      const [frame, bytes] = [this.#at[i]!, this.#length[i]!]
      const what = decider.next()
      if (what === LOSE) this.done.lost++
      else if (what === REORDER && this.#keepCopy(path, frame, bytes, decider.by)) this.done.reordered++
      else {
        list(frame, bytes)
        if (what === DUPLICATE && this.#keepCopy(path, frame, bytes, 0)) this.done.duplicated++
      }
      listCopies(path.takeDue(), arrived - i - 1)
    }
    if (port === this.ports - 1) this.#idle = false
    return path.delayed ? this.#delayListed(path, path.delayed, [at, length], listed) : listed
  }

  /** What was to be listed is under way for a while; instead, what has arrived by now is. Returns how many. */
  #delayListed(path: Path, line: DelayLine, [at, length]: readonly [Int32Array, Int32Array], count: number): number {
    let listed = 0
    for (let i = 0; i < count; i++) {
      const [frame, bytes] = [at[i]!, length[i]!]
      if (this.#delay(path, line, frame, bytes)) continue
      at[listed] = frame
      length[listed] = bytes
      listed++
    }
    while (listed < BURST) {
      const arrived = this.#takeDue(path, line)
      if (arrived === undefined) break
      at[listed] = arrived.at
      length[listed] = arrived.length
      listed++
    }
    return listed
  }

  /** False for a frame that no slot would take later: it is not delayed. Without room for it, it is lost. */
  #delay({ decider }: Path, line: DelayLine, frame: number, length: number): boolean {
    if (length > this.#slotBytes - FRAME_AT) return false
    const bytes = this.#bytes.subarray(frame - VIRTIO_NET_HEADER, frame + length)
    if (!line.add(bytes, this.#clock() + decider!.nextDelay())) this.done.lost++
    return true
  }

  /** The next frame whose time has come, in a slot; undefined if there is none, or no slot. */
  #takeDue(path: Path, line: DelayLine): { at: number; length: number } | undefined {
    if (this.#free.length === 0) return undefined
    const bytes = line.take(this.#clock())
    if (bytes === undefined) return undefined
    const at = this.#free.pop()!
    this.#bytes.set(bytes, at - VIRTIO_NET_HEADER)
    path.inUse.push(at)
    return { at, length: bytes.length - VIRTIO_NET_HEADER }
  }

  /** Copies a frame into a slot, to be listed or sent when `by` others have passed. Returns false without a slot. */
  #keepCopy(path: Path, frame: number, length: number, by: number): boolean {
    if (length > this.#slotBytes - FRAME_AT) return false
    const at = this.#free.pop()
    if (at === undefined) return false
    this.#bytes.copyWithin(at - VIRTIO_NET_HEADER, frame - VIRTIO_NET_HEADER, frame + length)
    // One more: takeDue() is called for this frame itself next.
    path.kept.push({ at, length, passes: by + 1 })
    return true
  }

  /** Of what has arrived: copies that go on later are not counted. */
  holds(port: number, frames: number): boolean {
    return this.#inner.holds(port, frames)
  }

  release(port: number): void {
    this.#inner.release(port)
    this.#freeSlots(this.#receiving[port]!)
  }

  #freeSlots(path: Path): void {
    for (const at of path.inUse) this.#free.push(at)
    path.inUse.length = 0
  }

  send(port: number, at: number, length: number): void {
    const path = this.#sending[port]!
    const { decider } = path
    if (!decider) {
      this.#inner.send(port, at, length)
      return
    }
    const what = decider.next()
    if (what === LOSE) this.done.lost++
    else if (what === REORDER && this.#keepCopy(path, at, length, decider.by)) this.done.reordered++
    else {
      this.#sendOn(port, path, at, length)
      if (what === DUPLICATE) {
        this.#sendOn(port, path, at, length)
        this.done.duplicated++
      }
    }
    this.#sendCopies(port, path, path.takeDue())
  }

  #sendCopies(port: number, path: Path, copies: readonly Copy[]): void {
    for (const { at, length } of copies) {
      path.inUse.push(at)
      this.#sendOn(port, path, at, length)
    }
  }

  #sendOn(port: number, path: Path, at: number, length: number): void {
    if (path.delayed === undefined || !this.#delay(path, path.delayed, at, length)) this.#inner.send(port, at, length)
  }

  /** Sends what has been under way for long enough. */
  #sendDue(): void {
    for (const [port, path] of this.#sending.entries()) {
      if (path.delayed === undefined) continue
      for (let due = this.#takeDue(path, path.delayed); due; due = this.#takeDue(path, path.delayed))
        this.#inner.send(port, due.at, due.length)
    }
  }

  flush(): void {
    this.#sendDue()
    this.#inner.flush()
    for (const path of this.#sending) this.#freeSlots(path)
  }

  wait(timeoutMs: number): void {
    this.#idle = true
    for (const [port, path] of this.#sending.entries()) this.#sendCopies(port, path, path.takeAll())
    this.flush()
    const now = this.#clock()
    const hasCopies = this.#receiving.some(({ kept }) => kept.length > 0)
    const lines = [...this.#receiving, ...this.#sending].map(({ delayed }) => delayed?.nextDue ?? timeoutMs + now)
    this.#inner.wait(hasCopies ? 0 : Math.max(0, Math.min(timeoutMs, ...lines.map((due) => Math.ceil(due - now)))))
  }

  lend(at: number): number {
    return this.#inner.lend(at)
  }

  giveBack(token: number): void {
    this.#inner.giveBack(token)
  }

  reclaim(inUse: ReadonlySet<number>): void {
    this.#inner.reclaim(inUse)
  }

  sendFailures(port: number): number {
    return this.#inner.sendFailures(port)
  }

  receiveLosses(port: number): number {
    return this.#inner.receiveLosses(port)
  }

  close(): void {
    this.#inner.close()
  }
}
