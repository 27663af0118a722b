// How long the turns of one shard take, with a configuration that is told by variables: a process of its own, since a
// shard's tables are module-level state. Prints one JSON object (Turns).
//
//   node dist/bench/limits/turns.js [TURNS]
//
// Each turn brings 64 first packets from as many inside hosts, TCP and UDP by turns, spread over all external
// addresses. In every fourth turn the coordinator has moved a block to another shard or back, and in every hundredth an
// address of the pool has gone, to come back twenty turns later. Then time goes on until
// everything has expired, with two milliseconds from turn to turn. Measured is the thread's processor time, so that
// what else the machine does doesn't count. The first turns, in which V8 compiles, are told apart, and the shard's
// tables are written to before: the system clears new memory two megabytes at a time, which takes milliseconds of
// somebody's turn here, with any configuration.

import { keyWord, portsWord } from '../../src/conntrack/terms.ts'
import { loadConfig } from '../../src/control/config.ts'
import { poolAddresses } from '../../src/coordinator/address-range.ts'
import { ExternalAddresses, POOL_PORTS } from '../../src/coordinator/leases/external-addresses.ts'
import { allocateMemory } from '../../src/coordinator/memory.ts'
import { CELL } from '../../src/counters/counters.ts'
import { attachShard } from '../../src/datapath/attach.ts'
import { handoverFrameBytes } from '../../src/datapath/handover/handover-rings.ts'
import { BURST, type Driver } from '../../src/io/driver.ts'
import { threadCpuTime } from '../../src/io/syscalls.ts'
import { sharedMemory } from '../../src/memory/region.ts'
import { POOL, SPACES, wholeBlocks } from '../../src/nat/externals.ts'
import { NO_RULES, ownerOfFlow } from '../../src/ownership/ownership-rule.ts'
import { NEIGHBOUR, ROUTE } from '../../src/routing/fib.ts'
import { frame } from '../../src/testing/builder.ts'
import { type Addr, parseAddress, parseMac, swap32 } from '../../src/wire/address.ts'
import * as checksum from '../../src/wire/checksum.ts'
import * as ipv4 from '../../src/wire/ipv4.ts'
import { numberAt } from '../arguments.ts'
import { MACS } from '../pipeline-memory.ts'
import { COMMON } from './maxima.ts'

/** Milliseconds. */
export interface Turns {
  readonly turns: number
  /** The first, which makes what a shard has before any packet. */
  readonly first: number
  /** Of all but the first: those that were measured while V8 compiled are left out. */
  readonly longest: number
  /** Nine hundred and ninety-nine of a thousand took no longer. */
  readonly most: number
  /** Connections that there were at once, and external addresses that they had. */
  readonly connections: number
  readonly addresses: number
  /** Blocks that were moved meanwhile. */
  readonly moved: number
  /** Addresses of the pool that went and came back. */
  readonly went: number
}

const LAN = 0
const WAN = 1
const STRIDE = 2112
const FRAME = 64
const IP = 14
const L4 = 34
const SHARED_ADDRESS = parseAddress('203.0.113.1')
/** Turns in which V8 compiles. */
const COMPILING = 400
/** An address goes every so many turns, for so many. */
const ADDRESS_EVERY = 100
const ADDRESS_AWAY = 20

const turns = numberAt(1, 'TURNS', 4000)
const { config } = loadConfig({
  env: { ...COMMON, NATLOOM_INSIDE: 'lan0', NATLOOM_OUTSIDE: 'wan0', ...process.env },
})
const memory = allocateMemory(config)
const settings = memory.settings[0]!
const { externals } = memory
const shards = config.workers
const pool = poolAddresses(config.nat.pool)

const addresses = new ExternalAddresses({
  externals,
  ports: config.nat.ports,
  portForwards: settings.portForwards,
  shards,
  pool,
  followSockets() {},
  hide() {},
  changed() {},
  announce() {},
})
addresses.follow(SHARED_ADDRESS)
publishRoutes()

function publishRoutes(): void {
  const at = { type: ROUTE.unicast, gateway: 0, source: 0, mtu: 0, metric: 0 }
  const link = { up: true, mtu: 1500 }
  const [host, far] = [parseAddress('10.255.255.253'), parseAddress('192.0.2.254')]
  memory.fib.view.publish({
    ports: [
      { ...link, address: parseAddress('10.255.255.254'), mac: parseMac(MACS.lan) },
      { ...link, address: SHARED_ADDRESS, mac: parseMac(MACS.wan) },
    ],
    routes: [
      { ...at, destination: parseAddress('10.0.0.0'), length: 8, port: LAN, gateway: host },
      { ...at, destination: 0, length: 0, port: WAN, gateway: far },
    ],
    neighbours: [
      { port: LAN, address: host, state: NEIGHBOUR.resolved, mac: parseMac(MACS.host) },
      { port: WAN, address: far, state: NEIGHBOUR.resolved, mac: parseMac(MACS.far) },
    ],
  })
}

/** Lists a burst of frames that this bench has written, and sees where from packets are sent. */
class BenchDriver implements Driver {
  readonly ports = 2
  /** None that could fill: it is never found full. */
  readonly receiveSlots = 0
  readonly scratchAt = BURST * STRIDE + 64
  readonly scratchLength = 8 << 20
  readonly sharedAt = this.scratchAt + this.scratchLength
  readonly sharedLength = handoverFrameBytes(shards)
  readonly packetMemory = sharedMemory(this.sharedAt + this.sharedLength)
  readonly mem = new DataView(this.packetMemory)
  readonly frameAt = Int32Array.from({ length: BURST }, (_, i) => i * STRIDE + 18)
  readonly sources = new Set<number>()
  ready = 0

  receive(port: number, at: Int32Array, length: Int32Array): number {
    if (port !== LAN || this.ready === 0) return 0
    for (let i = 0; i < this.ready; i++) {
      at[i] = this.frameAt[i]!
      length[i] = FRAME
    }
    const count = this.ready
    this.ready = 0
    return count
  }
  holds(): boolean {
    return false
  }
  release(): void {}
  lend(): number {
    return -1
  }
  giveBack(): void {}
  reclaim(): void {}
  send(_port: number, at: number): void {
    this.sources.add(ipv4.src(this.mem, at + IP))
  }
  flush(): void {}
  wait(): void {}
  sendFailures(): number {
    return 0
  }
  receiveLosses(): number {
    return 0
  }
  close(): void {}
}

new Int32Array(memory.shards[0]!.tables).fill(0)
const driver = new BenchDriver()
const wakers = { watcher() {}, shard() {}, coordinator() {} }
const shard = await attachShard(memory.shards[0]!, settings, driver, wakers)

const bytes = new Uint8Array(driver.packetMemory)
const templates = [true, false].map((withTcp) =>
  frame({
    eth: { src: MACS.host, dst: MACS.lan },
    ip: { src: '10.0.0.1', dst: '192.0.2.1' },
    ...(withTcp ? { tcp: { sport: 1, dport: 80, flags: 'S' } } : { udp: { sport: 1, dport: 80 } }),
    payload: new Uint8Array(withTcp ? 10 : 22),
  }),
)
const leases = { shards, key: settings.ownerKey, externals }
const SPREAD = 0x9e3779b1
let flow = 0

/** A first packet of the next flow that is this shard's. */
function write(i: number): void {
  const { mem } = driver
  const at = driver.frameAt[i]!
  for (;;) {
    flow++
    const isTcp = (flow & 1) === 0
    const inside = swap32(0x0a000000 | (Math.imul(flow, SPREAD) >>> 10))
    const port = 20_000 + (flow % 40_000)
    const key = keyWord(isTcp ? 6 : 17, LAN)
    if (ownerOfFlow(key, inside, 0, portsWord(port, 80), { leases, rules: NO_RULES }) !== 0) continue
    bytes.set(templates[isTcp ? 0 : 1]!, at)
    ipv4.setSrc(mem, at + IP, inside)
    ipv4.writeChecksum(mem, at + IP)
    mem.setUint16(at + L4, port)
    checksum.writeTransportChecksum(mem, at + IP)
    return
  }
}

/** The address of the pool that is away. */
let away: Addr = 0
const poolBlocks = wholeBlocks(POOL_PORTS, externals.blockSize)

/** The coordinator takes a block from a shard for the next one, or back. */
let moved = 0
function moveBlock(turn: number): void {
  const entry = turn % Math.max(1, addresses.count)
  const space = turn % SPACES
  const first = Math.ceil(20_000 / externals.blockSize)
  const block = first + (turn % Math.floor(20_000 / externals.blockSize))
  const lessee = externals.ownerOfBlock(entry, space, block)
  if (lessee < 0 || !externals.takeBack(entry, space, block)) return
  externals.lease(entry, space, block, (lessee + 1) % shards)
  moved++
}

/** Of a pool an address goes, and comes back later with all of its blocks. */
let went = 0
function moveAddress(turn: number): void {
  if (pool.length === 0 || turn % ADDRESS_EVERY > ADDRESS_AWAY || turn < ADDRESS_EVERY) return
  const entry = Math.floor(turn / ADDRESS_EVERY) % pool.length
  if (turn % ADDRESS_EVERY === 0) {
    away = externals.addressOf(entry)
    externals.remove(entry)
    went++
  } else if (turn % ADDRESS_EVERY === ADDRESS_AWAY) {
    externals.add(away, POOL)
    for (let space = 0; space < SPACES; space++) externals.leaseAll(entry, space, poolBlocks, (block) => block % shards)
  }
}

let time = 1000
function timed(received: number): number {
  driver.ready = received
  const began = threadCpuTime()
  shard.turn(time)
  return threadCpuTime() - began
}

const first = timed(0)
const times: number[] = []
const full = memory.counters[0]!
const connections = (): number => [0, 1, 2, 3].reduce((sum, cell) => sum + full[CELL.connections + cell]!, 0)
let atOnce = 0
for (let turn = 0; turn < turns; turn++) {
  for (let i = 0; i < BURST; i++) write(i)
  if (turn % 4 === 0) moveBlock(turn)
  moveAddress(turn)
  time += 1
  const took = timed(BURST)
  if (turn >= COMPILING) times.push(took)
  atOnce = Math.max(atOnce, connections())
}
for (let end = time + 400_000; time < end; time += time < end - 100_000 ? 97 : 2) times.push(timed(0))

times.sort((a, b) => a - b)
const result: Turns = {
  turns: times.length,
  first,
  longest: times.at(-1)!,
  most: times[Math.floor(times.length * 0.999)]!,
  connections: atOnce,
  addresses: driver.sources.size,
  moved,
  went,
}
console.log(JSON.stringify(result))
