// Fragments in any order, twice, or over each other, against a reference that reassembles: a short form of
// fragment-order.long.test.ts.

import { expect, it } from 'vitest'
import { fragments, frame } from '../../../src/testing/builder.ts'
import { Gateway } from '../gateway.ts'
import { LAN, MAC, SERVER } from '../network.ts'
import { udp } from '../packets.ts'
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

it('five fragments in every order make one datagram', async () => {
  const gateway = await Gateway.start()
  let id = 0
  for (const sequence of permutations([...pieces(0).keys()])) {
    const its = pieces(++id)
    expectAsReference(
      sequence.map((n) => its[n]!),
      (piece) => gateway.inside(piece),
    )
  }
  expect([id, gateway.drops(), gateway.counter('fragmentsWaiting')]).toEqual([120, {}, 0])
  gateway.check()
})

it('the third comes three times before the others have come: the datagram is complete all the same', async () => {
  const gateway = await Gateway.start()
  const its = pieces(1)
  expectAsReference(
    [0, 3, 1, 1, 1, 2, 4].map((n) => its[n]!),
    (piece) => gateway.inside(piece),
  )
  expect(gateway.drops()).toEqual({ 'fragment-duplicate': 2 })
})

for (const [what, odd] of [
  ['every other one first', 0],
  ['the others first', 1],
] as const)
  it(`the longest datagram at an Ethernet's MTU, ${what}`, async () => {
    const gateway = await Gateway.start()
    const spec = udp(from, `${SERVER}:53`, { payload: new Uint8Array(65_000).fill(7) })
    const its = fragments(frame({ eth: { src: MAC.host, dst: MAC.lan }, ...spec }), 1480)
    const order = its.toSorted((a, b) => Number(its.indexOf(a) % 2 !== odd) - Number(its.indexOf(b) % 2 !== odd))
    expect(received(order.flatMap((piece) => gateway.inside(piece))).map((body) => body.length)).toEqual([65_008])
    expect(gateway.drops()).toEqual({})
  })

it('each of five, twice and wherever', async () => {
  const gateway = await Gateway.start()
  let id = 0
  for (const order of [
    [0, 1, 2, 3, 4],
    [4, 3, 2, 1, 0],
    [2, 0, 4, 1, 3],
  ])
    for (let twice = 0; twice < PIECES; twice++)
      for (const sequence of inserted(order, twice)) {
        const its = pieces(++id)
        expectAsReference(
          sequence.map((n) => its[n]!),
          (piece) => gateway.inside(piece),
        )
        // A first one after the last begins the datagram anew.
        gateway.pass(1)
      }
  gateway.check()
})

for (const [what, offset, length, more] of INTRUDERS)
  it(`${what}, wherever it comes, ends the datagram, and nothing of it leaves after that`, async () => {
    const gateway = await Gateway.start()
    let id = 0
    for (const order of [
      [0, 1, 2, 3, 4],
      [4, 3, 2, 1, 0],
      [2, 0, 4, 1, 3],
    ])
      for (const sequence of inserted<number | 'x'>(order, 'x')) {
        id++
        const its = pieces(id)
        const sent = sequence.map((n) => (n === 'x' ? intruder(id, offset, length, more) : its[n]!))
        expectAsReference(sent, (piece) => gateway.inside(piece))
      }
    expect(gateway.drops()).toHaveProperty('fragment-overlap')
    expect(gateway.counter('fragmentsWaiting')).toBe(0)
    gateway.check()
  })

it('an overlap ends the datagram in the table too: what comes later of it is dropped as well', async () => {
  const gateway = await Gateway.start()
  const [first, second, third, fourth, fifth] = pieces(7) as Uint8Array[]
  gateway.inside(third!)
  expect(gateway.fate(LAN, intruder(7, 160, 64, true))).toBe('fragment-overlap')
  expect(gateway.drops()).toEqual({ 'fragment-overlap': 2 })
  for (const piece of [first!, second!, third!, fourth!, fifth!])
    expect(gateway.fate(LAN, piece)).toBe('fragment-overlap')
})
