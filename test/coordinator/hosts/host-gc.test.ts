// The garbage collection of the host table looks at a bounded number of rows at a time: the main thread also answers
// shards that ask for port blocks. Where more hosts have met a limit than there are lines in the log, each has its
// turn. What becomes of single rows: test/datapath/hosts.test.ts.

import { describe, expect, it, vi } from 'vitest'
import { HOST, HostTable, refusalWord } from '../../../src/conntrack/host-table.ts'
import { HostGc } from '../../../src/coordinator/hosts/host-gc.ts'
import { allocate } from '../../../src/memory/region.ts'
import { formatAddress } from '../../../src/wire/address.ts'

const HOSTS = 65_536
const ROWS_A_LOOK = 8192

describe('in the largest table', () => {
  it('eight looks go round all rows, and idle ones are given back in the next eight', () => {
    const { view: table } = allocate((region) => new HostTable(region, { hosts: HOSTS, shards: 2 }))
    for (let row = 0; row < HOSTS; row++) table.names[row] = row + 1
    const busy = HOSTS - 10
    table.counts[table.line(busy, 1) + HOST.connections] = 1
    let turns = 0
    const gc = new HostGc({ table, now: () => 0, turns: () => turns++, limited: () => {} })
    const isIdle = vi.spyOn(table, 'isIdle')
    for (let look = 0; look < 16; look++) {
      isIdle.mockClear()
      gc.look()
      expect(isIdle).toHaveBeenCalledTimes(ROWS_A_LOOK)
    }
    expect([...table.names.keys()].filter((row) => table.names[row] !== 0)).toEqual([busy])
  })

  it('who has met a limit is said within eight looks, others who share a row at once', () => {
    const { view: table } = allocate((region) => new HostTable(region, { hosts: HOSTS, shards: 1 }))
    const heard: string[] = []
    const gc = new HostGc({ table, now: () => 0, turns: () => 0, limited: ({ host }) => heard.push(host) })
    table.names[HOSTS - 1] = 0x0500000a
    for (const row of [HOSTS - 1, table.others]) table.counts[table.line(row, 0) + HOST.refused] = 3
    gc.look()
    expect(heard).toEqual(['others'])
    for (let look = 1; look < 8; look++) gc.look()
    expect(heard).toEqual(['others', '10.0.0.5'])
  })
})

/** More than lines. */
const MANY = 320
const LINES_A_LOOK = 4

it('names every one of 320 hosts that are refused something all the time, four a look', () => {
  const table = allocate((region) => new HostTable(region, { hosts: MANY, shards: 1 })).view
  for (let row = 0; row < MANY; row++) table.names[row] = row + 1
  const named: string[] = []
  let second = 100
  const gc = new HostGc({
    table,
    now: () => second,
    turns: () => second,
    limited: ({ host }) => named.push(host),
  })
  for (let look = 1; look <= MANY / LINES_A_LOOK; look++, second++) {
    for (let row = 0; row < MANY; row++) {
      const line = table.line(row, 0)
      // Its connections keep its row.
      table.counts[line + HOST.connections] = 1
      table.counts[line + HOST.refused]! += 1
      table.counts[line + HOST.lastRefusal] = refusalWord(0, second)
    }
    gc.look()
    expect(named).toHaveLength(look * LINES_A_LOOK)
  }
  expect(new Set(named)).toEqual(new Set(Array.from({ length: MANY }, (_, row) => formatAddress(row + 1))))
})
