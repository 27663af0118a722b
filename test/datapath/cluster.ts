// Several shards in one thread, each with modules of its own over one packet memory, one set of rings, routes and
// leases: what threads do at once they do by turns here, so that a test says what happens. Packets come by the LAN
// (port 0) and the outside (port 1), to the shard that `deliver` names; what leaves is verified in full. Block b is
// leased to shard b mod N.

import { expect, vi } from 'vitest'
import { ExpectationTable } from '../../src/conntrack/expectation-table.ts'
import { type HostQuotas, UNLIMITED } from '../../src/conntrack/host-quotas.ts'
import { HostTable } from '../../src/conntrack/host-table.ts'
import type { Side } from '../../src/conntrack/terms.ts'
import { DEFAULT_TIMEOUTS } from '../../src/conntrack/timeouts.ts'
import { CELL } from '../../src/counters/counters.ts'
import { DROP, DROP_REASONS } from '../../src/counters/drop-reasons.ts'
import { DropTable } from '../../src/counters/drop-table.ts'
import { HandoverRings, handoverFrameBytes } from '../../src/datapath/handover/handover-rings.ts'
import type { Dataplane, ShardSettings } from '../../src/datapath/shard-contract.ts'
import { countersOf, dropTable, tableBytes } from '../../src/datapath/shard-tables.ts'
import type { Helper } from '../../src/helpers/helper.ts'
import { HelperList } from '../../src/helpers/helper-list.ts'
import type { registerHelper } from '../../src/helpers/registry.shard.ts'
import { LoopbackDriver, type LoopbackOptions, packetMemoryBytes } from '../../src/io/loopback.ts'
import { allocate, sharedMemory } from '../../src/memory/region.ts'
import { Externals, SHARED, SPACES } from '../../src/nat/externals.ts'
import type { PortForward } from '../../src/nat/port-forward-rules.ts'
import { DEFAULT_NAT, type NatSettings } from '../../src/nat/settings.ts'
import {
  type Leases,
  ownerOf,
  type PacketNumbers,
  type StaticRules,
  staticRules,
} from '../../src/ownership/ownership-rule.ts'
import { Fib } from '../../src/routing/fib.ts'
import { type FrameSpec, frame } from '../../src/testing/builder.ts'
import { parseAddress } from '../../src/wire/address.ts'
import { inconsistencies } from './consistency.ts'
import { EXTERNAL, LAN, MAC, type Network, snapshotOf, WAN } from './network.ts'
import { type Connection, connectionsOf, type Tables, tablesOf } from './tables.ts'
import { faultsOf } from './verify.ts'

const PORTS = [16384, 18431] as const
const BLOCK = 64
const HOSTS = 64
const VIRTIO = 10
const REASONS = ['flow', 'fragment', 'known-fragment', 'icmp-error', 'hairpin', 'dispatch'] as const

/** Which shard the kernel gives a frame to. */
export type Deliver = (frame: Uint8Array, side: Side, cluster: Cluster) => number
/** To the owner, as the compiled rule gives it. */
export const toOwner: Deliver = (bytes, side, { leases, rules }) => {
  const packet = numbersOf(bytes)
  return ownerOf(side, packet, leases, rules)
}
/** All frames to one shard, as before the rule is loaded. */
export const toFirst: Deliver = () => 0
/** To a dispatcher of its own, as where a driver has one queue. */
export const toDispatcher: Deliver = (_bytes, _side, { shards }) => shards
/** To the shard after the owner: never the right one. */
export const toNeighbour: Deliver = (bytes, side, cluster) => (toOwner(bytes, side, cluster) + 1) % cluster.shards

export interface ClusterOptions {
  readonly shards: number
  readonly deliver?: Deliver
  readonly nat?: Partial<NatSettings>
  readonly forwards?: readonly PortForward[]
  /** None, if nothing is said. */
  readonly limits?: HostQuotas
  readonly network?: Network
}

export class Cluster {
  readonly shards: number
  readonly drivers: LoopbackDriver[]
  readonly leases: Leases
  readonly rules: StaticRules
  readonly externals: Externals
  readonly hosts: HostTable
  readonly dropTable: DropTable
  readonly fib: Fib
  /** Shards woken, in order. */
  readonly woken: number[] = []
  deliver: Deliver
  readonly #settings: ShardSettings[]
  readonly #buffers: readonly SharedArrayBuffer[]
  readonly #options: LoopbackOptions
  readonly #planes: Dataplane[] = []
  readonly #tables: Tables[] = []
  readonly #register: (typeof registerHelper)[] = []
  #now = 1000

  static async start(options: ClusterOptions): Promise<Cluster> {
    const cluster = new Cluster(options)
    await cluster.#attach()
    cluster.turn()
    return cluster
  }

  readonly #memory: {
    readonly externals: SharedArrayBuffer
    readonly fib: SharedArrayBuffer
    readonly handover: SharedArrayBuffer
    readonly expectations: SharedArrayBuffer
    readonly hosts: SharedArrayBuffer
    readonly drops: SharedArrayBuffer
    readonly helperList: SharedArrayBuffer
  }

  private constructor({
    shards,
    deliver = toOwner,
    nat,
    forwards = [],
    limits = UNLIMITED,
    network = {},
  }: ClusterOptions) {
    this.shards = shards
    this.deliver = deliver
    this.rules = staticRules(forwards)
    // One more than there are shards: the dispatcher's.
    const places = shards + 1
    const sharedBytes = handoverFrameBytes(shards)
    const options = { ports: 2, slots: 64, scratchBytes: 8 << 20, shards: places, sharedBytes }
    this.#options = options
    const packetMemory = sharedMemory(packetMemoryBytes(options))
    this.drivers = Array.from({ length: places }, (_, shard) => new LoopbackDriver({ ...options, packetMemory, shard }))
    this.#settings = Array.from({ length: places }, (_, shard) => ({
      shard,
      shards,
      restarted: false,
      epoch: 1,
      ownerKey: 0x5eed,
      sides: [0, 1],
      hashKey: [0x03020100, 0x07060504] as const,
      connections: 1024,
      mappings: 1024,
      externals: { capacity: 2, blockSize: BLOCK },
      fib: { ports: 2, shards },
      expectations: 64,
      hosts: HOSTS,
      limits,
      tcp: { pickup: false, liberal: false, answerUnsolicited: true },
      timeouts: DEFAULT_TIMEOUTS,
      nat: { ...DEFAULT_NAT, ...nat },
      portForwards: forwards,
      filter: [],
      icmpErrorsPerSecond: 1000,
    }))
    const fib = allocate((region) => new Fib(region, { ports: 2, shards }))
    const externals = allocate((region) => new Externals(region, { capacity: 2, blockSize: BLOCK }))
    const handover = allocate((region) => new HandoverRings(region, shards))
    const helperList = allocate((region) => new HelperList(region, shards))
    const expectations = allocate((region) => new ExpectationTable(region, { capacity: 64, shards: shards }))
    this.fib = fib.view
    const hosts = allocate((region) => new HostTable(region, { hosts: HOSTS, shards }))
    const drops = allocate((region) => new DropTable(region, dropTable(this.#settings[0]!)))
    this.externals = externals.view
    this.hosts = hosts.view
    this.dropTable = drops.view
    this.fib.publish(snapshotOf(network))
    const entry = this.externals.add(parseAddress(EXTERNAL), SHARED)
    for (let space = 0; space < SPACES; space++)
      for (let block = PORTS[0] / BLOCK; block < (PORTS[1] + 1) / BLOCK; block++)
        this.externals.lease(entry, space, block, block % shards)
    this.leases = { shards, key: 0x5eed, externals: this.externals }
    this.#buffers = this.#settings.map((settings) => sharedMemory(tableBytes(settings)))
    this.#memory = {
      externals: externals.buffer,
      fib: fib.buffer,
      handover: handover.buffer,
      expectations: expectations.buffer,
      hosts: hosts.buffer,
      drops: drops.buffer,
      helperList: helperList.buffer,
    }
  }

  async #attach(): Promise<void> {
    for (const shard of this.#settings.keys()) await this.#attachOne(shard)
  }

  async #attachOne(shard: number): Promise<void> {
    vi.resetModules()
    const { attachShard, attachDispatcher } = await import('../../src/datapath/attach.ts')
    const attach = shard < this.shards ? attachShard : attachDispatcher
    const peers = this.#buffers.slice(0, this.shards)
    const memory = { tables: this.#buffers[shard]!, peers, ...this.#memory }
    const wakers = { watcher() {}, coordinator() {}, shard: (woken: number) => this.woken.push(woken) }
    this.#planes[shard] = await attach(memory, this.#settings[shard]!, this.drivers[shard]!, wakers)
    if (shard === this.shards) return
    this.#tables[shard] = await tablesOf(this.externals, this.hosts, this.dropTable)
    const { registerHelper } = await import('../../src/helpers/registry.shard.ts')
    this.#register[shard] = registerHelper
  }

  /** Connections that begin from now on are read by this helper, a copy of it in each shard. */
  help(make: () => Helper): void {
    for (const register of this.#register) register(make())
  }

  /**
   * Lets a shard, or the dispatcher, count as dead where it is now; a successor begins on its memory, with modules and
   * a driver of its own, and has not turned yet. What the dead one had sent and no test has taken is forgotten.
   */
  async restart(shard: number): Promise<void> {
    const { packetMemory } = this.drivers[shard]!
    this.drivers[shard] = new LoopbackDriver({ ...this.#options, packetMemory, shard })
    const { epoch, ...settings } = this.#settings[shard]!
    this.#settings[shard] = { ...settings, restarted: true, epoch: epoch + 1 }
    await this.#attachOne(shard)
  }

  /** A packet from the LAN; what left by the outside port. */
  inside(spec: FrameSpec | Uint8Array, virtio?: Uint8Array): Uint8Array[] {
    this.inject(LAN, spec, virtio)
    this.turn()
    return this.taken(WAN)
  }

  /** A packet from outside; what left by the LAN port. */
  outside(spec: FrameSpec | Uint8Array, virtio?: Uint8Array): Uint8Array[] {
    this.inject(WAN, spec, virtio)
    this.turn()
    return this.taken(LAN)
  }

  /** The same from the LAN to the LAN. */
  hairpin(spec: FrameSpec | Uint8Array, virtio?: Uint8Array): Uint8Array[] {
    this.inject(LAN, spec, virtio)
    this.turn()
    expect(this.taken(WAN)).toEqual([])
    return this.taken(LAN)
  }

  inject(port: number, spec: FrameSpec | Uint8Array, virtio?: Uint8Array): void {
    const eth = port === LAN ? { src: MAC.host, dst: MAC.lan } : { src: MAC.server, dst: MAC.wan }
    const bytes = spec instanceof Uint8Array ? spec : frame({ eth, ...spec })
    const header = virtio ?? (spec instanceof Uint8Array ? undefined : new Uint8Array(bytes.buffer, 0, VIRTIO))
    const driver = this.drivers[this.deliver(bytes, port as Side, this)]!
    if (!driver.inject(port, bytes, header)) throw new Error('the loopback ring is full')
  }

  /** What left by a port since the last time, whichever shard sent it. */
  taken(port: number): Uint8Array[] {
    const sent = this.drivers.flatMap((driver) => driver.takeSent(port, true))
    for (const frame of sent) expect(faultsOf(frame)).toEqual([])
    return sent.map((bytes) => bytes.subarray(VIRTIO))
  }

  /** Turns all shards until none has anything to do. */
  turn(): void {
    const places = this.#planes.length
    for (let idle = 0, rounds = 0; idle < places; rounds++) {
      if (rounds > 64 * places) throw new Error('packets go round')
      idle = this.turnOne(rounds % places) === 0 ? idle + 1 : 0
    }
  }

  /** One turn of one shard; packets it had. */
  turnOne(shard: number): number {
    return this.#planes[shard]!.turn(this.#now)
  }

  sleep(shard: number): void {
    this.#planes[shard]!.sleep(0)
  }

  pass(seconds: number): void {
    const until = this.#now + seconds * 1000
    while (this.#now < until) {
      this.#now += 63
      this.turn()
    }
  }

  /** Every connection with the shard whose table has it. */
  connections(): (Connection & { readonly shard: number })[] {
    return this.#tables.flatMap((tables, shard) => connectionsOf(tables).map((each) => ({ ...each, shard })))
  }

  /** Holds each shard's tables against each other. */
  check(): void {
    for (const [shard, tables] of this.#tables.entries()) {
      const faults = inconsistencies(tables, (key, cell = 0) => this.counter(shard, key, cell), shard)
      expect(faults, `shard ${shard}`).toEqual([])
    }
  }

  counter(shard: number, key: keyof typeof CELL, cell = 0): number {
    return countersOf(this.#buffers[shard]!)[CELL[key] + cell]!
  }

  #sum(key: keyof typeof CELL, cell: number): number {
    return this.drivers.reduce((sum, _, shard) => sum + this.counter(shard, key, cell), 0)
  }

  /** Hand-overs so far by reason, without zeros. */
  handovers(): Record<string, number> {
    return Object.fromEntries(
      REASONS.map((reason, cell) => [reason, this.#sum('handovers', cell)] as const).filter(([, count]) => count > 0),
    )
  }

  drops(): Record<string, number> {
    return Object.fromEntries(
      DROP_REASONS.map(([reason]) => [reason, this.#sum('drops', DROP[reason])] as const).filter(
        ([, count]) => count > 0,
      ),
    )
  }
}

/** What the ownership rule asks of a frame. */
function numbersOf(bytes: Uint8Array, ip = 14): PacketNumbers {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const l4 = ip + (view.getUint8(ip) & 15) * 4
  const protocol = view.getUint8(ip + 9)
  const common = { protocol, source: view.getUint32(ip + 12), destination: view.getUint32(ip + 16) }
  const isEmbedded = ip !== 14
  if (!isEmbedded && (view.getUint16(ip + 6) & 0x3fff) !== 0)
    return { ...common, sourcePort: 0, destinationPort: 0, fragment: view.getUint16(ip + 4) }
  if (protocol === 6 || protocol === 17)
    return { ...common, sourcePort: view.getUint16(l4), destinationPort: view.getUint16(l4 + 2) }
  if (protocol !== 1) return { ...common, sourcePort: 0, destinationPort: 0 }
  const isError = [3, 4, 5, 11, 12].includes(view.getUint8(l4))
  if (isError && !isEmbedded)
    return { ...common, sourcePort: 0, destinationPort: 0, embedded: numbersOf(bytes, l4 + 8) }
  const id = view.getUint16(l4 + 4)
  return { ...common, sourcePort: id, destinationPort: id }
}
