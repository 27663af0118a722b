// One lot of `npm run prove:fuzz`, in a process of its own: a shard's tables are module-level state, and its clock, in
// seconds of 31 bits, runs for years in a lot. Prints one JSON object.
//
//   node dist/bench/fuzz-lot.js SHARDS FILTERING FIRST COUNT    stories of the seeds from FIRST on
//
// The shards are one bundle, imported once for each of them, as threads have it (bench/fuzz.ts makes it).

import { Fuzzer, type FuzzOptions } from '../test/fuzz/fuzzer.ts'
import { parseDependence } from '../test/fuzz/settings.ts'
import { numberAt } from './arguments.ts'
import { BUNDLE } from './fuzz-bundle.ts'

/** Failing stories told in full; of each kind of fault one is enough, and a bad build fails everywhere. */
const MOST_TOLD = 5

export interface Lot {
  readonly packets: number
  readonly delivered: number
  readonly reached: Readonly<Record<string, number>>
  readonly drops: Readonly<Record<string, number>>
  readonly failures: readonly { readonly seed: number; readonly fault: string; readonly lines: readonly string[] }[]
}

let imported = 0
const options: FuzzOptions = {
  shards: numberAt(1, 'SHARDS', 1),
  filtering: parseDependence(process.argv[3]),
  load: () => import(`${BUNDLE}?${imported++}`),
}
const first = numberAt(3, 'FIRST', 1, 0)
const count = numberAt(4, 'COUNT', 1000)

const fuzzer = await Fuzzer.start(options)
const failures: Lot['failures'][number][] = []
for (let seed = first; seed < first + count; seed++) {
  const failure = fuzzer.play(seed)
  if (!failure) continue
  if (failures.length >= MOST_TOLD) break
  const alone = await Fuzzer.tell(seed, options)
  failures.push(alone ?? { ...failure, fault: `${failure.fault} (after those before it, not alone)` })
}
const { packets, delivered, reached } = fuzzer
const lot: Lot = { packets, delivered, reached, drops: fuzzer.drops(), failures }
console.log(JSON.stringify(lot))
