// Which connection goes first when there is no room: first-in first-out queues threaded through the table's cold
// columns, so that recycling the oldest is O(1) and never a scan. Live connections are in none of them: RFC 6888
// REQ-11 forbids to end them for others. Derived: rebuilt from the rows when a shard starts again.
//
// Each external address has a queue of closed TCP connections and one of unreplied ones, because only their end frees a
// port of that address at once. All other unreplied connections share a queue, which frees rows only (their ports go
// into quarantine, RFC 6888 REQ-8, or they have none), and so do closed TCP connections without a port of NAT's. Owner:
// the shard.

import type { Brand, Entry, Row } from '../memory/brand.ts'
import { cold } from './connections.shard.ts'

let heads = new Int32Array(0)
let tails = new Int32Array(0)

/** Number of a queue; 0 in the column means none. */
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

export function enqueue(row: Row, queue: Queue): void {
  dequeue(row)
  const last = tails[queue]!
  cold.queue[row] = queue
  cold.queuePrevious[row] = last
  cold.queueNext[row] = 0
  if (last === 0) heads[queue] = row
  else cold.queueNext[last] = row
  tails[queue] = row
}

/** Does nothing to a row that is in no queue. */
export function dequeue(row: Row): void {
  const queue = cold.queue[row]!
  if (queue === 0) return
  const previous = cold.queuePrevious[row]!
  const next = cold.queueNext[row]!
  if (previous === 0) heads[queue] = next
  else cold.queueNext[previous] = next
  if (next === 0) tails[queue] = previous
  else cold.queuePrevious[next] = previous
  cold.queue[row] = 0
}

/** The row that has been in the queue longest, 0 if it is empty. */
export const oldest = (queue: Queue): Row => heads[queue]!
