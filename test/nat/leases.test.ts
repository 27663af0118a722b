// How a shard that runs short of ports asks for a block, and what the coordinator moves.

import { describe, expect, it, vi } from 'vitest'
import { HOST, HostTable } from '../../src/conntrack/host-table.ts'
import { moveFreeBlock } from '../../src/coordinator/leases/free-blocks.ts'
import { CELL } from '../../src/counters/counters.ts'
import { allocate } from '../../src/memory/region.ts'
import { TCP_SPACE, UDP_SPACE } from '../../src/nat/externals.ts'
import { freedAt, isTaken, MAPPED, RESERVATION, withContent } from '../../src/nat/port-words.ts'
import {
  A,
  B,
  begin,
  C,
  calls,
  clock,
  counters,
  D,
  E,
  externals,
  F,
  fill,
  G,
  isPending,
  lease,
  lessee,
  ME,
  OTHER,
  ports,
  portsOf,
  quarantine,
  SIZE,
  sorted,
  take,
  takeAll,
  wordOf,
} from './lease-shard.ts'

describe('a shard that runs short of ports', () => {
  it('asks while it has one block with a usable port left, once, and goes on', () => {
    lease(ME, TCP_SPACE, A, B)
    take()
    expect([externals.requests(), calls]).toEqual([[], 0])
    expect(takeAll(2 * SIZE - 2)).not.toContain(-1)
    expect(externals.requests()).toEqual([{ shard: ME, entry: 0, space: TCP_SPACE }])
    expect(calls).toBe(1)
  })

  it('waits when it has nothing left, and has what it is granted when it looks at the leases again', () => {
    lease(OTHER, TCP_SPACE, B, C, D)
    expect([take(), isPending(), calls]).toEqual([-1, true, 1])
    expect(moveFreeBlock(externals, 0, TCP_SPACE, ME)).toBe(true)
    externals.answer(ME, 0, TCP_SPACE, true)
    expect(externals.requests()).toEqual([])
    ports.followLeases()
    expect(take()).toBeGreaterThan(0)
  })

  it('still waits, and does not ask again, between the grant and its next look at the leases', () => {
    lease(OTHER, TCP_SPACE, B, C, D)
    take()
    moveFreeBlock(externals, 0, TCP_SPACE, ME)
    externals.answer(ME, 0, TCP_SPACE, true)
    expect([take(), isPending(), calls]).toEqual([-1, true, 1])
  })

  it('that was denied is out of ports until leases change, and asks again then', () => {
    take()
    externals.answer(ME, 0, TCP_SPACE, false)
    expect([take(), isPending(), calls]).toEqual([-1, false, 1])
    lease(OTHER, TCP_SPACE, A)
    expect([take(), isPending(), calls]).toEqual([-1, true, 2])
  })

  it('that was denied asks again after two seconds', () => {
    take()
    externals.answer(ME, 0, TCP_SPACE, false)
    clock.setClock(1_001_999)
    expect([take(), isPending(), calls]).toEqual([-1, false, 1])
    clock.setClock(1_002_000)
    expect([take(), isPending(), calls]).toEqual([-1, true, 2])
  })

  it('that is the only one asks nobody and waits for nothing', () => {
    begin(1)
    expect([take(), isPending(), calls, externals.requests()]).toEqual([-1, false, 0, []])
  })
})

describe('the block that moves', () => {
  it('comes from the shard that has most', () => {
    lease(1, TCP_SPACE, A, B, C)
    lease(2, TCP_SPACE, D, E, F, G)
    expect(moveFreeBlock(externals, 0, TCP_SPACE, ME)).toBe(true)
    expect([D, E, F, G].filter((block) => lessee(block) === ME)).toHaveLength(1)
  })

  it('comes from the next one if all blocks of that one are in use', () => {
    lease(1, TCP_SPACE, A, B, C)
    lease(2, TCP_SPACE, D, E, F, G)
    for (const block of [D, E, F]) fill(block, MAPPED, 1)
    fill(G, RESERVATION, 1)
    expect(moveFreeBlock(externals, 0, TCP_SPACE, ME)).toBe(true)
    expect([A, B, C].filter((block) => lessee(block) === ME)).toHaveLength(1)
  })

  it('may have ports in quarantine, and is the one with fewest', () => {
    lease(1, UDP_SPACE, A, B, C)
    for (const [block, count] of [
      [A, 5],
      [B, 2],
      [C, 9],
    ] as const)
      fill(block, freedAt(999), count, UDP_SPACE)
    expect(moveFreeBlock(externals, 0, UDP_SPACE, ME)).toBe(true)
    expect([A, B, C].map((block) => lessee(block, UDP_SPACE))).toEqual([1, ME, 1])
  })

  it('is none of which every port is in quarantine: two shards would send such blocks to and fro', () => {
    lease(1, UDP_SPACE, A, B, C)
    for (const block of [A, B, C]) fill(block, freedAt(999), SIZE, UDP_SPACE)
    expect(moveFreeBlock(externals, 0, UDP_SPACE, ME)).toBe(false)
  })

  it('is none of a shard that has two, of the shard that asks, of another space, or of an absent address', () => {
    lease(1, TCP_SPACE, A, B)
    lease(ME, TCP_SPACE, C, D, E)
    lease(1, UDP_SPACE, A, B, C)
    expect(moveFreeBlock(externals, 0, TCP_SPACE, ME)).toBe(false)
    externals.remove(0)
    expect(moveFreeBlock(externals, 0, UDP_SPACE, ME)).toBe(false)
  })

  it('is used no more by the shard that had it, seen or unseen', () => {
    lease(ME, TCP_SPACE, A, B, C)
    moveFreeBlock(externals, 0, TCP_SPACE, OTHER)
    const moved = [A, B, C].find((block) => lessee(block) === OTHER)!
    const given = takeAll(3 * SIZE).filter((port) => port >= 0)
    expect(sorted(given)).toEqual([A, B, C].filter((block) => block !== moved).flatMap(portsOf))
    expect(portsOf(moved).map(wordOf).some(isTaken)).toBe(false)
  })
})

describe('a block that was frozen and stays', () => {
  it('is used again, though nothing of it could be taken meanwhile', () => {
    lease(ME, TCP_SPACE, A)
    const first = take()
    const owner = vi.spyOn(externals, 'leaseOf').mockReturnValue(0xff)
    expect(take()).toBe(-1)
    owner.mockRestore()
    expect(externals.takeBack(0, TCP_SPACE, A)).toBe(false)
    ports.followLeases()
    expect(sorted([first, ...takeAll(SIZE - 1)])).toEqual(portsOf(A))
  })
})

describe('a shard that takes a port as its block goes to another one', () => {
  const port = A * SIZE
  const at = (): number => externals.portIndex(0, TCP_SPACE, port)

  it('undoes it, and the other one has not lost the port by then', () => {
    lease(OTHER, TCP_SPACE, A)
    externals.takeBack(0, TCP_SPACE, A)
    externals.lease(0, TCP_SPACE, A, ME)
    const taken = withContent(wordOf(port), MAPPED)
    externals.intend(OTHER, at(), taken)
    externals.portWords[at()] = taken
    // That the host opens a socket there changes nothing of whose the bit is.
    externals.setHostBound(0, TCP_SPACE, port, true)
    ports.followLeases()
    const before = takeAll(SIZE)
    expect(sorted(before)).toEqual([-1, ...portsOf(A).slice(1)])
    externals.portWords[at()] = withContent(taken, 0)
    externals.setHostBound(0, TCP_SPACE, port, false)
    ports.endQuarantine()
    expect(take()).toBe(port)
    expect(counters[CELL.portsUsed + TCP_SPACE]).toBe(SIZE)
  })

  it('undoes nothing that the other one has made of it since', () => {
    lease(ME, TCP_SPACE, A)
    const compareExchange = Atomics.compareExchange
    let given = 0
    const overtaken = vi.spyOn(Atomics, 'compareExchange').mockImplementationOnce(((
      words: Int32Array,
      ...change: [number, number, number]
    ) => {
      const found = compareExchange(words, ...change)
      // The other shard starts again, clears a bit that is none of its mappings', and gives the port.
      externals.lease(0, TCP_SPACE, A, OTHER)
      given = withContent(withContent(change[2], 0), MAPPED)
      words[change[0]] = given
      return found
    }) as typeof Atomics.compareExchange)
    ports.takePort(0, TCP_SPACE, port, { preservePorts: true, parity: false })
    overtaken.mockRestore()
    expect(wordOf(port)).toBe(given)
  })
})

describe("preservation of the inside port's number", () => {
  it('is for the shard that leases the block of it', () => {
    lease(ME, UDP_SPACE, A)
    lease(OTHER, UDP_SPACE, B)
    expect(take(UDP_SPACE, A * SIZE + 3, true)).toBe(A * SIZE + 3)
    const instead = take(UDP_SPACE, B * SIZE + 3, true)
    expect(portsOf(A)).toContain(instead)
  })
})

describe('ports in quarantine', () => {
  it('leave it in the order in which they came, however many there are', () => {
    const throughQuarantine = (from: number, to: number): void => {
      for (let block = from; block < to; block++) lease(ME, UDP_SPACE, block)
      for (let port = take(UDP_SPACE); port >= 0; port = take(UDP_SPACE))
        ports.freePort(externals.portIndex(0, UDP_SPACE, port))
    }
    throughQuarantine(100, 110)
    clock.setClock(1_060_000)
    throughQuarantine(110, 500)
    expect(quarantine.quarantined()).toBe(400 * SIZE)
    clock.setClock(1_120_000)
    ports.endQuarantine()
    expect(counters[CELL.portsResting + UDP_SPACE]).toBe(390 * SIZE)
    const usable = Array.from({ length: 10 * SIZE }, () => Math.floor(take(UDP_SPACE) / SIZE))
    expect(Math.max(...usable)).toBeLessThan(110)
    expect(Math.min(...usable)).toBe(100)
    clock.setClock(1_180_000)
    ports.endQuarantine()
    expect([quarantine.quarantined(), counters[CELL.portsResting + UDP_SPACE]]).toEqual([0, 0])
    expect(ports.listedCount(0, UDP_SPACE)).toBe(390)
  })

  it('end it when its time is over, a bounded number at a look', () => {
    for (let block = 100; block < 1100; block++) lease(ME, UDP_SPACE, block)
    for (let port = take(UDP_SPACE); port >= 0; port = take(UDP_SPACE))
      ports.freePort(externals.portIndex(0, UDP_SPACE, port))
    clock.setClock(1_120_000)
    for (let left = 16_000 - 1024; left > 0; left -= 1024) {
      expect(ports.endQuarantine(1024)).toBe(false)
      expect(counters[CELL.portsResting + UDP_SPACE]).toBe(left)
    }
    expect(ports.endQuarantine(1024)).toBe(true)
    expect(counters[CELL.portsResting + UDP_SPACE]).toBe(0)
  })

  it('count for who had them until their time is over, if their block goes or they are given again, too', async () => {
    const { view: hosts } = allocate((region) => new HostTable(region, { hosts: 16, shards: 1 }))
    const { attachHosts } = await import('../../src/conntrack/hosts.shard.ts')
    attachHosts(hosts, 0)
    const resting = () => [4, 5].map((row) => hosts.sum(row, HOST.resting))
    lease(ME, UDP_SPACE, A, B)
    const given = Array.from({ length: 2 * SIZE }, () => take(UDP_SPACE))
    const free = (port: number, row: number) => ports.freePort(externals.portIndex(0, UDP_SPACE, port), row)
    const [ofA, ofB] = [A, B].map((block) => given.find((port) => Math.floor(port / SIZE) === block)!)
    for (const port of portsOf(A)) free(port, port === ofA ? 4 : quarantine.NOBODYS)
    const named = externals.portIndex(0, UDP_SPACE, ofB!)
    externals.portWords[named] = withContent(externals.portWords[named]!, MAPPED | RESERVATION)
    free(ofB!, 5)
    expect(resting()).toEqual([1, 1])
    expect(externals.takeBack(0, UDP_SPACE, A)).toBe(true)
    lease(OTHER, UDP_SPACE, A)
    expect(ports.takeReserved(named)).toBe(true)
    expect([resting(), counters[CELL.portsResting + UDP_SPACE]]).toEqual([[1, 1], 0])
    clock.setClock(1_060_000)
    free(ofB!, 5)
    expect(resting()).toEqual([1, 2])
    clock.setClock(1_120_000)
    ports.endQuarantine()
    expect([resting(), counters[CELL.portsResting + UDP_SPACE]]).toEqual([[0, 1], 1])
    clock.setClock(1_180_000)
    ports.endQuarantine()
    expect([resting(), counters[CELL.portsResting + UDP_SPACE]]).toEqual([[0, 0], 0])
  })

  it('is for none of TCP, whose ports rest in closing states', () => {
    lease(ME, TCP_SPACE, A)
    for (const port of takeAll(SIZE)) ports.freePort(externals.portIndex(0, TCP_SPACE, port))
    expect(quarantine.quarantined()).toBe(0)
    expect(sorted(takeAll(SIZE))).toEqual(portsOf(A))
  })
})
