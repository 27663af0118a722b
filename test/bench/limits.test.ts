// docs/limits.md says what was measured, and names every maximum that the configuration has.

import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { COMMON, MAXIMA } from '../../bench/limits/maxima.ts'
import { type Limits, withTable } from '../../bench/limits/table.ts'
import { loadConfig } from '../../src/control/config.ts'
import { poolSize } from '../../src/coordinator/address-range.ts'

const document = readFileSync('docs/limits.md', 'utf8')
const kept = JSON.parse(readFileSync('bench/results/limits.json', 'utf8')) as Limits

interface Schema {
  readonly maximum?: number
  readonly maxItems?: number
  readonly properties?: Readonly<Record<string, Schema>>
  /** A section that may be written in short. */
  readonly anyOf?: readonly Schema[]
}
const schema = JSON.parse(readFileSync('deploy/natloom.schema.json', 'utf8')) as Schema

/** Keys with a maximum, as paths. Ports and protocols are numbers of a packet's field, which is no limit of natloom. */
function limited(
  { properties = {}, anyOf = [], ...own }: Schema,
  path: readonly string[] = [],
): [path: string, most: number][] {
  const most = own.maximum ?? own.maxItems
  return [
    ...(most === undefined || path.includes('ports') ? [] : [[path.join('.'), most] as [string, number]]),
    ...anyOf.flatMap((part) => limited(part, path)),
    ...Object.entries(properties).flatMap(([key, part]) => limited(part, [...path, key])),
  ]
}

describe('the page about limits', () => {
  it('has the table of the figures that are kept', () => {
    expect(withTable(document, kept)).toBe(document)
  })

  it('has figures of every maximum that the bench starts', () => {
    expect(kept.limits.map(({ what }) => what)).toEqual(MAXIMA.map(({ what }) => what))
  })

  it('names every key of the configuration that has a maximum, and the maximum', () => {
    const keys = limited(schema)
    expect(keys.length).toBeGreaterThan(10)
    for (const [key, most] of keys) {
      const [section] = key.split('.')
      const line = document.split('\n').find((each) => each.includes(`\`${key}\``) || each.includes(`\`${section}.*\``))
      expect(line, key).toBeDefined()
      expect(line, key).toContain(String(most))
    }
  })
})

describe('what the bench starts', () => {
  const configurations = MAXIMA.map(
    ({ variables }) =>
      loadConfig({ env: { ...COMMON, NATLOOM_INSIDE: 'lan0', NATLOOM_OUTSIDE: 'wan0', ...variables } }).config,
  )
  const most = (of: (config: (typeof configurations)[number]) => number): number => Math.max(...configurations.map(of))

  it('are the maxima', () => {
    const maxima = new Map(limited(schema))
    expect(most(({ workers }) => workers)).toBe(maxima.get('workers'))
    expect(most(({ capacity }) => capacity.connections)).toBe(maxima.get('capacity.connections'))
    expect(most(({ capacity }) => capacity.expectations)).toBe(maxima.get('capacity.expectations'))
    expect(most(({ forward }) => forward.length)).toBe(maxima.get('forward'))
    expect(most(({ filter }) => filter.length)).toBe(maxima.get('filter'))
    expect(most(({ limits }) => limits.length)).toBe(maxima.get('limits'))
    expect(most(({ io }) => io.ringMegabytes)).toBe(maxima.get('io.ringMegabytes'))
    expect(most(({ nat }) => nat.blockSize)).toBe(maxima.get('nat.blockSize'))
    expect(most(({ nat }) => poolSize(nat.pool))).toBe(1024)
  })
})
