// A shard: one worker's share of the dataplane, seated on shared memory and turned by a loop (workers/shard.ts). All
// tables are module-level state: a shard is an isolate, several shards are always several threads.

import { connections } from '../conntrack/connections.shard.ts'
import { seatExpectations } from '../conntrack/expectation-slots.shard.ts'
import { ExpectationTable } from '../conntrack/expectation-table.ts'
import { recoverExpectations } from '../conntrack/expectations.shard.ts'
import { seatQueues } from '../conntrack/queues.shard.ts'
import { seatTimeouts } from '../conntrack/track.shard.ts'
import { CELL } from '../counters/counters.ts'
import { counters } from '../counters/own-counters.shard.ts'
import { HelperList } from '../helpers/helper-list.ts'
import type { Driver } from '../io/driver.ts'
import { nowMs, setClock } from '../memory/clock.ts'
import { seatRandom } from '../memory/random.ts'
import { Region } from '../memory/region.ts'
import { seatHashKey } from '../memory/siphash.ts'
import { followExternals, queuesFor, seatBindings, sweep } from '../nat/bindings.shard.ts'
import { seatStandingPorts } from '../nat/existing-mappings.shard.ts'
import { seatExpected } from '../nat/expected.shard.ts'
import { Externals } from '../nat/externals.ts'
import { seatOpening } from '../nat/opening.shard.ts'
import { seatForwards } from '../nat/port-forwards.shard.ts'
import { endRests, seatPorts } from '../nat/ports.shard.ts'
import { recover } from '../nat/recover.shard.ts'
import { unreserveAt } from '../nat/reservations.ts'
import { staticRules, UNTRANSLATED } from '../ownership/ownership-rule.ts'
import { Fib } from '../routing/fib.ts'
import type { ShardMemory, ShardSettings, Wakers } from './attach.ts'
import { KEPT_BYTES, seatKeptPages } from './egress/kept-pages.ts'
import { isTimeToCheck, seatWaiting } from './egress/pending-packets.ts'
import { followRoutes, seatRoutes } from './egress/route-cache.ts'
import { seatSending, sideOf } from './egress/transmit.ts'
import { fallAsleep, fullestRing, seatHandOver, wakeUp } from './handover/handover.ts'
import { HandoverRings } from './handover/handover-rings.ts'
import { ownerOfInside, seatOwnership } from './handover/packet-owner.ts'
import { isTimeToRelease } from './helped/held-bytes.ts'
import { seatHelped } from './helped/helped.ts'
import { detachHelper } from './helped/helped-connections.ts'
import { followHelperList, seatHelpers } from './helped/helpers-in-force.ts'
import { seatAnswers } from './icmp/local-replies.ts'
import { copyLinkCounts } from './packet/counting.ts'
import { expireFragments, seatFragments } from './packet/fragment-table.ts'
import { seatArena } from './packet/packet-memory.ts'
import { runBurst, runHandedOver, runHeld, runWaiting, seatPipeline } from './pipeline.ts'
import { mappingsOf } from './shard-tables.ts'
import { asSentInside, asSentOutside, seatCarryBack } from './un-nat/un-nat.ts'

/** The expiry sweep goes round the table in about a second, in this many steps. */
const SWEEPS_A_SECOND = 16
const SWEEP_EVERY = 1000 / SWEEPS_A_SECOND

let driver: Driver
let nextSweep = 0
let nextSecond = 0
/** Rows that catchUp() has not looked at, and how many it looks at in one call. */
let toSweep = 0
const ROWS_AT_ONCE = 1024
/** The memory is a dead shard's, and its rows have not been looked at yet. */
let mustRecover = false
let externals: Externals
/** When the last turn began, and what it received. */
let lastTurn = 0
let lastReceived = 0

/** Makes this thread the shard: seats every table and the driver. */
export function seatShard(memory: ShardMemory, settings: ShardSettings, withDriver: Driver, wakers: Wakers): void {
  driver = withDriver
  externals = new Externals(new Region(memory.externals), settings.externals)
  seatHashKey(settings.hashKey[0], settings.hashKey[1])
  seatRandom(settings.shard, settings.epoch)
  seatQueues(queuesFor(settings.externals.capacity))
  seatTimeouts(settings.timeouts)
  seatFragments(settings.timeouts)
  seatPorts(externals, settings.shard, settings.shards, wakers.coordinator)
  seatBindings(externals, settings.nat)
  seatOpening(externals, settings.nat)
  seatForwards(settings.forwards)
  const { shard, shards, epoch } = settings
  const expectations = new ExpectationTable(new Region(memory.expectations), {
    capacity: settings.expectations,
    shards,
  })
  seatExpectations(expectations, shard, epoch, (at) => unreserveAt(externals, at))
  seatHelpers(new HelperList(new Region(memory.helperList), shards), shard, detachHelper)
  seatRoutes(new Fib(new Region(memory.fib), settings.fib))
  seatKeptPages(seatArena(driver, KEPT_BYTES))
  seatSending(driver, settings.sides)
  seatAnswers(settings.icmpErrorsPerSecond)
  seatWaiting(settings.shard, wakers.watcher)
  const leases = { shards: settings.shards, key: settings.ownerKey, externals }
  const rules = settings.nat.translate ? staticRules(settings.forwards) : UNTRANSLATED
  seatOwnership(settings.shard, leases, rules)
  const rings = new HandoverRings(new Region(memory.handover), settings.shards)
  seatHandOver(driver, rings, settings.shard, settings.restarted, wakers.shard)
  seatExpected(externals, settings.nat, ownerOfInside)
  seatStandingPorts(
    externals,
    memory.peers.map((tables) => mappingsOf(tables, settings.connections)),
  )
  seatHelped(wakers.callClocks, wakers.tell)
  seatPipeline(driver)
  seatCarryBack(externals, settings.nat)
  nextSweep = 0
  nextSecond = 0
  toSweep = 0
  mustRecover = settings.restarted
  lastReceived = 0
}

/** One turn of the loop at this time: a burst from each port, and what time demands. Returns packets received. */
export function turn(milliseconds: number): number {
  setClock(milliseconds)
  // A turn that received anything is followed by the next one at once, so its time costs no look at the clock.
  if (lastReceived > 0) counters[CELL.busySeconds]! += (milliseconds - lastTurn) / 1000
  lastTurn = milliseconds
  if (mustRecover) {
    // Not before the first turn: what is found free rests from now on, whenever that is.
    recover(externals)
    recoverExpectations()
    mustRecover = false
  }
  followRoutes()
  followExternals()
  let received = 0
  for (let port = 0; port < driver.ports; port++) received += runBurst(port)
  received += runHandedOver()
  if (isTimeToCheck()) runWaiting()
  if (isTimeToRelease()) runHeld()
  if (nowMs >= nextSweep) housekeeping()
  counters[CELL.turns]! += 1
  lastReceived = received
  return received
}

/**
 * What time demands by now, where time is told in jumps: a replay calls this as often as it likes, and turn() does none of
 * it any more. What ends is the same, whatever shard it is in. True: there is more of it, to be called for once the
 * events are read, since their ring would not hold the end of every connection.
 */
export function catchUp(milliseconds: number): boolean {
  if (toSweep === 0) {
    setClock(milliseconds)
    followExternals()
    toSweep = connections.highest
    nextSweep = Number.POSITIVE_INFINITY
  }
  const rows = Math.min(toSweep, ROWS_AT_ONCE)
  sweep(rows)
  toSweep -= rows
  if (toSweep > 0) return true
  endRests()
  expireFragments()
  return false
}

/** As un-nat.ts has them. */
export const asSentFromInside = (mem: DataView, ip: number, end: number): void => asSentInside(mem, ip, end)
export const asSentFromOutside = (mem: DataView, ip: number, end: number, outside: number): void =>
  asSentOutside(mem, ip, end, outside)

/** What changes in the list of helpers, if anything has: to be awaited between turns. */
export const followHelpers = (): Promise<void> | undefined => followHelperList()

/** Expiry, rests, and the counts that are cheaper to copy than to keep. */
function housekeeping(): void {
  nextSweep = nowMs + SWEEP_EVERY
  sweep(Math.ceil(connections.highest / SWEEPS_A_SECOND))
  if (nowMs < nextSecond) return
  nextSecond = nowMs + 1000
  endRests()
  expireFragments()
  counters[CELL.handoverFullest] = fullestRing()
  copyLinkCounts(driver, sideOf)
}

/** Sleeps until there is something to do, at most `timeoutMs`. */
export function sleep(timeoutMs: number): void {
  if (!fallAsleep()) return
  counters[CELL.sleeps]! += 1
  driver.wait(timeoutMs)
  wakeUp()
}
