// A pool of 1024 addresses, the most that a configuration may have: three million blocks of ports. What a turn does is
// counted in looks at shared words (Atomics.load), not in time: it must not depend on how many blocks there are.

import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { UDP_SPACE } from '../../src/nat/externals.ts'
import { Gateway } from '../datapath/gateway.ts'
import { LAN, SERVER } from '../datapath/network.ts'
import { decode, udp } from '../datapath/packets.ts'

const ADDRESSES = 1024
const BLOCKS_OF_ADDRESS = 1024
/** Ports in a block. */
const SIZE = 64
const POOL = Array.from({ length: ADDRESSES }, (_, i) => `198.18.${4 + (i >> 8)}.${i & 255}`)
const TO = `${SERVER}:80`
/** What a turn without anything to do looks at, and then some. */
const FEW = 200

let gateway: Gateway
beforeAll(async () => {
  gateway = await Gateway.start({ pool: POOL, ports: [1024, 65_535], connections: 8192, nat: { parity: false } })
})
afterEach(() => vi.restoreAllMocks())

/** Looks at shared words while this is done. */
function looks(during: () => void): number {
  const load = vi.spyOn(Atomics, 'load')
  during()
  const count = load.mock.calls.length
  load.mockRestore()
  return count
}
const HOSTS = 250
const first = (number: number) => udp(`10.0.0.${3 + (number % HOSTS)}:${5000 + Math.floor(number / HOSTS)}`, TO)

describe('with 1024 external addresses, a turn looks at a few words', () => {
  it('when nothing has happened, in a new second, too', () => {
    expect(looks(() => gateway.turn())).toBeLessThan(FEW)
    gateway.jump(2)
    expect(looks(() => gateway.turn())).toBeLessThan(FEW)
  })

  it('when a lease has changed, of an address that is in use', () => {
    const address = decode(gateway.inside(first(1))[0]!).src
    const entry = POOL.indexOf(address)
    gateway.externals.takeBack(entry, UDP_SPACE, 500)
    expect(looks(() => gateway.turn())).toBeLessThan(FEW)
    expect(gateway.counter('portsLeased', UDP_SPACE)).toBe((ADDRESSES * 1008 - 1) * SIZE)
    gateway.externals.lease(entry, UDP_SPACE, 500, 0)
    expect(looks(() => gateway.turn())).toBeLessThan(FEW)
    expect(gateway.counter('portsLeased', UDP_SPACE)).toBe(ADDRESSES * 1008 * SIZE)
  })

  it('for a first packet: at the blocks of its address, and at the ports of one', () => {
    for (let number = 2; number < 40; number++) {
      const count = looks(() => expect(gateway.inside(first(number))).toHaveLength(1))
      expect(count).toBeLessThan(2 * BLOCKS_OF_ADDRESS + 3 * SIZE + FEW)
    }
  })

  it('when it has missed changes: at a bounded number of addresses', () => {
    gateway.burst(
      LAN,
      Array.from({ length: 60 }, (_, i) => first(1000 + i)),
    )
    expect(gateway.toWan()).toHaveLength(60)
    for (let change = 0; change < 2000; change++) {
      gateway.externals.takeBack(change % ADDRESSES, UDP_SPACE, 900)
      gateway.externals.lease(change % ADDRESSES, UDP_SPACE, 900, 0)
    }
    const counts = Array.from({ length: 8 }, () => looks(() => gateway.turn()))
    expect(Math.max(...counts)).toBeLessThan(16 * 3 * BLOCKS_OF_ADDRESS + FEW)
    expect(counts.at(-1)).toBeLessThan(FEW)
  })

  it('when ports come out of quarantine', () => {
    gateway.jump(310)
    for (let round = 0; round < 20; round++) {
      gateway.jump(0.07)
      gateway.turn()
    }
    expect(gateway.counter('connections', 1)).toBe(0)
    const resting = gateway.counter('portsResting', UDP_SPACE)
    expect(resting).toBeGreaterThan(90)
    gateway.jump(121)
    expect(looks(() => gateway.turn())).toBeLessThan(8 * resting + FEW)
    expect(gateway.counter('portsResting', UDP_SPACE)).toBe(0)
  })

  it('when it goes on with a dead one’s memory: at what that one had read, a bounded number in a turn', async () => {
    for (let number = 0; number < 300; number++) gateway.inside(first(2000 + number))
    const used = gateway.counter('portsUsed', UDP_SPACE)
    expect(used).toBe(300)
    await gateway.restart()
    const counts = Array.from({ length: 40 }, () => looks(() => gateway.turn()))
    const marks = (ADDRESSES * 3 * BLOCKS_OF_ADDRESS) / 32
    // Marks, blocks of addresses, ports, and a block that is read over the bound.
    expect(Math.max(...counts)).toBeLessThan(2 * 32_768 + 3 * BLOCKS_OF_ADDRESS + FEW)
    expect(counts.reduce((sum, count) => sum + count, 0)).toBeGreaterThan(marks)
    expect(counts.at(-1)).toBeLessThan(FEW)
    expect(gateway.counter('portsUsed', UDP_SPACE)).toBe(300)
  })
})

describe('with 1024 external addresses', () => {
  it('inside addresses are spread over all, and each has one for all of its ports', () => {
    const used = Array.from({ length: HOSTS }, (_, number) => decode(gateway.inside(first(3000 + number))[0]!).src)
    for (const address of used) expect(POOL).toContain(address)
    // Of 1024 addresses, 250 that are chosen at random are 222 different ones.
    expect(new Set(used).size).toBeGreaterThan(190)
    const again = Array.from({ length: HOSTS }, (_, number) => decode(gateway.inside(first(4000 + number))[0]!).src)
    expect(again).toEqual(used)
  })
})
