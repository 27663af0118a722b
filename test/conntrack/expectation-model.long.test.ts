// The expectation table against a list of objects that does the same in the plainest way: random announcements,
// packets, withdrawals, refreshes and ends by two shards in one thread. After each step both have the same
// expectations.

import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import {
  EXPECTATION,
  type ExpectationTable,
  INACTIVE,
  PERMANENT,
  WIDTH,
} from '../../src/conntrack/expectation-table.ts'
import type { ExpectRefusal } from '../../src/counters/expect-refusals.ts'
import { draft, type Expecting, expecting, makeTable, master, OUTSIDE_KEY, ports } from './expecting.ts'

/** As many as a bucket has slots, so that none is ever full. */
const LIMIT = 8
const CAPACITY = 64
const MAX_EXPECTED = [1, 3] as const
const SOURCES = [1, 2] as const
const DESTINATION = 9

interface Announcing {
  readonly do: 'announce'
  readonly shard: number
  readonly master: number
  readonly class: 0 | 1
  readonly src: number
  readonly srcMask: number
  readonly srcPort: number
  readonly port: number
  readonly saved: number
  readonly flags: number
  readonly timeout: number
}
type Step =
  | Announcing
  | { do: 'packet'; shard: number; src: number; srcPort: number; port: number; isIts: boolean }
  | { do: 'withdraw' | 'activate' | 'deactivate'; which: number }
  | { do: 'end'; shard: number; master: number }
  | { do: 'wait'; seconds: number }

const one = <Name extends string>(name: Name) => fc.constant(name)
const shardNumber = fc.nat(1)
const step = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      ...{ do: one('announce'), shard: shardNumber, master: fc.nat(2), class: fc.constantFrom(0 as const, 1 as const) },
      ...{ src: fc.constantFrom(...SOURCES), srcMask: fc.constantFrom(-1, -1, 0), srcPort: fc.constantFrom(0, 0, 5) },
      ...{ port: fc.integer({ min: 1, max: 4 }), saved: fc.nat(1), timeout: fc.constantFrom(2, 5, 60) },
      flags: fc.constantFrom(0, 0, 0, PERMANENT, INACTIVE),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      ...{ do: one('packet'), shard: shardNumber, src: fc.constantFrom(...SOURCES), srcPort: fc.constantFrom(5, 6) },
      ...{ port: fc.integer({ min: 1, max: 4 }), isIts: fc.boolean() },
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('withdraw', 'activate', 'deactivate'), which: fc.nat(20) }) },
  { weight: 1, arbitrary: fc.record({ do: one('end'), shard: shardNumber, master: fc.nat(2) }) },
  { weight: 1, arbitrary: fc.record({ do: one('wait'), seconds: fc.constantFrom(1, 3) }) },
) as fc.Arbitrary<Step>

interface Expected {
  readonly said: Announcing
  readonly handle: number
  active: boolean
  deadline: number
}

let table: ExpectationTable
let shards: Expecting[]
let masters: { row: number; generation: number }[][]
/** Newest last. */
let model: Expected[]
let second = 1000

const isSameMaster = (a: Announcing, b: Announcing): boolean => a.shard === b.shard && a.master === b.master
const isSameTuple = (a: Announcing, b: Announcing): boolean =>
  a.src === b.src && a.srcMask === b.srcMask && a.srcPort === b.srcPort && a.port === b.port && a.class === b.class
const isSameContent = (a: Announcing, b: Announcing): boolean =>
  a.saved === b.saved && (a.flags & PERMANENT) === (b.flags & PERMANENT)
type Sources = Pick<Announcing, 'src' | 'srcMask' | 'srcPort' | 'port'>
const meet = (a: Sources, b: Sources): boolean =>
  a.port === b.port &&
  (a.srcPort === 0 || b.srcPort === 0 || a.srcPort === b.srcPort) &&
  (a.srcMask === 0 || b.srcMask === 0 || a.src === b.src)

/** The reason of a refusal, or nothing; the model is as it is to be then, but for the new one. */
function announceInModel(said: Announcing): { refused?: ExpectRefusal; again?: Expected } {
  const before = model.find((other) => isSameMaster(other.said, said) && isSameTuple(other.said, said))
  if (before && isSameContent(before.said, said)) {
    before.deadline = second + said.timeout
    before.active = (said.flags & INACTIVE) === 0
    // Refreshed ones are the master's newest no more than they were.
    return { again: before }
  }
  if (before) model = model.filter((other) => other !== before)
  if (model.some((other) => !isSameMaster(other.said, said) && meet(other.said, said))) return { refused: 'overlap' }
  const own = model.filter((other) => isSameMaster(other.said, said) && other.said.class === said.class)
  if (own.length >= MAX_EXPECTED[said.class]) model = model.filter((other) => other !== own[0])
  else if (model.length >= LIMIT) return { refused: 'global-limit' }
  return {}
}

function announce(said: Announcing): void {
  const { row, generation } = masters[said.shard]![said.master]!
  const { refused, again } = announceInModel(said)
  const handle = shards[said.shard]!.expect({
    ...draft(),
    ...{ src: said.src, srcMask: said.srcMask, srcPort: said.srcPort, dst: DESTINATION, dstPort: said.port },
    ...{ savedPort: said.saved, class: said.class, maxExpected: MAX_EXPECTED[said.class], flags: said.flags },
    ...{ timeout: said.timeout, masterRow: row, masterGeneration: generation },
  })
  if (refused) expect([handle, shards[said.shard]!.refusal()]).toEqual([0, refused])
  else if (again) expect(handle).toBe(again.handle)
  else {
    expect(handle).toBeGreaterThan(0)
    model.push({ said, handle, active: (said.flags & INACTIVE) === 0, deadline: second + said.timeout })
  }
}

function perform(next: Step): void {
  if (next.do === 'announce') announce(next)
  else if (next.do === 'packet') {
    const found = model.findLast(
      ({ said, active, deadline }) => active && deadline > second && meet(said, { ...next, srcMask: -1 }),
    )
    const shard = shards[next.shard]!
    const handle = shard.claim(OUTSIDE_KEY, next.src, DESTINATION, ports(0, 0) | next.srcPort | (next.port << 16))
    expect(handle).toBe(found?.handle ?? 0)
    if (!found) return
    const stays = !next.isIts || shard.isPermanent(handle)
    expect(shard.isPermanent(handle)).toBe((found.said.flags & PERMANENT) !== 0)
    if (stays) shard.putBack(handle)
    else {
      shard.consume(handle)
      model = model.filter((other) => other !== found)
    }
  } else if (next.do === 'end') {
    const { row, generation } = masters[next.shard]![next.master]!
    shards[next.shard]!.endMaster(row, generation)
    model = model.filter(({ said }) => said.shard !== next.shard || said.master !== next.master)
  } else if (next.do === 'wait') {
    second += next.seconds
    for (const shard of shards) shard.setSecond(second)
  } else {
    const which = model[next.which]
    if (!which) return
    const shard = shards[which.said.shard]!
    if (next.do === 'withdraw') {
      expect(shard.withdraw(which.handle)).toBe(true)
      model = model.filter((other) => other !== which)
    } else {
      expect(shard.activate(which.handle, next.do === 'activate')).toBe(true)
      which.active = next.do === 'activate'
    }
  }
}

/** What stands, as a sorted list of words that tell one from another. */
function standing(): number[][] {
  const into = new Int32Array(WIDTH)
  const found: number[][] = []
  for (let slot = 0; slot < table.slots; slot++) {
    if (!table.copy(slot, into)) continue
    const { masterShard, src, dstPort, savedPort, flags } = EXPECTATION
    found.push([masterShard, src, dstPort, savedPort, flags].map((word) => into[word]!))
  }
  return found.sort((a, b) => a.join().localeCompare(b.join()))
}

describe('the expectation table', () => {
  beforeAll(async () => {
    table = makeTable(CAPACITY, 2)
    table.setLimit(LIMIT)
    shards = [await expecting(table, 0), await expecting(table, 1)]
    masters = shards.map((shard) => [1, 2, 3].map((source) => master(shard, source)))
  })

  it('has what a plain list of the same announcements has, and lets in the same packets', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 20, maxLength: 80 }), (steps) => {
        model = []
        for (const [shard, own] of masters.entries())
          for (const { row, generation } of own) shards[shard]!.endMaster(row, generation)
        for (const next of steps) {
          perform(next)
          expect(table.count()).toBe(model.length)
          const wanted = model.map(({ said, active }) => {
            const flags = (said.flags & PERMANENT) | (active ? 0 : INACTIVE)
            return [said.shard, said.src, said.port, said.saved, flags]
          })
          expect(standing()).toEqual(wanted.sort((a, b) => a.join().localeCompare(b.join())))
        }
      }),
      { numRuns: 300 },
    )
  })
})
