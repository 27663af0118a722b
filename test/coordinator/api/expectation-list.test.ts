// The expectations in force as the API lists them.

import { beforeEach, describe, expect, it } from 'vitest'
import {
  ANY_SOURCE,
  deadlineWord,
  EXPECTATION,
  ExpectationTable,
  PERMANENT,
  STATE,
  unheld,
  WIDTH,
} from '../../../src/conntrack/expectation-table.ts'
import { keyWord, portsWord } from '../../../src/conntrack/terms.ts'
import { type Expectation, expectationList } from '../../../src/coordinator/api/expectation-list.ts'
import type { LoadedHelper } from '../../../src/coordinator/helpers/helper-manager.ts'
import { allocate } from '../../../src/memory/region.ts'
import { Externals, SHARED, TCP_SPACE } from '../../../src/nat/externals.ts'
import { parseAddress, parsePrefix, swap16 } from '../../../src/wire/address.ts'

const TCP = 6
const SECOND = 100
const GATEWAY = parseAddress('203.0.113.1')

const helper = (id: number, name: string, ...classes: string[]): LoadedHelper => ({
  id,
  name,
  module: name,
  protocol: 'tcp',
  ports: [],
  servers: [],
  options: {},
  onFailure: 'reset',
  classes: classes.map((name) => ({ name, maxExpected: 1, timeoutSeconds: 300 })),
  state: 'in force',
})
const HELPERS = [helper(1, 'ftp', 'default'), helper(2, 'sip', 'signalling', 'audio')]

let table: ExpectationTable
let externals: Externals
beforeEach(() => {
  table = allocate((region) => new ExpectationTable(region, { capacity: 16, shards: 4 })).view
  externals = allocate((region) => new Externals(region, { capacity: 2, blockSize: 64 })).view
  externals.lease(externals.add(GATEWAY, SHARED), TCP_SPACE, 40_000 >> 6, 3)
})

type Fields = Partial<Record<keyof typeof EXPECTATION, number>>

/** Fills a slot as a shard does that publishes an expectation. */
function publish(slot: number, fields: Fields = {}, state: number = STATE.pending, left = 297): void {
  const all: Fields = {
    key: keyWord(TCP, 1),
    src: parseAddress('192.0.2.7'),
    srcMask: -1,
    dst: GATEWAY,
    dstPort: swap16(40_000),
    savedAddress: parseAddress('10.0.0.5'),
    savedPort: swap16(5001),
    helper: 1,
    deadline: deadlineWord(SECOND + left, 1),
    masterShard: 1,
    masterRow: 7,
    masterSrc: parseAddress('10.0.0.5'),
    masterDst: parseAddress('192.0.2.7'),
    masterPorts: portsWord(5000, 21),
    masterKey: keyWord(TCP, 0),
    reservation: 1,
    ...fields,
  }
  for (const [field, value] of Object.entries(all) as [keyof typeof EXPECTATION, number][])
    table.fields[slot * WIDTH + EXPECTATION[field]] = value
  table.settle(slot, unheld(state, 1))
}

async function text(): Promise<string> {
  const sources = { memory: { expectations: table, externals }, helpers: HELPERS, clock: () => SECOND }
  let pieces = ''
  for await (const piece of expectationList(sources)) pieces += piece
  return pieces
}
const listed = async (): Promise<Expectation[]> => JSON.parse(await text())

describe('the list of expectations', () => {
  it('is an empty array while there are none', async () => expect(await text()).toBe('[]\n'))

  it('has one a line', async () => {
    publish(3)
    publish(40, { dstPort: swap16(40_001) })
    expect((await text()).split('\n')).toHaveLength(5)
    expect((await listed()).map(({ destinationPort }) => destinationPort)).toEqual([40_000, 40_001])
  })

  it('says whence and where to, as announced, by whom, and which shard will have it', async () => {
    publish(3)
    expect(await listed()).toEqual([
      {
        handle: 3 | (1 << 16),
        protocol: TCP,
        origin: 'outside',
        timeout: 297,
        source: '192.0.2.7',
        sourcePort: 0,
        destination: '203.0.113.1',
        destinationPort: 40_000,
        announced: { address: '10.0.0.5', port: 5001 },
        owner: 3,
        helper: 'ftp',
        permanent: false,
        inactive: false,
        reserved: true,
        master: {
          shard: 1,
          row: 7,
          original: { source: '10.0.0.5', destination: '192.0.2.7', sourcePort: 5000, destinationPort: 21 },
        },
      },
    ])
  })

  it('names classes, the helper of the child, prefixes, and flags', async () => {
    const { address, mask } = parsePrefix('192.0.2.128/25')
    publish(0, { helper: 2, class: 1, childHelper: 1, src: address, srcMask: mask, flags: PERMANENT }, STATE.inactive)
    publish(1, { srcMask: 0, flags: ANY_SOURCE, srcPort: swap16(20) })
    const [first, second] = await listed()
    expect(first).toMatchObject({ helper: 'sip', class: 'audio', childHelper: 'ftp', source: '192.0.2.128/25' })
    expect(first).toMatchObject({ permanent: true, inactive: true })
    expect(second).toMatchObject({ source: '0.0.0.0/0', sourcePort: 20, permanent: false })
  })

  it('has no owner where that depends on who sends', async () => {
    publish(0, { key: keyWord(TCP, 0), dst: parseAddress('192.0.2.7'), dstPort: swap16(30_000), reservation: 0 })
    publish(1, { dstPort: swap16(21) })
    expect((await listed()).map(({ origin, owner }) => [origin, owner])).toEqual([
      ['inside', null],
      ['outside', null],
    ])
  })

  it('has nothing of what is being made, is over, or waited too long', async () => {
    for (const [slot, state] of [STATE.free, STATE.busy, STATE.settling, STATE.ending].entries())
      publish(slot, {}, state)
    publish(8, {}, STATE.pending, 0)
    expect(await text()).toBe('[]\n')
    publish(9, {}, STATE.claimed)
    expect(await listed()).toHaveLength(1)
  })
})
