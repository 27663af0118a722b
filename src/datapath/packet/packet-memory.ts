// The memory that packets lie in, and the shard's own part of it: room for frames that it builds itself, gone with the
// burst, and slots for frames that must wait, since a frame left in a receive ring stalls it (io/driver.ts).
// Owner: this thread.

import { type Driver, VIRTIO_NET_HEADER } from '../../io/driver.ts'
import { seat } from '../../memory/attached.ts'
import * as virtio from '../../wire/virtio-net.ts'

/** A packet is an offset in here. */
export const mem = new DataView(seat().arena)
export const bytes = new Uint8Array(seat().arena)

/** Kept frames: MTU-sized ones and super-packets. A stride that is no power of two spreads them over cache sets. */
const SMALL = 2112
const LARGE = 66_112
const SMALL_SLOTS = 512
const LARGE_SLOTS = 16
const KEPT_BYTES = SMALL * SMALL_SLOTS + LARGE * LARGE_SLOTS
/** Before a frame: its virtio-net header, and what aligns its IP header to a word. */
const HEADROOM = VIRTIO_NET_HEADER + 8

let begin = 0
let next = 0
let end = 0
let free: number[] = []
let freeLarge: number[] = []
let largeFrom = 0

export function seatArena(driver: Driver): void {
  const { scratchAt, scratchLength } = driver
  if (scratchLength < KEPT_BYTES * 2)
    throw new RangeError(`scratch of ${scratchLength} bytes: ${KEPT_BYTES * 2} wanted`)
  free = Array.from({ length: SMALL_SLOTS }, (_, slot) => scratchAt + slot * SMALL + HEADROOM)
  largeFrom = scratchAt + SMALL * SMALL_SLOTS
  freeLarge = Array.from({ length: LARGE_SLOTS }, (_, slot) => largeFrom + slot * LARGE + HEADROOM)
  begin = scratchAt + KEPT_BYTES
  next = begin
  end = scratchAt + scratchLength
}

/** Room for a frame of this many bytes until the burst ends, its virtio-net header cleared; -1 if none is left. */
export function scratchFrame(length: number): number {
  const at = next + HEADROOM
  if (at + length > end) return -1
  next = (at + length + 3) & ~3
  virtio.clear(mem, at)
  return at
}

/** Everything that scratchFrame() gave is gone. Only after the driver's flush(). */
export function resetScratch(): void {
  next = begin
}

/** Copies a frame, virtio-net header included, to where it may stay until dropKept(); -1 if there is no room. */
export function keepFrame(from: number, length: number): number {
  const slots = length <= SMALL - HEADROOM ? free : freeLarge
  if (length > LARGE - HEADROOM) return -1
  const at = slots.pop()
  if (at === undefined) return -1
  bytes.copyWithin(at - VIRTIO_NET_HEADER, from - VIRTIO_NET_HEADER, from + length)
  return at
}

export function dropKept(at: number): void {
  if (at < largeFrom) free.push(at)
  else freeLarge.push(at)
}

/** Copies packet bytes within the arena. */
export function copyBytes(from: number, to: number, length: number): void {
  bytes.copyWithin(to, from, from + length)
}
