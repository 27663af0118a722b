// What `npm run bench:limits` keeps, and the table of docs/limits.md that is written from it.

import { describeMachine, type Machine } from '../machine.ts'
import type { Turns } from './turns.ts'

/** A maximum of the configuration, started. */
export interface Limit {
  readonly what: string
  /** Medians. */
  readonly startSeconds: number
  readonly processorSeconds: number
  readonly residentMebibytes: number
  /** What the plan of memory says, once every table is full. */
  readonly plannedMebibytes: number
  readonly turns?: Turns
}

export interface Limits {
  readonly date: string
  readonly machine: Machine
  readonly commit: string
  readonly runs: number
  /** The machine's load at the end. */
  readonly load: number
  readonly limits: readonly Limit[]
}

const BEGIN = '<!-- written by npm run bench:limits -->\n'
const END = '<!-- end -->\n'

const COLUMNS = [
  'maximum',
  'start, s',
  'processor time of it, s',
  'memory then, MiB',
  'memory planned, MiB',
  'longest turn, ms',
  '99.9 % of turns within, ms',
]

const milliseconds = (value: number | undefined): string => (value === undefined ? '' : value.toFixed(2))

/** The document with the table of these results in place of the one that it has. */
export function withTable(document: string, { date, machine, commit, runs, load, limits }: Limits): string {
  const [begin, end] = [document.indexOf(BEGIN), document.indexOf(END)]
  if (begin < 0 || end < begin) throw new Error('the document has no place for the table')
  const rows = limits.map(
    ({ what, startSeconds, processorSeconds, residentMebibytes, plannedMebibytes, turns }) =>
      `| ${[
        what,
        startSeconds.toFixed(2),
        processorSeconds.toFixed(2),
        residentMebibytes,
        plannedMebibytes,
        milliseconds(turns?.longest),
        milliseconds(turns?.most),
      ].join(' | ')} |`,
  )
  const table = [
    `| ${COLUMNS.join(' | ')} |`,
    `| ${COLUMNS.map((_, i) => (i === 0 ? '---' : '---:')).join(' | ')} |`,
    ...rows,
    '',
    `${describeMachine(machine)}; commit ${commit}, ${date.slice(0, 10)}, median of ${runs} runs, load ${load}.`,
    '',
  ].join('\n')
  return `${document.slice(0, begin + BEGIN.length)}\n${table}\n${document.slice(end)}`
}
