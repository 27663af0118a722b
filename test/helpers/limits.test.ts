// The table of limits in src/helpers/README.md says what they are, and names metrics and labels that there are.

import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { BUCKET } from '../../src/conntrack/expectation-table.ts'
import { schema } from '../../src/control/schema.ts'
import { METRICS } from '../../src/counters/counters.ts'
import * as helped from '../../src/datapath/helped/limits.ts'
import { MOST_CLASSES, MOST_HELPERS } from '../../src/helpers/declaration.ts'
import { MOST_EDITS } from '../../src/nat/sequence-table.ts'

const text = readFileSync(new URL('../../src/helpers/README.md', import.meta.url), 'utf8')
const section = text.slice(text.indexOf('## Limits'), text.indexOf('## Your own'))
const rows = new Map(
  section
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => line.split('|').map((cell) => cell.trim()))
    .map(([, name, is, what]) => [name!.replaceAll('`', ''), { is: is!, what: what! }]),
)
const { expectations } = schema.parse({ inside: ['a'], outside: ['b'] }).capacity

const LIMITS = { ...helped, MOST_EDITS, MOST_HELPERS, MOST_CLASSES, BUCKET, 'capacity.expectations': expectations }

it('has a row for each limit, with its number', () => {
  expect([...rows.keys()].toSorted()).toEqual([...Object.keys(LIMITS), 'maxExpected'].toSorted())
  for (const [name, value] of Object.entries(LIMITS)) expect(rows.get(name)?.is, name).toMatch(new RegExp(`^${value} `))
})

it('names metrics and labels that there are', () => {
  const named = [...section.matchAll(/`(natloom_\w+?)(?:\{(\w+)(?:="([\w-]+)")?\})?`/g)]
  expect(named.length).toBeGreaterThan(10)
  for (const [whole, name, label, value] of named) {
    const metric = Object.values(METRICS).find((each) => each.name === name)
    expect(metric, whole).toBeDefined()
    if (label === undefined) continue
    const values = metric!.cells.map((labels) => (labels as Record<string, string>)[label])
    expect(values, whole).toContain(value ?? values.find((each) => each !== undefined))
  }
})
