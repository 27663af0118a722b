// The coordinator's garbage collection of the expectation table: it ends what is over, and repairs what a failed shard
// left. The shards are instances of the modules in this thread; #faults makes one crash at a point.

import { beforeEach, describe, expect, it, vi } from 'vitest'
import { viewConnections } from '../../../src/conntrack/connection-table.ts'
import { EXPECTATION, type ExpectationTable } from '../../../src/conntrack/expectation-table.ts'
import { ExpectationGc } from '../../../src/coordinator/expectations/expectation-gc.ts'
import { allocate } from '../../../src/memory/region.ts'
import { Externals, POOL, TCP_SPACE } from '../../../src/nat/externals.ts'
import { RESERVATION, RESERVATIONS } from '../../../src/nat/port-words.ts'
import { parseAddress, swap16 } from '../../../src/wire/address.ts'
import {
  draft,
  EXTERNAL,
  type Expecting,
  expecting,
  makeTable,
  master,
  noHosts,
  OUTSIDE_KEY,
  ports,
  SERVER,
} from '../../conntrack/expecting.ts'
import { arm, crashOf, disarm } from '../../faults/armed.ts'
import type { FaultPoint } from '../../faults/points.ts'

vi.mock('#faults', () => import('../../faults/armed.ts'))

const SHARDS = 2
const BLOCK = 300

let table: ExpectationTable
let externals: Externals
let shards: Expecting[]
let gc: ExpectationGc
let second: number
let turns: number[]
let expired: number[]
let reservations: typeof import('../../../src/nat/reservations.ts')

beforeEach(async () => {
  disarm()
  table = makeTable(64, SHARDS)
  externals = allocate((region) => new Externals(region, { capacity: 1, blockSize: 64 })).view
  externals.add(parseAddress(EXTERNAL), POOL)
  externals.lease(0, TCP_SPACE, BLOCK, 0)
  reservations = await import('../../../src/nat/reservations.ts')
  const giveBack = (at: number) => reservations.unreserveAt(externals, at)
  shards = []
  for (let shard = 0; shard < SHARDS; shard++) shards.push(await expecting(table, shard, 1, giveBack))
  second = 1000
  turns = [1, 1]
  expired = []
  gc = new ExpectationGc({
    table,
    externals,
    hosts: noHosts(),
    connections: shards.map(({ memory }) => viewConnections(memory, 8)),
    now: () => second,
    turns: (shard) => turns[shard]!,
    expired: (slot) => expired.push(slot[EXPECTATION.dstPort]!),
  })
})

const shard = (number: number): Expecting => shards[number]!
const reserve = (): number =>
  reservations.reserveFor(externals, { owner: 0, entry: 0, space: TCP_SPACE }, 5000, {
    preservePorts: false,
    parity: false,
  }) + 1
const namedPorts = (): number => externals.portWords.reduce((sum, word) => sum + (word & RESERVATIONS) / RESERVATION, 0)
const met = (by: number, port = 40000): number =>
  shard(by).claim(OUTSIDE_KEY, parseAddress(SERVER), parseAddress(EXTERNAL), ports(20, port))
const portOf = (port: number) => ({ dstPort: swap16(port), savedPort: swap16(port) })
/** Looks once more after every shard has ended some turns. */
function lookAgain(times = 1): void {
  for (let i = 0; i < times; i++) {
    turns = turns.map((ended) => ended + 1)
    gc.look()
  }
}

describe('what is over', () => {
  it('ends when its time is over, and is told of', () => {
    shard(0).expect(draft({ timeout: 30, reservation: reserve() }))
    shard(0).expect(draft({ ...portOf(40001), timeout: 31 }))
    second = 1029
    gc.look()
    expect([gc.count, namedPorts(), expired]).toEqual([2, 1, []])
    second = 1030
    gc.look()
    expect([gc.count, namedPorts(), expired]).toEqual([1, 0, [swap16(40000)]])
    expect(gc.ended).toEqual({ expired: 1, 'master-ended': 0, 'helper-gone': 0 })
  })

  it('is not, if it was announced again', () => {
    const handle = shard(0).expect(draft({ timeout: 30 }))
    shard(0).setSecond(1029)
    shard(0).expect(draft({ timeout: 30 }))
    second = 1058
    gc.look()
    expect(shard(0).isStanding(handle)).toBe(true)
  })

  it('is left to the shard that is just matching it', () => {
    const handle = shard(0).expect(draft({ timeout: 30 }))
    expect(met(1)).toBe(handle)
    second = 1030
    gc.look()
    expect(gc.count).toBe(1)
    shard(1).putBack(handle)
    gc.look()
    expect(gc.count).toBe(0)
  })

  it('ends with its master, whose shard may not have come to say so', () => {
    const { row, generation } = master(shard(1))
    shard(1).expect(draft({ masterRow: row, masterGeneration: generation, reservation: reserve() }))
    gc.look()
    expect(gc.count).toBe(1)
    shard(1).connections.connections.retire(row)
    master(shard(1))
    gc.look()
    expect([gc.count, namedPorts(), gc.ended['master-ended']]).toEqual([0, 0, 1])
  })

  it('ends with its helper; others’ children are read by none then', () => {
    shard(0).expect(draft({ helper: 1, reservation: reserve() }))
    const other = shard(0).expect(draft({ ...portOf(40001), helper: 2, childHelper: 1 }))
    const third = shard(0).expect(draft({ ...portOf(40002), helper: 2, childHelper: 3 }))
    gc.dropHelper(1)
    expect([gc.count, namedPorts()]).toEqual([2, 0])
    const children = [other, third].map((handle) => shard(0).field(handle, 'childHelper'))
    expect(children).toEqual([0, 3])
    expect(met(1, 40001)).toBe(other)
  })
})

describe('what a shard leaves that dies', () => {
  const announcing: [FaultPoint, number][] = [
    // after                            expectations in force then
    ['expectation counted, no slot', 0],
    ['slot busy, nothing in it', 0],
    ['slot written, not settled', 0],
    ['slot settled, not in force', 0],
    ['slot hung by its inside end', 0],
    ['slot pending, not listed', 1],
  ]
  for (const [point, stands] of announcing)
    it(`while it announces: ${point}`, () => {
      const reservation = reserve()
      arm(0, point)
      expect(crashOf(() => shard(0).expect(draft({ reservation })))).toBe(point)
      gc.reclaim(0)
      lookAgain(2)
      expect([gc.count, namedPorts()]).toEqual([stands, stands])
      expect(met(1) !== 0).toBe(stands === 1)
    })

  const ending: [FaultPoint, (handle: number) => unknown][] = [
    ['slot ending', (handle) => shard(0).withdraw(handle)],
    ['slot about to be freed', (handle) => shard(0).withdraw(handle)],
    ['slot free, still counted', (handle) => shard(0).withdraw(handle)],
    ['slot free, its port reserved', (handle) => shard(0).withdraw(handle)],
    ['slot free, still counted', (handle) => met(0) === handle && shard(0).consume(handle)],
    ['slot free, its port reserved', (handle) => met(0) === handle && shard(0).consume(handle)],
  ]
  for (const [point, act] of ending)
    it(`while it ends one: ${point}`, () => {
      const handle = shard(0).expect(draft({ reservation: reserve() }))
      arm(0, point)
      expect(crashOf(() => act(handle))).toBe(point)
      gc.reclaim(0)
      lookAgain(2)
      expect([gc.count, namedPorts()]).toEqual([0, 0])
    })

  for (const point of ['slot claimed', 'slot about to be freed'] as const)
    it(`while it matches one, that stands again: ${point}`, () => {
      const handle = shard(0).expect(draft({ reservation: reserve() }))
      arm(0, point)
      expect(
        crashOf(() => {
          met(1)
          shard(1).consume(handle)
        }),
      ).toBe(point)
      expect(met(0)).toBe(0)
      gc.reclaim(0)
      expect(met(0)).toBe(0)
      gc.reclaim(1)
      expect([gc.count, namedPorts()]).toEqual([1, 1])
      expect(met(0)).toBe(handle)
    })

  it('is found by its successor, which goes on with the limits of each master', async () => {
    const { row, generation } = master(shard(0))
    const common = { masterRow: row, masterGeneration: generation, maxExpected: 2 }
    const first = shard(0).expect(draft({ ...common, ...portOf(1) }))
    const second = shard(0).expect(draft({ ...common, ...portOf(2) }))
    gc.reclaim(0)
    shard(0).recoverExpectations()
    const third = shard(0).expect(draft({ ...common, ...portOf(3) }))
    expect([first, second, third].map(shard(0).isStanding)).toEqual([false, true, true])
    shard(0).endMaster(row, generation)
    expect(gc.count).toBe(0)
  })
})

describe('a reservation that no slot names', () => {
  it('is left to a shard that may be about to name it', () => {
    gc.reclaim(1)
    const reservation = reserve()
    gc.look()
    // The shard that holds the reservation has not ended its turn; the other shard has ended many.
    turns = [1, 50]
    gc.look()
    expect(namedPorts()).toBe(1)
    shard(0).expect(draft({ reservation }))
    lookAgain(3)
    expect([gc.count, namedPorts(), gc.mended.reservation]).toEqual([1, 1, 0])
  })

  it('is left as long as the slots that name the port change', () => {
    const at = reserve() - 1
    shard(0).expect(draft({ reservation: at + 1 }))
    reservations.reserveTaken(externals, at, () => true)
    gc.reclaim(1)
    gc.look()
    // A slot names the reservation that none named before, and none names the one that a slot named.
    shard(1).expect(draft({ ...portOf(40001), reservation: at + 1 }))
    const handle = met(1)
    shard(1).consume(handle)
    lookAgain(1)
    expect(namedPorts()).toBe(2)
    reservations.unreserveAt(externals, at)
    lookAgain(3)
    expect([gc.count, namedPorts(), gc.mended.reservation]).toEqual([1, 1, 0])
  })

  it('is given back if it stays so, of several as many as there are too many', () => {
    const at = reserve() - 1
    for (let i = 0; i < 3; i++) reservations.reserveTaken(externals, at, () => true)
    shard(0).expect(draft({ reservation: at + 1 }))
    gc.reclaim(1)
    gc.look()
    expect(namedPorts()).toBe(4)
    lookAgain(1)
    expect([namedPorts(), gc.mended.reservation]).toEqual([1, 3])
  })
})

it('the count is left alone while a shard changes it', () => {
  table.beginChange(0)
  table.countUp()
  gc.look()
  expect(table.count()).toBe(1)
  table.endChange(0)
  gc.look()
  expect([table.count(), gc.mended.count]).toEqual([0, 1])
})
