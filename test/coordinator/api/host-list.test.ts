// The list of inside hosts that the API gives, from a host table as shards write it.

import { describe, expect, it } from 'vitest'
import { countedIn, HOST, HostTable, type HostWord, refusalWord } from '../../../src/conntrack/host-table.ts'
import { hostList, type ListedHost } from '../../../src/coordinator/api/host-list.ts'
import { allocate } from '../../../src/memory/region.ts'
import { parseAddress } from '../../../src/wire/address.ts'
import { quotas } from '../../datapath/host-quotas.ts'

const SECOND = 1000
const LIMITS = quotas({ connections: 100, ports: 50 }, ['10.0.0.6/32', { connections: 7 }])

const tableOf = () => allocate((region) => new HostTable(region, { hosts: 16, shards: 2 })).view
async function textOf(hosts: HostTable): Promise<string> {
  let text = ''
  for await (const piece of hostList({ hosts, settings: [{ limits: LIMITS }] }, () => SECOND)) text += piece
  return text
}
const listed = async (hosts: HostTable): Promise<ListedHost[]> => JSON.parse(await textOf(hosts))

function put(table: HostTable, row: number, shard: number, words: Partial<Record<keyof typeof HOST, number>>): void {
  for (const [name, value] of Object.entries(words))
    table.counts[table.line(row, shard) + (HOST[name as keyof typeof HOST] as HostWord)] = value
}

describe('the list of hosts', () => {
  it('is an empty array of no hosts', async () => {
    expect(await textOf(tableOf())).toBe('[]\n')
  })

  it('adds up what all shards count of a host, that with most connections first, each on a line', async () => {
    const table = tableOf()
    table.names[3] = parseAddress('10.0.0.5')
    table.names[9] = parseAddress('10.0.0.6')
    put(table, 3, 0, { connections: 2, ports: 3, expectations: 2 })
    put(table, 3, 1, { connections: 1, resting: 4, expectations: -1, edits: 6, helped: 3, fragments: 8 })
    put(table, 9, 1, { connections: 5, begunOdd: countedIn(countedIn(0, SECOND - 1), SECOND - 1) })
    put(table, 9, 0, { waiting: 9, refused: 6, lastRefusal: refusalWord(0, SECOND) })
    expect(await listed(table)).toEqual([
      {
        host: '10.0.0.6',
        connections: { used: 5, limit: 7 },
        ports: { used: 0, limit: 50 },
        newConnections: { used: 2, limit: null },
        expectations: { used: 0, limit: null },
        icmpErrors: { used: 0, limit: null },
        waitingPackets: { used: 9, limit: null },
        sequenceEdits: { used: 0, limit: null },
        helpedConnections: { used: 0, limit: null },
        fragmentRecords: { used: 0, limit: null },
        resting: 0,
        refused: 6,
      },
      {
        host: '10.0.0.5',
        connections: { used: 3, limit: 100 },
        ports: { used: 7, limit: 50 },
        newConnections: { used: 0, limit: null },
        expectations: { used: 1, limit: null },
        icmpErrors: { used: 0, limit: null },
        waitingPackets: { used: 0, limit: null },
        sequenceEdits: { used: 6, limit: null },
        helpedConnections: { used: 3, limit: null },
        fragmentRecords: { used: 8, limit: null },
        resting: 4,
        refused: 0,
      },
    ])
    expect((await textOf(table)).split('\n')).toHaveLength(5)
  })

  it('has all hosts without a row as others, if they have anything', async () => {
    const table = tableOf()
    put(table, table.others, 0, { connections: 3 })
    expect((await listed(table)).map(({ host, connections }) => [host, connections.used])).toEqual([['others', 3]])
  })

  it('comes in pieces, so that a long one blocks nobody: of hosts that are there when each is written', async () => {
    const { view: table } = allocate((region) => new HostTable(region, { hosts: 32_768, shards: 1 }))
    for (let row = 0; row < 2000; row++) {
      table.names[7 * row] = row + 1
      put(table, 7 * row, 0, { connections: 2000 - row })
    }
    const pieces: string[] = []
    for await (const piece of hostList({ hosts: table, settings: [{ limits: LIMITS }] }, () => SECOND)) {
      pieces.push(piece)
      table.names[7 * 1999] = 0
    }
    expect(pieces.length).toBeGreaterThan(3)
    const hosts: ListedHost[] = JSON.parse(pieces.join(''))
    expect(hosts.map(({ connections }) => connections.used)).toEqual(Array.from({ length: 1999 }, (_, i) => 2000 - i))
  })
})
