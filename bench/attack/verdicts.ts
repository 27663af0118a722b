// What a flood may not do to others, as conditions on the figures of a cell, and how both are told.

import type { FloodName } from '../../test/attack/floods.ts'
import type { Cell, Spell } from './cell.ts'
import type { Left } from './gateway.ts'

const LEAST_GOODPUT = 0.9
const LEAST_NEWCOMERS = 0.99

/** A cell with what was still there afterwards. */
export interface Judged extends Omit<Cell, 'over'> {
  readonly left: Left
  readonly wrong: readonly string[]
  /** Of the flows' packets, arrived during the flood for each that arrived during the control. */
  readonly goodput: number
  /** Of the others' new connections, those that got an answer. */
  readonly newcomers: number
}

export interface Verdict {
  readonly text: string
  readonly holds: boolean
  /** Flood and gateway of those that fail, with the figure. */
  readonly failing: readonly string[]
}

const goodputOf = ({ control, attack }: Pick<Cell, 'control' | 'attack'>): number => attack.arrived / control.arrived
const newcomersOf = ({ attack }: Pick<Cell, 'attack'>): number => attack.newcomers.succeeded / attack.newcomers.tried

export function judge({ over: _, ...cell }: Cell, left: Left, wrong: readonly string[]): Judged {
  return { ...cell, left, wrong, goodput: goodputOf(cell), newcomers: newcomersOf(cell) }
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`

interface Condition {
  readonly text: string
  /** The figure if it fails. */
  readonly fault: (cell: Judged) => string | undefined
}

const CONDITIONS: readonly Condition[] = [
  {
    text: `established flows keep ${percent(LEAST_GOODPUT)} of the goodput of the control`,
    fault: ({ goodput }) => (goodput >= LEAST_GOODPUT ? undefined : percent(goodput)),
  },
  {
    text: `${percent(LEAST_NEWCOMERS)} of other hosts' new connections succeed`,
    fault: ({ newcomers, attack }) =>
      newcomers >= LEAST_NEWCOMERS
        ? undefined
        : `${percent(newcomers)} of ${attack.newcomers.tried}: ${JSON.stringify(attack.newcomers.failures)}`,
  },
  {
    text: 'no shard restarts',
    fault: ({ restarts, wrong }) => (restarts === 0 && wrong.length === 0 ? undefined : [restarts, ...wrong].join()),
  },
  {
    text: 'memory stays within what the start announced',
    fault: ({ memory }) =>
      memory && memory.peak <= memory.announced ? undefined : `${memory?.peak} of ${memory?.announced} MiB`,
  },
  {
    text: 'all counts return to zero',
    fault: ({ left }) => (Object.keys(left).length === 0 ? undefined : JSON.stringify(left)),
  },
]

/** Of natloom; the kernel's figures stand beside it and are not judged. */
export function verdicts(cells: readonly Judged[]): readonly Verdict[] {
  const judged = cells.filter(({ gateway }) => gateway.startsWith('natloom'))
  return CONDITIONS.map(({ text, fault }) => {
    const failing = judged.flatMap((cell) => {
      const figure = fault(cell)
      return figure === undefined ? [] : [`${cell.flood} (${cell.gateway}): ${figure}`]
    })
    const holds = failing.length === 0
    return { text: holds ? text : `${text}; not with ${failing.join('; ')}`, holds, failing }
  })
}

const kilo = (count: number): string => (count / 1000).toFixed(1).padStart(6)
const spellText = ({ sent, seconds, offered, arrived, newcomers }: Spell): string =>
  [...[sent / seconds, offered, arrived].map(kilo), percent(newcomers.succeeded / newcomers.tried).padStart(8)].join(
    ' ',
  )

export const TITLE = [
  `${''.padEnd(36)} | closed port of the gateway     | flood                          |`,
  `${'thousands a second'.padEnd(36)} |   sent  flows arrive newcomers |   sent  flows arrive newcomers | goodput`,
].join('\n')

export function lineOf(cell: Pick<Cell, 'flood' | 'gateway' | 'control' | 'attack' | 'memory'>): string {
  const head = `${(cell.flood satisfies FloodName).padEnd(18)} ${cell.gateway.padEnd(17)}`
  const memory = cell.memory === undefined ? '' : `, ${cell.memory.peak} of ${cell.memory.announced} MiB`
  return `${head} | ${spellText(cell.control)} | ${spellText(cell.attack)} | ${percent(goodputOf(cell))}${memory}`
}
