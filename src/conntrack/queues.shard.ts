// Which connection goes first when there is no room: first-in first-out queues threaded through the rows' second lines
// (tcp-window-table.ts), so that recycling the oldest is O(1) and never a scan. Live connections are in none of them:
// RFC 6888 REQ-11 forbids to end them for others. Derived: rebuilt from the rows when a shard starts again.
//
// Each external address has a queue of closed TCP connections and one of unreplied ones, because only their end frees a
// port of that address at once. All other unreplied connections share a queue, which frees rows only (their ports go
// into quarantine, RFC 6888 REQ-8, or they have none), and so do closed TCP connections without a port of NAT's. Owner:
// the shard.

import type { Brand, Entry, Row } from '../memory/brand.ts'
import { baseOf } from './connection-table.ts'
import { windows } from './connections.shard.ts'
import { WINDOW } from './tcp-window-table.ts'

const { queue: QUEUE, queueNext: NEXT, queuePrevious: PREVIOUS } = WINDOW

let heads = new Int32Array(0)
let tails = new Int32Array(0)

/** Number of a queue; 0 in a row's word means none. */
export type Queue = Brand<'Queue'>
export const UNREPLIED_OTHERS: Queue = 1
export const CLOSED_OTHERS: Queue = 2
export const unrepliedQueue = (external: Entry): Queue => external * 2 + 3
export const closedQueue = (external: Entry): Queue => external * 2 + 4
export const queueCount = (externals: number): number => externals * 2 + 3
export const isClosedQueue = (queue: Queue): boolean => queue !== 0 && (queue & 1) === 0

export function attachQueues(externals: number): void {
  heads = new Int32Array(queueCount(externals))
  tails = new Int32Array(queueCount(externals))
}

/** The queue that a row is in, 0 for none. */
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
}

/** Does nothing to a row that is in no queue. */
export function dequeue(row: Row): void {
  const base = baseOf(row)
  const queue = windows[base + QUEUE]!
  if (queue === 0) return
  const previous = windows[base + PREVIOUS]!
  const next = windows[base + NEXT]!
  if (previous === 0) heads[queue] = next
  else windows[baseOf(previous) + NEXT] = next
  if (next === 0) tails[queue] = previous
  else windows[baseOf(next) + PREVIOUS] = previous
  windows[base + QUEUE] = 0
}

/** On a dead shard's memory: the row is in no queue, whatever its words say. */
export function forgetQueue(row: Row): void {
  windows[baseOf(row) + QUEUE] = 0
}

/** The row behind this one in its queue, 0 if it is the last. */
export const nextInQueue = (row: Row): Row => windows[baseOf(row) + NEXT]!

/** The row that has been in the queue longest, 0 if it is empty. */
export const oldest = (queue: Queue): Row => heads[queue]!
