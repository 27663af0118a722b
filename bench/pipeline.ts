// Times established flows through the whole pipeline, packet generation excluded; `npm run bench` shows it as
// "pipeline". One process for each table size, because a shard's tables are module-level state. Prints one JSON object.
// bench/contention.ts runs it as one of several shards, in a process of its own or in a thread on common memory.
//
//   node dist/bench/pipeline.js FLOWS [SECONDS [SHARD SHARDS]]
//
// Half of the packets go out and half come back, TCP and UDP by turns, every flow equally likely. The driver writes a
// burst of fresh 64-byte frames before each timed burst and takes what is sent without looking at it. Each TCP segment
// has ten bytes that are new, and acknowledges all that came from the other side, so that the windows move.
//
// Before that all flows but a few are opened, one at a time, which is timed too: of TCP the three packets of a
// handshake, of UDP a packet and its answer.

import { performance } from 'node:perf_hooks'
import { parentPort, workerData } from 'node:worker_threads'
import { CELL } from '../src/counters/counters.ts'
import { attachShard } from '../src/datapath/attach.ts'
import type { Dataplane } from '../src/datapath/shard-contract.ts'
import { countersOf } from '../src/datapath/shard-tables.ts'
import { BURST } from '../src/io/driver.ts'
import { frame } from '../src/testing/builder.ts'
import { swap32 } from '../src/wire/address.ts'
import * as checksum from '../src/wire/checksum.ts'
import * as ipv4 from '../src/wire/ipv4.ts'
import * as tcp from '../src/wire/tcp.ts'
import * as udp from '../src/wire/udp.ts'
import { BenchDriver } from './pipeline-driver.ts'
import {
  type BenchMemory,
  insideAddressOf,
  insidePortOf,
  isTcpId,
  MACS,
  makeMemory,
  ownedBy,
  type PipelineResult,
  type SetUp,
  settingsOf,
} from './pipeline-memory.ts'

const LAN = 0
const WAN = 1
const IP = 14
const L4 = 34

const argument = (i: number, otherwise: number): number => Number(process.argv[i] ?? otherwise)
const flows = argument(2, 0)
const seconds = argument(3, 3)
/** Which of how many shards this is. */
const own = argument(4, 0)
const shards = argument(5, 1)
if (!Number.isInteger(flows) || flows < 1) {
  console.error('usage: pipeline.js FLOWS [SECONDS [SHARD SHARDS]]')
  process.exit(2)
}

const driver = new BenchDriver(shards)
const settings = settingsOf(flows, own, shards)
const memory = (workerData as BenchMemory | null) ?? makeMemory(flows, shards)

const startGateway = (): Promise<Dataplane> => {
  const { tables, ...common } = memory
  return attachShard({ tables: tables[own]!, ...common }, settings, driver, {
    watcher() {},
    shard() {},
    coordinator() {},
  })
}

/** Flow f of this bench is the f-th that this shard owns. */
const ids = ownedBy(own, memory, settings, flows)

// Flow f: inside endpoint, remote endpoint, and the external endpoint once it is known.
const external = new Int32Array(flows)
const externalPort = new Uint16Array(flows)
/** The sequence number that each side of a TCP flow sends next: inside, outside. */
const nextSeq = [new Int32Array(flows), new Int32Array(flows)] as const
const isTcp = (flow: number): boolean => isTcpId(ids[flow]!)
const insideAddress = (flow: number): number => insideAddressOf(ids[flow]!)
const insidePort = (flow: number): number => insidePortOf(ids[flow]!)
const remoteAddress = (flow: number): number => swap32(0xc6330000 | (flow % 251))

const TCP_DATA = 10
const templates = [true, false].map((withTcp) =>
  frame({
    eth: { src: MACS.host, dst: MACS.lan },
    ip: { src: '10.0.0.1', dst: '192.0.2.1' },
    ...(withTcp ? { tcp: { sport: 1, dport: 80, flags: 'S' } } : { udp: { sport: 1, dport: 80 } }),
    payload: new Uint8Array(withTcp ? TCP_DATA : 22),
  }),
)
const bytes = new Uint8Array(driver.packetMemory)

/** Writes a frame of a flow into slot i, as it comes from inside or from outside. */
function write(i: number, flow: number, fromInside: boolean, flags: number): void {
  const { mem } = driver
  const at = driver.frameAt[i]!
  bytes.set(templates[isTcp(flow) ? 0 : 1]!, at)
  mem.setUint16(at + 4, fromInside ? 0x0101 : 0x0201)
  const ip = at + IP
  ipv4.setSrc(mem, ip, fromInside ? insideAddress(flow) : remoteAddress(flow))
  ipv4.setDst(mem, ip, fromInside ? remoteAddress(flow) : external[flow]!)
  if (isTcp(flow)) number(at, flow, fromInside ? 0 : 1, flags)
  ipv4.writeChecksum(mem, ip)
  mem.setUint16(at + L4, fromInside ? insidePort(flow) : 80)
  mem.setUint16(at + L4 + 2, fromInside ? 80 : externalPort[flow]!)
  checksum.writeTransportChecksum(mem, ip)
}

/** Flags and numbers of a flow's next segment from this side. A SYN carries no data, and its frame is padded. */
function number(at: number, flow: number, side: 0 | 1, flags: number): void {
  const { mem } = driver
  const isSyn = (flags & tcp.SYN) !== 0
  tcp.setFlags(mem, at + L4, flags)
  tcp.setSeq(mem, at + L4, nextSeq[side][flow]!)
  tcp.setAck(mem, at + L4, (flags & tcp.ACK) !== 0 ? nextSeq[1 - side]![flow]! : 0)
  nextSeq[side][flow]! += isSyn ? 1 : TCP_DATA
  if (isSyn) ipv4.setTotalLength(mem, at + IP, L4 - IP + tcp.MIN_HEADER_LEN)
}

let time = 1000
function runBurst(count: number, fromInside: boolean): void {
  driver.ready = count
  driver.readyPort = fromInside ? LAN : WAN
  shard.turn(time)
}

/** The same with one packet; milliseconds. */
function timedTurn(fromInside: boolean): number {
  const start = performance.now()
  runBurst(1, fromInside)
  return performance.now() - start
}

/**
 * Opens flows: three packets of TCP, two of UDP. V8 compiles for the packets that it has seen. No gateway sees only
 * first packets in its first seconds, so the caller opens a few flows and uses them before it opens the rest.
 */
function openFlows(from: number, end: number): SetUp {
  const took: Record<'tcp' | 'udp', number[]> = { tcp: [], udp: [] }
  for (let flow = from; flow < end; flow++) {
    write(0, flow, true, tcp.SYN)
    let milliseconds = timedTurn(true)
    external[flow] = ipv4.src(driver.mem, driver.lastSent + IP)
    externalPort[flow] = isTcp(flow)
      ? tcp.srcPort(driver.mem, driver.lastSent + L4)
      : udp.srcPort(driver.mem, driver.lastSent + L4)
    write(0, flow, false, tcp.SYN | tcp.ACK)
    milliseconds += timedTurn(false)
    if (isTcp(flow)) {
      write(0, flow, true, tcp.ACK)
      milliseconds += timedTurn(true)
    }
    took[isTcp(flow) ? 'tcp' : 'udp'].push(milliseconds)
  }
  const each = (times: number[], packets: number): number =>
    times.length === 0 ? 0 : Math.round((median(times) - packets * clockCost()) * 1e6)
  return { tcp: each(took.tcp, 3), udp: each(took.udp, 2) }
}

/** Nanoseconds a packet in the median burst, so that bursts in which the machine did something else don't count. */
function measure(among: number, milliseconds: number): number {
  const times: number[] = []
  const until = performance.now() + milliseconds
  let fromInside = true
  while (performance.now() < until) {
    for (let i = 0; i < BURST; i++) write(i, (Math.random() * among) | 0, fromInside, tcp.ACK)
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
const few = Math.min(flows, 256)
openFlows(0, few)
measure(few, 500)
const nanosecondsToOpen = openFlows(few, flows)
time += 5000
measure(flows, seconds * 1000)
const before = driver.sent
const perPacket = measure(flows, seconds * 1000)
if (driver.sent === before) throw new Error('no packet went through')
const dropped = countersOf(memory.tables[own]!)
  .subarray(CELL.drops, CELL.sendFailures)
  .reduce((sum, count) => sum + count, 0)
const nanosecondsPerPacket = Number(perPacket.toFixed(1))
const result: PipelineResult = { flows, nanosecondsPerPacket, nanosecondsToOpen, dropped }
if (parentPort) parentPort.postMessage(result)
else console.log(JSON.stringify(result))
