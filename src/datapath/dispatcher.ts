// A dispatcher: one thread that receives for all shards and puts each packet into the ring of its owner, for drivers
// with one queue, and by choice. It knows no connection: the ownership rule is all that it asks. What is wrong with a
// packet alone, and what is the kernel's by its frame, ends here and is counted here; a shard would see no more in it.
//
//   receive -> each sender's share, of more than there is time for -> parse -> owner -> ring of the owner -> publish
//   -> release
//
// Its module state is a thread's, as a shard's is (shard.ts); it has counters, a place in the rings, and no tables.

import { keyWord, QUEUED, type Side, type Verdict } from '../conntrack/terms.ts'
import { CELL } from '../counters/counters.ts'
import { DropTable } from '../counters/drop-table.ts'
import { attachDrops } from '../counters/drops.shard.ts'
import { counters } from '../counters/own-counters.shard.ts'
import type { Driver } from '../io/driver.ts'
import type { Milliseconds, Shard } from '../memory/brand.ts'
import { setClock } from '../memory/clock.ts'
import { Region } from '../memory/region.ts'
import { Externals, spaceOf } from '../nat/externals.ts'
import { attachPortForwards, forwardTo } from '../nat/port-forwards.shard.ts'
import { isTaken } from '../nat/port-words.ts'
import { staticRules } from '../ownership/ownership-rule.ts'
import { Fib } from '../routing/fib.ts'
import * as ipv4 from '../wire/ipv4.ts'
import { attachHandover, BY_DISPATCH, give, publishHandOvers } from './handover/handover.ts'
import { HandoverRings } from './handover/handover-rings.ts'
import { attachPacketOwner, ownerOfFragments, ownerOfPacket, ownerOfTuple } from './handover/packet-owner.ts'
import { embedded, protocol, readEmbedded, replyPorts } from './icmp/embedded-packet.ts'
import { attachOverloadNotice, tellOverload } from './overload/notice.ts'
import { attachRingShares, beginRing, chooseReceived, goesOn } from './overload/received.ts'
import { attachShedding } from './overload/shed.ts'
import {
  AT,
  beginBurst,
  FLOW,
  FRAGMENT,
  ingress,
  ingressOf,
  KIND,
  type Kind,
  LENGTH,
  type LinkPort,
  side,
} from './packet/burst.ts'
import { copyLinkCounts, countReceived, countVerdict } from './packet/counting.ts'
import { mem } from './packet/packet-memory.ts'
import { parseBurst } from './packet/parse.ts'
import type { ShardMemory, ShardSettings, Wakers } from './shard-contract.ts'
import { dropTable } from './shard-tables.ts'

const LINK_COUNTS_EVERY_MS = 1000

let driver: Driver
let fib: Fib
let sides: readonly Side[] = []
let nextLinkCounts = 0

/** Makes this thread the dispatcher; its number is that of the shards, in settings and rings. */
export function attachDispatcher(
  memory: ShardMemory,
  settings: ShardSettings,
  withDriver: Driver,
  wakers: Wakers,
): void {
  const { shards, ownerKey, shard, restarted } = settings
  driver = withDriver
  sides = settings.sides
  fib = new Fib(new Region(memory.fib), settings.fib)
  const externals = new Externals(new Region(memory.externals), settings.externals)
  attachPacketOwner(shard, { shards, key: ownerKey, externals }, staticRules(settings.portForwards))
  attachDrops(new DropTable(new Region(memory.drops), dropTable(settings)), shard)
  attachPortForwards(settings.portForwards)
  attachShedding(settings.sharesQueues ?? false, (protocol, address, port) => {
    const entry = externals.find(address)
    if (entry < 0) return true
    const word = externals.portWords[externals.portIndex(entry, spaceOf(protocol), port)]!
    return isTaken(word) || forwardTo(protocol, address, port) !== undefined
  })
  attachOverloadNotice(wakers.report)
  attachRingShares(driver)
  attachHandover(driver, new HandoverRings(new Region(memory.handover), shards), shard, restarted, wakers.shard)
}

/** One turn: a burst from each port. Returns packets received. */
export function turn(milliseconds: Milliseconds): number {
  setClock(milliseconds)
  let received = 0
  for (let port = 0; port < driver.ports; port++) received += runBurst(port)
  counters[CELL.turns]! += 1
  if (milliseconds >= nextLinkCounts) {
    nextLinkCounts = milliseconds + LINK_COUNTS_EVERY_MS
    copyLinkCounts(driver, sides)
    tellOverload()
  }
  return received
}

/** Sleeps until a packet comes, at most `timeoutMs`. */
export function sleep(timeoutMs: Milliseconds): void {
  counters[CELL.sleeps]! += 1
  driver.wait(timeoutMs)
}

/** A dispatcher calls no helpers. */
export const followHelpers = (): undefined => undefined

/** A burst from one port, in an overload as many as are needed to keep about one burst of them. */
function runBurst(port: LinkPort): number {
  beginRing()
  let received = 0
  do received += receiveBurst(port)
  while (goesOn)
  return received
}

function receiveBurst(port: LinkPort): number {
  const received = driver.receive(port, AT, LENGTH)
  const from = sides[port]!
  if (received > 0) countReceived(from, received)
  const count = chooseReceived(port, from, received)
  if (count > 0) {
    beginBurst(ingressOf(port, from), true)
    parseBurst(count, fib.portMacHigh(port), fib.portMacLow(port))
    for (let i = 0; i < count; i++) countVerdict(i, dispatch(i))
    publishHandOvers()
  }
  driver.release(port)
  return received
}

function dispatch(i: number): Verdict {
  const kind = KIND[i]!
  // The kind is a verdict already: the packet is malformed, or the kernel's.
  if (kind >= QUEUED) return kind as Verdict
  return give(i, ownerOf(i, kind), ingress, BY_DISPATCH)
}

function ownerOf(i: number, kind: Kind): Shard {
  if (kind === FRAGMENT) return ownerOfFragments(i)
  if (kind === FLOW) return ownerOfPacket(i)
  // An error whose embedded packet is unreadable has no owner: the first shard drops and counts it.
  if (!readEmbedded(i)) return 0
  return ownerOfTuple(keyWord(protocol, side), ipv4.dst(mem, embedded), ipv4.src(mem, embedded), replyPorts)
}
