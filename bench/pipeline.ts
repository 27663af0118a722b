// Times established flows through the whole pipeline, packet generation excluded: how `npm run bench` gets its
// "pipeline" lines. One process a table size, because a shard's tables are module-level state. Prints one JSON object.
//
//   node dist/bench/pipeline.js FLOWS [SECONDS]
//
// Half of the packets go out and half come back, TCP and UDP by turns, every flow equally likely. The driver writes a
// burst of fresh 64-byte frames before each timed burst and takes what is sent without looking at it.

import { performance } from 'node:perf_hooks'
import { DEFAULT_TIMEOUTS } from '../src/conntrack/timeouts.ts'
import { attachShard, countersOf, type Dataplane, type ShardSettings, tableBytes } from '../src/datapath/attach.ts'
import { BURST, type Driver } from '../src/io/driver.ts'
import { adviseHugePages } from '../src/io/huge-pages.ts'
import { CELL } from '../src/memory/counters.ts'
import { Fib, NEIGHBOUR, ROUTE } from '../src/memory/fib.ts'
import { HandoverRings, handoverFrameBytes } from '../src/memory/handover-rings.ts'
import { allocate, sharedMemory } from '../src/memory/region.ts'
import { Externals, POOL, SPACES } from '../src/nat/externals.ts'
import { DEFAULT_NAT } from '../src/nat/settings.ts'
import { parseAddress, parseMac, swap32 } from '../src/wire/address.ts'
import { frame } from '../src/wire/builder.ts'
import * as checksum from '../src/wire/checksum.ts'
import * as ipv4 from '../src/wire/ipv4.ts'
import * as tcp from '../src/wire/tcp.ts'
import * as udp from '../src/wire/udp.ts'

const LAN = 0
const WAN = 1
const STRIDE = 2112
const FRAME = 64
const IP = 14
const L4 = 34
const MACS = { lan: '02:00:00:00:01:01', wan: '02:00:00:00:02:01', host: '02:00:00:00:01:05', far: '02:00:00:00:02:fe' }

const flows = Number(process.argv[2])
const seconds = Number(process.argv[3] ?? 3)
if (!Number.isInteger(flows) || flows < 1) {
  console.error('usage: pipeline.js FLOWS [SECONDS]')
  process.exit(2)
}

/** Lists frames that the bench has written; remembers what was sent. */
class BenchDriver implements Driver {
  readonly ports = 2
  readonly scratchAt = BURST * STRIDE + 64
  readonly scratchLength = 8 << 20
  readonly sharedAt = this.scratchAt + this.scratchLength
  readonly sharedLength = handoverFrameBytes(1)
  readonly arena = sharedMemory(this.sharedAt + this.sharedLength)
  readonly mem = new DataView(this.arena)
  readonly frameAt = Int32Array.from({ length: BURST }, (_, i) => i * STRIDE + 18)
  ready = 0
  readyPort = LAN
  sent = 0
  lastSent = 0

  receive(port: number, at: Int32Array, length: Int32Array): number {
    if (port !== this.readyPort || this.ready === 0) return 0
    const count = this.ready
    for (let i = 0; i < count; i++) {
      at[i] = this.frameAt[i]!
      length[i] = FRAME
    }
    this.ready = 0
    return count
  }
  release(): void {}
  lend(): number {
    return -1
  }
  giveBack(): void {}
  reclaim(): void {}
  send(_port: number, at: number): void {
    this.sent++
    this.lastSent = at
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

const driver = new BenchDriver()
/** Enough external addresses that every flow has a port of its own. */
const PORTS = 32768
const addresses = Math.ceil(flows / 2 / PORTS) + 1
const settings: ShardSettings = {
  shard: 0,
  shards: 1,
  restarted: false,
  epoch: 1,
  ownerKey: 0x5eed,
  sides: [0, 1],
  hashKey: [0x1234567, 0x89abcdef | 0],
  connections: flows,
  externals: { capacity: addresses, blockSize: 64 },
  fib: { ports: 2, shards: 1 },
  timeouts: DEFAULT_TIMEOUTS,
  nat: { ...DEFAULT_NAT, parity: false },
  icmpErrorsPerSecond: 1000,
}

const tables = sharedMemory(tableBytes(settings))
adviseHugePages(tables)

async function startGateway(): Promise<Dataplane> {
  const fib = allocate((region) => new Fib(region, settings.fib))
  const externals = allocate((region) => new Externals(region, settings.externals))
  for (let i = 0; i < addresses; i++) {
    const entry = externals.seated.add(swap32((swap32(parseAddress('203.0.113.0')) + i) | 0), POOL)
    for (let space = 0; space < SPACES; space++)
      for (let block = 16; block < 1024; block++) externals.seated.lease(entry, space, block, 0)
  }
  const at = { type: ROUTE.unicast, gateway: 0, source: 0, mtu: 0, metric: 0 }
  const link = { up: true, mtu: 1500 }
  fib.seated.publish({
    ports: [
      { ...link, address: parseAddress('10.255.255.254'), mac: parseMac(MACS.lan) },
      { ...link, address: parseAddress('198.51.100.1'), mac: parseMac(MACS.wan) },
    ],
    routes: [
      { ...at, destination: parseAddress('10.0.0.0'), length: 8, port: LAN, gateway: parseAddress('10.255.255.253') },
      { ...at, destination: 0, length: 0, port: WAN, gateway: parseAddress('198.51.100.2') },
    ],
    neighbours: [
      { port: LAN, address: parseAddress('10.255.255.253'), state: NEIGHBOUR.resolved, mac: parseMac(MACS.host) },
      { port: WAN, address: parseAddress('198.51.100.2'), state: NEIGHBOUR.resolved, mac: parseMac(MACS.far) },
    ],
  })
  const handover = allocate((region) => new HandoverRings(region, 1))
  const memory = { tables, externals: externals.buffer, fib: fib.buffer, handover: handover.buffer }
  return attachShard(memory, settings, driver, { watcher() {}, shard() {}, coordinator() {} })
}

// Flow f: inside endpoint, remote endpoint, and the external endpoint once it is known.
const external = new Int32Array(flows)
const externalPort = new Uint16Array(flows)
const isTcp = (flow: number): boolean => (flow & 1) === 0
const insideAddress = (flow: number): number => swap32(0x0a000000 | (1 + (flow >> 5)))
const insidePort = (flow: number): number => 20000 + (flow & 31)
const remoteAddress = (flow: number): number => swap32(0xc6330000 | (flow % 251))

const templates = [true, false].map((withTcp) =>
  frame({
    eth: { src: MACS.host, dst: MACS.lan },
    ip: { src: '10.0.0.1', dst: '192.0.2.1' },
    ...(withTcp ? { tcp: { sport: 1, dport: 80, flags: 'S' } } : { udp: { sport: 1, dport: 80 } }),
    payload: new Uint8Array(withTcp ? 10 : 22),
  }),
)
const bytes = new Uint8Array(driver.arena)

/** Writes a frame of a flow into slot i, as it comes from inside or from outside. */
function write(i: number, flow: number, fromInside: boolean, flags: number): void {
  const { mem } = driver
  const at = driver.frameAt[i]!
  bytes.set(templates[isTcp(flow) ? 0 : 1]!, at)
  mem.setUint16(at + 4, fromInside ? 0x0101 : 0x0201)
  const ip = at + IP
  ipv4.setSrc(mem, ip, fromInside ? insideAddress(flow) : remoteAddress(flow))
  ipv4.setDst(mem, ip, fromInside ? remoteAddress(flow) : external[flow]!)
  ipv4.writeChecksum(mem, ip)
  mem.setUint16(at + L4, fromInside ? insidePort(flow) : 80)
  mem.setUint16(at + L4 + 2, fromInside ? 80 : externalPort[flow]!)
  if (isTcp(flow)) tcp.setFlags(mem, at + L4, flags)
  checksum.writeTransportChecksum(mem, ip)
}

let time = 1000
function runBurst(count: number, fromInside: boolean): void {
  driver.ready = count
  driver.readyPort = fromInside ? LAN : WAN
  shard.turn(time)
}

/** Opens every flow: three packets of TCP, two of UDP. */
function openFlows(): void {
  for (let flow = 0; flow < flows; flow++) {
    write(0, flow, true, tcp.SYN)
    runBurst(1, true)
    external[flow] = ipv4.src(driver.mem, driver.lastSent + IP)
    externalPort[flow] = isTcp(flow)
      ? tcp.srcPort(driver.mem, driver.lastSent + L4)
      : udp.srcPort(driver.mem, driver.lastSent + L4)
    write(0, flow, false, tcp.SYN | tcp.ACK)
    runBurst(1, false)
    if (!isTcp(flow)) continue
    write(0, flow, true, tcp.ACK)
    runBurst(1, true)
  }
}

/** Nanoseconds a packet in the median burst: a burst during which the machine did something else doesn't count. */
function measure(): number {
  const times: number[] = []
  const until = performance.now() + seconds * 1000
  let fromInside = true
  while (performance.now() < until) {
    for (let i = 0; i < BURST; i++) write(i, (Math.random() * flows) | 0, fromInside, tcp.ACK)
    time += 0.01
    const start = performance.now()
    runBurst(BURST, fromInside)
    times.push(performance.now() - start)
    fromInside = !fromInside
  }
  return ((median(times) - clockCost()) * 1e6) / BURST
}

/** Milliseconds that reading the clock adds to a measured time. */
function clockCost(): number {
  const times = Array.from({ length: 10_001 }, () => {
    const start = performance.now()
    return performance.now() - start
  })
  return median(times)
}

function median(times: number[]): number {
  times.sort((a, b) => a - b)
  return times[times.length >> 1]!
}

const shard = await startGateway()
openFlows()
time += 5000
measure()
const before = driver.sent
const perPacket = measure()
if (driver.sent === before) throw new Error('no packet went through')
const dropped = countersOf(tables)
  .subarray(CELL.drops, CELL.sendFailures)
  .reduce((sum, count) => sum + count, 0)
console.log(JSON.stringify({ flows, nanosecondsPerPacket: Number(perPacket.toFixed(1)), dropped }))
