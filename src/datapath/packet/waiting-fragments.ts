// Room for later fragments that have come before their datagram's first: pages of the shard's own part of the packet
// memory, since a frame left in a receive ring stalls it (io/driver.ts). A piece is named by its first page; those of
// one datagram are a chain in the order they came. Who may wait, and who must make room, fragment-table.ts decides.
// Owner: this thread.

import { VIRTIO_NET_HEADER } from '../../io/driver.ts'
import { AT, type At, LENGTH } from './burst.ts'
import { bytes } from './packet-memory.ts'

/** A frame of an Ethernet's usual size with its headroom; larger ones get as many pages in a row as they need. */
const PAGE_BYTES = 2048
const PAGES = 512
export const WAITING_BYTES = PAGES * PAGE_BYTES
/** Bytes before a frame: its virtio-net header, and what aligns its IP header to a word. */
const HEADROOM = VIRTIO_NET_HEADER + 8

const FREE = 0
const TAKEN = 1
/** Nothing waits in it, but the driver may not have sent what lies there. */
const GONE = 2

/** In place of a piece: the end of a chain, or no room. */
export const NO_PIECE = -1

const state = new Uint8Array(PAGES)
const next = new Int32Array(PAGES)
const length = new Int32Array(PAGES)
let firstPageAt: At = 0
let anyGone = false

export function attachWaitingFragments(at: At): void {
  firstPageAt = at
  state.fill(FREE)
  anyGone = false
}

/** Pages that a frame of this length takes. */
export const pagesFor = (frameLength: number): number => Math.ceil((HEADROOM + frameLength) / PAGE_BYTES)

/** Copies packet i, virtio-net header included; NO_PIECE if there are not so many free pages in a row. */
export function keepPiece(i: number): number {
  const count = pagesFor(LENGTH[i]!)
  const piece = findFree(count)
  if (piece < 0) return NO_PIECE
  state.fill(TAKEN, piece, piece + count)
  const from = AT[i]! - VIRTIO_NET_HEADER
  bytes.copyWithin(pieceAt(piece) - VIRTIO_NET_HEADER, from, from + VIRTIO_NET_HEADER + LENGTH[i]!)
  length[piece] = LENGTH[i]!
  next[piece] = NO_PIECE
  return piece
}

/** The first of so many free pages in a row; -1 if there are none. */
function findFree(count: number): number {
  let run = 0
  for (let page = state.indexOf(FREE); page >= 0 && page < PAGES; page++) {
    run = state[page] === FREE ? run + 1 : 0
    if (run === count) return page - count + 1
  }
  return -1
}

export const pieceAt = (piece: number): At => firstPageAt + piece * PAGE_BYTES + HEADROOM
export const pieceLength = (piece: number): number => length[piece]!
/** The piece of the same datagram that came next, or NO_PIECE. */
export const pieceAfter = (piece: number): number => next[piece]!
export const chainPiece = (last: number, piece: number): void => {
  next[last] = piece
}

/** Nothing waits in a piece's pages any more; returns how many they are. */
export function dropPiece(piece: number): number {
  const count = pagesFor(length[piece]!)
  state.fill(FREE, piece, piece + count)
  return count
}

/** The same of a piece that went on: its pages are free when the burst ends. */
export function releasePiece(piece: number): number {
  const count = pagesFor(length[piece]!)
  state.fill(GONE, piece, piece + count)
  anyGone = true
  return count
}

/** How many pages are not free. */
export const pagesUsed = (): number => state.reduce((count, page) => count + (page === FREE ? 0 : 1), 0)

/** What was released has been sent. Only after the driver's flush(). */
export function freeReleased(): void {
  if (!anyGone) return
  anyGone = false
  for (let page = 0; page < PAGES; page++) if (state[page] === GONE) state[page] = FREE
}
