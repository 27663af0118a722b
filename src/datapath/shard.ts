// A shard: one worker's share of the dataplane, attached to shared memory and turned by a loop (workers/shard.ts). All
// tables are module-level state: a shard is an isolate, several shards are always several threads.

import { connections } from '../conntrack/connections.shard.ts'
import { attachExpectations } from '../conntrack/expectation-slots.shard.ts'
import { ExpectationTable } from '../conntrack/expectation-table.ts'
import { recoverExpectations } from '../conntrack/expectations.shard.ts'
import { HostTable } from '../conntrack/host-table.ts'
import { attachHosts } from '../conntrack/hosts.shard.ts'
import { attachQueues } from '../conntrack/queues.shard.ts'
import { onAcknowledgement } from '../conntrack/tcp.shard.ts'
import { attachWindows } from '../conntrack/tcp-window.shard.ts'
import { attachTimeouts } from '../conntrack/track.shard.ts'
import { CELL } from '../counters/counters.ts'
import { DropTable } from '../counters/drop-table.ts'
import { attachDrops } from '../counters/drops.shard.ts'
import { counters } from '../counters/own-counters.shard.ts'
import { HelperList } from '../helpers/helper-list.ts'
import { limitHeap } from '../helpers/running-helper.shard.ts'
import type { Driver } from '../io/driver.ts'
import type { Milliseconds } from '../memory/brand.ts'
import { nowMs, setClock } from '../memory/clock.ts'
import { attachRandom } from '../memory/random.ts'
import { Region } from '../memory/region.ts'
import { attachHashKey } from '../memory/siphash.ts'
import { attachBindings, followExternals, sweep } from '../nat/bindings.shard.ts'
import { attachExistingMappings } from '../nat/existing-mappings.shard.ts'
import { attachExpected } from '../nat/expected.shard.ts'
import { Externals } from '../nat/externals.ts'
import { attachFilter } from '../nat/filter.shard.ts'
import { attachFreeableMappings } from '../nat/freeable-mappings.shard.ts'
import { attachOpening } from '../nat/opening.shard.ts'
import { attachPortForwards } from '../nat/port-forwards.shard.ts'
import { attachPorts, endQuarantine } from '../nat/ports.shard.ts'
import { recover } from '../nat/recover.shard.ts'
import { unreserveAt } from '../nat/reservations.ts'
import { toSender } from '../nat/sequence-edits.shard.ts'
import { staticRules, UNTRANSLATED } from '../ownership/ownership-rule.ts'
import { Fib } from '../routing/fib.ts'
import { attachAdmission } from './admit.ts'
import { attachKeptPages, KEPT_BYTES } from './egress/kept-pages.ts'
import { attachPendingPackets, isTimeToCheckPending } from './egress/pending-packets.ts'
import { attachRoutes, followRoutes } from './egress/route-cache.ts'
import { attachTransmit, sideOf } from './egress/transmit.ts'
import { attachHandover, fallAsleep, fullestRing, wakeUp } from './handover/handover.ts'
import { HandoverRings } from './handover/handover-rings.ts'
import { attachPacketOwner, ownerOfInside } from './handover/packet-owner.ts'
import { recoverGone } from './helped/gone-bytes.shard.ts'
import { isTimeToRelease } from './helped/held-bytes.ts'
import { attachHelped } from './helped/helped.ts'
import { detachHelper, heapOfHelped } from './helped/helped-connections.ts'
import { attachHelperErrors } from './helped/helper-errors.ts'
import { attachHelpers, followHelperList } from './helped/helpers-in-force.ts'
import { recoverWatches } from './helped/watch.ts'
import { attachHeldSyns, HELD_SYN_BYTES, isTimeToAnswerSyns } from './icmp/held-syns.ts'
import { attachLocalReplies } from './icmp/local-replies.ts'
import { attachOverloadNotice, tellOverload } from './overload/notice.ts'
import { attachShedding } from './overload/shed.ts'
import { copyLinkCounts } from './packet/counting.ts'
import { attachFragmentTable, expireFragments } from './packet/fragment-table.ts'
import { attachIdentification } from './packet/identification.ts'
import { attachPacketMemory } from './packet/packet-memory.ts'
import { WAITING_BYTES } from './packet/waiting-fragments.ts'
import { attachPipeline, runBurst, runHandedOver, runHeld, runHeldSyns, runPending } from './pipeline.ts'
import type { ShardMemory, ShardSettings, Wakers, WarmUp } from './shard-contract.ts'
import { dropTable, mappingsOf } from './shard-tables.ts'
import { warmUp } from './warm-up/warm-up.ts'

/**
 * The expiry sweep goes round the table in about a second: in this many steps, or in more if the table is so large that
 * a step would be longer than SWEPT_ROWS. In steps that follow so closely it goes round four million rows a second.
 */
const SWEEPS_A_SECOND = 16
const SWEPT_ROWS = 8192
const LEAST_BETWEEN_SWEEPS: Milliseconds = 2
/**
 * Connections and quarantines that a step ends, at most: each takes a microsecond or two, or five before V8 has
 * compiled what ends them. In steps that follow closely that is a hundred thousand a second.
 */
const MOST_ENDS = 256

let driver: Driver
let nextSweep = 0
let nextSecond = 0
/** The memory is a dead shard's, and its rows have not been looked at yet. */
let mustRecover = false
let externals: Externals
/** When the last turn began, and what it received. */
let lastTurn = 0
let lastReceived = 0

/** Makes this thread the shard: attaches every table and the driver. */
export function attachShard(memory: ShardMemory, settings: ShardSettings, withDriver: Driver, wakers: Wakers): void {
  driver = withDriver
  externals = new Externals(new Region(memory.externals), settings.externals)
  attachHashKey(settings.hashKey[0], settings.hashKey[1])
  attachRandom(settings.shard, settings.epoch)
  attachQueues()
  attachFreeableMappings(externals)
  attachTimeouts(settings.timeouts)
  attachWindows(settings.tcp.liberal)
  attachAdmission(settings.tcp.pickup)
  onAcknowledgement(toSender)
  attachIdentification(settings.shard, settings.shards, settings.nat.translate)
  attachPorts(externals, settings.shard, settings.shards, wakers.coordinator)
  attachBindings(externals, settings.nat)
  attachOpening(externals, settings.nat)
  attachPortForwards(settings.portForwards)
  attachFilter(settings.filter)
  const { shard, shards, epoch } = settings
  const expectations = new ExpectationTable(new Region(memory.expectations), {
    capacity: settings.expectations,
    shards,
  })
  attachExpectations(expectations, shard, epoch, (at) => unreserveAt(externals, at))
  attachHosts(new HostTable(new Region(memory.hosts), settings), shard, settings.limits)
  attachDrops(new DropTable(new Region(memory.drops), dropTable(settings)), shard)
  attachHelpers(new HelperList(new Region(memory.helperList), shards), shard, detachHelper)
  attachRoutes(new Fib(new Region(memory.fib), settings.fib))
  const setAside = attachPacketMemory(driver, KEPT_BYTES + WAITING_BYTES + HELD_SYN_BYTES)
  attachKeptPages(setAside)
  attachFragmentTable(settings.timeouts, setAside + KEPT_BYTES, settings.hosts)
  attachHeldSyns(setAside + KEPT_BYTES + WAITING_BYTES, settings.tcp.answerUnsolicited)
  attachTransmit(driver, settings.sides)
  attachLocalReplies(settings.icmpErrorsPerSecond)
  attachPendingPackets(settings.shard, wakers.watcher)
  const leases = { shards: settings.shards, key: settings.ownerKey, externals }
  const rules = settings.nat.translate ? staticRules(settings.portForwards) : UNTRANSLATED
  attachPacketOwner(settings.shard, leases, rules)
  const rings = new HandoverRings(new Region(memory.handover), settings.shards)
  attachHandover(driver, rings, settings.shard, settings.restarted, wakers.shard)
  attachExpected(externals, settings.nat, ownerOfInside)
  attachExistingMappings(
    externals,
    memory.peers.map((tables) => mappingsOf(tables, settings)),
  )
  attachHelped(wakers.callClocks)
  attachHelperErrors(wakers.report)
  limitHeap(wakers.heapUsed, heapOfHelped)
  attachShedding(settings.sharesQueues ?? false)
  attachOverloadNotice(wakers.report)
  attachPipeline(driver)
  nextSweep = 0
  nextSecond = 0
  mustRecover = settings.restarted
  lastReceived = 0
}

/** Warms this thread's code up, on tables that are as new afterwards; to be followed by attachShard(). */
export function warmUpShard(memory: ShardMemory, settings: ShardSettings, by: WarmUp): Promise<void> {
  const attach: typeof attachShard = (...world) => {
    attachShard(...world)
    // What is due each second asks the driver for the links' counts, and there are no links.
    nextSecond = Number.POSITIVE_INFINITY
  }
  return warmUp({ attach, turn, followHelpers }, memory, settings, by)
}

/** One turn of the loop at this time: a burst from each port, and all that is due by now. Returns packets received. */
export function turn(milliseconds: Milliseconds): number {
  setClock(milliseconds)
  // A turn that received anything is followed by the next one at once, so its time costs no look at the clock.
  if (lastReceived > 0) counters[CELL.busySeconds]! += (milliseconds - lastTurn) / 1000
  lastTurn = milliseconds
  if (mustRecover) {
    // Not before the first turn: ports that are found free are in quarantine from now on, so the time must be known.
    recover(externals)
    recoverExpectations()
    recoverGone()
    recoverWatches()
    mustRecover = false
  }
  followRoutes()
  followExternals()
  let received = 0
  for (let port = 0; port < driver.ports; port++) received += runBurst(port)
  received += runHandedOver()
  if (isTimeToCheckPending()) runPending()
  if (isTimeToRelease()) runHeld()
  if (isTimeToAnswerSyns()) runHeldSyns()
  if (nowMs >= nextSweep) housekeeping()
  counters[CELL.turns]! += 1
  lastReceived = received
  return received
}

/** From now on turn() expires nothing and copies no counts: a replay does so itself (un-nat/replay-shard.ts). */
export function endHousekeeping(): void {
  nextSweep = Number.POSITIVE_INFINITY
}

/** Follows a change in the list of helpers, if there is one: to be awaited between turns. */
export const followHelpers = (): Promise<void> | undefined => followHelperList()

/** Expiry, the end of quarantines, and counts that are kept elsewhere. */
function housekeeping(): void {
  const rows = Math.min(SWEPT_ROWS, Math.ceil(connections.highest / SWEEPS_A_SECOND))
  const left = sweep(rows, MOST_ENDS)
  const isDone = endQuarantine(left) && left > 0
  const steps = isDone ? Math.max(SWEEPS_A_SECOND, connections.highest / SWEPT_ROWS) : Number.POSITIVE_INFINITY
  nextSweep = nowMs + Math.max(LEAST_BETWEEN_SWEEPS, 1000 / steps)
  if (nowMs < nextSecond) return
  nextSecond = nowMs + 1000
  expireFragments()
  counters[CELL.handoverFullest] = fullestRing()
  copyLinkCounts(driver, sideOf)
  tellOverload()
}

/** Sleeps until there is something to do, at most `timeoutMs`. */
export function sleep(timeoutMs: Milliseconds): void {
  if (!fallAsleep()) return
  counters[CELL.sleeps]! += 1
  // What a sweep has left is done as soon without packets as with them.
  driver.wait(Math.min(timeoutMs, Math.max(0, Math.ceil(nextSweep - nowMs))))
  wakeUp()
}
