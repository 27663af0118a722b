// The receive rings of this thread, each shared among its senders when it fills faster than the thread takes from it.
// Owner: this thread.

import type { Side } from '../../conntrack/terms.ts'
import { CELL } from '../../counters/counters.ts'
import { counters } from '../../counters/own-counters.shard.ts'
import { BURST, type Driver } from '../../io/driver.ts'
import { AT, ingressOf, LENGTH, type LinkPort } from '../packet/burst.ts'
import { Shares } from './shares.ts'
import { choose, KEPT, sharesQueues } from './shed.ts'

/** Where packets waited, among the cells of the metric overloads. */
const FROM_LINKS = 0

/**
 * A turn takes a burst of each queue; of one that is shared as many as are needed to keep about a burst of them, or
 * those that are dropped would take the turns of those that are not. At most so many.
 */
export const MOST_BURSTS = 16

/** Of the ring in hand, in this turn: packets that were kept, and bursts. */
let kept = 0
let bursts = 0
/** Another burst of the same ring is to be received in this turn. */
export let goesOn = false

export function beginRing(): void {
  kept = 0
  bursts = 0
  goesOn = false
}

/** By port. */
let shares: readonly Shares[] = []

export function attachRingShares(driver: Driver): void {
  shares = Array.from(
    { length: driver.ports },
    (_, port) => new Shares({ slots: driver.receiveSlots, holds: (packets) => driver.holds(port, packets) }),
  )
}

/**
 * Of a burst that was received, and lies in AT and LENGTH, what is to be carried lies there afterwards. Returns how
 * many: all of them, unless more come than this thread can carry.
 */
export function chooseReceived(port: LinkPort, side: Side, received: number): number {
  const ring = shares[port]!
  goesOn = false
  if (received === 0 || !sharesQueues) return received
  if (received < BURST && !ring.isSharing) return received
  const overloads = ring.overloads
  const isShared = ring.begins(received)
  counters[CELL.overloads + FROM_LINKS]! += ring.overloads - overloads
  if (!isShared) return received
  const count = choose(ring, ingressOf(port, side), received)
  for (let i = 0; i < count; i++) {
    AT[i] = AT[KEPT[i]!]!
    LENGTH[i] = LENGTH[KEPT[i]!]!
  }
  kept += count
  goesOn = received === BURST && kept < BURST && ++bursts < MOST_BURSTS
  return count
}
