// `npm run bench:overload`: what a flood of ten times what a shard can carry leaves to others, in virtual time
// (overload/world.ts): one shard and two, by the kernel's dispatch and by a dispatcher's thread. For each flood how
// much of the good hosts' packets goes on, in the first 100 ms and in the 200 ms after them, and what the flood itself
// gets; beside it the same where receive rings lose by arrival. Keeps bench/results/overload.json.
//
//   npm run bench:overload [-- --flood NAME] [--shards N] [--dispatch kernel|thread] [--out FILE]

import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { attachMemory, bundle } from '../src/datapath/attach.ts'
import { describeMachine, machine } from './machine.ts'
import { FLOODS, type FloodName } from './overload/traffic.ts'
import { type AttachPlane, COSTS, type Outcome, World } from './overload/world.ts'

const FIRST_MS = 100
const LATER_MS = 200
const FLOOD_NAMES = Object.keys(FLOODS) as FloodName[]
const GATEWAYS = [
  { shards: 1, dispatch: 'kernel' },
  { shards: 2, dispatch: 'kernel' },
  { shards: 1, dispatch: 'thread' },
  { shards: 2, dispatch: 'thread' },
] as const

let instances = 0
/** Each thread's modules are its own: another query makes another module of a bundle. */
const attach: AttachPlane = async (kind, memory, settings, driver, wakers) => {
  attachMemory(memory, settings, driver)
  const plane = await import(`${bundle(kind)}?${instances++}`)
  if (kind === 'shard') plane.attachShard(memory, settings, driver, wakers)
  else plane.attachDispatcher(memory, settings, driver, wakers)
  return plane
}

interface Result {
  readonly shards: number
  readonly dispatch: 'kernel' | 'thread'
  readonly flood: FloodName | 'none'
  readonly first: Outcome
  readonly later: Outcome
  /** Where receive rings lose by arrival; rings between threads are shared in either case. */
  readonly byArrival: Outcome
  /** Of this machine, in real time. */
  readonly nanosecondsPerShed: number
}

async function measure(gateway: (typeof GATEWAYS)[number], flood: FloodName | 'none'): Promise<Result> {
  const name = flood === 'none' ? undefined : flood
  const world = await World.create({ ...gateway, attach })
  const first = world.run(FIRST_MS, name)
  const later = world.run(LATER_MS, name)
  const without = await World.create({ ...gateway, attach, shares: false })
  without.run(FIRST_MS, name)
  const byArrival = without.run(LATER_MS, name)
  return { ...gateway, flood, first, later, byArrival, nanosecondsPerShed: world.nanosecondsPerShed() }
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`.padStart(8)
const millions = (packets: number): string => (packets / 1e6).toFixed(3).padStart(7)

const { values: options } = parseArgs({
  options: {
    flood: { type: 'string' },
    shards: { type: 'string' },
    dispatch: { type: 'string' },
    out: { type: 'string', default: 'bench/results/overload.json' },
  },
})

console.log(`${describeMachine(machine())}\n`)
console.log('goodput of the others, of what they sent, and the worst of them; the flood in millions a second\n')
console.log('shards dispatch  flood             first    later    worst   by arrival   sent  carried   ns a drop')
const results: Result[] = []
for (const gateway of GATEWAYS) {
  if (options.shards !== undefined && Number(options.shards) !== gateway.shards) continue
  if (options.dispatch !== undefined && options.dispatch !== gateway.dispatch) continue
  for (const flood of ['none', ...FLOOD_NAMES] as const) {
    if (options.flood !== undefined && options.flood !== flood) continue
    const result = await measure(gateway, flood)
    results.push(result)
    const { first, later, byArrival, nanosecondsPerShed } = result
    const head = `${gateway.shards}      ${gateway.dispatch}    ${flood.padEnd(15)}`
    const shares = [first.goodput, later.goodput, later.worst, byArrival.goodput].map(percent).join(' ')
    const carried = `${millions(later.floodSent)} ${millions(later.floodCarried)}`
    console.log(`${head} ${shares}    ${carried} ${String(nanosecondsPerShed).padStart(9)}`)
  }
}
const out = fileURLToPath(new URL(`../../${options.out}`, import.meta.url))
mkdirSync(dirname(out), { recursive: true })
const command = ['npm run bench:overload', ...process.argv.slice(2)].join(' ')
const kept = { date: new Date().toISOString(), machine: machine(), command, costs: COSTS, results }
writeFileSync(out, `${JSON.stringify(kept, null, 2)}\n`)
console.log(`\nkept in ${options.out}`)
