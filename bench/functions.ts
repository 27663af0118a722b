// `npm run bench`: what the hot path's functions cost, and the pipeline as a whole, in nanoseconds. Hash, lookup,
// filter and expectations are measured by mitata, a burst at a time, in this process; the pipeline in a process for
// each table size (pipeline.ts), because a shard's tables are module-level state. Prints a table and keeps
// bench/results/functions.json. `npm run bench -- filter` measures the filter's rules alone, `-- drops` what a drop
// adds.

import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { setFlagsFromString } from 'node:v8'
import { measure } from 'mitata'
import { OUTSIDE } from '../src/conntrack/terms.ts'
import { DROP } from '../src/counters/drop-reasons.ts'
import { DropTable } from '../src/counters/drop-table.ts'
import { attachDrops, countDropped, noteSource } from '../src/counters/drops.shard.ts'
import { INLINING } from '../src/datapath/attach.ts'
import { BURST } from '../src/io/driver.ts'
import { HashIndex } from '../src/memory/hash-index.ts'
import { allocate, bytesOf, Region, sharedMemory } from '../src/memory/region.ts'
import { attachHashKey, hash4 } from '../src/memory/siphash.ts'
import { compileRules, verdictBy } from '../src/nat/filter-rules.ts'
import { parseAddress, parsePrefix } from '../src/wire/address.ts'
import { PROTO_TCP, PROTO_UDP } from '../src/wire/ipv4.ts'
import { expectingBenches } from './expecting.ts'
import { describeMachine, machine } from './machine.ts'
import type { PipelineResult } from './pipeline-memory.ts'

const FLOWS = [1_000, 100_000, 1_000_000]
const FILTERS = [1, 10, 100, 1024]
/** What the pipeline may cost at most, in nanoseconds a packet, by the number of flows. */
const WANTED: Record<number, number> = { 1000: 60, 1000000: 110 }
/** The benches whose names begin so publish an expectation, which may cost this much at most. */
const PUBLISHING = 'expectation published'
const WANTED_OF_PUBLISHING = 2000
const RUNS = 5
/** How many lookups are drawn: more than any cache has room for, and a whole number of bursts. */
const PICKS = BURST * 16_384

for (const flag of INLINING) setFlagsFromString(flag)
attachHashKey(0x1234567, 0x7654321)

const results: Record<string, number> = {}

async function bench(name: string, packets: number, work: () => unknown): Promise<void> {
  const { p50 } = await measure(work)
  results[name] = Number((p50 / packets).toFixed(1))
}

async function benchHash(): Promise<void> {
  const words = Int32Array.from({ length: BURST }, (_, i) => Math.imul(i, 0x9e3779b1))
  await bench('hash, HalfSipHash-1-3 of a tuple', BURST, () => {
    let sink = 0
    for (let i = 0; i < BURST; i++) sink ^= hash4(words[i]!, i, 3, 4)
    return sink
  })
}

/** Both directions of every flow are in the index; a burst asks for refs at random. */
async function benchLookup(flows: number): Promise<void> {
  const cut = (region: Region): HashIndex => new HashIndex(region, flows * 2)
  const index = cut(new Region(sharedMemory(bytesOf(cut))))
  const hashes = Int32Array.from({ length: flows * 2 }, (_, i) => hash4(i, 0, 0, 0))
  for (let i = 0; i < hashes.length; i++) index.insert(hashes[i]!, i + 2)
  // Drawn beforehand, so that only the lookup is measured.
  const wanted = Int32Array.from({ length: PICKS }, () => hashes[(Math.random() * hashes.length) | 0]!)
  let next = 0
  await bench(`lookup in the index of ${flows.toLocaleString('en')} flows`, BURST, () => {
    let sink = 0
    for (let i = 0; i < BURST; i++) sink ^= index.refAt(index.first(wanted[next + i]!))
    next = (next + BURST) % PICKS
    return sink
  })
}

async function benchExpectations(): Promise<void> {
  for (const [name, work] of expectingBenches()) await bench(name, BURST, () => work(BURST))
}

/** What a new flow pays: none of the rules matches it, each by another of its words. */
async function benchFilter(rules: number): Promise<void> {
  const words = compileRules(
    Array.from({ length: rules }, (_, i) => ({
      allows: false,
      isLiberal: false,
      openedFrom: i % 5 === 0 ? OUTSIDE : null,
      related: null,
      protocol: i % 5 === 1 ? PROTO_UDP : null,
      inside: parsePrefix(i % 5 === 2 ? '10.1.0.0/16' : '0.0.0.0/0'),
      remote: parsePrefix(i % 5 === 3 ? '198.51.100.0/24' : '0.0.0.0/0'),
      ports: { from: 25, to: 25 },
    })),
  )
  const [inside, remote] = [parseAddress('10.0.0.5'), parseAddress('192.0.2.7')]
  await bench(`filter of ${rules.toLocaleString('en')} rules, a new flow`, BURST, () => {
    let allowed = 0
    for (let i = 0; i < BURST; i++) if (verdictBy(words, PROTO_TCP, inside ^ (i << 24), remote, 443)) allowed++
    return allowed
  })
}

/** What a dropped packet pays to be told apart: its interface, its reason and its source. */
async function benchDrops(): Promise<void> {
  const options = { ports: 2, workers: 2 }
  attachDrops(allocate((region) => new DropTable(region, options)).view, 0)
  const sources = {
    'of one source': () => 1,
    'of 16 sources': (i: number) => 1 + (i & 15),
    'of a flood from ever new sources': (i: number) => Math.imul(i, 0x9e3779b1) | 1,
  }
  let sent = 0
  for (const [name, of] of Object.entries(sources))
    await bench(`a drop is noted, ${name}`, BURST, () => {
      for (let i = 0; i < BURST; i++, sent = (sent + 1) | 0)
        noteSource(countDropped(1, DROP.filtered), of(sent), 0x0a000005, 0x3500_0035, PROTO_UDP)
    })
}

/** The median of several processes, because a table's pages lie elsewhere in every process. */
function benchPipeline(flows: number): PipelineResult {
  const script = fileURLToPath(new URL('./pipeline.js', import.meta.url))
  const runs = Array.from({ length: RUNS }, () => {
    const output = execFileSync(process.execPath, [script, String(flows), '2'], { encoding: 'utf8' })
    return JSON.parse(output) as PipelineResult
  })
  runs.sort((a, b) => a.nanosecondsPerPacket - b.nanosecondsPerPacket)
  return runs[RUNS >> 1]!
}

console.log(`${describeMachine(machine())}\n`)
const only = process.argv[2]
const isWanted = (part: string): boolean => only === undefined || only === part
if (isWanted('hash')) await benchHash()
for (const flows of isWanted('lookup') ? FLOWS : []) await benchLookup(flows)
if (isWanted('expectations')) await benchExpectations()
for (const rules of isWanted('filter') ? FILTERS : []) await benchFilter(rules)
if (isWanted('drops')) await benchDrops()
for (const flows of isWanted('pipeline') ? FLOWS : []) {
  const { nanosecondsPerPacket, dropped } = benchPipeline(flows)
  if (dropped > 0) throw new Error(`the pipeline dropped ${dropped} of the bench's packets`)
  results[`pipeline, established, ${flows.toLocaleString('en')} flows`] = nanosecondsPerPacket
}

const wantedOf = (name: string): string => {
  if (name.startsWith(PUBLISHING)) return `at most ${WANTED_OF_PUBLISHING}`
  const flows = FLOWS.find((count) => name === `pipeline, established, ${count.toLocaleString('en')} flows`)
  return flows && WANTED[flows] ? `at most ${WANTED[flows]}` : ''
}
for (const [name, value] of Object.entries(results))
  console.log(`${name.padEnd(60)} ${value.toFixed(1).padStart(8)} ns a packet   ${wantedOf(name)}`)

const directory = fileURLToPath(new URL('../../bench/results/', import.meta.url))
mkdirSync(directory, { recursive: true })
writeFileSync(
  `${directory}${only === undefined ? 'functions' : `functions-${only}`}.json`,
  `${JSON.stringify({ machine: machine(), unit: 'ns a packet', results }, null, 2)}\n`,
)
