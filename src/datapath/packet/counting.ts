// What a burst adds to the counters: what came, and what became of it. The one place where a drop is counted, by its
// reason, and noted with its interface and its source (counters/drop-table.ts). What isn't dropped pays nothing for it.

import { type KeyWord, NOT_OURS, protocolIn, type Side, sideIn, type Verdict } from '../../conntrack/terms.ts'
import { CELL } from '../../counters/counters.ts'
import { DROP, type DropReason } from '../../counters/drop-reasons.ts'
import { countDropped, noteLink, noteSource } from '../../counters/drops.shard.ts'
import { counters } from '../../counters/own-counters.shard.ts'
import type { Driver } from '../../io/driver.ts'
import type { Addr } from '../../wire/address.ts'
import * as ethernet from '../../wire/ethernet.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import {
  type At,
  DST,
  FLOW,
  KEY,
  KIND,
  LATER_FRAGMENT,
  LENGTH,
  type LinkPort,
  PORTS,
  port,
  SRC,
  side,
} from './burst.ts'
import { mem } from './packet-memory.ts'

const DROPS = CELL.drops
const OVERLOAD = DROP.overload
/** Up to this reason nobody knows who the sender is: the address was not read, or can't be anybody's. */
const LAST_WITHOUT_SOURCE = DROP['ip-source']

/** Counts each packet once: where it was taken from an interface, not again when it has waited or was handed over. */
export function countReceived(bySide: Side, received: number): void {
  let bytes = 0
  for (let i = 0; i < received; i++) bytes += Math.max(0, LENGTH[i]! - ethernet.HEADER_LEN)
  counters[CELL.receivedPackets + bySide]! += received
  counters[CELL.receivedBytes + bySide]! += bytes
}

/** What became of packet i. */
export function countVerdict(i: number, verdict: Verdict): void {
  if (verdict >= 0) countDrop(i, verdict as DropReason)
  else if (verdict === NOT_OURS) counters[CELL.notOurs + side]! += 1
}

function countDrop(i: number, reason: DropReason): void {
  counters[DROPS + reason]! += 1
  const of = countDropped(port, reason)
  if (reason <= LAST_WITHOUT_SOURCE) return
  const kind = KIND[i]!
  const hasPorts = kind === FLOW || kind <= LATER_FRAGMENT
  noteSource(of, SRC[i]!, DST[i]!, hasPorts ? PORTS[i]! : 0, protocolIn(KEY[i]!))
}

/** A frame was dropped unread, for overload: what its header says of the sender is noted without having been tested. */
export function countShed(by: LinkPort, at: At): void {
  const ip = at + ethernet.HEADER_LEN
  counters[DROPS + OVERLOAD]! += 1
  noteSource(countDropped(by, OVERLOAD), ipv4.src(mem, ip), ipv4.dst(mem, ip), 0, ipv4.protocol(mem, ip))
}

/** What became of a packet that was kept, of which only this much is known any more. */
export function countKept(by: LinkPort, key: KeyWord, source: Addr, destination: Addr, verdict: Verdict): void {
  if (verdict >= 0) {
    counters[DROPS + verdict]! += 1
    noteSource(countDropped(by, verdict as DropReason), source, destination, 0, protocolIn(key))
  } else if (verdict === NOT_OURS) counters[CELL.notOurs + sideIn(key)]! += 1
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
      const failed = driver.sendFailures(port)
      const lost = driver.receiveLosses(port)
      noteLink(port, failed, lost)
      failures += failed
      losses += lost
    }
    counters[CELL.sendFailures + side] = failures
    counters[CELL.receiveLosses + side] = losses
  }
}
