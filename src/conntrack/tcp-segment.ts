// The TCP segment in hand, as tracking reads it: which bytes of its sender's it carries, and what it says of the other
// end's. Read once a segment, before anything of it is changed. Owner: this thread; nothing here is shared.

import * as tcp from '../wire/tcp.ts'
import { SEGMENT_OF } from './tcp-state.ts'

/** Where it lies: asked again for its options. */
let memory: DataView
let header = 0

export let flags = 0
/** Its kind (tcp-state.ts): a row of the state table, or ILLEGAL. */
export let kind = 0
/** The number of its first byte, and one past its last; SYN and FIN count as a byte each. */
export let seq = 0
export let end = 0
/** What it acknowledges, and the highest right edge of its SACK blocks if that is more; nothing without ACK. */
export let ack = 0
export let sack = 0
/** `ack` as it stands in the segment, before renumber(). */
export let ackAsSent = 0
/** As sent, unscaled. */
export let windowField = 0

/** Reads the segment at `at`; `length`: bytes from its header to its end. SACK blocks are read by readSack(). */
export function readSegment(mem: DataView, at: number, length: number): void {
  memory = mem
  header = at
  flags = tcp.flags(mem, at)
  kind = SEGMENT_OF[flags]!
  seq = tcp.seq(mem, at)
  const payload = length - tcp.headerLen(mem, at)
  end = (seq + payload + ((flags & tcp.SYN) >> 1) + (flags & tcp.FIN)) | 0
  ack = tcp.ack(mem, at)
  ackAsSent = ack
  sack = ack
  windowField = tcp.window(mem, at)
}

/** NOP, NOP, timestamps: what most segments have, and nothing else. */
const TIMESTAMPS_ONLY = 0x0101080a

/** For a segment whose receiver permits SACK: `sack` becomes the highest edge that it names. */
export function readSack(): void {
  const length = tcp.headerLen(memory, header)
  if (length === tcp.MIN_HEADER_LEN) return
  if (length === tcp.MIN_HEADER_LEN + 12 && memory.getInt32(header + tcp.MIN_HEADER_LEN) === TIMESTAMPS_ONLY) return
  const option = tcp.findOption(memory, header, tcp.OPTION_SACK)
  if (option === 0) return
  for (let block = tcp.sackBlocks(memory, option) - 1; block >= 0; block--) {
    const edge = tcp.sackRight(memory, tcp.sackBlock(option, block))
    if (((edge - sack) | 0) > 0) sack = edge
  }
}

/** In the numbering of the end that it acknowledges, where a helper has edited what that one sent. */
export function renumber(acknowledged: number, edge: number): void {
  ack = acknowledged
  sack = edge
}

/** Of a SYN: the window scale that it offers, 0 to 14, or -1. */
export const scaleOffered = (): number => tcp.windowScale(memory, header)
/** Of a SYN: it permits SACK. */
export const permitsSack = (): boolean => tcp.findOption(memory, header, tcp.OPTION_SACK_PERMITTED) !== 0
