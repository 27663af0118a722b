// All permutations of five fragments, with each of them twice at every place and with what overlaps them at every
// place, by one and by four shards, against a reference that reassembles.

import fc from 'fast-check'
import { expect, it } from 'vitest'
import { Cluster } from '../cluster.ts'
import { EXTERNAL, HOST, LAN, MAC, SERVER, WAN } from '../network.ts'
import { fromOf, udp } from '../packets.ts'
import {
  expectAsReference,
  from,
  INTRUDERS,
  inserted,
  intruder,
  PIECES,
  permutations,
  pieces,
  received,
} from './fragment-sequences.ts'

const ORDERS = [...permutations(Array.from({ length: PIECES }, (_, i) => i))]
const EXPECTED = ['fragment-duplicate', 'fragment-orphan']
const FROM_WAN = { src: MAC.server, dst: MAC.wan }

for (const shards of [1, 4]) {
  it(`${shards} shards: every order, from inside and from outside`, async () => {
    const cluster = await Cluster.start({ shards })
    const external = fromOf(cluster.inside(udp(from, `${SERVER}:53`))[0]!)
    let id = 0
    for (const order of ORDERS) {
      const out = pieces(++id)
      expectAsReference(
        order.map((n) => out[n]!),
        (piece) => cluster.inside(piece),
      )
      const back = pieces(id, udp(`${SERVER}:53`, external), FROM_WAN)
      expectAsReference(
        order.map((n) => back[n]!),
        (piece) => cluster.outside(piece),
      )
    }
    expect(cluster.drops()).toEqual({})
    expect([external.startsWith(EXTERNAL), from.startsWith(HOST)]).toEqual([true, true])
    cluster.check()
  })

  it(`${shards} shards: every order, each twice at every place`, async () => {
    const cluster = await Cluster.start({ shards })
    let id = 0
    for (const order of ORDERS)
      for (let twice = 0; twice < PIECES; twice++)
        for (const sequence of inserted(order, twice)) {
          const its = pieces(++id)
          expectAsReference(
            sequence.map((n) => its[n]!),
            (piece) => cluster.inside(piece),
          )
        }
    expect(Object.keys(cluster.drops()).filter((reason) => reason !== 'fragment-table-full')).toEqual([
      'fragment-duplicate',
    ])
    cluster.check()
  })

  it(`${shards} shards: every order, with an overlap at every place`, async () => {
    const cluster = await Cluster.start({ shards })
    let id = 0
    for (const [, offset, length, more] of INTRUDERS)
      for (const order of ORDERS)
        for (const sequence of inserted<number | 'x'>(order, 'x')) {
          id++
          const its = pieces(id)
          const sent = sequence.map((n) => (n === 'x' ? intruder(id, offset, length, more) : its[n]!))
          expectAsReference(sent, (piece) => cluster.inside(piece))
        }
    expect(cluster.drops()['fragment-overlap']).toBeGreaterThan(id)
    cluster.check()
  })

  it(`${shards} shards: many datagrams of several hosts at once, in any order, some fragments twice`, async () => {
    const cluster = await Cluster.start({ shards })
    const all = Array.from({ length: 40 }, (_, n) =>
      pieces(n >> 2, udp(`10.0.0.${5 + (n & 3)}:5000`, `${SERVER}:53`)),
    ).flat()
    const order = fc.shuffledSubarray([...all.keys(), ...all.keys()], {
      minLength: all.length,
      maxLength: 2 * all.length,
    })
    await fc.assert(
      fc.asyncProperty(order, async (order) => {
        // Whatever the run before has left is over.
        cluster.pass(31)
        cluster.taken(WAN)
        for (const n of order) {
          cluster.inject(LAN, all[n]!)
          cluster.turn()
        }
        const came = new Set(order)
        const whole = Array.from({ length: 40 }, (_, n) => n).filter((n) =>
          Array.from({ length: PIECES }, (_, i) => n * PIECES + i).every((piece) => came.has(piece)),
        )
        // A datagram whose fragments have all come again may arrive twice.
        const bodies = received(cluster.taken(WAN))
        expect(bodies.length).toBeGreaterThanOrEqual(whole.length)
        expect(Object.keys(cluster.drops()).filter((reason) => !EXPECTED.includes(reason))).toEqual([])
      }),
      { numRuns: 25 },
    )
    cluster.pass(31)
    for (let shard = 0; shard < shards; shard++) expect(cluster.counter(shard, 'fragmentsWaiting')).toBe(0)
    cluster.check()
  })
}
