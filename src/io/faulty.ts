// Middleware around any driver that treats packets as a bad path does: loses, duplicates and delays some of them, on
// their way in, on their way out, or both. What happens to which frame follows from the seed and from how many frames
// have come the same way before it, so a run with the same frames is the same run. For tests and the lab.
//
//   receive   link -> driver -> [lost | listed | listed twice | kept back while `by` others pass] -> shard
//   send      shard -> [the same] -> driver -> link
//
// A driver's frame may not be kept back (driver.ts), so what is delayed or comes twice is copied: into places cut from
// the end of the driver's scratch. A frame that no place is free for, or that is larger than one, goes on as it is;
// one that only waits for others to pass goes on when the shard is about to sleep. Copies can't be lent.
//
// Owner: the shard, as of the driver.

import { CACHE_LINE } from '../memory/region.ts'
import { BURST, type Driver, VIRTIO_NET_HEADER } from './driver.ts'

/** Of a frame, each from 0 to 1. A frame that is lost is neither of the others. */
export interface Faults {
  readonly loss: number
  readonly duplicate: number
  readonly reorder: number
  /** Frames of the same port that overtake one that is reordered, 1 to 1000. */
  readonly by: number
}

export interface FaultPlan {
  readonly seed: number
  /** By port. */
  readonly receive: readonly (Faults | undefined)[]
  readonly send: readonly (Faults | undefined)[]
}

class FaultPlanError extends Error {
  override readonly name = 'FaultPlanError'
  readonly code = 'FAULT_PLAN'
  readonly exitCode = 2
}

const MOST_PORTS = 256
const DEFAULT_BY = 3

/**
 * `loss=0.02,duplicate=0.02,reorder=0.05,by=3,seed=7,on=receive`: what is left out is 0, `by` 3, `seed` 1, and `on` (one
 * of receive, send, both) receive, of all ports. Throws FaultPlanError.
 */
export function parseFaults(text: string): FaultPlan {
  const given = new Map<string, string>()
  for (const part of text.split(',').map((each) => each.trim())) {
    const [name, value, ...more] = part.split('=')
    if (!name || value === undefined || more.length > 0)
      throw new FaultPlanError(`faults ${JSON.stringify(text)}: ${JSON.stringify(part)} is no NAME=VALUE`)
    given.set(name, value)
  }
  const take = (name: string, or: number, least: number, most: number): number => {
    const value = given.has(name) ? Number(given.get(name)) : or
    given.delete(name)
    if (!(value >= least && value <= most))
      throw new FaultPlanError(`faults ${JSON.stringify(text)}: ${name} is a number from ${least} to ${most}`)
    return value
  }
  const faults: Faults = {
    loss: take('loss', 0, 0, 1),
    duplicate: take('duplicate', 0, 0, 1),
    reorder: take('reorder', 0, 0, 1),
    by: take('by', DEFAULT_BY, 1, 1000),
  }
  const seed = take('seed', 1, 0, 2 ** 32 - 1)
  const on = given.get('on') ?? 'receive'
  given.delete('on')
  if (!['receive', 'send', 'both'].includes(on))
    throw new FaultPlanError(`faults ${JSON.stringify(text)}: on is receive, send or both`)
  if (given.size > 0)
    throw new FaultPlanError(
      `faults ${JSON.stringify(text)}: there is no ${[...given.keys()].join(', ')}, but loss, duplicate, reorder, by, seed, on`,
    )
  const all = Array.from({ length: MOST_PORTS }, () => faults)
  return { seed, receive: on === 'send' ? [] : all, send: on === 'receive' ? [] : all }
}

/** What happens to the next frame. */
const PASS = 0
const LOSE = 1
const TWICE = 2
const DELAY = 3

/** Decides, from a stream of random numbers of its own (a Weyl sequence, mixed as in MurmurHash3). */
class Fate {
  readonly #faults: Faults
  #state: number

  constructor(faults: Faults, seed: number) {
    this.#faults = faults
    this.#state = seed | 0
  }

  get by(): number {
    return this.#faults.by
  }

  next(): number {
    // As many numbers for each frame, so that one more loss doesn't change what happens to all later ones.
    const lost = this.#random() < this.#faults.loss
    const twice = this.#random() < this.#faults.duplicate
    const delayed = this.#random() < this.#faults.reorder
    return lost ? LOSE : delayed ? DELAY : twice ? TWICE : PASS
  }

  #random(): number {
    this.#state = (this.#state + 0x9e3779b9) | 0
    let mixed = this.#state
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b)
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
    return ((mixed ^ (mixed >>> 16)) >>> 0) / 2 ** 32
  }
}

/** A frame that waits in a place, until so many others of its port have passed. */
interface Waiting {
  readonly place: number
  readonly length: number
  passes: number
}

/** A port one way. */
class Way {
  readonly fate: Fate | undefined
  waiting: Waiting[] = []
  /** Places that are listed or queued, to be free again after release() or flush(). */
  shown: number[] = []

  constructor(faults: Faults | undefined, seed: number) {
    this.fate = faults && new Fate(faults, seed)
  }

  /** Frames whose time has come, one more having passed. */
  passed(): Waiting[] {
    if (this.waiting.length === 0) return []
    for (const each of this.waiting) each.passes--
    const due = this.waiting.filter(({ passes }) => passes <= 0)
    if (due.length > 0) this.waiting = this.waiting.filter(({ passes }) => passes > 0)
    return due
  }

  takeAll(): Waiting[] {
    const all = this.waiting
    this.waiting = []
    return all
  }
}

/** From a place's begin to its frame, so that the IPv4 header lies on four bytes. */
const FRAME_AT = 8 + VIRTIO_NET_HEADER
/** A super-packet fits where scratch is large, else an ordinary frame. */
const LARGE_PLACE = 66048
const SMALL_PLACE = 2112
const FEWEST_LARGE = 8
const MOST_PLACES = 64
/** At most this part of the scratch becomes places. */
const SHARE = 4

export class FaultyDriver implements Driver {
  readonly packetMemory: ArrayBufferLike
  readonly scratchAt: number
  readonly scratchLength: number
  readonly sharedAt: number
  readonly sharedLength: number
  readonly ports: number
  /** So far. */
  readonly done = { lost: 0, duplicated: 0, reordered: 0 }

  readonly #inner: Driver
  readonly #bytes: Uint8Array
  readonly #receiving: readonly Way[]
  readonly #sending: readonly Way[]
  readonly #placeBytes: number
  readonly #free: number[] = []
  readonly #at = new Int32Array(BURST)
  readonly #length = new Int32Array(BURST)
  /** The shard was about to sleep: what waits to be overtaken arrives now. */
  #idle = false

  constructor(inner: Driver, { seed, receive, send }: FaultPlan) {
    this.#inner = inner
    this.packetMemory = inner.packetMemory
    this.ports = inner.ports
    this.sharedAt = inner.sharedAt
    this.sharedLength = inner.sharedLength
    this.#bytes = new Uint8Array(inner.packetMemory)
    const share = Math.floor(inner.scratchLength / SHARE)
    this.#placeBytes = share >= FEWEST_LARGE * LARGE_PLACE ? LARGE_PLACE : SMALL_PLACE
    const places = Math.min(MOST_PLACES, Math.floor(share / this.#placeBytes))
    const end = inner.scratchAt + inner.scratchLength
    const first = Math.floor((end - places * this.#placeBytes) / CACHE_LINE) * CACHE_LINE
    for (let i = places - 1; i >= 0; i--) this.#free.push(first + i * this.#placeBytes + FRAME_AT)
    this.scratchAt = inner.scratchAt
    this.scratchLength = first - inner.scratchAt
    const way = (plan: FaultPlan['receive'], which: number) => (_: unknown, port: number) =>
      new Way(plan[port], Math.imul(seed + 1, 0x2545f491) ^ (which << 16) ^ port)
    this.#receiving = Array.from({ length: inner.ports }, way(receive, 0))
    this.#sending = Array.from({ length: inner.ports }, way(send, 1))
  }

  receive(port: number, at: Int32Array, length: Int32Array): number {
    const way = this.#receiving[port]!
    const { fate } = way
    if (!fate) return this.#inner.receive(port, at, length)
    const arrived = this.#inner.receive(port, this.#at, this.#length)
    let listed = 0
    const list = (frame: number, bytes: number): void => {
      at[listed] = frame
      length[listed] = bytes
      listed++
    }
    // What arrived can't wait: room for it comes first. A copy waits for the next burst where this one is full.
    const listCopies = (copies: readonly Waiting[], arriving: number): void => {
      for (const copy of copies) {
        if (listed + arriving >= BURST) way.waiting.push(copy)
        else {
          way.shown.push(copy.place)
          list(copy.place, copy.length)
        }
      }
    }
    if (arrived === 0 && this.#idle) listCopies(way.takeAll(), 0)
    for (let i = 0; i < arrived; i++) {
      const [frame, bytes] = [this.#at[i]!, this.#length[i]!]
      const happens = fate.next()
      if (happens === LOSE) this.done.lost++
      else if (happens === DELAY && this.#keep(way, frame, bytes, fate.by)) this.done.reordered++
      else {
        list(frame, bytes)
        if (happens === TWICE && this.#keep(way, frame, bytes, 0)) this.done.duplicated++
      }
      listCopies(way.passed(), arrived - i - 1)
    }
    if (port === this.ports - 1) this.#idle = false
    return listed
  }

  /** Copies a frame into a place, to be listed or sent when `by` others have passed; false without room. */
  #keep(way: Way, frame: number, bytes: number, by: number): boolean {
    if (bytes > this.#placeBytes - FRAME_AT) return false
    const place = this.#free.pop()
    if (place === undefined) return false
    this.#bytes.copyWithin(place - VIRTIO_NET_HEADER, frame - VIRTIO_NET_HEADER, frame + bytes)
    // The frame's own passing is counted right behind it.
    way.waiting.push({ place, length: bytes, passes: by + 1 })
    return true
  }

  release(port: number): void {
    this.#inner.release(port)
    this.#freeShown(this.#receiving[port]!)
  }

  #freeShown(way: Way): void {
    for (const place of way.shown) this.#free.push(place)
    way.shown.length = 0
  }

  send(port: number, at: number, length: number): void {
    const way = this.#sending[port]!
    const { fate } = way
    if (!fate) {
      this.#inner.send(port, at, length)
      return
    }
    const happens = fate.next()
    if (happens === LOSE) this.done.lost++
    else if (happens === DELAY && this.#keep(way, at, length, fate.by)) this.done.reordered++
    else {
      this.#inner.send(port, at, length)
      if (happens === TWICE) {
        this.#inner.send(port, at, length)
        this.done.duplicated++
      }
    }
    this.#sendCopies(port, way, way.passed())
  }

  #sendCopies(port: number, way: Way, copies: readonly Waiting[]): void {
    for (const { place, length } of copies) {
      way.shown.push(place)
      this.#inner.send(port, place, length)
    }
  }

  flush(): void {
    this.#inner.flush()
    for (const way of this.#sending) this.#freeShown(way)
  }

  wait(timeoutMs: number): void {
    this.#idle = true
    for (const [port, way] of this.#sending.entries()) this.#sendCopies(port, way, way.takeAll())
    this.flush()
    const arrives = this.#receiving.some(({ waiting }) => waiting.length > 0)
    this.#inner.wait(arrives ? 0 : timeoutMs)
  }

  lend(at: number): number {
    return this.#inner.lend(at)
  }

  giveBack(token: number): void {
    this.#inner.giveBack(token)
  }

  reclaim(named: ReadonlySet<number>): void {
    this.#inner.reclaim(named)
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
