// `npm run bench:helpers`: a million streams of mutated sessions through the helpers, as scripts; some more through a
// shard, each compared with what its script says; and what a packet of a helped connection costs. Ends with 1 if a
// helper threw, expected a third party, rewrote what was not announced, held too much, or cost more than is wanted.
//
//   node dist/bench/helpers.js [STREAMS [STREAMS THROUGH A SHARD]]

import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { performance } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import { BUILTIN } from '../src/helpers/builtin.ts'
import { play } from '../test/helpers/dialogues.ts'
import { faultsOf, mutated, randomOf, recut } from '../test/helpers/mutations.ts'
import { numberAt } from './arguments.ts'
import { SESSIONS } from './helpers-sessions.ts'
import { describeMachine, machine } from './machine.ts'

const streams = numberAt(1, 'STREAMS', 1_000_000)
const throughShard = numberAt(2, 'STREAMS THROUGH A SHARD', 20_000, 0)
/** What a packet of a helped control connection may cost in all, in microseconds. */
const WANTED_US = 10
const MOST_SHOWN = 10

interface Fuzzed {
  readonly title: string
  readonly streams: number
  readonly expected: number
  readonly rewritten: number
  readonly faults: readonly string[]
}

const shifted = (port: number): number => (port + 10_000) % 65_536 || 1

function fuzz({ title, helper: name, session, inside }: (typeof SESSIONS)[number], count: number): Fuzzed {
  const helper = BUILTIN[name]!()
  const faults: string[] = []
  let expected = 0
  let rewritten = 0
  for (let seed = 0; seed < count; seed++) {
    const random = randomOf(seed)
    const mutant = mutated(session, random)
    const dialogue = helper.tuple.proto === 'tcp' && seed % 2 === 0 ? recut(mutant, random) : mutant
    try {
      const script = play(helper, dialogue, { inside, externalPort: shifted })
      for (const fault of faultsOf(script)) faults.push(`${title}, seed ${seed}: ${fault}`)
      expected += script.everExpected.length
      rewritten += script.edits.length
    } catch (error) {
      faults.push(`${title}, seed ${seed}: threw ${error}`)
    }
  }
  return { title, streams: count, expected, rewritten, faults }
}

const inShard = (...args: readonly (string | number)[]): string =>
  execFileSync(process.execPath, [fileURLToPath(new URL('./helpers-shard.js', import.meta.url)), ...args.map(String)], {
    encoding: 'utf8',
  })

console.log(`${describeMachine(machine())}\n`)
const began = performance.now()
const scripts = SESSIONS.map((each) => fuzz(each, Math.ceil(streams / SESSIONS.length)))
const shards = SESSIONS.map(
  ({ title }) => JSON.parse(inShard('fuzz', title, Math.ceil(throughShard / SESSIONS.length))) as Fuzzed,
)
const costs = JSON.parse(inShard('cost')) as Record<string, number>
const seconds = Math.round((performance.now() - began) / 1000)

const faults = [...scripts, ...shards].flatMap((each) => each.faults)
for (const [where, all] of [
  ['scripts', scripts],
  ['a shard', shards],
] as const)
  for (const { title, streams: count, expected, rewritten, faults: found } of all)
    console.log(
      `${title.padEnd(28)} ${where.padEnd(8)} ${count.toLocaleString('en').padStart(9)} streams, ` +
        `${expected.toLocaleString('en')} expected, ${rewritten.toLocaleString('en')} rewritten, ` +
        `${found.length} faults`,
    )
for (const fault of faults.slice(0, MOST_SHOWN)) console.log(fault)
for (const [what, cost] of Object.entries(costs))
  console.log(`${what.padEnd(28)} ${cost.toFixed(2).padStart(8)} us a packet, alone in its burst`)

const directory = fileURLToPath(new URL('../../bench/results/', import.meta.url))
mkdirSync(directory, { recursive: true })
const brief = (all: readonly Fuzzed[]) => all.map(({ faults: found, ...rest }) => ({ ...rest, faults: found.length }))
const kept = { machine: machine(), seconds, scripts: brief(scripts), shards: brief(shards), unit: 'us a packet', costs }
writeFileSync(`${directory}helpers.json`, `${JSON.stringify(kept, null, 2)}\n`)
if (faults.length > 0 || Object.values(costs).some((cost) => cost > WANTED_US)) process.exit(1)
