// How a shard that runs short of ports asks for a block, what the coordinator moves, and reservations by any shard.

import { beforeEach, describe, expect, it, vi } from 'vitest'
import { CELL, counterBlock } from '../../src/counters/counters.ts'
import { attach } from '../../src/memory/attached.ts'
import { allocate, Region } from '../../src/memory/region.ts'
import { Externals, POOL, TCP_SPACE, UDP_SPACE } from '../../src/nat/externals.ts'
import { freedAt, isTaken, MAPPED, RESERVATION, withContent } from '../../src/nat/port-words.ts'

const SIZE = 16
const [A, B, C, D, E, F, G] = [80, 81, 82, 83, 84, 85, 86] as const
const ME = 0
const OTHER = 1

let ports: typeof import('../../src/nat/ports.shard.ts') & typeof import('../../src/nat/blocks.shard.ts')
let reservations: typeof import('../../src/nat/reservations.ts')
let rests: typeof import('../../src/nat/quarantine.shard.ts')
let clock: typeof import('../../src/memory/clock.ts')
let externals: Externals
let counters: Float64Array
/** How often the coordinator was called. */
let calls: number

beforeEach(async () => {
  const unused = new Region()
  const block = allocate(counterBlock)
  counters = block.view
  const tables = {
    packetMemory: new ArrayBuffer(0),
    connections: unused,
    mappings: unused,
    permissions: unused,
    sequences: unused,
    events: unused,
    capacity: 1,
  }
  vi.resetModules()
  attach({ ...tables, counters: new Region(block.buffer) })
  ports = {
    ...(await import('../../src/nat/ports.shard.ts')),
    ...(await import('../../src/nat/blocks.shard.ts')),
  }
  reservations = await import('../../src/nat/reservations.ts')
  rests = await import('../../src/nat/quarantine.shard.ts')
  clock = await import('../../src/memory/clock.ts')
  externals = allocate((region) => new Externals(region, { capacity: 1, blockSize: SIZE })).view
  externals.add(1, POOL)
  begin(2)
})

function begin(shards: number): void {
  ports.attachPorts(externals, ME, shards, () => calls++)
  clock.setClock(1_000_000)
  ports.followLeases()
  // A shard calls once when it begins.
  calls = 0
}
function lease(shard: number, space: number, ...blocks: number[]): void {
  for (const block of blocks) externals.lease(0, space, block, shard)
  ports.followLeases()
}
const take = (space = TCP_SPACE, wanted = 5000, preserve = false): number =>
  ports.takePort(0, space, wanted, { preservePorts: preserve, parity: false })
const takeAll = (count: number): number[] => Array.from({ length: count }, () => take())
const isPending = (): boolean => ports.isLeasePending(0, TCP_SPACE)
const lessee = (block: number, space = TCP_SPACE): number => externals.ownerOfBlock(0, space, block)
const wordOf = (port: number): number => externals.portWords[externals.portIndex(0, TCP_SPACE, port)]!
const portsOf = (block: number): number[] => Array.from({ length: SIZE }, (_, i) => block * SIZE + i)
const sorted = (numbers: readonly number[]): number[] => numbers.toSorted((a, b) => a - b)
function fill(block: number, word: number, count = SIZE, space = TCP_SPACE): void {
  const first = externals.portIndex(0, space, block * SIZE)
  externals.portWords.fill(word, first, first + count)
}

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
    expect(externals.moveFreeBlock(0, TCP_SPACE, ME)).toBe(true)
    externals.answer(ME, 0, TCP_SPACE, true)
    expect(externals.requests()).toEqual([])
    ports.followLeases()
    expect(take()).toBeGreaterThan(0)
  })

  it('still waits, and does not ask again, between the grant and its next look at the leases', () => {
    lease(OTHER, TCP_SPACE, B, C, D)
    take()
    externals.moveFreeBlock(0, TCP_SPACE, ME)
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
    expect(externals.moveFreeBlock(0, TCP_SPACE, ME)).toBe(true)
    expect([D, E, F, G].filter((block) => lessee(block) === ME)).toHaveLength(1)
  })

  it('comes from the next one if all blocks of that one are in use', () => {
    lease(1, TCP_SPACE, A, B, C)
    lease(2, TCP_SPACE, D, E, F, G)
    for (const block of [D, E, F]) fill(block, MAPPED, 1)
    fill(G, RESERVATION, 1)
    expect(externals.moveFreeBlock(0, TCP_SPACE, ME)).toBe(true)
    expect([A, B, C].filter((block) => lessee(block) === ME)).toHaveLength(1)
  })

  it('may have resting ports, and is the one with fewest', () => {
    lease(1, UDP_SPACE, A, B, C)
    for (const [block, count] of [
      [A, 5],
      [B, 2],
      [C, 9],
    ] as const)
      fill(block, freedAt(999), count, UDP_SPACE)
    expect(externals.moveFreeBlock(0, UDP_SPACE, ME)).toBe(true)
    expect([A, B, C].map((block) => lessee(block, UDP_SPACE))).toEqual([1, ME, 1])
  })

  it('is none of which every port rests: two shards would send such blocks to and fro', () => {
    lease(1, UDP_SPACE, A, B, C)
    for (const block of [A, B, C]) fill(block, freedAt(999), SIZE, UDP_SPACE)
    expect(externals.moveFreeBlock(0, UDP_SPACE, ME)).toBe(false)
  })

  it('is none of a shard that has two, of the shard that asks, of another space, or of an absent address', () => {
    lease(1, TCP_SPACE, A, B)
    lease(ME, TCP_SPACE, C, D, E)
    lease(1, UDP_SPACE, A, B, C)
    expect(externals.moveFreeBlock(0, TCP_SPACE, ME)).toBe(false)
    externals.remove(0)
    expect(externals.moveFreeBlock(0, UDP_SPACE, ME)).toBe(false)
  })

  it('is used no more by the shard that had it, seen or unseen', () => {
    lease(ME, TCP_SPACE, A, B, C)
    externals.moveFreeBlock(0, TCP_SPACE, OTHER)
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
    ports.followLeases()
    const before = takeAll(SIZE)
    expect(sorted(before)).toEqual([-1, ...portsOf(A).slice(1)])
    externals.portWords[at()] = withContent(taken, 0)
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

const indexOf = (port: number, space = TCP_SPACE): number => externals.portIndex(0, space, port)
/** The port itself if it is to be had, else another of the shard's. */
const reserve = (port: number, owner = ME, space = TCP_SPACE): number => {
  const at = reservations.reserveFor(externals, { owner, entry: 0, space }, port, {
    preservePorts: true,
    parity: false,
  })
  return at < 0 ? -1 : at % 65536
}

describe('a reservation', () => {
  it('keeps the port from being given, fifteen times at most, and is over with the last', () => {
    lease(ME, TCP_SPACE, A)
    const port = A * SIZE
    expect(reserve(port)).toBe(port)
    const granted = Array.from({ length: 15 }, () => reservations.reserveTaken(externals, indexOf(port), () => true))
    expect(granted).toEqual([...new Array<boolean>(14).fill(true), false])
    expect(sorted(takeAll(SIZE))).toEqual([-1, ...portsOf(A).slice(1)])
    for (let i = 0; i < 15; i++) {
      expect(isTaken(wordOf(port))).toBe(true)
      reservations.unreserveAt(externals, indexOf(port))
    }
    expect(isTaken(wordOf(port))).toBe(false)
    // Given back once too often: nothing happens.
    reservations.unreserveAt(externals, indexOf(port))
    expect(wordOf(port) & (15 << 1)).toBe(0)
    ports.endQuarantine()
    expect([take(), take()]).toEqual([port, -1])
  })

  it('names no port that a mapping has, that is in quarantine or reserved, or that another shard leases', () => {
    lease(ME, UDP_SPACE, A)
    lease(OTHER, UDP_SPACE, B)
    const rests = take(UDP_SPACE)
    ports.freePort(externals.portIndex(0, UDP_SPACE, rests))
    const mapped = take(UDP_SPACE)
    const reserved = reserve(A * SIZE, ME, UDP_SPACE)
    const free = portsOf(A).filter((port) => ![rests, mapped, reserved].includes(port))
    const others = [rests, mapped, reserved, B * SIZE].map((port) => reserve(port, ME, UDP_SPACE))
    for (const port of others) expect(free).toContain(port)
    expect(new Set(others).size).toBe(4)
  })

  it('is for a shard that leases a block with a free port', () => {
    lease(OTHER, TCP_SPACE, A)
    expect(reserve(A * SIZE, ME)).toBe(-1)
    const given = Array.from({ length: SIZE + 1 }, () => reserve(A * SIZE, OTHER))
    expect(sorted(given)).toEqual([-1, ...portsOf(A)])
  })

  it('keeps the parity, if it can be', () => {
    lease(ME, TCP_SPACE, A)
    const given = Array.from(
      { length: SIZE },
      () =>
        reservations.reserveFor(externals, { owner: ME, entry: 0, space: TCP_SPACE }, 5001, {
          preservePorts: false,
          parity: true,
        }) % 65536,
    )
    expect(given.slice(0, SIZE / 2).every((port) => port % 2 === 1)).toBe(true)
    expect(sorted(given)).toEqual(portsOf(A))
  })

  it("holds in another shard's block, and keeps that block where it is", () => {
    lease(OTHER, TCP_SPACE, A)
    expect(reserve(A * SIZE, OTHER)).toBe(A * SIZE)
    expect(externals.takeBack(0, TCP_SPACE, A)).toBe(false)
    reservations.unreserveAt(externals, indexOf(A * SIZE))
    expect(externals.takeBack(0, TCP_SPACE, A)).toBe(true)
  })

  /** Another thread does this just before the next compare-and-swap. */
  function overtakenBy(other: () => void): () => void {
    const compareExchange = Atomics.compareExchange
    const spy = vi.spyOn(Atomics, 'compareExchange').mockImplementationOnce(((
      ...all: Parameters<typeof compareExchange>
    ) => {
      other()
      return compareExchange(...all)
    }) as typeof Atomics.compareExchange)
    return () => spy.mockRestore()
  }

  it('is not lost to another shard that names the port in the same moment', () => {
    lease(ME, TCP_SPACE, A)
    const port = reserve(A * SIZE)
    const restore = overtakenBy(() => Atomics.add(externals.portWords, indexOf(port), (1 << 17) + RESERVATION))
    expect(reservations.reserveTaken(externals, indexOf(port), () => true)).toBe(true)
    restore()
    expect(wordOf(port) & (15 << 1)).toBe(3 * RESERVATION)
  })

  it('is undone if the block went to another shard meanwhile', () => {
    lease(ME, TCP_SPACE, A)
    const restore = overtakenBy(() => externals.lease(0, TCP_SPACE, A, OTHER))
    expect(reserve(A * SIZE)).toBe(-1)
    restore()
    expect(isTaken(wordOf(A * SIZE))).toBe(false)
  })

  it('of a port that a mapping has is refused if the mapping has ended, and outlives it', () => {
    lease(ME, TCP_SPACE, A)
    const port = take()
    expect(reservations.reserveTaken(externals, indexOf(port), () => false)).toBe(false)
    expect(reservations.reserveTaken(externals, indexOf(port), () => true)).toBe(true)
    expect(reservations.reserveTaken(externals, indexOf(port === A * SIZE ? port + 1 : A * SIZE), () => true)).toBe(
      false,
    )
    ports.freePort(externals.portIndex(0, TCP_SPACE, port))
    expect(isTaken(wordOf(port))).toBe(true)
    expect(takeAll(SIZE)).not.toContain(port)
  })
})

describe('a reserved port', () => {
  const takeReserved = (port: number, space = TCP_SPACE): boolean =>
    ports.takeReserved(externals.portIndex(0, space, port))

  it('is taken by the shard that leases its block, once, and counts as taken', () => {
    lease(ME, TCP_SPACE, A)
    const port = reserve(A * SIZE)
    expect(takeReserved(port)).toBe(true)
    expect(takeReserved(port)).toBe(false)
    expect([counters[CELL.portsUsed + TCP_SPACE], ports.usableIn(indexOf(port) / SIZE)]).toEqual([1, SIZE - 1])
    reservations.unreserveAt(externals, indexOf(port))
    expect(isTaken(wordOf(port))).toBe(true)
    ports.freePort(externals.portIndex(0, TCP_SPACE, port))
    expect(isTaken(wordOf(port))).toBe(false)
    expect([counters[CELL.portsUsed + TCP_SPACE], ports.usableIn(indexOf(port) / SIZE)]).toEqual([0, SIZE])
  })

  it('is not taken if no reservation names it, or its block is another shard’s', () => {
    lease(ME, TCP_SPACE, A)
    lease(OTHER, TCP_SPACE, B)
    expect(takeReserved(A * SIZE)).toBe(false)
    expect(takeReserved(reserve(B * SIZE, OTHER))).toBe(false)
  })

  it('rests no longer, if its mapping had ended before the expectation', () => {
    lease(ME, UDP_SPACE, A)
    const [port, second] = [take(UDP_SPACE), take(UDP_SPACE)]
    reservations.reserveTaken(externals, indexOf(port, UDP_SPACE), () => true)
    ports.freePort(externals.portIndex(0, UDP_SPACE, port))
    ports.freePort(externals.portIndex(0, UDP_SPACE, second))
    expect(takeReserved(port, UDP_SPACE)).toBe(true)
    expect([counters[CELL.portsUsed + UDP_SPACE], counters[CELL.portsResting + UDP_SPACE]]).toEqual([1, 1])
    reservations.unreserveAt(externals, indexOf(port, UDP_SPACE))
    ports.freePort(externals.portIndex(0, UDP_SPACE, port))
    expect(rests.quarantined()).toBe(2)
    clock.setClock(1_000_000 + 120_000)
    ports.endQuarantine()
    expect([rests.quarantined(), counters[CELL.portsResting + UDP_SPACE]]).toEqual([0, 0])
    expect(ports.usableIn(Math.floor(indexOf(port, UDP_SPACE) / SIZE))).toBe(SIZE)
  })

  it('that was taken when its shard died is freed by the successor, still reserved', () => {
    lease(ME, TCP_SPACE, A)
    const port = reserve(A * SIZE)
    takeReserved(port)
    ports.attachPorts(externals, ME, 2)
    ports.recoverPorts(new Uint8Array(externals.portWords.length))
    ports.followLeases()
    expect(wordOf(port) & (MAPPED | (15 << 1))).toBe(RESERVATION)
    expect(counters[CELL.portsUsed + TCP_SPACE]).toBe(0)
  })
})

describe('memory for ports that rest', () => {
  it('grows with the blocks that are leased, and keeps the order', () => {
    const places = rests.quarantineRoom()
    expect(places).toBeLessThan(1024)
    const rested = (from: number, to: number): void => {
      for (let block = from; block < to; block++) lease(ME, UDP_SPACE, block)
      for (let port = take(UDP_SPACE); port >= 0; port = take(UDP_SPACE))
        ports.freePort(externals.portIndex(0, UDP_SPACE, port))
    }
    rested(100, 110)
    clock.setClock(1_060_000)
    rested(110, 500)
    expect(rests.quarantined()).toBe(400 * SIZE)
    expect(rests.quarantineRoom()).toBeGreaterThanOrEqual(400 * SIZE)
    expect(rests.quarantineRoom()).toBeLessThan(2 * 400 * SIZE)
    clock.setClock(1_120_000)
    ports.endQuarantine()
    expect(counters[CELL.portsResting + UDP_SPACE]).toBe(390 * SIZE)
    const usable = Array.from({ length: 10 * SIZE }, () => Math.floor(take(UDP_SPACE) / SIZE))
    expect(Math.max(...usable)).toBeLessThan(110)
    expect(Math.min(...usable)).toBe(100)
  })

  it('is none for TCP, whose ports rest in closing states', () => {
    const places = rests.quarantineRoom()
    for (let block = 100; block < 500; block++) lease(ME, TCP_SPACE, block)
    expect(rests.quarantineRoom()).toBe(places)
  })
})
