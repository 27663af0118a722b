// Room for frames that must wait, since a frame left in a receive ring stalls it (io/driver.ts): pages of the shard's
// own memory, and lists of frames that fill pages one after the other and give all of them back at once.
// Owner: this thread.

import { VIRTIO_NET_HEADER } from '../../io/driver.ts'
import { WAITING_PACKETS } from '../../routing/neighbour-requests.ts'
import type { At } from '../packet/burst.ts'
import { bytes } from '../packet/packet-memory.ts'

/** Two frames of an Ethernet's usual size; larger ones get as many pages in a row as they need. */
const PAGE_BYTES = 4096
const PAGES = WAITING_PACKETS / 2
export const KEPT_BYTES = PAGES * PAGE_BYTES
/** Bytes before a frame: its virtio-net header, and what aligns its IP header to a word. */
const HEADROOM = VIRTIO_NET_HEADER + 8

const isTaken = new Uint8Array(PAGES)
let firstPageAt: At = 0
/** How many pages no list has. */
export let pagesFree = PAGES

export function attachKeptPages(at: At): void {
  firstPageAt = at
  isTaken.fill(0)
  pagesFree = PAGES
}

/** Frames that wait together. */
export interface KeptFrames {
  /** Where each frame begins. */
  readonly at: At[]
  /** Bytes that they take, alignment and virtio-net headers included. */
  bytes: number
  readonly pages: number[]
  /** What is left of the last page. */
  next: number
  end: number
}

export const noFrames = (): KeptFrames => ({ at: [], bytes: 0, pages: [], next: 0, end: 0 })

/** Bytes that a frame of this length takes. */
export const bytesToKeep = (length: number): number => (HEADROOM + length + 3) & ~3

/** How many more pages the list needs for a frame of this length. */
export const pagesToKeep = ({ next, end }: KeptFrames, length: number): number =>
  bytesToKeep(length) <= end - next ? 0 : Math.ceil(bytesToKeep(length) / PAGE_BYTES)

/** Copies a frame, virtio-net header included, behind the others; false if there aren't so many free pages in a row. */
export function keepFrame(kept: KeptFrames, from: At, length: number): boolean {
  const count = pagesToKeep(kept, length)
  if (count > 0) {
    const first = findFree(count)
    if (first < 0) return false
    for (let page = first; page < first + count; page++) {
      isTaken[page] = 1
      kept.pages.push(page)
    }
    pagesFree -= count
    kept.next = firstPageAt + first * PAGE_BYTES
    kept.end = kept.next + count * PAGE_BYTES
  }
  const at = kept.next + HEADROOM
  bytes.copyWithin(at - VIRTIO_NET_HEADER, from - VIRTIO_NET_HEADER, from + length)
  kept.at.push(at)
  kept.bytes += bytesToKeep(length)
  kept.next += bytesToKeep(length)
  return true
}

/** The first of so many free pages in a row; -1 if there are none. */
function findFree(count: number): number {
  for (let first = isTaken.indexOf(0); first >= 0; ) {
    const taken = isTaken.indexOf(1, first)
    const end = taken < 0 ? PAGES : taken
    if (end - first >= count) return first
    first = isTaken.indexOf(0, end)
  }
  return -1
}

/** Gives back the pages that the frames lie in. The frames may be read until others are kept. */
export function dropKept({ pages }: KeptFrames): void {
  for (const page of pages) isTaken[page] = 0
  pagesFree += pages.length
  pages.length = 0
}
