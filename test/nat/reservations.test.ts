// Reservations: a port that is kept for what was announced, by any shard, and what becomes of it.

import { describe, expect, it, vi } from 'vitest'
import { CELL } from '../../src/counters/counters.ts'
import { TCP_SPACE, UDP_SPACE } from '../../src/nat/externals.ts'
import { isHostBound, isTaken, MAPPED, RESERVATION } from '../../src/nat/port-words.ts'
import {
  A,
  B,
  clock,
  counters,
  externals,
  lease,
  ME,
  OTHER,
  ports,
  portsOf,
  quarantine,
  reservations,
  SIZE,
  sorted,
  take,
  takeAll,
  wordOf,
} from './lease-shard.ts'

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

  it('names no port on which the host has a socket; one that is named or mapped before it is opened goes on', () => {
    lease(ME, TCP_SPACE, A)
    for (const port of portsOf(A).slice(2)) externals.setHostBound(0, TCP_SPACE, port, true)
    const named = [reserve(A * SIZE + 5), reserve(A * SIZE + 5), reserve(A * SIZE + 5)]
    expect(sorted(named)).toEqual([-1, A * SIZE, A * SIZE + 1])
    externals.setHostBound(0, TCP_SPACE, A * SIZE, true)
    expect(reservations.reserveTaken(externals, indexOf(A * SIZE), () => true)).toBe(true)
    expect(ports.takeReserved(indexOf(A * SIZE))).toBe(true)
    for (let i = 0; i < 2; i++) reservations.unreserveAt(externals, indexOf(A * SIZE))
    ports.freePort(indexOf(A * SIZE))
    expect([isTaken(wordOf(A * SIZE)), isHostBound(wordOf(A * SIZE))]).toEqual([false, true])
  })

  it('names no port that a mapping has, that is in quarantine or reserved, or that another shard leases', () => {
    lease(ME, UDP_SPACE, A)
    lease(OTHER, UDP_SPACE, B)
    const quarantined = take(UDP_SPACE)
    ports.freePort(externals.portIndex(0, UDP_SPACE, quarantined))
    const mapped = take(UDP_SPACE)
    const reserved = reserve(A * SIZE, ME, UDP_SPACE)
    const free = portsOf(A).filter((port) => ![quarantined, mapped, reserved].includes(port))
    const others = [quarantined, mapped, reserved, B * SIZE].map((port) => reserve(port, ME, UDP_SPACE))
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

  it('is in quarantine no longer, if its mapping had ended before the expectation', () => {
    lease(ME, UDP_SPACE, A)
    const [port, second] = [take(UDP_SPACE), take(UDP_SPACE)]
    reservations.reserveTaken(externals, indexOf(port, UDP_SPACE), () => true)
    ports.freePort(externals.portIndex(0, UDP_SPACE, port))
    ports.freePort(externals.portIndex(0, UDP_SPACE, second))
    expect(takeReserved(port, UDP_SPACE)).toBe(true)
    expect([counters[CELL.portsUsed + UDP_SPACE], counters[CELL.portsResting + UDP_SPACE]]).toEqual([1, 1])
    reservations.unreserveAt(externals, indexOf(port, UDP_SPACE))
    ports.freePort(externals.portIndex(0, UDP_SPACE, port))
    expect([counters[CELL.portsUsed + UDP_SPACE], counters[CELL.portsResting + UDP_SPACE]]).toEqual([0, 2])
    clock.setClock(1_000_000 + 120_000)
    ports.endQuarantine()
    expect([quarantine.quarantined(), counters[CELL.portsResting + UDP_SPACE]]).toEqual([0, 0])
    expect(ports.usableIn(Math.floor(indexOf(port, UDP_SPACE) / SIZE))).toBe(SIZE)
  })

  it('that was taken when its shard died is freed by the successor, still reserved', () => {
    lease(ME, TCP_SPACE, A)
    const port = reserve(A * SIZE)
    takeReserved(port)
    ports.attachPorts(externals, ME, 2)
    ports.recoverPorts(new Set())
    ports.followLeases()
    expect(wordOf(port) & (MAPPED | (15 << 1))).toBe(RESERVATION)
    expect(counters[CELL.portsUsed + TCP_SPACE]).toBe(0)
  })
})
