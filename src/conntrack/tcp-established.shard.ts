// The commonest segment in one go: an acknowledgement, with data or without, of an assured ESTABLISHED connection, that
// passes all four window tests (tcp-window.shard.ts). It costs a fifth of examining and applying it (tcp.shard.ts), and
// leaves the row and both windows as that does. Whatever is not as expected here is examined there from the start:
// nothing is judged in this file.
//
// What is not stored here is what nobody reads of an assured connection while timeouts are those of the RFCs: which
// segment was the last ordinary one, and whether something is unacknowledged (tcp-timeout.shard.ts).
//
// Owner: the shard.

import { now } from '../memory/clock.ts'
import * as tcp from '../wire/tcp.ts'
import { type Base, CONN, TCP_STATE_MASK, TCP_STATE_SHIFT } from './connection-table.ts'
import { hot, windows } from './connections.shard.ts'
import { ACK as ACK_KIND, ESTABLISHED } from './tcp-state.ts'
import { shortensAssured } from './tcp-timeout.shard.ts'
import { OLDEST_ACK } from './tcp-window.shard.ts'
import {
  endShift,
  LAST_KIND_MASK,
  LAST_KIND_SHIFT,
  MAX_ACK_SET,
  SACK_PERMITTED,
  SCALE_MASK,
  WINDOW,
} from './tcp-window-table.ts'
import type { Direction } from './terms.ts'

const { state: STATE, lastSeen: LAST_SEEN } = CONN
const { end: END, maxEnd: MAX_END, maxWindow: MAX_WINDOW, maxAck: MAX_ACK, last: LAST, ends: ENDS } = WINDOW
const KIND_FLAGS = tcp.SYN | tcp.FIN | tcp.RST | tcp.ACK
const IN_ESTABLISHED = ESTABLISHED << TCP_STATE_SHIFT
const LAST_WAS_ACK = (ACK_KIND + 1) << LAST_KIND_SHIFT
/** NOP, NOP, timestamps: no SACK blocks can follow in a header of this length. */
const WITH_TIMESTAMPS = tcp.MIN_HEADER_LEN + 12
const TIMESTAMPS_FIRST = 0x0101080a

/**
 * Tracks the segment at `at`, `length` bytes with its header, of the assured connection at `base`, if it is of the
 * commonest kind; false: it is not, and nothing has changed.
 */
export function trackEstablished(mem: DataView, at: number, length: number, base: Base, direction: Direction): boolean {
  if ((hot[base + STATE]! & TCP_STATE_MASK) !== IN_ESTABLISHED) return false
  if ((tcp.flags(mem, at) & KIND_FLAGS) !== tcp.ACK) return false
  const sender = base + direction
  const receiver = base + 1 - direction
  const ends = windows[base + ENDS]!
  const header = tcp.headerLen(mem, at)
  if (header !== tcp.MIN_HEADER_LEN && mayHaveSack(mem, at, header, ends >> endShift(1 - direction))) return false
  if ((windows[base + LAST]! & LAST_KIND_MASK) !== LAST_WAS_ACK || shortensAssured()) return false

  const seq = tcp.seq(mem, at)
  const end = (seq + length - header) | 0
  const ack = tcp.ack(mem, at)
  const window = tcp.window(mem, at) << ((ends >> endShift(direction)) & SCALE_MASK)
  const senderEnd = windows[sender + END]!
  const maxEnd = windows[sender + MAX_END]!
  const maxWindow = windows[sender + MAX_WINDOW]!
  const receiverEnd = windows[receiver + END]!
  const receiverMaxWindow = windows[receiver + MAX_WINDOW]!
  const unacknowledged = (receiverEnd - ack) | 0
  if (
    maxWindow === 0 ||
    receiverMaxWindow === 0 ||
    ((ends >> endShift(direction)) & MAX_ACK_SET) === 0 ||
    ((maxEnd - seq) | 0) < 0 ||
    ((end - senderEnd + receiverMaxWindow) | 0) < 0 ||
    unacknowledged < 0 ||
    // Older ones may still be right (OLDEST_ACK or what the sender's window is, whichever is more): asked there.
    unacknowledged > OLDEST_ACK ||
    // Beyond what was offered, but not before it: widens the receiver's window, there.
    ((end - maxEnd) | 0) > 0
  )
    return false

  if (maxWindow < window) windows[sender + MAX_WINDOW] = window
  if (((end - senderEnd) | 0) > 0) windows[sender + END] = end
  if (((ack - windows[sender + MAX_ACK]!) | 0) > 0) windows[sender + MAX_ACK] = ack
  const edge = (ack + (window || 1)) | 0
  if (((edge - windows[receiver + MAX_END]!) | 0) > 0) windows[receiver + MAX_END] = edge
  hot[base + LAST_SEEN] = now
  return true
}

const mayHaveSack = (mem: DataView, at: number, header: number, ofReceiver: number): boolean =>
  (ofReceiver & SACK_PERMITTED) !== 0 &&
  (header !== WITH_TIMESTAMPS || mem.getInt32(at + tcp.MIN_HEADER_LEN) !== TIMESTAMPS_FIRST)
