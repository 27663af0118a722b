// The list of what was dropped that the API gives, from a drop table as workers write it.

import { beforeEach, describe, expect, it } from 'vitest'
import { portsWord } from '../../../src/conntrack/terms.ts'
import { dropList, type ListedDrops, MOST_SOURCES } from '../../../src/coordinator/api/drop-list.ts'
import { DROP } from '../../../src/counters/drop-reasons.ts'
import { DropTable } from '../../../src/counters/drop-table.ts'
import { attachDrops, countDropped, noteSource } from '../../../src/counters/drops.shard.ts'
import { setClock } from '../../../src/memory/clock.ts'
import { allocate } from '../../../src/memory/region.ts'
import { parseAddress } from '../../../src/wire/address.ts'

const LINKS = { interfaces: ['lan0', 'wan0'], sides: [0, 1] } as const
const [TCP, ICMP] = [6, 1]

let table: DropTable
beforeEach(() => {
  table = allocate((region) => new DropTable(region, { ports: 2, workers: 3 })).view
})

const text = (second: number) => dropList({ drops: table, ...LINKS }, second)
const listed = (second: number): ListedDrops[] => JSON.parse(text(second))

interface Dropped {
  readonly worker: number
  readonly port: number
  readonly from: string
  readonly protocol?: number
  readonly times?: number
  readonly second?: number
}
function drop({ worker, port, from, protocol = TCP, times = 1, second = 100 }: Dropped): void {
  attachDrops(table, worker)
  setClock(second * 1000)
  for (let i = 0; i < times; i++) {
    const of = countDropped(port, DROP.filtered)
    noteSource(of, parseAddress(from), parseAddress('203.0.113.1'), portsWord(4000 + worker, 80), protocol)
  }
}

describe('the list of drops', () => {
  it('is an empty array if nothing was dropped', () => {
    expect(text(100)).toBe('[]\n')
  })

  it('adds up what all workers have dropped, that with most first, each interface and reason on a line', () => {
    drop({ worker: 0, port: 1, from: '192.0.2.7', times: 2 })
    drop({ worker: 2, port: 1, from: '192.0.2.7', times: 3, second: 90 })
    drop({ worker: 1, port: 1, from: '192.0.2.8', protocol: ICMP })
    drop({ worker: 1, port: 0, from: '10.0.0.5' })
    countDropped(0, DROP['ip-checksum'])
    const last = { secondsAgo: 5, protocol: TCP, destination: '203.0.113.1', destinationPort: 80 }
    const lines = listed(105)
    expect(lines.map(({ interface: name, side, reason, packets }) => [name, side, reason, packets])).toEqual([
      ['wan0', 'outside', 'filtered', 6],
      ['lan0', 'inside', 'ip-checksum', 1],
      ['lan0', 'inside', 'filtered', 1],
    ])
    expect(lines[0]!.text).toContain('to a mapping whose inside end has not talked to the sender')
    expect(lines.map(({ sources }) => sources)).toEqual([
      [
        { source: '192.0.2.7', recent: 5, last: { ...last, sourcePort: 4000 } },
        { source: '192.0.2.8', recent: 1, last: { ...last, protocol: ICMP, sourcePort: null, destinationPort: null } },
      ],
      [],
      [{ source: '10.0.0.5', recent: 1, last: { ...last, sourcePort: 4001 } }],
    ])
    expect(text(105).split('\n')).toHaveLength(6)
  })

  it('has so many sources of each, those with most', () => {
    for (let i = 1; i <= 14; i++) drop({ worker: i % 3, port: 1, from: `192.0.2.${i}`, times: i })
    const [{ sources }] = listed(100) as [ListedDrops]
    expect(sources).toHaveLength(MOST_SOURCES)
    expect(sources.map(({ recent }) => recent)).toEqual([14, 13, 12, 11, 10, 9, 8, 7, 6, 5])
  })

  it('leaves out sources of long ago, but not what they have sent', () => {
    drop({ worker: 0, port: 1, from: '192.0.2.7', times: 5 })
    expect(listed(100 + 180)).toMatchObject([{ packets: 5, sources: [] }])
  })
})
