// What anyone sees of a shard's connections, beside the shard that changes them.

import { beforeEach, describe, expect, it } from 'vitest'
import {
  ASSURED,
  CONN,
  CONN_WORDS,
  type ConnectionTable,
  cutConnections,
  EXPECTED,
  SEEN_REPLY,
  TCP_STATE_SHIFT,
  viewConnections,
} from '../../src/conntrack/connection-table.ts'
import { ConnectionListing } from '../../src/conntrack/listing.ts'
import { ESTABLISHED } from '../../src/conntrack/tcp-state.ts'
import { keyWord, portsWord } from '../../src/conntrack/terms.ts'
import { allocate, Region } from '../../src/memory/region.ts'
import { parseAddress, swap16 } from '../../src/wire/address.ts'

const CAPACITY = 8
const CLIENT = parseAddress('10.0.0.2')
const SERVER = parseAddress('203.0.113.2')
const GATEWAY = parseAddress('203.0.113.1')
const TCP = 6
const ICMP = 1
const NOW = 1000

let table: ConnectionTable
let listing: ConnectionListing
beforeEach(() => {
  const { buffer, view } = allocate((region) => cutConnections(region, CAPACITY))
  table = view
  listing = new ConnectionListing(viewConnections(new Region(buffer), CAPACITY))
})

const put = (row: number, word: number, value: number): void => {
  table.rows.words[row * CONN_WORDS + word] = value
}

/** A row whose fields are written, as its owner does before commit(). */
function begun(state: number, ports: number, replyPorts: number): number {
  const row = table.rows.begin()
  for (const [word, value] of [
    [CONN.origSrc, CLIENT],
    [CONN.origDst, SERVER],
    [CONN.origPorts, ports],
    [CONN.replySrc, SERVER],
    [CONN.replyDst, GATEWAY],
    [CONN.replyPorts, replyPorts],
    [CONN.state, state],
    [CONN.lastSeen, NOW - 10],
    [CONN.timeout, 300],
    [CONN.packets, 3],
    [CONN.bytes, 120],
  ] as const)
    put(row, word, value)
  return row
}

const tcp = () =>
  begun(
    keyWord(TCP, 0) | (ESTABLISHED << TCP_STATE_SHIFT) | SEEN_REPLY | ASSURED,
    portsWord(5000, 80),
    portsWord(80, 40000),
  )

describe('a listed connection', () => {
  it('has both tuples, its state and flags, counts, time left and mapping', () => {
    const row = tcp()
    put(row, CONN.packetsReply, 2)
    put(row, CONN.bytesReply, 80)
    table.cold.mapping[row] = 5
    table.rows.commit(row)
    expect(listing.at(row, NOW)).toEqual({
      row,
      protocol: TCP,
      origin: 0,
      tcpState: 'ESTABLISHED',
      icmpType: 0,
      seenReply: true,
      assured: true,
      timeout: 290,
      mapping: 5,
      helper: 0,
      expected: false,
      master: { shard: 0, row: 0, generation: 0 },
      original: { source: CLIENT, destination: SERVER, sourcePort: 5000, destinationPort: 80, packets: 3, bytes: 120 },
      reply: { source: SERVER, destination: GATEWAY, sourcePort: 80, destinationPort: 40000, packets: 2, bytes: 80 },
    })
  })

  it('of an ICMP query has its type, and the identifier of either direction at both ends', () => {
    const row = begun(keyWord(ICMP, 0), swap16(77) | (8 << 16), 8 | (swap16(20000) << 16))
    table.rows.commit(row)
    expect(listing.at(row, NOW)).toMatchObject({
      icmpType: 8,
      tcpState: 'NONE',
      original: { sourcePort: 77, destinationPort: 77 },
      reply: { sourcePort: 20000, destinationPort: 20000 },
    })
  })

  it('that was expected says whose it is, and which helper reads it', () => {
    const row = tcp()
    put(row, CONN.state, keyWord(TCP, 1) | EXPECTED)
    table.cold.helper[row] = 3
    table.cold.masterShard[row] = 2
    table.cold.masterRow[row] = 7
    table.cold.masterGeneration[row] = 40
    table.rows.commit(row)
    expect(listing.at(row, NOW)).toMatchObject({
      helper: 3,
      expected: true,
      master: { shard: 2, row: 7, generation: 40 },
    })
  })

  it('is found by its generation as a master, until it has ended', () => {
    const row = tcp()
    table.rows.commit(row)
    const generation = table.rows.words[row * CONN_WORDS + CONN.generation]!
    const tuple = { protocol: TCP, source: CLIENT, destination: SERVER, ports: portsWord(5000, 80) }
    expect(listing.originalOf(row, generation)).toEqual(tuple)
    expect(listing.originalOf(row, generation - 2)).toBeUndefined()
    expect(listing.originalOf(CAPACITY + 1, 0)).toBeUndefined()
    table.rows.retire(row)
    expect(listing.originalOf(row, generation)).toBeUndefined()
  })

  it('counts beyond 32 bits', () => {
    const row = tcp()
    put(row, CONN.bytes, -1)
    table.cold.byteWraps[row] = 1
    table.cold.packetWrapsReply[row] = 2
    table.rows.commit(row)
    const { original, reply } = listing.at(row, NOW) ?? {}
    expect([original?.bytes, reply?.packets]).toEqual([2 ** 33 - 1, 2 ** 33])
  })
})

describe('not listed is', () => {
  it('a row that was never used', () => {
    expect(listing.rows).toBe(CAPACITY)
    for (let row = 1; row <= CAPACITY; row++) expect(listing.at(row, NOW)).toBeUndefined()
  })

  it('a row that its owner is still writing', () => {
    const row = tcp()
    expect(listing.at(row, NOW)).toBeUndefined()
    table.rows.commit(row)
    expect(listing.at(row, NOW)).toBeDefined()
  })

  it('a row that was retired', () => {
    const row = tcp()
    table.rows.commit(row)
    table.rows.retire(row)
    expect(listing.at(row, NOW)).toBeUndefined()
  })

  it('what has expired, though no sweep has come by', () => {
    const row = tcp()
    table.rows.commit(row)
    expect(listing.at(row, NOW + 289)).toMatchObject({ timeout: 1 })
    expect(listing.at(row, NOW + 290)).toBeUndefined()
  })
})

describe('a row that changes hands while it is read', () => {
  /** Calls `then` between the reading of a row's fields and the second look at its generation. */
  function disturbed(then: () => void): ConnectionListing {
    const view = viewConnections(new Region(table.rows.words.buffer as SharedArrayBuffer), CAPACITY)
    let armed = true
    const column = new Proxy(view.cold.mapping, {
      get(target, name) {
        if (armed) {
          armed = false
          then()
        }
        return Reflect.get(target, name)
      },
    })
    return new ConnectionListing({ words: view.words, cold: { ...view.cold, mapping: column } })
  }

  it('is listed as what it is afterwards', () => {
    const row = tcp()
    table.rows.commit(row)
    const seen = disturbed(() => {
      table.rows.retire(row)
      expect(begun(keyWord(17, 1), portsWord(1, 2), portsWord(2, 1))).toBe(row)
      table.rows.commit(row)
    }).at(row, NOW)
    expect(seen).toMatchObject({ protocol: 17, origin: 1, original: { sourcePort: 1, destinationPort: 2 } })
  })

  it('is not listed if it is gone afterwards', () => {
    const row = tcp()
    table.rows.commit(row)
    expect(disturbed(() => table.rows.retire(row)).at(row, NOW)).toBeUndefined()
  })
})
