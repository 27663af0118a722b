// SYNs from outside that nobody has asked for (RFC 5382 REQ-4). Two peers that open one connection at the same time
// send a SYN each, and the one that arrives before the other has left must not be answered: it would end the attempt.
// So such a SYN is dropped, and a copy of it is held for six seconds. If its connection is opened meanwhile, the copy
// is forgotten; else its sender learns by ICMP port unreachable (3/3) that nobody is there.
//
// What the answer must not be:
//   - a scanner's help: ports that NAT has given out and ports that it has not are answered alike, so the answer says
//     nothing of who has mappings (admit.ts);
//   - an amplifier: one answer a SYN however often that is repeated, as short as RFC 792 allows, rate-limited as all
//     errors are, and at most WAYS for one source address in six seconds;
//   - a meter: whether a SYN finds room depends on those of few other sources, which a keyed hash chooses, and on
//     chance as soon as there are others; so nobody learns by his own SYN's answer whether one that he has sent in
//     another's name was held, that is, whether that other one has a connection here.
// What finds no room is dropped silently (REQ-4a), as everything is with `tcp: { answerUnsolicited: false }`.
//
// Copies lie in slots of fixed size: a SYN with data is larger, and is not held. Owner: this thread.

import { baseOf } from '../../conntrack/connection-table.ts'
import { dstOf, findConnection, portsWordOf, protocolOf, srcOf } from '../../conntrack/connections.shard.ts'
import { hashTuple, rowOf } from '../../conntrack/terms.ts'
import { hasExpired } from '../../conntrack/track.shard.ts'
import { CELL } from '../../counters/counters.ts'
import { counters } from '../../counters/own-counters.shard.ts'
import { VIRTIO_NET_HEADER } from '../../io/driver.ts'
import type { Milliseconds, Row } from '../../memory/brand.ts'
import { nowMs } from '../../memory/clock.ts'
import { random32 } from '../../memory/random.ts'
import { hash4 } from '../../memory/siphash.ts'
import type { Addr } from '../../wire/address.ts'
import { PROTO_TCP } from '../../wire/ipv4.ts'
import { portMacHigh, portMacLow } from '../egress/route-cache.ts'
import { NOT_LENT } from '../handover/handover-rings.ts'
import { otherOwner } from '../handover/packet-owner.ts'
import {
  AT,
  type At,
  beginBurst,
  DST,
  END,
  FLOW,
  HASH,
  type Ingress,
  ingress,
  KEY,
  KIND,
  KNOWN_PORTS,
  LENGTH,
  PORTS,
  port,
  SRC,
  TOKEN,
} from '../packet/burst.ts'
import { bytes } from '../packet/packet-memory.ts'
import { parseBurst } from '../packet/parse.ts'
import { PORT_UNREACHABLE, sendError } from './local-replies.ts'

const HOLD_MS = 6000
/** How often it is looked whose time has come. */
const LOOK_EVERY = 100
/** A source address has its set of slots, and shares it with others. */
const SETS = 64
const WAYS = 4
const SLOTS = SETS * WAYS
/** A SYN without data at its longest: an Ethernet header, and 60 bytes each of IPv4 and TCP. */
const LONGEST = 14 + 60 + 60
/** Before the frame: its virtio-net header, and what aligns its IP header to a word. */
const HEADROOM = VIRTIO_NET_HEADER + 8
const SLOT_BYTES = (HEADROOM + LONGEST + 3) & ~3
export const HELD_SYN_BYTES = SLOTS * SLOT_BYTES
/** Keeps the hash of sources apart from other uses of it. */
const SOURCES = 0x501

// By slot: the tuple (a source of 0: free), how it came, how long the frame is, and since when it waits.
const sources = new Int32Array(SLOTS)
const destinations = new Int32Array(SLOTS)
const ports = new Int32Array(SLOTS)
const cameBy = new Int32Array(SLOTS)
const lengths = new Int32Array(SLOTS)
const since = new Float64Array(SLOTS)

// The outcomes of the metric held_syns, in its order.
const HELD = 0
const OPENED = 1
const NO_ROOM = 2

let slotsAt: At = 0
let answers = true
/** How many wait. */
export let held = 0
let lookAt: Milliseconds = 0

/** `at` is where HELD_SYN_BYTES of packet memory begin. */
export function attachHeldSyns(at: At, answersUnsolicited: boolean): void {
  slotsAt = at
  answers = answersUnsolicited
  sources.fill(0)
  held = 0
  lookAt = 0
}

const firstOf = (source: Addr): number => ((hash4(source, 0, 0, SOURCES) >>> 0) % SETS) * WAYS
const frameAt = (slot: number): At => slotsAt + slot * SLOT_BYTES + HEADROOM

/** Packet i, a SYN from outside with nothing wrong in it, is dropped: a copy of it is held. */
export function holdSyn(i: number): void {
  if (!answers) return
  const first = firstOf(SRC[i]!)
  let free = -1
  let others = 0
  for (let slot = first; slot < first + WAYS; slot++) {
    if (sources[slot] === 0) free = slot
    else if (sources[slot] === SRC[i] && destinations[slot] === DST[i] && ports[slot] === PORTS[i]) return
    else others++
  }
  const length = END[i]! - AT[i]!
  if (free < 0 || length > LONGEST || random32() % WAYS < others) {
    counters[CELL.heldSyns + NO_ROOM]! += 1
    return
  }
  sources[free] = SRC[i]!
  destinations[free] = DST[i]!
  ports[free] = PORTS[i]!
  cameBy[free] = ingress
  lengths[free] = length
  since[free] = nowMs
  bytes.copyWithin(frameAt(free) - VIRTIO_NET_HEADER, AT[i]! - VIRTIO_NET_HEADER, AT[i]! + length)
  held++
  counters[CELL.heldSyns + HELD]! += 1
}

/** A connection was opened from inside: the SYN that has come for it too early is not answered. */
export function forgetHeldSyn(row: Row): void {
  if (held === 0 || protocolOf(row) !== PROTO_TCP) return
  const base = baseOf(row)
  const remote = srcOf(base, 1)
  const external = dstOf(base, 1)
  const answerPorts = portsWordOf(base, 1)
  const first = firstOf(remote)
  for (let slot = first; slot < first + WAYS; slot++)
    if (sources[slot] === remote && destinations[slot] === external && ports[slot] === answerPorts) {
      free(slot)
      counters[CELL.heldSyns + OPENED]! += 1
    }
}

function free(slot: number): void {
  sources[slot] = 0
  held--
}

export const isTimeToAnswerSyns = (): boolean => held > 0 && nowMs >= lookAt

/** Answers those that have waited long enough; the frames that are sent lie in the scratch of a burst. */
export function answerHeldSyns(): void {
  lookAt = nowMs + LOOK_EVERY
  for (let slot = 0; slot < SLOTS; slot++) {
    if (sources[slot] === 0 || nowMs - since[slot]! < HOLD_MS) continue
    free(slot)
    answer(slot)
  }
}

function answer(slot: number): void {
  AT[0] = frameAt(slot)
  LENGTH[0] = lengths[slot]!
  TOKEN[0] = NOT_LENT
  KNOWN_PORTS[0] = 0
  beginBurst(cameBy[slot]! as Ingress, false)
  parseBurst(1, portMacHigh(port), portMacLow(port))
  // The interface may have another address by now, and the port block another owner.
  if (KIND[0] !== FLOW || otherOwner(0) >= 0) return
  HASH[0] = hashTuple(KEY[0]!, SRC[0]!, DST[0]!, PORTS[0]!)
  const ref = findConnection(KEY[0]!, SRC[0]!, DST[0]!, PORTS[0]!, HASH[0]!)
  // It was repeated meanwhile, and let in.
  if (ref !== 0 && !hasExpired(rowOf(ref))) counters[CELL.heldSyns + OPENED]! += 1
  else sendError(0, PORT_UNREACHABLE, 0)
}
