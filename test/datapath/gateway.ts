// A gateway for tests: one shard over the loopback driver, with a LAN at port 0 and an outside at port 1 (network.ts),
// in a time that the test tells. A shard's tables are module-level constants, so every gateway gets modules of its own.
// Packets in by inside() and outside(), packets out by what they return. Every frame that leaves is verified in full
// (verify.ts), the memory around every received frame is watched (canaries.ts), and check() holds the shard's tables
// against each other (consistency.ts).

import { expect, vi } from 'vitest'
import { ExpectationTable } from '../../src/conntrack/expectation-table.ts'
import type { HostQuotas } from '../../src/conntrack/host-quotas.ts'
import { HostTable } from '../../src/conntrack/host-table.ts'
import { DEFAULT_TIMEOUTS, type Timeouts } from '../../src/conntrack/timeouts.ts'
import { ExpectationGc } from '../../src/coordinator/expectations/expectation-gc.ts'
import { CELL } from '../../src/counters/counters.ts'
import { DROP, DROP_REASONS, type DropReasonName } from '../../src/counters/drop-reasons.ts'
import { DropTable } from '../../src/counters/drop-table.ts'
import { HandoverRings, handoverFrameBytes } from '../../src/datapath/handover/handover-rings.ts'
import type { CallClocks } from '../../src/datapath/helped/call-budget.ts'
import type { Dataplane, ShardMemory, ShardSettings, WarmUp } from '../../src/datapath/shard-contract.ts'
import { connectionsOf, countersOf, dropTable, eventsOf, tableBytes } from '../../src/datapath/shard-tables.ts'
import type { Binding, OnHelperFailure } from '../../src/helpers/declaration.ts'
import type { Helper } from '../../src/helpers/helper.ts'
import { HelperList } from '../../src/helpers/helper-list.ts'
import type { HelperEntry } from '../../src/helpers/load.ts'
import { BURST } from '../../src/io/driver.ts'
import { LoopbackDriver } from '../../src/io/loopback.ts'
import { EventReader } from '../../src/memory/event-ring.ts'
import { allocate, sharedMemory } from '../../src/memory/region.ts'
import { Externals, POOL, SHARED, SPACES, wholeBlocks } from '../../src/nat/externals.ts'
import type { FilterRule } from '../../src/nat/filter-rules.ts'
import type { PortForward } from '../../src/nat/port-forward-rules.ts'
import { DEFAULT_NAT, type NatSettings } from '../../src/nat/settings.ts'
import { Fib } from '../../src/routing/fib.ts'
import { type FrameSpec, frame } from '../../src/testing/builder.ts'
import { parseAddress } from '../../src/wire/address.ts'
import { WatchedDriver } from './canaries.ts'
import { inconsistencies } from './consistency.ts'
import { EXTERNAL, LAN, MAC, type Network, snapshotOf, WAN } from './network.ts'
import { SOLE_SHARD } from './sole-shard.ts'
import { type Tables, tablesOf } from './tables.ts'
import { faultsOf } from './verify.ts'

const VIRTIO = 10
/** Far fewer than a gateway has on a shared address: each one started here looks at every port. */
const PORTS = [19968, 20991] as const
/** The longest that a shard without packets sleeps. */
const TURN_MS = 63
/** A round of the expiry sweep takes about a second. */
const SWEEP_MS = 1200
const LOOK_MS = 1000
const DRIVER = { ports: 2, slots: 64, scratchBytes: 8 << 20, sharedBytes: handoverFrameBytes(1), shards: 2 }

export interface GatewayOptions extends Network {
  readonly nat?: Partial<NatSettings>
  readonly forwards?: readonly PortForward[]
  readonly filter?: readonly FilterRule[]
  /** None, if nothing is said: most tests are about one host that has all. */
  readonly limits?: HostQuotas
  /** Hosts with a row of their own (64). */
  readonly hosts?: number
  readonly connections?: number
  /** As many as connections, if nothing is said. */
  readonly mappings?: number
  /** Addresses that natloom has to itself; without any it shares the interface's own. */
  readonly pool?: readonly string[]
  /** NAT's ports on an address, inclusive (19968-20991); whole blocks of `blockSize` (64). */
  readonly ports?: readonly [first: number, last: number]
  readonly blockSize?: number
  readonly icmpErrorsPerSecond?: number
  readonly tcp?: Partial<ShardSettings['tcp']>
  readonly timeouts?: Partial<Timeouts>
  /** To measure helpers by. */
  readonly callClocks?: CallClocks
  /** The list of helpers in force; nobody follows it but a warm-up. */
  readonly helpers?: readonly HelperEntry[]
  /** The shard is warmed up before it begins, as long as this says. */
  readonly warmUp?: WarmUp['mayGoOn']
}

export class Gateway {
  driver = new WatchedDriver(DRIVER)
  readonly externals: Externals
  readonly expectations: ExpectationTable
  readonly hosts: HostTable
  readonly dropTable: DropTable
  /**
   * The coordinator's part in expectations: once a second as time goes by, and before a dead shard's successor begins.
   */
  readonly expectationGc: ExpectationGc
  settings: ShardSettings
  readonly #buffer: SharedArrayBuffer
  readonly #fib: Fib
  readonly #options: GatewayOptions
  readonly #memory: ShardMemory
  #network: Network
  #shard!: Dataplane
  #tables!: Tables
  #now = 1000
  #lookedAt = 1000
  /** How often the shard has told the watcher that it asks for a neighbour. */
  wakes = 0
  /** False: transport checksums of what is sent are not verified, because what goes in has wrong ones. */
  verifiesTransport = true

  static async start(options: GatewayOptions = {}): Promise<Gateway> {
    const gateway = new Gateway(options)
    await gateway.#attach()
    gateway.turn()
    return gateway
  }

  /**
   * Lets the shard count as dead where it is now; a successor begins on its memory, with modules and a driver of its
   * own, and has not turned yet. What the dead one had sent and no test has taken is forgotten.
   */
  async restart(): Promise<void> {
    this.driver = new WatchedDriver({ ...DRIVER, packetMemory: this.driver.packetMemory })
    this.expectationGc.reclaim(0)
    this.settings = { ...this.settings, restarted: true, epoch: this.settings.epoch + 1 }
    await this.#attach()
  }

  async #attach(): Promise<void> {
    vi.resetModules()
    const { attachShard } = await import('../../src/datapath/attach.ts')
    const wakers = {
      watcher: () => this.wakes++,
      shard: () => {},
      coordinator: () => {},
      ...(this.#options.callClocks && { callClocks: this.#options.callClocks }),
    }
    this.#shard = await attachShard(this.#memory, this.settings, this.driver, wakers, this.#warmUp())
    this.#tables = await tablesOf(this.externals, this.hosts, this.dropTable)
  }

  /** By a driver over the same packet memory, in a part of its own. */
  #warmUp(): WarmUp | undefined {
    const { warmUp: mayGoOn } = this.#options
    if (mayGoOn === undefined || this.settings.restarted) return undefined
    const { packetMemory } = this.driver
    const driver = new LoopbackDriver({ ...DRIVER, packetMemory, shard: 1, keepSent: false })
    return { driver, inject: (port, frame) => void driver.inject(port, frame), mayGoOn }
  }

  private constructor(options: GatewayOptions) {
    this.#options = options
    this.#network = options
    const { connections = SOLE_SHARD.connections } = options
    const settings: ShardSettings = {
      ...SOLE_SHARD,
      connections,
      mappings: options.mappings ?? connections,
      externals: { capacity: (options.pool?.length ?? 1) + 1, blockSize: options.blockSize ?? 64 },
      hosts: options.hosts ?? SOLE_SHARD.hosts,
      limits: options.limits ?? SOLE_SHARD.limits,
      tcp: { ...SOLE_SHARD.tcp, ...options.tcp },
      timeouts: { ...DEFAULT_TIMEOUTS, ...options.timeouts },
      nat: { ...DEFAULT_NAT, ...options.nat },
      portForwards: options.forwards ?? [],
      filter: options.filter ?? [],
      icmpErrorsPerSecond: options.icmpErrorsPerSecond ?? SOLE_SHARD.icmpErrorsPerSecond,
    }
    const fib = allocate((region) => new Fib(region, settings.fib))
    const externals = allocate((region) => new Externals(region, settings.externals))
    const handover = allocate((region) => new HandoverRings(region, 1))
    const helperList = allocate((region) => new HelperList(region, 1))
    const expectations = allocate((region) => new ExpectationTable(region, { capacity: 64, shards: 1 }))
    const hosts = allocate((region) => new HostTable(region, settings))
    const drops = allocate((region) => new DropTable(region, dropTable(settings)))
    if (options.helpers) helperList.view.publish(JSON.stringify(options.helpers))
    this.#fib = fib.view
    this.externals = externals.view
    this.expectations = expectations.view
    this.hosts = hosts.view
    this.dropTable = drops.view
    for (const address of options.pool ?? []) this.addExternal(address, POOL)
    if (!options.pool) this.addExternal(EXTERNAL, SHARED)
    this.publish()
    this.settings = settings
    this.#buffer = sharedMemory(tableBytes(settings))
    this.#memory = {
      tables: this.#buffer,
      peers: [this.#buffer],
      externals: externals.buffer,
      fib: fib.buffer,
      handover: handover.buffer,
      expectations: expectations.buffer,
      hosts: hosts.buffer,
      drops: drops.buffer,
      helperList: helperList.buffer,
    }
    this.expectationGc = new ExpectationGc({
      table: this.expectations,
      hosts: this.hosts,
      externals: this.externals,
      connections: [connectionsOf(this.#buffer, settings)],
      now: () => Math.floor(this.#now / 1000),
      turns: () => this.counter('turns'),
    })
  }

  addExternal(address: string, kind: typeof SHARED | typeof POOL): number {
    const entry = this.externals.add(parseAddress(address), kind)
    const [first, last] = this.#options.ports ?? PORTS
    const { blockSize } = this.externals
    for (let space = 0; space < SPACES; space++)
      this.externals.leaseAll(entry, space, wholeBlocks({ from: first, to: last }, blockSize), () => 0)
    return entry
  }

  /** Connections that begin from now on are read by this helper, in this life of the shard. */
  async help(helper: Helper, bindings?: readonly Binding[], onFailure: OnHelperFailure = 'reset'): Promise<number> {
    const { registerHelper } = await import('../../src/helpers/registry.shard.ts')
    return registerHelper(helper, { onFailure, ...(bindings && { bindings }) })
  }

  /** Publishes routes and neighbours; what is not said stays as it was. */
  publish(change: Network = {}): void {
    this.#network = { ...this.#network, ...change }
    this.#fib.publish(snapshotOf(this.#network, this.#options.pool))
  }

  /** Neighbours that the shard has asked for since the last time. */
  requests(): string[] {
    const asked: string[] = []
    this.#fib.takeRequests((_, address) => asked.push([0, 8, 16, 24].map((bit) => (address >>> bit) & 255).join('.')))
    return asked
  }

  /** A packet from the LAN; what left by the outside port. */
  inside(spec: FrameSpec | Uint8Array, virtio?: Uint8Array): Uint8Array[] {
    this.#inject(LAN, spec, virtio)
    this.turn()
    return this.toWan()
  }

  /** A packet from the LAN to the LAN, by the external address; what left by the LAN port. */
  hairpin(spec: FrameSpec | Uint8Array, virtio?: Uint8Array): Uint8Array[] {
    expect(this.inside(spec, virtio)).toEqual([])
    return this.toLan()
  }

  /** A packet from outside; what left by the LAN port. */
  outside(spec: FrameSpec | Uint8Array, virtio?: Uint8Array): Uint8Array[] {
    this.#inject(WAN, spec, virtio)
    this.turn()
    return this.toLan()
  }

  /** Packets that come in one burst. */
  burst(port: number, specs: readonly (FrameSpec | Uint8Array)[]): void {
    expect(specs.length).toBeLessThanOrEqual(BURST)
    for (const spec of specs) this.#inject(port, spec)
    this.turn()
  }

  /** What went to the LAN (answers to the sender among it) since the last time. */
  toLan(): Uint8Array[] {
    return this.#taken(LAN).map((sent) => sent.subarray(VIRTIO))
  }

  toWan(): Uint8Array[] {
    return this.#taken(WAN).map((sent) => sent.subarray(VIRTIO))
  }

  /** The same with the virtio-net headers, ten bytes before each frame. */
  toWanWithHeaders(): Uint8Array[] {
    return this.#taken(WAN)
  }

  #taken(port: number): Uint8Array[] {
    const sent = this.driver.takeSent(port, true)
    for (const frame of sent) expect(faultsOf(frame, this.verifiesTransport)).toEqual([])
    expect(this.driver.violations).toEqual([])
    return sent
  }

  /** The builder's frames have their virtio-net header before them; other bytes come without offloads. */
  #inject(port: number, spec: FrameSpec | Uint8Array, virtio?: Uint8Array): void {
    const eth = port === LAN ? { src: MAC.host, dst: MAC.lan } : { src: MAC.server, dst: MAC.wan }
    const bytes = spec instanceof Uint8Array ? spec : frame({ eth, ...spec })
    const header = virtio ?? (spec instanceof Uint8Array ? undefined : new Uint8Array(bytes.buffer, 0, VIRTIO))
    if (!this.driver.inject(port, bytes, header)) throw new Error('the loopback ring is full')
  }

  /**
   * What becomes of one packet: 'sent' (by the other port), 'not-ours', 'queued' for its next hop, 'waiting' for its
   * datagram's first fragment, or the reason why it was dropped.
   */
  fate(port: number, spec: FrameSpec | Uint8Array, virtio?: Uint8Array): string {
    const drops = this.drops()
    const others = [
      this.counter('notOurs', port),
      this.counter('neighbourWaits', port),
      this.counter('fragmentWaits', port),
    ]
    const sent = port === LAN ? this.inside(spec, virtio) : this.outside(spec, virtio)
    const fates = sent.length > 0 ? ['sent'] : []
    for (const [reason, count] of Object.entries(this.drops()))
      if (count !== (drops[reason as DropReasonName] ?? 0)) fates.push(reason)
    if (this.counter('notOurs', port) !== others[0]) fates.push('not-ours')
    if (this.counter('neighbourWaits', port) !== others[1]) fates.push('queued')
    if (this.counter('fragmentWaits', port) !== others[2]) fates.push('waiting')
    return fates.join(' and ')
  }

  turn(): void {
    this.#shard.turn(this.#now)
  }

  /** Milliseconds since the gateway's start. */
  get clock(): number {
    return this.#now
  }

  /** Time goes by: in long steps, and at the end slowly enough for a whole round of the expiry sweep. */
  pass(seconds: number): void {
    const until = this.#now + seconds * 1000
    const slowly = until - SWEEP_MS
    while (this.#now < until) {
      const step = this.#now < slowly ? Math.min((seconds * 1000) / 16, slowly - this.#now) : this.sleep()
      this.#now = Math.min(until, this.#now + step)
      this.turn()
      if (this.#now - this.#lookedAt >= LOOK_MS) this.#look()
    }
  }

  /** How long the shard would sleep now. */
  sleep(): number {
    this.#shard.sleep(TURN_MS)
    return Math.max(1, this.driver.wanted)
  }

  #look(): void {
    this.#lookedAt = this.#now
    this.expectationGc.look()
  }

  /** Time goes by without a turn: nothing is swept before the next packet. */
  jump(seconds: number): void {
    this.#now += seconds * 1000
  }

  /** The shard's tables, to be read. */
  get tables(): Tables {
    return this.#tables
  }

  /** What the shard and all others work on, to be compared. */
  get memory(): ShardMemory {
    return this.#memory
  }

  /** The shard's event ring; the test that asks for it is its one reader. */
  events(): EventReader {
    return new EventReader(eventsOf(this.#buffer, this.settings))
  }

  /** Holds the tables against each other. */
  check(): void {
    expect(this.faults()).toEqual([])
  }

  /** What doesn't fit together in them, in words. */
  faults(): string[] {
    return inconsistencies(this.#tables, (key, cell = 0) => this.counter(key, cell))
  }

  /** Drops counted so far, by reason, without zeros. */
  drops(): Partial<Record<DropReasonName, number>> {
    const counters = countersOf(this.#buffer)
    const counted: Partial<Record<DropReasonName, number>> = {}
    for (const [reason] of DROP_REASONS) {
      const count = counters[CELL.drops + DROP[reason]]!
      if (count > 0) counted[reason] = count
    }
    return counted
  }

  counter(key: keyof typeof CELL, cell = 0): number {
    return countersOf(this.#buffer)[CELL[key] + cell]!
  }
}
