// The memory that packets lie in, and the shard's own part of it, the scratch: room for frames that it builds itself,
// which are gone when the burst ends. Owner: this thread.

import { type Driver, VIRTIO_NET_HEADER } from '../../io/driver.ts'
import { attached } from '../../memory/attached.ts'
import * as virtio from '../../wire/virtio-net.ts'
import type { At } from './burst.ts'

/** A packet is an offset in here. */
export const mem = new DataView(attached().packetMemory)
export const bytes = new Uint8Array(attached().packetMemory)

/** Room for a burst, at the least. */
const LEAST_SCRATCH = 2 << 20
/** Bytes before a frame: its virtio-net header, and what aligns its IP header to a word. */
const HEADROOM = VIRTIO_NET_HEADER + 8

let begin = 0
let next = 0
let end = 0

/** `kept` bytes of the scratch are set aside for frames that wait (egress/kept-pages.ts); returns where they begin. */
export function attachPacketMemory({ scratchAt, scratchLength }: Driver, kept: number): At {
  if (scratchLength < kept + LEAST_SCRATCH)
    throw new RangeError(`scratch of ${scratchLength} bytes: ${kept + LEAST_SCRATCH} wanted`)
  begin = scratchAt + kept
  next = begin
  end = scratchAt + scratchLength
  return scratchAt
}

/** Room for a frame of this many bytes until the burst ends, its virtio-net header cleared; -1 if none is left. */
export function scratchFrame(length: number): At {
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

/** Copies packet bytes within the packet memory. */
export function copyBytes(from: At, to: At, length: number): void {
  bytes.copyWithin(to, from, from + length)
}
