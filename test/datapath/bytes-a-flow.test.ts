// What a million flows take of a shard's tables: each has a connection, a mapping of its own and a permission of its
// own. By the functions that cut the tables, so that nothing is summed up that isn't allocated.

import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { CONN_WORDS, cutConnections, viewConnections } from '../../src/conntrack/connection-table.ts'
import { cutMappings, MAPPING_WORDS } from '../../src/conntrack/mapping-table.ts'
import { cutPermissions, PERMISSION_WORDS } from '../../src/conntrack/permission-table.ts'
import { WINDOW_WORDS } from '../../src/conntrack/tcp-window-table.ts'
import { counterBlock } from '../../src/counters/counters.ts'
import { cutGone } from '../../src/datapath/helped/gone-table.ts'
import { tableBytes } from '../../src/datapath/shard-tables.ts'
import { cutEvents } from '../../src/memory/event-ring.ts'
import { HashIndex } from '../../src/memory/hash-index.ts'
import { bytesOf, type Region } from '../../src/memory/region.ts'
import { cutSequences } from '../../src/nat/sequence-table.ts'

const MOST = 320
const README = new URL('../../bench/README.md', import.meta.url)

/** Bytes of each part of a table of so many flows, for each of them. */
function partsOf(flows: number): Record<string, number> {
  const a = (cut: (region: Region) => unknown): number => bytesOf(cut) / flows
  const words = (count: number): number => 4 * count
  const index = (entries: number): number => a((region) => new HashIndex(region, entries))
  const row = words(CONN_WORDS)
  return {
    'connection: row': row,
    'connection: windows of TCP, place in a queue': words(WINDOW_WORDS),
    'connection: cold columns': Math.round(a((region) => viewConnections(region, flows)) - row),
    'connection: index': index(2 * flows),
    'mapping: row': words(MAPPING_WORDS),
    'mapping: index': index(2 * flows),
    'permission: row': words(PERMISSION_WORDS),
    'permission: index': index(flows),
    'side tables: sequence edits, what went on last': a(cutSides(flows)),
  }
}

const cutSides =
  (flows: number) =>
  (region: Region): void => {
    cutSequences(region, flows)
    cutGone(region, flows)
  }

const sumOf = (parts: Record<string, number>): number => Object.values(parts).reduce((sum, part) => sum + part, 0)

describe('a flow', () => {
  for (const flows of [2 ** 20, 1_000_000]) {
    it(`takes ${MOST} bytes at most, of ${flows} with a mapping and a permission each`, () => {
      expect(sumOf(partsOf(flows))).toBeLessThanOrEqual(MOST)
    })

    it(`takes no more than those parts of a shard's tables, of ${flows}`, () => {
      const fixed = bytesOf(counterBlock) + bytesOf(cutEvents)
      const all = (tableBytes({ connections: flows, mappings: flows }) - fixed) / flows
      // Row 0 of each table, and the rest of a cache line.
      expect(all - sumOf(partsOf(flows))).toBeLessThan(0.01)
      const whole = [cutConnections, cutMappings, cutPermissions].map((cut) => bytesOf((region) => cut(region, flows)))
      const sides = bytesOf(cutSides(flows))
      expect(tableBytes({ connections: flows, mappings: flows })).toBe(
        fixed + sides + whole.reduce((sum, bytes) => sum + bytes, 0),
      )
    })
  }

  it('takes what the table in the README of the benches says', () => {
    const parts = partsOf(2 ** 20)
    const table = { ...parts, 'all together': sumOf(parts) }
    const lines = Object.entries(table).map(([part, bytes]) => `| ${part} | ${Math.round(bytes * 10) / 10} |`)
    expect(readFileSync(README, 'utf8')).toContain(`\n${lines.join('\n')}\n`)
  })

  it('takes less where NAT has fewer ports than a shard has connections: those of one address by default', () => {
    const fixed = bytesOf(counterBlock) + bytesOf(cutEvents)
    const bytes = (tableBytes({ connections: 2 ** 20, mappings: 133_824 }) - fixed) / 2 ** 20
    expect(Math.round(bytes)).toBe(259)
    expect(readFileSync(README, 'utf8')).toContain('a million connections take 259 bytes each')
  })
})
