// `npm run bench:flood`: what a flood of SYNs at a port forward leaves of the table, in virtual time: spoofed senders
// from all over, each answered by the server, while real clients of the same forward and hosts inside open connections.
// For each size of the table, share of its rows that established connections have, and round-trip time: how many of
// those connections are established in the end, and what a packet of the flood costs. One process for each, because a
// shard's tables are module-level state. Keeps bench/results/flood.json.
//
//   npm run bench:flood [-- RATE SECONDS]                     20,000 SYNs a second for 10 s
//   node dist/bench/flood.js one ROWS ESTABLISHED_SHARE RTT RATE SECONDS

import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { performance } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import { CELL } from '../src/counters/counters.ts'
import { DROP } from '../src/counters/drop-reasons.ts'
import { attachShard } from '../src/datapath/attach.ts'
import { countersOf } from '../src/datapath/shard-tables.ts'
import { BURST } from '../src/io/driver.ts'
import { frame } from '../src/testing/builder.ts'
import { parseAddress, swap32 } from '../src/wire/address.ts'
import * as checksum from '../src/wire/checksum.ts'
import * as ipv4 from '../src/wire/ipv4.ts'
import * as tcp from '../src/wire/tcp.ts'
import { describeMachine, machine } from './machine.ts'
import { BenchDriver } from './pipeline-driver.ts'
import { MACS, makeMemory, settingsOf } from './pipeline-memory.ts'

const LAN = 0
const WAN = 1
const IP = 14
const L4 = 34
const FRAME = 54
const SERVER_PORT = 80
/** Connections that real clients, and that hosts inside, open each millisecond in a thousand. */
const OPENED_A_SECOND = 200
const ROWS = [16_384, 65_536]
const SHARES = [0, 0.5, 0.9]
const ROUND_TRIPS = [20, 100, 300]

interface FloodResult {
  readonly rows: number
  readonly establishedShare: number
  readonly roundTripMs: number
  /** Of the connections that were opened during the flood, established, from 0 to 1. */
  readonly clients: number
  readonly insideHosts: number
  /** Of what was established before, still there. */
  readonly kept: number
  readonly nanosecondsPerFloodPacket: number
  /** Of what is established before: three packets each, their writing included. */
  readonly nanosecondsPerSetUp: number
  readonly tableFull: number
}

/** An endpoint's address and port as numbers; both ends of a packet. */
interface Ends {
  readonly src: number
  readonly sport: number
  readonly dst: number
  readonly dport: number
}

async function flood(rows: number, share: number, roundTripMs: number, rate: number, seconds: number) {
  const server = parseAddress('10.0.0.9')
  const forward = { protocol: ipv4.PROTO_TCP, address: null, port: SERVER_PORT, toAddress: server, toPort: SERVER_PORT }
  const settings = { ...settingsOf(rows, 0, 1), portForwards: [forward] }
  const { tables, ...common } = makeMemory(rows, 1)
  const driver = new BenchDriver(1)
  driver.frameBytes = FRAME
  const wakers = { watcher() {}, shard() {}, coordinator() {} }
  const shard = await attachShard({ tables: tables[0]!, ...common }, settings, driver, wakers)
  const counters = countersOf(tables[0]!)
  const bytes = new Uint8Array(driver.packetMemory)
  const template = frame({
    eth: { src: MACS.host, dst: MACS.lan },
    ip: { src: '10.0.0.1', dst: '192.0.2.1' },
    tcp: { sport: 1, dport: 1, flags: 'S' },
  })
  let time = 1000

  function write(i: number, port: number, { src, sport, dst, dport }: Ends, flags: number): void {
    const { mem } = driver
    const at = driver.frameAt[i]!
    bytes.set(template, at)
    mem.setUint16(at + 4, port === LAN ? 0x0101 : 0x0201)
    ipv4.setSrc(mem, at + IP, src)
    ipv4.setDst(mem, at + IP, dst)
    ipv4.writeChecksum(mem, at + IP)
    mem.setUint16(at + L4, sport)
    mem.setUint16(at + L4 + 2, dport)
    // Everybody begins with the number 0, so that whoever has sent a SYN goes on with 1.
    mem.setUint32(at + L4 + 4, flags === tcp.ACK ? 1 : 0)
    mem.setUint32(at + L4 + 8, (flags & tcp.ACK) === 0 ? 0 : 1)
    tcp.setFlags(mem, at + L4, flags)
    checksum.writeTransportChecksum(mem, at + IP)
  }

  function run(count: number, port: number): void {
    driver.ready = count
    driver.readyPort = port
    shard.turn(time)
  }

  /** True if the packet went on. */
  function say(port: number, ends: Ends, flags: number): boolean {
    const before = driver.sent
    write(0, port, ends, flags)
    run(1, port)
    return driver.sent > before
  }

  const sentFrom = (): [number, number] => [
    ipv4.src(driver.mem, driver.lastSent + IP),
    driver.mem.getUint16(driver.lastSent + L4),
  ]
  const back = ({ src, sport, dst, dport }: Ends): Ends => ({ src: dst, sport: dport, dst: src, dport: sport })

  /** A connection of an inside host to somebody outside; its ends as the outside sees them. */
  function openFromInside(id: number): { inside: Ends; outside: Ends } | undefined {
    const src = swap32(0x0a010000 | (id >> 8))
    const inside = { src, sport: 20_000 + (id & 255), dst: parseAddress('192.0.2.1'), dport: 443 }
    if (!say(LAN, inside, tcp.SYN)) return undefined
    const [src2, sport] = sentFrom()
    return { inside, outside: { ...inside, src: src2, sport } }
  }

  // What is established before, and stays.
  const established = Math.floor(rows * share)
  const begun = performance.now()
  const before: { inside: Ends; outside: Ends }[] = []
  for (let id = 0; id < established; id++) {
    const opened = openFromInside(id)!
    say(WAN, back(opened.outside), tcp.SYN | tcp.ACK)
    say(LAN, opened.inside, tcp.ACK)
    if (id % 64 === 0) before.push(opened)
  }
  const setUp = ((performance.now() - begun) * 1e6) / Math.max(1, established)

  const external = openFromInside(1 << 20)!.outside.src
  const due = new Map<number, (() => void)[]>()
  const after = (milliseconds: number, what: () => void): void => {
    const at = time + milliseconds
    const list = due.get(at)
    if (list) list.push(what)
    else due.set(at, [what])
  }
  const opened = { clients: 0, insideHosts: 0 }
  const succeeded = { clients: 0, insideHosts: 0 }

  function client(id: number): void {
    opened.clients++
    const ends = { src: swap32(0xc6336401), sport: 1024 + id, dst: external, dport: SERVER_PORT }
    if (!say(WAN, ends, tcp.SYN)) return
    const answer = { src: server, sport: SERVER_PORT, dst: ends.src, dport: ends.sport }
    if (!say(LAN, answer, tcp.SYN | tcp.ACK)) return
    after(roundTripMs, () => {
      if (say(WAN, ends, tcp.ACK) && say(LAN, answer, tcp.ACK)) succeeded.clients++
    })
  }

  function insideHost(id: number): void {
    opened.insideHosts++
    const connection = openFromInside((1 << 21) + id)
    if (!connection) return
    after(roundTripMs, () => {
      if (!say(WAN, back(connection.outside), tcp.SYN | tcp.ACK)) return
      if (say(LAN, connection.inside, tcp.ACK)) succeeded.insideHosts++
    })
  }

  const spoofed = new Int32Array(BURST)
  const spoofedPort = new Int32Array(BURST)
  let nanoseconds = 0
  let packets = 0
  let owed = 0

  function strangers(): void {
    owed += rate / 1000
    const count = Math.min(BURST, Math.floor(owed))
    owed -= count
    if (count === 0) return
    for (let i = 0; i < count; i++) {
      spoofed[i] = swap32(0x0b000000 | Math.floor(Math.random() * 2 ** 24))
      spoofedPort[i] = 1024 + Math.floor(Math.random() * 60_000)
      write(i, WAN, { src: spoofed[i]!, sport: spoofedPort[i]!, dst: external, dport: SERVER_PORT }, tcp.SYN)
    }
    let start = performance.now()
    run(count, WAN)
    nanoseconds += (performance.now() - start) * 1e6
    for (let i = 0; i < count; i++) {
      const answer = { src: server, sport: SERVER_PORT, dst: spoofed[i]!, dport: spoofedPort[i]! }
      write(i, LAN, answer, tcp.SYN | tcp.ACK)
    }
    start = performance.now()
    run(count, LAN)
    nanoseconds += (performance.now() - start) * 1e6
    packets += 2 * count
  }

  const end = time + seconds * 1000
  const every = 1000 / OPENED_A_SECOND
  for (; time < end + roundTripMs + 1; time++) {
    for (const what of due.get(time) ?? []) what()
    due.delete(time)
    strangers()
    // Not before the flood has filled the table.
    if (time > 1000 + (end - 1000) / 2 && time < end && time % every === 0) {
      client(opened.clients)
      insideHost(opened.insideHosts)
    }
  }
  const kept = before.filter(({ outside }) => say(WAN, back(outside), tcp.ACK)).length
  const result: FloodResult = {
    rows,
    establishedShare: share,
    roundTripMs,
    clients: Number((succeeded.clients / opened.clients).toFixed(4)),
    insideHosts: Number((succeeded.insideHosts / opened.insideHosts).toFixed(4)),
    kept: before.length === 0 ? 1 : kept / before.length,
    nanosecondsPerFloodPacket: Math.round(nanoseconds / packets),
    nanosecondsPerSetUp: Math.round(setUp),
    tableFull: counters[CELL.drops + DROP['table-full']]!,
  }
  console.log(JSON.stringify(result))
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`.padStart(9)

function floods(rate: number, seconds: number): void {
  const script = fileURLToPath(import.meta.url)
  console.log(`${describeMachine(machine())}\n\n${rate} SYNs a second for ${seconds} s\n`)
  console.log('   rows  established   round trip    clients  inside hosts   kept   ns a packet of the flood')
  const results: FloodResult[] = []
  for (const rows of ROWS)
    for (const share of SHARES)
      for (const roundTrip of ROUND_TRIPS) {
        const settings = ['one', rows, share, roundTrip, rate, seconds].map(String)
        const result = JSON.parse(execFileSync(process.execPath, [script, ...settings], { encoding: 'utf8' }))
        results.push(result)
        const shares = [result.clients, result.insideHosts, result.kept].map(percent).join(' ')
        const head = `${String(rows).padStart(7)} ${percent(share)} ${String(roundTrip).padStart(9)} ms`
        console.log(`${head} ${shares} ${String(result.nanosecondsPerFloodPacket).padStart(8)}`)
      }
  const directory = fileURLToPath(new URL('../../bench/results/', import.meta.url))
  mkdirSync(directory, { recursive: true })
  const command = `npm run bench:flood -- ${rate} ${seconds}`
  writeFileSync(`${directory}flood.json`, `${JSON.stringify({ machine: machine(), command, results }, null, 2)}\n`)
}

const [what, ...numbers] = process.argv.slice(2)
if (what === 'one') {
  const [rows, share, roundTrip, rate, seconds] = numbers.map(Number)
  await flood(rows!, share!, roundTrip!, rate!, seconds!)
} else floods(Number(what ?? 20_000), Number(numbers[0] ?? 10))
