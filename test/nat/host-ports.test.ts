// Ports on which the host itself has a socket: they are not chosen, by whatever way a port is chosen, and everything
// else about them goes on as if there were none.

import { describe, expect, it, vi } from 'vitest'
import { moveFreeBlock } from '../../src/coordinator/leases/free-blocks.ts'
import { CELL } from '../../src/counters/counters.ts'
import { TCP_SPACE, UDP_SPACE } from '../../src/nat/externals.ts'
import { isHostBound, isMapped } from '../../src/nat/port-words.ts'
import {
  A,
  B,
  C,
  clock,
  counters,
  externals,
  lease,
  ME,
  OTHER,
  ports,
  portsOf,
  SIZE,
  sorted,
  take,
} from './lease-shard.ts'

const takeAs = (wanted: number, preservePorts: boolean, parity: boolean): number =>
  ports.takePort(0, UDP_SPACE, wanted, { preservePorts, parity })
const gauges = (space: number) => ({
  used: counters[CELL.portsUsed + space],
  quarantined: counters[CELL.portsResting + space],
  leased: counters[CELL.portsLeased + space],
})

describe('a port on which the host has a socket', () => {
  const bind = (space: number, port: number, bound = true): void => externals.setHostBound(0, space, port, bound)
  const choices = [
    ['at random', {}],
    ['with the inside port’s number', { preserve: true }],
    ['with its parity', { parity: true }],
  ] as const
  for (const [how, { preserve = false, parity = false }] of choices.map(
    ([name, choice]) => [name, choice as { preserve?: boolean; parity?: boolean }] as const,
  ))
    it(`is not given ${how}`, () => {
      lease(ME, UDP_SPACE, A, B)
      lease(ME, TCP_SPACE, A)
      const bound = portsOf(A).filter((_, i) => i % 3 !== 0)
      for (const port of bound) bind(UDP_SPACE, port)
      const free = [...portsOf(A), ...portsOf(B)].filter((port) => !bound.includes(port))
      const given = Array.from({ length: free.length }, (_, i) => takeAs(bound[i % bound.length]!, preserve, parity))
      expect(sorted(given)).toEqual(free)
      expect(takeAs(bound[0]!, preserve, parity)).toBe(-1)
      // The other protocol's port of that number is another port.
      expect(take(TCP_SPACE, bound[0], true)).toBe(bound[0])
    })

  it('is given when the socket is gone: within a second of the clock, if the block was left without any', () => {
    lease(ME, UDP_SPACE, A)
    for (const port of portsOf(A)) bind(UDP_SPACE, port)
    expect(take(UDP_SPACE)).toBe(-1)
    bind(UDP_SPACE, A * SIZE + 4, false)
    ports.endQuarantine()
    expect([take(UDP_SPACE), take(UDP_SPACE)]).toEqual([A * SIZE + 4, -1])
    expect(gauges(UDP_SPACE)).toEqual({ used: 1, quarantined: 0, leased: SIZE })
  })

  it('stays the mapping’s that has it, goes into quarantine behind it, and is not given after that', () => {
    lease(ME, UDP_SPACE, A)
    const port = take(UDP_SPACE)
    for (const other of portsOf(A)) bind(UDP_SPACE, other)
    ports.freePort(externals.portIndex(0, UDP_SPACE, port))
    expect(gauges(UDP_SPACE)).toEqual({ used: 0, quarantined: 1, leased: SIZE })
    clock.setClock(1_120_000)
    ports.endQuarantine()
    expect(gauges(UDP_SPACE)).toEqual({ used: 0, quarantined: 0, leased: SIZE })
    expect(take(UDP_SPACE)).toBe(-1)
    bind(UDP_SPACE, port, false)
    ports.endQuarantine()
    expect(take(UDP_SPACE)).toBe(port)
  })

  it('does not keep its block from moving, and moves with it; a block of nothing else does not move', () => {
    for (const block of [A, B, C]) externals.lease(0, UDP_SPACE, block, OTHER)
    for (const port of portsOf(A)) bind(UDP_SPACE, port)
    for (const port of portsOf(B).slice(1)) bind(UDP_SPACE, port)
    for (const port of portsOf(C).slice(2)) bind(UDP_SPACE, port)
    const moved = (): number[] => [A, B, C].filter((block) => externals.ownerOfBlock(0, UDP_SPACE, block) === 0)
    expect(moveFreeBlock(externals, 0, UDP_SPACE, 0)).toBe(true)
    expect(moved()).toEqual([C])
    ports.followLeases()
    expect(sorted([take(UDP_SPACE), take(UDP_SPACE), take(UDP_SPACE)])).toEqual([-1, ...portsOf(C).slice(0, 2)])
    expect(moveFreeBlock(externals, 0, UDP_SPACE, 0)).toBe(false)
  })

  it('is not given if the socket is opened between the look at its word and the taking', () => {
    lease(ME, UDP_SPACE, A)
    const port = A * SIZE + 5
    const compareExchange = Atomics.compareExchange
    const overtaken = vi.spyOn(Atomics, 'compareExchange').mockImplementationOnce(((
      words: Int32Array,
      ...change: [number, number, number]
    ) => {
      bind(UDP_SPACE, port)
      return compareExchange(words, ...change)
    }) as typeof Atomics.compareExchange)
    expect(take(UDP_SPACE, port, true)).not.toBe(port)
    overtaken.mockRestore()
    expect([isMapped(externals.portWords[externals.portIndex(0, UDP_SPACE, port)]!)]).toEqual([false])
  })

  it('is given back although the socket was opened between the taking and its undoing', () => {
    lease(ME, UDP_SPACE, A)
    const port = A * SIZE + 5
    const compareExchange = Atomics.compareExchange
    const overtaken = vi.spyOn(Atomics, 'compareExchange').mockImplementationOnce(((
      words: Int32Array,
      ...change: [number, number, number]
    ) => {
      const found = compareExchange(words, ...change)
      externals.lease(0, UDP_SPACE, A, OTHER)
      bind(UDP_SPACE, port)
      return found
    }) as typeof Atomics.compareExchange)
    take(UDP_SPACE, port, true)
    overtaken.mockRestore()
    const word = externals.portWords[externals.portIndex(0, UDP_SPACE, port)]!
    expect([isMapped(word), isHostBound(word)]).toEqual([false, true])
  })
})
