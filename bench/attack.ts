// `npm run bench:attack`: floods through natloom, with one shard and with two, and through the kernel's nft masquerade
// beside it. Each flood is ten times as many packets as the table has rows; what others have and get meanwhile is held
// against what they have while the same packets go to a closed port of the gateway's host. Prints and keeps a table and
// a verdict for each condition, and ends with 1 if natloom fails one.
//
//   --flood NAME         only these; may be given again
//   --shards N           0 (the kernel), 1 or 2 alone; may be given again
//   --rows N             rows of natloom's table, 4096 by default
//   --rate N             packets of the flood a second, 20000 by default
//   --times N            how many times the rows, 10 by default
//   --out FILE           bench/results/attack.json by default; what it has of other floods is kept

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { parseArgs } from 'node:util'
import { removeLeftovers } from '../src/lab/world/topology.ts'
import { FLOOD_NAMES, type FloodName, floodNamed } from '../test/attack/floods.ts'
import { wholeNumber } from './arguments.ts'
import { type Cell, type CellOptions, takeCell } from './attack/cell.ts'
import { type Judged, judge, lineOf, TITLE, verdicts } from './attack/verdicts.ts'
import { describeMachine, machine } from './machine.ts'
import { revisionAt } from './other-build.ts'

const FAMILY = 'natloom-attack'
const EXPECTATIONS = 256
const FLOW_RATE = 20_000
const KINDS = [1, 2, 0]
/** Networks that are there at once: each waits until all of its flood is over, while the next floods run. */
const MOST_WAITING = 12

const { values: options } = parseArgs({
  options: {
    flood: { type: 'string', multiple: true, default: [] },
    shards: { type: 'string', multiple: true, default: [] },
    rows: { type: 'string', default: '4096' },
    rate: { type: 'string', default: '20000' },
    times: { type: 'string', default: '10' },
    out: { type: 'string', default: 'bench/results/attack.json' },
  },
})

function chosenFloods(): readonly FloodName[] {
  const chosen = options.flood.map((name) => {
    const flood = floodNamed(name)
    if (flood === undefined) throw new RangeError(`--flood ${name}: allowed are ${FLOOD_NAMES.join(', ')}`)
    return flood.name
  })
  return chosen.length > 0 ? chosen : FLOOD_NAMES
}

interface Kept extends Judged {
  readonly commit: string
}

/** What an earlier run has kept of floods and gateways that this one hasn't. */
function earlier(judged: readonly Judged[]): readonly Kept[] {
  if (!existsSync(options.out)) return []
  const { cells } = JSON.parse(readFileSync(options.out, 'utf8')) as { cells: readonly Kept[] }
  return cells.filter((kept) => !judged.some(({ flood, gateway }) => flood === kept.flood && gateway === kept.gateway))
}

async function settled(cell: Cell): Promise<Judged> {
  const { left, wrong } = await cell.over
  return judge(cell, left, wrong)
}

async function main(): Promise<void> {
  const floods = chosenFloods()
  const shards = options.shards.length > 0 ? options.shards.map((text) => wholeNumber('--shards', text, 0)) : KINDS
  const common: Omit<CellOptions, 'flood' | 'shards'> = {
    rows: wholeNumber('--rows', options.rows, 1024),
    rate: wholeNumber('--rate', options.rate),
    times: wholeNumber('--times', options.times),
    expectations: EXPECTATIONS,
    flowRate: FLOW_RATE,
  }
  const families = floods.flatMap((flood) => shards.map((each) => `${FAMILY}-${flood}-${each}`))
  families.forEach(removeLeftovers)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))

  const on = machine()
  console.log(`${describeMachine(on)}\n\n${TITLE}`)
  const waiting: Promise<Judged>[] = []
  for (const flood of floods)
    for (const each of shards) {
      if (waiting.length >= MOST_WAITING) await waiting[waiting.length - MOST_WAITING]
      const cell = await takeCell(`${FAMILY}-${flood}-${each}`, { ...common, flood, shards: each })
      console.log(lineOf(cell))
      waiting.push(settled(cell))
    }
  const judged = await Promise.all(waiting)

  const { commit } = revisionAt('.')
  const cells: Kept[] = [...earlier(judged), ...judged.map((cell) => ({ ...cell, commit }))]
  cells.sort((a, b) => FLOOD_NAMES.indexOf(a.flood) - FLOOD_NAMES.indexOf(b.flood))
  const command = `npm run bench:attack -- ${process.argv.slice(2).join(' ')}`.trim()
  const result = { date: new Date().toISOString(), machine: on, command, ...common, verdicts: verdicts(cells), cells }
  mkdirSync(dirname(options.out), { recursive: true })
  writeFileSync(options.out, `${JSON.stringify(result, null, 2)}\n`)

  const said = verdicts(judged)
  console.log(`\n${said.map(({ holds, text }) => `${holds ? 'holds ' : 'FAILS '} ${text}`).join('\n')}`)
  console.log(`kept in ${options.out}`)
  if (said.some(({ holds }) => !holds)) process.exitCode = 1
}

await main()
