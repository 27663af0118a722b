// What a burst adds to the counters: what came, and what became of it. The one place where a drop is counted.

import type { Side, Verdict } from '../../conntrack/terms.ts'
import { NOT_OURS } from '../../conntrack/terms.ts'
import { CELL } from '../../counters/counters.ts'
import { counters } from '../../counters/own-counters.shard.ts'
import type { Driver } from '../../io/driver.ts'
import * as ethernet from '../../wire/ethernet.ts'
import { LENGTH } from './burst.ts'

const DROPS = CELL.drops

/** Counts each packet once: where it was taken from an interface, not again when it has waited or was handed over. */
export function countReceived(bySide: Side, received: number): void {
  let bytes = 0
  for (let i = 0; i < received; i++) bytes += Math.max(0, LENGTH[i]! - ethernet.HEADER_LEN)
  counters[CELL.receivedPackets + bySide]! += received
  counters[CELL.receivedBytes + bySide]! += bytes
}

export function countVerdict(bySide: Side, verdict: Verdict): void {
  if (verdict >= 0) counters[DROPS + verdict]! += 1
  else if (verdict === NOT_OURS) counters[CELL.notOurs + bySide]! += 1
}

/** Copies what interfaces have refused and lost, which the driver counts. Called once a second. */
export function copyLinkCounts(
  driver: Pick<Driver, 'ports' | 'sendFailures' | 'receiveLosses'>,
  sideOf: ArrayLike<Side>,
): void {
  for (let side = 0; side < 2; side++) {
    let failures = 0
    let losses = 0
    for (let port = 0; port < driver.ports; port++) {
      if (sideOf[port] !== side) continue
      failures += driver.sendFailures(port)
      losses += driver.receiveLosses(port)
    }
    counters[CELL.sendFailures + side] = failures
    counters[CELL.receiveLosses + side] = losses
  }
}
