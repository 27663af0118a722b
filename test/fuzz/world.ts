// The gateway that is fuzzed: one shard or several in one thread, each with modules of its own, over one packet memory
// and in a time that the fuzzer tells. One packet goes in at a time, so that what comes out is what it has caused.

import { ExpectationTable } from '../../src/conntrack/expectation-table.ts'
import { UNLIMITED } from '../../src/conntrack/host-quotas.ts'
import { HostTable } from '../../src/conntrack/host-table.ts'
import type { Side } from '../../src/conntrack/terms.ts'
import { DEFAULT_TIMEOUTS } from '../../src/conntrack/timeouts.ts'
import { ExpectationGc } from '../../src/coordinator/expectations/expectation-gc.ts'
import { CELL } from '../../src/counters/counters.ts'
import { DROP_REASONS } from '../../src/counters/drop-reasons.ts'
import { DropTable } from '../../src/counters/drop-table.ts'
import { attachMemory } from '../../src/datapath/attach.ts'
import { HandoverRings, handoverFrameBytes } from '../../src/datapath/handover/handover-rings.ts'
import type { ShardSettings } from '../../src/datapath/shard-contract.ts'
import { connectionsOf, countersOf, dropTable, tableBytes } from '../../src/datapath/shard-tables.ts'
import { HelperList } from '../../src/helpers/helper-list.ts'
import { LoopbackDriver, packetMemoryBytes } from '../../src/io/loopback.ts'
import { allocate, sharedMemory } from '../../src/memory/region.ts'
import { Externals, SHARED, SPACES } from '../../src/nat/externals.ts'
import type { PortForward } from '../../src/nat/port-forward-rules.ts'
import { DEFAULT_NAT, type Dependence } from '../../src/nat/settings.ts'
import {
  type Leases,
  ownerOf,
  type PacketNumbers,
  type StaticRules,
  staticRules,
} from '../../src/ownership/ownership-rule.ts'
import { Fib } from '../../src/routing/fib.ts'
import { parseAddress } from '../../src/wire/address.ts'
import { EXTERNAL, snapshotOf } from '../datapath/network.ts'
import { FIRST_PORT, FORWARDS, LAST_PORT, PORTLESS, TIMEOUTS } from './settings.ts'

export type ShardModule = typeof import('./shard-under-test.ts')
/** Fresh modules of a shard, whose memory has been attached. */
export type Load = (shard: number) => Promise<ShardModule>

const BLOCK = 256
const KEY = 0x5eed
const CONNECTIONS = 256
/** Longer than anything lives, in milliseconds. */
const AGES = 1000 * (TIMEOUTS.generic + 10)
/** Longer than a port is in quarantine. */
const QUARANTINE = 125_000
/** The expiry sweep takes a step of its round at each turn that comes so many milliseconds later. */
const SWEEP_STEP = 63
/** So many steps go round the table. */
const SWEEPS = 17
/** In the end, at most. */
const SWEEP_STEPS = 40

export interface WorldOptions {
  readonly shards: number
  readonly filtering: Dependence
  readonly load: Load
}

export class World {
  readonly shards: number
  /** Milliseconds since the gateway's start. */
  now = 1000
  readonly #drivers: LoopbackDriver[]
  readonly #modules: ShardModule[] = []
  readonly #counters: Float64Array[]
  readonly #leases: Leases
  readonly #fib: Fib
  readonly #rules: StaticRules
  readonly #expectations: ExpectationTable
  readonly #expectationGc: ExpectationGc
  #handovers = 0
  #lookedAt = 0

  static async start({ shards, filtering, load }: WorldOptions): Promise<World> {
    const forwards: PortForward[] = FORWARDS.map(({ protocol, port, toAddress, toPort }) => ({
      protocol,
      address: null,
      port,
      toAddress: parseAddress(toAddress),
      toPort,
    }))
    const settings = Array.from(
      { length: shards },
      (_, shard): ShardSettings => ({
        shard,
        shards,
        restarted: false,
        epoch: 1,
        ownerKey: KEY,
        sides: [0, 1],
        hashKey: [0x03020100, 0x07060504],
        connections: CONNECTIONS,
        mappings: CONNECTIONS,
        externals: { capacity: 1, blockSize: BLOCK },
        fib: { ports: 2, shards },
        expectations: 64,
        hosts: 64,
        limits: UNLIMITED,
        tcp: { pickup: false, liberal: false, answerUnsolicited: true },
        timeouts: { ...DEFAULT_TIMEOUTS, ...TIMEOUTS },
        nat: { ...DEFAULT_NAT, filtering, protocols: PORTLESS },
        portForwards: forwards,
        filter: [],
        icmpErrorsPerSecond: 1000,
      }),
    )
    const world = new World(settings, staticRules(forwards))
    await world.#attach(settings, load)
    return world
  }

  readonly #memory

  private constructor(settings: readonly ShardSettings[], rules: StaticRules) {
    const shards = settings.length
    this.shards = shards
    this.#rules = rules
    const fib = allocate((region) => new Fib(region, { ports: 2, shards }))
    const externals = allocate((region) => new Externals(region, { capacity: 1, blockSize: BLOCK }))
    const handover = allocate((region) => new HandoverRings(region, shards))
    const helperList = allocate((region) => new HelperList(region, shards))
    const expectations = allocate((region) => new ExpectationTable(region, { capacity: 64, shards }))
    const hosts = allocate((region) => new HostTable(region, { hosts: 64, shards }))
    const drops = allocate((region) => new DropTable(region, dropTable(settings[0]!)))
    this.#fib = fib.view
    fib.view.publish(snapshotOf({ silent: ['203.0.113.9'] }))
    const entry = externals.view.add(parseAddress(EXTERNAL), SHARED)
    for (let space = 0; space < SPACES; space++)
      for (let block = FIRST_PORT / BLOCK; block < (LAST_PORT + 1) / BLOCK; block++)
        externals.view.lease(entry, space, block, block % shards)
    this.#leases = { shards, key: KEY, externals: externals.view }
    this.#expectations = expectations.view
    const slots = { ports: 2, slots: 16, slotBytes: 4096, scratchBytes: 8 << 20 }
    const options = { ...slots, shards, sharedBytes: handoverFrameBytes(shards) }
    const packetMemory = sharedMemory(packetMemoryBytes(options))
    this.#drivers = settings.map(({ shard }) => new LoopbackDriver({ ...options, packetMemory, shard }))
    const tables = settings.map((each) => sharedMemory(tableBytes(each)))
    this.#counters = tables.map(countersOf)
    this.#memory = {
      tables,
      externals: externals.buffer,
      fib: fib.buffer,
      handover: handover.buffer,
      expectations: expectations.buffer,
      hosts: hosts.buffer,
      drops: drops.buffer,
      helperList: helperList.buffer,
    }
    this.#expectationGc = new ExpectationGc({
      table: expectations.view,
      externals: externals.view,
      hosts: hosts.view,
      connections: tables.map((each, shard) => connectionsOf(each, settings[shard]!)),
      now: () => Math.floor(this.now / 1000),
      turns: (shard) => this.#counters[shard]![CELL.turns]!,
    })
  }

  async #attach(settings: readonly ShardSettings[], load: Load): Promise<void> {
    const { tables, ...common } = this.#memory
    // The kernel is asked, and never answers: else the ring of requests would be full one day, and nobody would wait.
    const wakers = { watcher: () => this.#fib.takeRequests(() => {}), shard() {}, coordinator() {} }
    for (const each of settings) {
      const { shard } = each
      const memory = { tables: tables[shard]!, peers: tables, ...common }
      attachMemory(memory, each, this.#drivers[shard]!)
      const module = await load(shard)
      module.attachShard(memory, each, this.#drivers[shard]!, wakers)
      module.helpFtp()
      this.#modules[shard] = module
    }
  }

  /** A frame comes by a port, to the shard `at`, or to the one that it belongs to if `at` is -1. */
  arrive(port: number, frame: Uint8Array, at: number): void {
    const shard = at < 0 ? this.#owner(port as Side, frame) : at % this.shards
    if (!this.#drivers[shard]!.inject(port, frame)) throw new Error('the loopback ring is full')
    this.#modules[shard]!.turn(this.now)
    this.#turnWhileHandedOver()
  }

  #turnWhileHandedOver(): void {
    for (let rounds = 0; this.#countHandovers(); rounds++) {
      if (rounds > 16) throw new Error('packets go round')
      for (const module of this.#modules) module.turn(this.now)
    }
  }

  /** True if anything was handed over since the last time. */
  #countHandovers(): boolean {
    let sum = 0
    for (const counters of this.#counters)
      for (let cell = CELL.handovers; cell < CELL.handoversReceived; cell++) sum += counters[cell]!
    const isMore = sum !== this.#handovers
    this.#handovers = sum
    return isMore
  }

  /** Milliseconds go by. */
  pass(milliseconds: number): void {
    const most = Math.floor(milliseconds / SWEEP_STEP)
    const sweeps =
      most === 0 ? 0 : Math.min(most, SWEEPS, 1 + Math.max(...this.#modules.map((module) => module.rows())))
    this.now += milliseconds - sweeps * SWEEP_STEP
    this.#turn()
    for (let sweep = 0; sweep < sweeps; sweep++) {
      this.now += SWEEP_STEP
      for (const [shard, module] of this.#modules.entries()) if (this.#hasConnections(shard)) module.turn(this.now)
    }
    if (sweeps > 0) this.#turnWhileHandedOver()
    if (this.now - this.#lookedAt < 1000 || this.#expectations.count() === 0) return
    this.#lookedAt = this.now
    this.#expectationGc.look()
  }

  #hasConnections(shard: number): boolean {
    const counters = this.#counters[shard]!
    for (let cell = CELL.connections; cell < CELL.connectionsInserted; cell++) if (counters[cell] !== 0) return true
    return false
  }

  #turn(): void {
    for (const module of this.#modules) module.turn(this.now)
    this.#turnWhileHandedOver()
  }

  /** What left by a port since the last time. */
  left(port: number): Uint8Array[] {
    if (this.shards === 1) return this.#drivers[0]!.takeSent(port)
    const sent: Uint8Array[] = []
    for (const driver of this.#drivers) for (const frame of driver.takeSent(port)) sent.push(frame)
    return sent
  }

  /** So much time goes by that nothing may be left; what is, in words. */
  settle(): string[] {
    this.pass(AGES)
    for (let step = 0; step < SWEEP_STEPS && this.#sum('connections', 4) > 0; step++) {
      this.now += SWEEP_STEP
      this.#turn()
    }
    this.pass(QUARANTINE)
    const faults: string[] = []
    const expect = (what: string, count: number): void => {
      if (count !== 0) faults.push(`${what}: ${count} left`)
    }
    for (const module of this.#modules) for (const [what, count] of Object.entries(module.kept())) expect(what, count)
    expect('ports given out', this.#sum('portsUsed', SPACES))
    expect('ports in quarantine', this.#sum('portsResting', SPACES))
    expect('fragments that wait', this.#sum('fragmentsWaiting', 1))
    expect('helped connections', this.#sum('helped', 1))
    expect('expectations', this.#expectations.count())
    for (const driver of this.#drivers) for (const port of [0, 1]) expect('frames lent', driver.pending(port))
    return faults
  }

  #sum(key: keyof typeof CELL, cells: number): number {
    let sum = 0
    for (const counters of this.#counters) for (let cell = 0; cell < cells; cell++) sum += counters[CELL[key] + cell]!
    return sum
  }

  /** Drops by reason so far, without zeros. */
  drops(): Record<string, number> {
    const counted: Record<string, number> = {}
    for (const [number, [reason]] of DROP_REASONS.entries()) {
      const count = this.#counters.reduce((sum, counters) => sum + counters[CELL.drops + number]!, 0)
      if (count > 0) counted[reason] = count
    }
    return counted
  }

  /** What all shards have counted. */
  count(key: keyof typeof CELL, cells = 1): number {
    return this.#sum(key, cells)
  }

  /** As the kernel's program computes it: what is too short to be read is anybody's. */
  #owner(side: Side, frame: Uint8Array): number {
    if (this.shards === 1) return 0
    const numbers = numbersOf(frame, 14)
    return numbers ? ownerOf(side, numbers, this.#leases, this.#rules) : frame.length % this.shards
  }
}

function numbersOf(frame: Uint8Array, ip: number): PacketNumbers | undefined {
  if (frame.length < ip + 20) return undefined
  const word = (at: number): number => (frame[at]! << 8) | frame[at + 1]!
  const l4 = ip + (frame[ip]! & 15) * 4
  const protocol = frame[ip + 9]!
  const source = ((word(ip + 12) << 16) | word(ip + 14)) >>> 0
  const destination = ((word(ip + 16) << 16) | word(ip + 18)) >>> 0
  const common = { protocol, source, destination }
  const isEmbedded = ip !== 14
  if (!isEmbedded && (word(ip + 6) & 0x3fff) !== 0)
    return { ...common, sourcePort: 0, destinationPort: 0, fragment: word(ip + 4) }
  if (protocol !== 1 && protocol !== 6 && protocol !== 17) return { ...common, sourcePort: 0, destinationPort: 0 }
  if (frame.length < l4 + 8) return undefined
  if (protocol !== 1) return { ...common, sourcePort: word(l4), destinationPort: word(l4 + 2) }
  const type = frame[l4]!
  if (!isEmbedded && (type === 3 || type === 4 || type === 5 || type === 11 || type === 12)) {
    const embedded = numbersOf(frame, l4 + 8)
    return embedded && { ...common, sourcePort: 0, destinationPort: 0, embedded }
  }
  return { ...common, sourcePort: word(l4 + 4), destinationPort: word(l4 + 4) }
}
