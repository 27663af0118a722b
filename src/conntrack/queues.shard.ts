// Which connection goes first when there is no room: first-in first-out queues threaded through the rows' second lines
// (tcp-window-table.ts), so that recycling the oldest is O(1) and never a scan. Which of them is asked first is decided
// in nat/recycling.shard.ts. Derived: rebuilt from the rows when a shard starts again. Owner: the shard.
//
//   closed        TCP: both ends have closed, or one has reset; kept only so that late segments find their way
//   unassured     whatever is not ASSURED: unanswered, or answered and its protocol's tracker doesn't believe in it yet
//   half-closed   TCP: one end has closed, the other one may go on sending
//   renewable     assured UDP at a port forward: the next packet of either end opens it anew, as it was
//   no queue      assured and open: RFC 6888 REQ-11 forbids to end it for others
//
// Authority: nf_conntrack_core.c, early_drop_list() and gc_worker_can_early_drop(); nf_conntrack_proto_tcp.c,
// tcp_can_early_drop(). Each kind has a queue for what an inside end has opened or announced, and another one for what
// anybody outside has opened unasked, which is as long as an attacker likes.

import type { Brand, Row } from '../memory/brand.ts'
import { PROTO_TCP, PROTO_UDP } from '../wire/ipv4.ts'
import { ASSURED, baseOf, isUnasked, stateOf } from './connection-table.ts'
import { windows } from './connections.shard.ts'
import * as tcp from './tcp-state.ts'
import { WINDOW } from './tcp-window-table.ts'

const { queue: QUEUE, queueNext: NEXT, queuePrevious: PREVIOUS } = WINDOW

/** Number of a queue; 0 in a row's word means none. */
export type Queue = Brand<'Queue'>
export const NO_QUEUE: Queue = 0
export const CLOSED: Queue = 2
export const UNASSURED: Queue = 4
export const HALF_CLOSED: Queue = 6
export const RENEWABLE: Queue = 8
/** Of each kind, what outsiders have opened unasked is in the queue behind. */
export const FROM_OUTSIDE: Queue = 1
export const QUEUES = RENEWABLE + FROM_OUTSIDE + 1

/** The kind without the side. */
export const kindOf = (queue: Queue): Queue => queue & ~FROM_OUTSIDE

const heads = new Int32Array(QUEUES)
const tails = new Int32Array(QUEUES)
const lengths = new Int32Array(QUEUES)

/** The kind of a TCP connection by its state; what is not closing depends on ASSURED. */
const CLOSING = new Uint8Array(16)
for (const state of [tcp.LAST_ACK, tcp.TIME_WAIT, tcp.CLOSE]) CLOSING[state] = CLOSED
for (const state of [tcp.FIN_WAIT, tcp.CLOSE_WAIT]) CLOSING[state] = HALF_CLOSED

export function attachQueues(): void {
  for (const each of [heads, tails, lengths]) each.fill(0)
}

/**
 * The queue for a connection with this state word, NO_QUEUE if it must not be ended for others. `bound`: its mapping, 0
 * if there is none, as at a port forward.
 */
export function queueFor(word: number, bound: Row): Queue {
  const protocol = word & 0xff
  const closing = protocol === PROTO_TCP ? CLOSING[stateOf(word)]! : NO_QUEUE
  let kind = closing
  // A FIN in place of the last ACK of a handshake doesn't make it any better believed.
  if (closing !== CLOSED && (word & ASSURED) === 0) kind = UNASSURED
  if (!isUnasked(word)) return kind
  if (kind === NO_QUEUE && protocol === PROTO_UDP && bound === 0) kind = RENEWABLE
  return kind === NO_QUEUE ? NO_QUEUE : kind + FROM_OUTSIDE
}

/** The queue that a row is in, NO_QUEUE for none. */
export const queueOf = (row: Row): Queue => windows[baseOf(row) + QUEUE]!

export function enqueue(row: Row, queue: Queue): void {
  dequeue(row)
  const base = baseOf(row)
  const last = tails[queue]!
  windows[base + QUEUE] = queue
  windows[base + PREVIOUS] = last
  windows[base + NEXT] = 0
  if (last === 0) heads[queue] = row
  else windows[baseOf(last) + NEXT] = row
  tails[queue] = row
  lengths[queue]! += 1
}

/** Does nothing to a row that is in no queue. */
export function dequeue(row: Row): void {
  const base = baseOf(row)
  const queue = windows[base + QUEUE]!
  if (queue === NO_QUEUE) return
  const previous = windows[base + PREVIOUS]!
  const next = windows[base + NEXT]!
  if (previous === 0) heads[queue] = next
  else windows[baseOf(previous) + NEXT] = next
  if (next === 0) tails[queue] = previous
  else windows[baseOf(next) + PREVIOUS] = previous
  windows[base + QUEUE] = NO_QUEUE
  lengths[queue]! -= 1
}

/** On a dead shard's memory: the row is in no queue, whatever its words say. */
export function forgetQueue(row: Row): void {
  windows[baseOf(row) + QUEUE] = NO_QUEUE
}

/** The row behind this one in its queue, 0 if it is the last. */
export const nextInQueue = (row: Row): Row => windows[baseOf(row) + NEXT]!

/** The row that has been in the queue longest, 0 if it is empty. */
export const oldest = (queue: Queue): Row => heads[queue]!

/** How many rows are in the queue. */
export const lengthOf = (queue: Queue): number => lengths[queue]!
