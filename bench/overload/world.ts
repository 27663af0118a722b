// A gateway under more packets than it can carry, in virtual time: real shards, and a dispatcher, over drivers without
// a kernel whose rings fill while a turn takes its time. What a turn takes is not measured but told (COSTS), so that a
// run is the same on every machine. Good hosts have established flows, one sender floods; counted is what of the good
// hosts' packets goes on, and whether it does in order.
//
// Kernel dispatch: each packet comes to the ring of the shard that owns it. Thread dispatch: all come to the
// dispatcher's. Each thread has a processor of its own.

import { performance } from 'node:perf_hooks'
import { CELL } from '../../src/counters/counters.ts'
import { DROP } from '../../src/counters/drop-reasons.ts'
import { handoverFrameBytes } from '../../src/datapath/handover/handover-rings.ts'
import type { Dataplane, ShardMemory, ShardSettings, Wakers } from '../../src/datapath/shard-contract.ts'
import { countersOf } from '../../src/datapath/shard-tables.ts'
import type { Driver } from '../../src/io/driver.ts'
import { LoopbackDriver, packetMemoryBytes } from '../../src/io/loopback.ts'
import { Region, sharedMemory } from '../../src/memory/region.ts'
import { Externals } from '../../src/nat/externals.ts'
import type { Leases } from '../../src/ownership/ownership-rule.ts'
import { makeMemory, settingsOf } from '../pipeline-memory.ts'
import { FLOODS, type FloodName, type Packet, Traffic } from './traffic.ts'

/**
 * Nanoseconds of a thread. A packet that is sent costs what the wire bench has shown of 64-byte datagrams, the system
 * call included; the rest is measured by `npm run bench:overload` itself, and rounded up.
 */
export const COSTS = {
  turn: 200,
  /** A frame is listed, its sender's share asked, and given back. */
  listed: 40,
  /** Read, looked up, and dropped for another reason. */
  settled: 150,
  sent: 1000,
  /** A connection and its mapping are made, and later ended. */
  opened: 2000,
  /** A dispatcher reads a packet and copies it into a ring. */
  dispatched: 250,
} as const

/** The cell of the metric handovers, reason dispatch (datapath/handover/handover.ts). */
const BY_DISPATCH = 5
const HANDOVER_FULL = DROP['handover-full']
const SLOTS = 2048
const SLOT_BYTES = 2112
const ROWS = 1 << 15
/** Longer than it takes UDP to be assured (conntrack/track.shard.ts). */
const ASSURED_MS = 3000
const LEAST_STEP_NS = 1000
const NEARLY_ALL = 0.95
const WAKERS: Wakers = { watcher() {}, shard() {}, coordinator() {} }

/** Attaches one thread's datapath, with modules of its own. */
export type AttachPlane = (
  kind: 'shard' | 'dispatcher',
  memory: ShardMemory,
  settings: ShardSettings,
  driver: Driver,
  wakers: Wakers,
) => Promise<Dataplane>

export interface WorldOptions {
  readonly shards: number
  readonly dispatch: 'kernel' | 'thread'
  readonly attach: AttachPlane
  readonly seed?: number
  /** Good hosts (16), and flows of each (2). */
  readonly hosts?: number
  readonly flows?: number
  /** What good hosts ask for together, of what the shards can carry (0.3). */
  readonly asked?: number
  /** Receive slots of each ring; a power of two (2048). */
  readonly slots?: number
  /** False: rings lose by arrival, as if nobody looked at them. */
  readonly shares?: boolean
}

/** What came of a while. Shares are of what was sent meanwhile. */
export interface Outcome {
  /** Of the good hosts' packets, out and back. */
  readonly goodput: number
  /** The worst host's. */
  readonly worst: number
  /** Packets of the flood that went on, and all that it sent, a second. */
  readonly floodCarried: number
  readonly floodSent: number
  /** Of what one shard could carry without a flood: all that was carried. */
  readonly carried: number
  readonly reordered: number
  /** Dropped as `overload`, lost by full receive rings, lost by full rings between threads. */
  readonly shed: number
  readonly ringLosses: number
  readonly handoverFull: number
  readonly overloads: number
}

class Unshared extends LoopbackDriver {
  override holds(): boolean {
    return false
  }
}

interface Plane {
  readonly turn: Dataplane['turn']
  readonly driver: LoopbackDriver
  readonly counters: Float64Array
  /** When its present turn is over, in virtual nanoseconds. */
  until: number
  readonly epoch: number
  readonly restart: (epoch: number) => Promise<Plane>
}

export class World {
  readonly traffic: Traffic
  readonly planes: Plane[] = []
  readonly #options: Required<Omit<WorldOptions, 'attach'>>
  #packetMemory: SharedArrayBuffer | undefined
  /** Real nanoseconds of turns that dropped nearly all that they listed, and how much that was. */
  #shedding = { ns: 0, listed: 0 }
  #ns = 1e9

  static async create(options: WorldOptions): Promise<World> {
    const { attach, ...rest } = options
    const world = new World({ seed: 1, hosts: 16, flows: 2, asked: 0.3, slots: SLOTS, shares: true, ...rest })
    await world.#attach(attach)
    world.#establish()
    return world
  }

  private constructor(options: Required<Omit<WorldOptions, 'attach'>>) {
    this.#options = options
    this.traffic = new Traffic(options)
  }

  async #attach(attach: AttachPlane): Promise<void> {
    const { shards, dispatch } = this.#options
    const { tables, ...common } = makeMemory(ROWS, shards)
    const settings = settingsOf(ROWS, 0, shards)
    const externals = new Externals(new Region(common.externals), settings.externals)
    const leases: Leases = { shards, key: settings.ownerKey, externals }
    this.traffic.dispatch(dispatch === 'thread' ? undefined : leases)
    const places = dispatch === 'thread' ? shards + 1 : shards
    for (let place = 0; place < places; place++) {
      // A dispatcher's counters lie in tables of its own.
      const own = place < shards ? tables[place]! : makeMemory(ROWS, shards).tables[0]!
      const restart = async (epoch: number): Promise<Plane> => {
        const driver = this.#driver(place)
        const its = { ...settingsOf(ROWS, place, shards), restarted: epoch > 1, epoch, sharesQueues: true }
        const kind = place < shards ? 'shard' : 'dispatcher'
        const plane = await attach(kind, { tables: own, ...common }, its, driver, WAKERS)
        const turn = plane.turn.bind(plane)
        return { turn, driver, counters: countersOf(own), until: 0, epoch, restart }
      }
      this.planes.push(await restart(1))
    }
  }

  #driver(place: number): LoopbackDriver {
    const { shards, slots, shares } = this.#options
    const sharedBytes = handoverFrameBytes(shards)
    const shape = { ports: 2, slots, slotBytes: SLOT_BYTES, scratchBytes: 8 << 20, shards: shards + 1, sharedBytes }
    this.#packetMemory ??= sharedMemory(packetMemoryBytes(shape))
    const refuse = (port: number, frame: Uint8Array): boolean => this.traffic.leaves(port, frame)
    const Kind = shares ? LoopbackDriver : Unshared
    return new Kind({ ...shape, packetMemory: this.#packetMemory, shard: place, refuse, keepSent: false })
  }

  /** A thread dies between two turns, and another takes its place on the same memory. */
  async restart(place: number): Promise<void> {
    const { epoch, restart } = this.planes[place]!
    this.planes[place] = await restart(epoch + 1)
  }

  /** All good flows, until they are assured. */
  #establish(): void {
    for (const wait of [0, ASSURED_MS])
      for (const back of [false, true]) {
        this.#ns += wait * 1e6
        for (const flow of this.traffic.flows) {
          this.#inject(this.traffic.good(flow, back))
          for (let i = 0; i < 2; i++) for (const plane of [...this.planes].reverse()) plane.turn(this.#ns / 1e6)
        }
      }
    for (let ms = 0; ms < 10; ms++) for (const plane of this.planes) plane.turn(this.#ns / 1e6)
    this.traffic.begin()
  }

  #inject({ frame, port, shard }: Packet): void {
    const receiver = this.#options.dispatch === 'thread' ? this.#options.shards : shard
    this.planes[receiver]!.driver.inject(port, frame)
  }

  /** The good hosts' traffic for so long, and beside it a flood of so many times what a shard can carry of it. */
  run(milliseconds: number, flood?: FloodName, times = 10): Outcome {
    const { shards, asked } = this.#options
    const { traffic, planes } = this
    const before = this.#totals()
    traffic.begin()
    const capacity = 1e9 / (COSTS.listed + COSTS.sent)
    const goodRate = (asked * capacity * shards) / traffic.flows.length / 1e9
    const rate = flood ? (times * (FLOODS[flood].isSpread ? shards : 1) * floodCapacity(flood)) / 1e9 : 0
    const begun = this.#ns
    const end = begun + milliseconds * 1e6
    for (const plane of planes) plane.until = begun
    while (this.#ns < end) {
      const next = planes.reduce((first, plane) => (plane.until < first.until ? plane : first))
      const step = Math.max(0, next.until - this.#ns)
      if (step > 0) for (const packet of traffic.arrivals(step, goodRate, flood, rate)) this.#inject(packet)
      this.#ns += step
      next.until = this.#ns + this.#turn(next)
    }
    const after = this.#totals()
    const seconds = milliseconds / 1000
    const change = (key: keyof typeof after): number => after[key] - before[key]
    return {
      ...traffic.outcome(seconds),
      carried: Number((change('sent') / (capacity * seconds)).toFixed(3)),
      shed: change('shed'),
      ringLosses: change('lost'),
      handoverFull: change('full'),
      overloads: change('overloads'),
    }
  }

  /** One turn; how long it takes. */
  #turn({ turn, driver, counters }: Plane): number {
    const [inside, outside] = [CELL.receivedPackets, CELL.receivedPackets + 1]
    const listedNow = (): number => counters[inside]! + counters[outside]! + counters[CELL.handoversReceived]!
    const sentNow = (): number => driver.sentFrames(0) + driver.sentFrames(1)
    const shedNow = (): number => counters[CELL.drops + DROP.overload]!
    const openedNow = (): number => counters[CELL.connectionsInserted + 1]!
    const dispatchedNow = (): number => counters[CELL.handovers + BY_DISPATCH]!
    const was = [listedNow(), sentNow(), shedNow(), openedNow(), dispatchedNow()] as const
    const began = performance.now()
    turn(this.#ns / 1e6)
    const took = (performance.now() - began) * 1e6
    const listed = listedNow() - was[0]
    const sent = sentNow() - was[1]
    const dispatched = dispatchedNow() - was[4]
    if (shedNow() - was[2] > NEARLY_ALL * listed) {
      this.#shedding.ns += took
      this.#shedding.listed += listed
    }
    const settled = listed - (shedNow() - was[2]) - sent - dispatched
    const spent =
      COSTS.listed * listed +
      COSTS.sent * sent +
      COSTS.settled * Math.max(0, settled) +
      COSTS.opened * (openedNow() - was[3]) +
      COSTS.dispatched * dispatched
    return Math.max(LEAST_STEP_NS, COSTS.turn + spent)
  }

  /** What a dropped packet took on this machine, its listing included and the few that were kept beside it. */
  nanosecondsPerShed(): number {
    return Math.round(this.#shedding.ns / Math.max(1, this.#shedding.listed))
  }

  #totals() {
    const totals = { sent: 0, shed: 0, lost: 0, full: 0, overloads: 0 }
    for (const { driver, counters } of this.planes) {
      totals.sent += driver.sentFrames(0) + driver.sentFrames(1)
      totals.shed += counters[CELL.drops + DROP.overload]!
      totals.lost += driver.receiveLosses(0) + driver.receiveLosses(1)
      totals.full += counters[CELL.drops + HANDOVER_FULL]!
      totals.overloads += counters[CELL.overloads]! + counters[CELL.overloads + 1]!
    }
    return totals
  }
}

/**
 * How much of a flood a shard could carry alone, a second. What is dropped for another reason costs less than what is
 * carried; still as many packets come as if all were carried, since no link brings more.
 */
function floodCapacity(flood: FloodName): number {
  const { listed, sent, opened } = COSTS
  return 1e9 / (listed + sent + (FLOODS[flood].opens ? opened : 0))
}
