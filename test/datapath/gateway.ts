// A gateway for tests: one shard over the loopback driver, with a LAN at port 0 and an outside at port 1, in a time
// that the test tells. A shard's tables are module-level constants, so every gateway gets modules of its own.
// Packets in by inside() and outside(), packets out by what they return.
//
//   10.0.0.0/24 -- lan, 10.0.0.1 -- gateway -- 203.0.113.1, wan -- 203.0.113.0/24 -- 203.0.113.254 -- everything else

import { vi } from 'vitest'
import { DEFAULT_TIMEOUTS } from '../../src/conntrack/timeouts.ts'
import {
  countersOf,
  type Dataplane,
  type ShardMemory,
  type ShardSettings,
  tableBytes,
} from '../../src/datapath/attach.ts'
import { LoopbackDriver } from '../../src/io/loopback.ts'
import { CELL } from '../../src/memory/counters.ts'
import { DROP, DROP_REASONS, type DropReason } from '../../src/memory/drop-reasons.ts'
import { Fib, type FibNeighbour, type FibPort, type FibRoute, NEIGHBOUR, ROUTE } from '../../src/memory/fib.ts'
import { allocate, sharedMemory } from '../../src/memory/region.ts'
import { Externals, POOL, SHARED, SPACES } from '../../src/nat/externals.ts'
import { DEFAULT_NAT, type NatSettings } from '../../src/nat/settings.ts'
import { parseAddress, parseMac } from '../../src/wire/address.ts'
import { type FrameSpec, frame } from '../../src/wire/builder.ts'
import { print } from '../../src/wire/printer.ts'

export const MAC = {
  lan: '02:00:00:00:01:01',
  wan: '02:00:00:00:02:01',
  host: '02:00:00:00:01:05',
  server: '02:00:00:00:02:fe',
} as const

export const HOST = '10.0.0.5'
export const SERVER = '192.0.2.7'
export const EXTERNAL = '203.0.113.1'
export const LAN_ADDRESS = '10.0.0.1'
const LAN = 0
const WAN = 1

export interface GatewayOptions {
  readonly nat?: Partial<NatSettings>
  readonly connections?: number
  /** Addresses that natloom has to itself; without any it shares the interface's own. */
  readonly pool?: readonly string[]
  /** NAT's ports on the address, inclusive; whole blocks. */
  readonly ports?: readonly [first: number, last: number]
  readonly wanMtu?: number
  readonly lanMtu?: number
  /** Neighbours that don't answer yet. */
  readonly silent?: readonly string[]
  readonly routes?: readonly FibRoute[]
  readonly icmpErrorsPerSecond?: number
}

const route = (destination: string, length: number, extra: Partial<FibRoute> = {}): FibRoute => ({
  destination: parseAddress(destination),
  length,
  type: ROUTE.unicast,
  port: LAN,
  gateway: 0,
  source: 0,
  mtu: 0,
  metric: 0,
  ...extra,
})

const neighbour = (port: number, address: string, mac: string): FibNeighbour => ({
  port,
  address: parseAddress(address),
  state: NEIGHBOUR.resolved,
  mac: parseMac(mac),
})

export class Gateway {
  readonly driver = new LoopbackDriver({ ports: 2, slots: 64, scratchBytes: 8 << 20 })
  readonly externals: Externals
  readonly settings: ShardSettings
  readonly tables: SharedArrayBuffer
  readonly #fib: Fib
  readonly #options: GatewayOptions
  readonly #memory: ShardMemory
  #shard!: Dataplane
  #now = 1000
  /** How often the shard has told the watcher that it asks for a neighbour. */
  wakes = 0

  static async start(options: GatewayOptions = {}): Promise<Gateway> {
    const gateway = new Gateway(options)
    vi.resetModules()
    const { attachShard } = await import('../../src/datapath/attach.ts')
    gateway.#shard = await attachShard(gateway.#memory, gateway.settings, gateway.driver, () => gateway.wakes++)
    gateway.#shard.turn(gateway.#now)
    return gateway
  }

  private constructor(options: GatewayOptions) {
    this.#options = options
    const settings: ShardSettings = {
      shard: 0,
      sides: [0, 1],
      hashKey: [0x03020100, 0x07060504],
      connections: options.connections ?? 1024,
      externals: { capacity: 4, blockSize: 64 },
      fib: { ports: 2, shards: 1 },
      timeouts: DEFAULT_TIMEOUTS,
      nat: { ...DEFAULT_NAT, ...options.nat },
      icmpErrorsPerSecond: options.icmpErrorsPerSecond ?? 1000,
    }
    const fib = allocate((region) => new Fib(region, settings.fib))
    const externals = allocate((region) => new Externals(region, settings.externals))
    this.#fib = fib.seated
    this.externals = externals.seated
    for (const address of options.pool ?? []) this.addExternal(address, POOL)
    if (!options.pool) this.addExternal(EXTERNAL, SHARED)
    this.publish()
    this.settings = settings
    this.tables = sharedMemory(tableBytes(settings))
    this.#memory = { tables: this.tables, externals: externals.buffer, fib: fib.buffer }
  }

  addExternal(address: string, kind: typeof SHARED | typeof POOL): number {
    const entry = this.externals.add(parseAddress(address), kind)
    const [first, last] = this.#options.ports ?? [16384, 60991]
    for (let space = 0; space < SPACES; space++)
      for (let block = Math.floor(first / 64); block <= Math.floor(last / 64); block++)
        this.externals.lease(entry, space, block, 0)
    return entry
  }

  /** Publishes routes and neighbours; with `answering` those that have answered since. */
  publish(answering: readonly string[] = [], failing: readonly string[] = []): void {
    const { silent = [], pool = [], wanMtu = 1500, lanMtu = 1500, routes = [] } = this.#options
    const port = (address: string, mac: string, mtu: number): FibPort => ({
      up: true,
      mtu,
      address: parseAddress(address),
      mac: parseMac(mac),
    })
    const local = { type: ROUTE.local, port: -1, metric: -1 }
    const known = [
      neighbour(LAN, HOST, MAC.host),
      neighbour(LAN, '10.0.0.6', '02:00:00:00:01:06'),
      neighbour(WAN, '203.0.113.254', MAC.server),
      neighbour(WAN, '203.0.113.9', '02:00:00:00:02:09'),
    ]
    const isSilent = (at: FibNeighbour) =>
      silent.some((address) => parseAddress(address) === at.address && !answering.includes(address))
    this.#fib.publish({
      ports: [port(LAN_ADDRESS, MAC.lan, lanMtu), port(EXTERNAL, MAC.wan, wanMtu)],
      routes: [
        route('10.0.0.0', 24),
        route('203.0.113.0', 24, { port: WAN }),
        route('0.0.0.0', 0, { port: WAN, gateway: parseAddress('203.0.113.254') }),
        route('172.16.0.0', 16, { port: -1 }),
        route(LAN_ADDRESS, 32, local),
        route(EXTERNAL, 32, local),
        route('10.0.0.255', 32, { ...local, type: ROUTE.broadcast }),
        ...pool.map((address) => route(address, 32, local)),
        ...routes,
      ],
      neighbours: [
        ...known.filter((at) => !isSilent(at)),
        ...failing.map((address) => ({
          port: WAN,
          address: parseAddress(address),
          state: NEIGHBOUR.failed,
          mac: new Uint8Array(6),
        })),
      ],
    })
  }

  /** Neighbours that the shard has asked for since the last time. */
  requests(): string[] {
    const asked: string[] = []
    this.#fib.takeRequests((_, address) => asked.push([0, 8, 16, 24].map((bit) => (address >>> bit) & 255).join('.')))
    return asked
  }

  /** A packet from the LAN; what left by the outside port. */
  inside(spec: FrameSpec | Uint8Array, virtio?: Uint8Array): Uint8Array[] {
    this.#inject(LAN, spec, { src: MAC.host, dst: MAC.lan }, virtio)
    return this.driver.takeSent(WAN)
  }

  /** A packet from outside; what left by the LAN port. */
  outside(spec: FrameSpec | Uint8Array, virtio?: Uint8Array): Uint8Array[] {
    this.#inject(WAN, spec, { src: MAC.server, dst: MAC.wan }, virtio)
    return this.driver.takeSent(LAN)
  }

  /** What went back to the LAN (answers to the sender) since the last time. */
  toLan(): Uint8Array[] {
    return this.driver.takeSent(LAN)
  }

  toWan(): Uint8Array[] {
    return this.driver.takeSent(WAN)
  }

  #inject(port: number, spec: FrameSpec | Uint8Array, eth: { src: string; dst: string }, virtio?: Uint8Array): void {
    const bytes = spec instanceof Uint8Array ? spec : frame({ eth, ...spec })
    if (!this.driver.inject(port, bytes, virtio)) throw new Error('the loopback ring is full')
    this.#shard.turn(this.#now)
  }

  /** Time goes by, in steps that let the shard's housekeeping run. */
  pass(seconds: number): void {
    const until = this.#now + seconds * 1000
    while (this.#now < until) {
      this.#now = Math.min(until, this.#now + Math.max(60, (seconds * 1000) / 64))
      this.#shard.turn(this.#now)
    }
  }

  /** Drops counted so far, by reason, without zeros. */
  drops(): Partial<Record<DropReason, number>> {
    const counters = countersOf(this.tables)
    const counted: Partial<Record<DropReason, number>> = {}
    for (const [reason] of DROP_REASONS) {
      const count = counters[CELL.drops + DROP[reason]]!
      if (count > 0) counted[reason] = count
    }
    return counted
  }

  counter(key: keyof typeof CELL, cell = 0): number {
    return countersOf(this.tables)[CELL[key] + cell]!
  }
}

/** Frames as tcpdump would print them. */
export const printed = (frames: readonly Uint8Array[]): string[] =>
  frames.map((bytes) => print(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0, bytes.length))
