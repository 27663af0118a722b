// `npm run bench:wire`: natloom against the kernel's own NAT (nft masquerade), in one interleaved run. In each round
// both are measured in the same namespaces, one after the other; the order changes from round to round, so that neither
// always gets the warmer machine. There are no nft rules but their own, no neighbours set by hand, and both start with
// empty tables.
//
//   --rounds N          5 by default
//   --seconds N         of each throughput, 2 by default
//   --quick             one round of one second
//   --only NAME         kernel, natloom or bare alone
//   --bare              also a forwarder without NAT: what packet sockets alone cost on this machine (wire/bare.ts)
//   --measure TEXT      only measures whose name contains this
//   --out FILE          bench/results/wire.json by default; a run that isn't whole goes to wire.local.json

import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { Processes } from '../src/lab/world/processes.ts'
import { removeLeftovers, SERVER, Topology } from '../src/lab/world/topology.ts'
import { wholeNumber } from './arguments.ts'
import { describeMachine, machine } from './machine.ts'
import { type Summary, spread, summary } from './statistics.ts'
import { CONTENDERS, type Contender, contenderNamed, startContender } from './wire/gateways.ts'
import { type Bench, MEASURES, type Measure } from './wire/measures.ts'

const FAMILY = 'natloom-bench'
const WHOLE = 'bench/results/wire.json'
const PARTIAL = 'bench/results/wire.local.json'

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '2' },
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    bare: { type: 'boolean', default: false },
    measure: { type: 'string', default: '' },
    out: { type: 'string' },
  },
})

function contenders(): readonly Contender[] {
  if (options.only === undefined) return options.bare ? CONTENDERS : CONTENDERS.filter((kind) => kind !== 'bare')
  const only = contenderNamed(options.only)
  if (only === undefined) throw new RangeError(`--only ${options.only}: allowed are ${CONTENDERS.join(', ')}`)
  return [only]
}

type Figures = Record<string, number>
type Round = { readonly [kind in Contender]?: Figures }

/** One gateway's turn: started, measured, stopped. */
async function turn(kind: Contender, bench: Bench, measures: readonly Measure[]): Promise<Figures> {
  const { topology } = bench
  const stateFile = join(topology.directory, 'state.json')
  // natloom begins with empty tables, so the kernel does too.
  topology.gateway.exec('conntrack', '-F')
  const gateway = await startContender(kind, bench, stateFile)
  topology.lan.exec('ping', '-c', '1', '-W', '5', SERVER)
  const figures: Figures = {}
  for (const measure of measures) {
    figures[measure.name] = await Promise.race([measure.take(bench), gateway.failed])
    console.log(
      `  ${kind.padEnd(8)} ${measure.name.padEnd(44)} ${shown(figures[measure.name] as number)} ${measure.unit}`,
    )
  }
  const wrong = await gateway.stop()
  if (wrong.length > 0) throw new Error(wrong.join('\n'))
  return figures
}

const shown = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toFixed(2)).padStart(8)
const range = (of: Summary): string => `${shown(of.median)} ±${(spread(of) * 100).toFixed(0).padStart(3)}%`

const valuesOf = (rounds: readonly Round[], kind: Contender, measure: Measure): number[] =>
  rounds.flatMap((round) => round[kind]?.[measure.name] ?? [])

/** A gateway's figures divided by the kernel's of the same round, since a slower machine slows both. */
function ratios(rounds: readonly Round[], kind: Contender, measure: Measure): number[] {
  const kernel = valuesOf(rounds, 'kernel', measure)
  const others = kind === 'kernel' ? [] : valuesOf(rounds, kind, measure)
  return kernel.length === others.length ? others.map((value, round) => value / (kernel[round] as number)) : []
}

interface Row extends Pick<Measure, 'name' | 'unit' | 'better' | 'wanted'> {
  readonly figures: { readonly [kind in Contender]?: Summary }
  /** Divided by the kernel's. */
  readonly ratios: { readonly [kind in Contender]?: Summary }
}

function row(rounds: readonly Round[], kinds: readonly Contender[], measure: Measure): Row {
  const { name, unit, better, wanted } = measure
  const summarised = (of: (kind: Contender) => readonly number[]) =>
    Object.fromEntries(kinds.flatMap((kind) => (of(kind).length > 0 ? [[kind, summary(of(kind))]] : [])))
  return {
    ...{ name, unit, better, ...(wanted === undefined ? {} : { wanted }) },
    figures: summarised((kind) => valuesOf(rounds, kind, measure)),
    ratios: summarised((kind) => ratios(rounds, kind, measure)),
  }
}

const ratio = ({ median, least, most }: Summary): string =>
  `${median.toFixed(2)} (${least.toFixed(2)} to ${most.toFixed(2)})`

/** Figures of each, then ratios of each but the kernel, then what is wanted of natloom's. */
function table(rows: readonly Row[], kinds: readonly Contender[]): string[] {
  const others = kinds.filter((kind) => kind !== 'kernel')
  const cells = (head: string, unit: string, figures: readonly string[], compared: readonly string[], asked: string) =>
    [
      head.padEnd(44),
      unit.padEnd(5),
      ...figures.map((text) => text.padEnd(16)),
      ...compared.map((text) => text.padEnd(22)),
      asked,
    ]
      .join(' ')
      .trimEnd()
  return [
    cells('', '', kinds, kinds.length > 1 ? others.map((kind) => `${kind} / kernel`) : [], 'wanted of natloom'),
    ...rows.map(({ name, unit, better, wanted, figures, ratios }) => {
      const asked = wanted === undefined ? '' : `${better === 'more' ? 'at least' : 'at most'} ${wanted}`
      const compared = others.flatMap((kind) => ratios[kind] ?? []).map(ratio)
      return cells(name, unit, kinds.flatMap((kind) => figures[kind] ?? []).map(range), compared, asked)
    }),
  ]
}

async function main(): Promise<void> {
  const rounds = options.quick ? 1 : wholeNumber('--rounds', options.rounds)
  const seconds = options.quick ? 1 : wholeNumber('--seconds', options.seconds)
  const kinds = contenders()
  const measures = MEASURES.filter(({ name }) => name.includes(options.measure))
  if (measures.length === 0) throw new RangeError(`--measure ${options.measure}: no measure has that in its name`)
  const whole = !options.quick && kinds.length > 1 && measures.length === MEASURES.length
  process.env.NATLOOM_WORKERS ??= '1'

  removeLeftovers(FAMILY)
  const topology = Topology.create(FAMILY)
  const processes = new Processes()
  const bench: Bench = { topology, processes, seconds }
  const remove = () => topology.remove()
  process.once('exit', remove)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))

  const on = machine()
  console.log(`${describeMachine(on)}\n`)
  const taken: Round[] = []
  try {
    for (let round = 0; round < rounds; round++) {
      console.log(`round ${round + 1} of ${rounds}`)
      const figures: Round = {}
      for (const kind of round % 2 === 0 ? kinds : kinds.toReversed())
        Object.assign(figures, { [kind]: await turn(kind, bench, measures) })
      taken.push(figures)
    }
  } finally {
    await processes.end()
    remove()
  }

  const rows = measures.map((measure) => row(taken, kinds, measure))
  console.log(`\n${table(rows, kinds).join('\n')}`)
  console.log(
    '\nMedians; ± is half of the way from least to most. Ratios are medians of the rounds, with least and most.',
  )

  const out = options.out ?? (whole ? WHOLE : PARTIAL)
  const workers = process.env.NATLOOM_WORKERS
  const result = { date: new Date().toISOString(), machine: on, workers, rounds, seconds, summary: rows, taken }
  mkdirSync(dirname(out), { recursive: true })
  writeFileSync(out, `${JSON.stringify(result, null, 2)}\n`)
  console.log(`kept in ${out}`)
}

await main()
