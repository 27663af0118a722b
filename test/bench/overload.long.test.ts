// Floods of ten times what a shard can carry, through whole shards and a dispatcher in virtual time
// (bench/overload/world.ts). What is asked for is what they have without a flood: good hosts ask for less than their
// share.

import { describe, expect, it, vi } from 'vitest'
import { FLOODS, type FloodName } from '../../bench/overload/traffic.ts'
import { type AttachPlane, World } from '../../bench/overload/world.ts'

const attach: AttachPlane = async (kind, memory, settings, driver, wakers) => {
  vi.resetModules()
  const { attachDispatcher, attachShard } = await import('../../src/datapath/attach.ts')
  return (kind === 'shard' ? attachShard : attachDispatcher)(memory, settings, driver, wakers)
}

const SLOTS = 1024
/** Until the flood is known for what it is: a queue must be taken twice before, and a dispatcher's are longer. */
const FIRST_MS = { kernel: 50, thread: 150 }
const LATER_MS = 30

const gateways = [
  { shards: 1, dispatch: 'kernel' },
  { shards: 2, dispatch: 'kernel' },
  { shards: 1, dispatch: 'thread' },
  { shards: 2, dispatch: 'thread' },
] as const

describe.each(gateways)('$shards shards, dispatched by $dispatch, under ten times what they can carry', (gateway) => {
  it('lose nothing without a flood', async () => {
    const world = await World.create({ ...gateway, attach, slots: SLOTS })
    const outcome = world.run(LATER_MS)
    expect(outcome.goodput).toBeGreaterThan(0.99)
    expect(outcome).toMatchObject({ shed: 0, ringLosses: 0, handoverFull: 0, overloads: 0, reordered: 0 })
  })

  const names = Object.keys(FLOODS) as FloodName[]
  // A dispatcher can't tell forged inside addresses from hosts: docs/decisions/0048.
  it.each(names.filter((name) => gateway.dispatch === 'kernel' || name !== 'forged'))('%s', async (flood) => {
    const world = await World.create({ ...gateway, attach, slots: SLOTS })
    world.run(FIRST_MS[gateway.dispatch], flood)
    const outcome = world.run(LATER_MS, flood)
    // Where half of the fragments cross from shard to shard, the others lose more: docs/decisions/0048.
    const crosses = flood === 'fragments' && gateway.dispatch === 'kernel' && gateway.shards > 1
    expect(outcome.goodput).toBeGreaterThan(crosses ? 0.75 : 0.97)
    expect(outcome.worst).toBeGreaterThan(crosses ? 0.6 : 0.9)
    expect(outcome.reordered).toBe(0)
    expect(outcome.shed).toBeGreaterThan(0)
    // The flooder has its share, where what it sends is carried at all: no less than each of the 16 others.
    if (flood === 'one flow' || flood === 'new flows') expect(outcome.floodCarried).toBeGreaterThan(20_000)
  })
})

describe('a shard that dies in an overload', () => {
  it('is followed by one that shares again, and nobody is put into another order', async () => {
    const world = await World.create({ shards: 2, dispatch: 'kernel', attach, slots: SLOTS })
    world.run(FIRST_MS.kernel, 'new flows')
    await world.restart(0)
    const first = world.run(FIRST_MS.kernel, 'new flows')
    const later = world.run(LATER_MS, 'new flows')
    expect(first.reordered + later.reordered).toBe(0)
    expect(later.goodput).toBeGreaterThan(0.97)
  })
})

describe('without shares', () => {
  it('a flood takes what the others had: rings lose by arrival', async () => {
    const world = await World.create({ shards: 1, dispatch: 'kernel', attach, slots: SLOTS, shares: false })
    world.run(FIRST_MS.kernel, 'one flow')
    expect(world.run(LATER_MS, 'one flow').worst).toBeLessThan(0.6)
  })
})
