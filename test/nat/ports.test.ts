// Taking and freeing of ports (RFC 4787 REQ-3 and REQ-4, RFC 6056, RFC 6888 REQ-8 and REQ-15), against a model of plain
// maps: what may be given, what is given, and that nothing which may be given is forgotten.

import fc from 'fast-check'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { CELL, counterBlock } from '../../src/counters/counters.ts'
import { attach } from '../../src/memory/attached.ts'
import { allocate, Region } from '../../src/memory/region.ts'
import { Externals, POOL, SHARED, TCP_SPACE, UDP_SPACE } from '../../src/nat/externals.ts'
import { isHostBound, isMapped, MAPPED, withContent } from '../../src/nat/port-words.ts'

const BLOCK = 16
const FIRST = 1250
const QUARANTINE_SECONDS = 120
const portsOf = (block: number): number[] => Array.from({ length: BLOCK }, (_, i) => block * BLOCK + i)

let ports: typeof import('../../src/nat/ports.shard.ts') & typeof import('../../src/nat/blocks.shard.ts')
let clock: typeof import('../../src/memory/clock.ts')
let externals: Externals
let counters: Float64Array

beforeEach(async () => {
  const block = allocate(counterBlock)
  counters = block.view
  const unused = new Region()
  const tables = {
    packetMemory: new ArrayBuffer(0),
    connections: unused,
    mappings: unused,
    permissions: unused,
    sequences: unused,
    gone: unused,
    events: unused,
    capacity: 1,
    mappingCapacity: 1,
  }
  vi.resetModules()
  attach({ ...tables, counters: new Region(block.buffer) })
  ports = {
    ...(await import('../../src/nat/ports.shard.ts')),
    ...(await import('../../src/nat/blocks.shard.ts')),
  }
  clock = await import('../../src/memory/clock.ts')
  externals = allocate((region) => new Externals(region, { capacity: 1, blockSize: BLOCK })).view
  begin()
})

/** One address, no block leased yet, second 1000. */
function begin(): void {
  externals = allocate((region) => new Externals(region, { capacity: 1, blockSize: BLOCK })).view
  externals.add(1, SHARED)
  ports.attachPorts(externals, 0)
  at(1000)
}

const at = (second: number): void => clock.setClock(second * 1000)

function lease(space: number, ...blocks: number[]): void {
  for (const block of blocks) externals.lease(0, space, block, 0)
  ports.followLeases()
}

const take = (space: number, wanted = 5000, preserve = false, parity = false): number =>
  ports.takePort(0, space, wanted, { preservePorts: preserve, parity })

const gauges = (space: number) => ({
  used: counters[CELL.portsUsed + space],
  quarantined: counters[CELL.portsResting + space],
  leased: counters[CELL.portsLeased + space],
})

describe('taking a port', () => {
  it('gives every port of the leased blocks once, then none', () => {
    lease(UDP_SPACE, FIRST, FIRST + 3)
    const given = Array.from({ length: 32 }, () => take(UDP_SPACE))
    expect(given.toSorted((a, b) => a - b)).toEqual([...portsOf(FIRST), ...portsOf(FIRST + 3)])
    expect(take(UDP_SPACE)).toBe(-1)
    expect(gauges(UDP_SPACE)).toEqual({ used: 32, quarantined: 0, leased: 32 })
  })

  it('gives nothing of blocks that another shard leases, or nobody', () => {
    externals.lease(0, UDP_SPACE, FIRST, 1)
    lease(TCP_SPACE, FIRST)
    expect(take(UDP_SPACE)).toBe(-1)
  })

  it("makes it NAT's on a shared address, and freeing it the host's; a pool's are NAT's that are leased", () => {
    lease(UDP_SPACE, FIRST)
    const port = take(UDP_SPACE)
    const isNats = (entry: number, which: number): boolean => ports.isNatPort(entry, 17, which)
    expect(portsOf(FIRST).filter((each) => isNats(0, each))).toEqual([port])
    expect(ports.isNatPort(0, 6, port)).toBe(false)
    ports.freePort(externals.portIndex(0, UDP_SPACE, port))
    expect(isNats(0, port)).toBe(false)
    externals.remove(0)
    externals.add(1, POOL)
    externals.lease(0, UDP_SPACE, FIRST, 1)
    expect([...portsOf(FIRST), (FIRST + 1) * BLOCK].filter((each) => isNats(0, each))).toEqual(portsOf(FIRST))
  })

  it('does not do it in order (RFC 6056), and spreads over blocks', () => {
    lease(UDP_SPACE, ...Array.from({ length: 64 }, (_, i) => FIRST + i))
    const given = Array.from({ length: 64 }, () => take(UDP_SPACE))
    const steps = given.slice(1).map((port, i) => port - given[i]!)
    expect(new Set(steps).size).toBeGreaterThan(40)
    expect(new Set(given.map((port) => Math.floor(port / BLOCK))).size).toBeGreaterThan(25)
  })

  it("preserves the inside port's number, if wanted and free", () => {
    lease(UDP_SPACE, FIRST)
    const wanted = FIRST * BLOCK + 5
    expect(take(UDP_SPACE, wanted, true)).toBe(wanted)
    const other = take(UDP_SPACE, wanted, true)
    expect(portsOf(FIRST)).toContain(other)
    expect(other).not.toBe(wanted)
    expect(portsOf(FIRST)).toContain(take(UDP_SPACE, 80, true))
  })

  it('keeps parity as long as there is a port of it (RFC 4787 REQ-4), then takes any', () => {
    lease(UDP_SPACE, FIRST)
    const given = Array.from({ length: 16 }, () => take(UDP_SPACE, 5001, false, true))
    expect(given.slice(0, 8).every((port) => port % 2 === 1)).toBe(true)
    expect(given.slice(8).every((port) => port % 2 === 0)).toBe(true)
  })
})

describe('freeing a port', () => {
  it('of TCP: it may be given again at once', () => {
    lease(TCP_SPACE, FIRST)
    for (let i = 0; i < BLOCK; i++) take(TCP_SPACE)
    ports.freePort(externals.portIndex(0, TCP_SPACE, FIRST * BLOCK + 3))
    expect(take(TCP_SPACE)).toBe(FIRST * BLOCK + 3)
  })

  it('of UDP: it is in quarantine for 120 s (RFC 6888 REQ-8)', () => {
    lease(UDP_SPACE, FIRST)
    for (let i = 0; i < BLOCK; i++) take(UDP_SPACE)
    ports.freePort(externals.portIndex(0, UDP_SPACE, FIRST * BLOCK + 3))
    expect(gauges(UDP_SPACE)).toEqual({ used: 15, quarantined: 1, leased: 16 })
    for (const second of [1000, 1119]) {
      at(second)
      ports.endQuarantine()
      expect(take(UDP_SPACE)).toBe(-1)
    }
    at(1120)
    ports.endQuarantine()
    expect(take(UDP_SPACE)).toBe(FIRST * BLOCK + 3)
    expect(gauges(UDP_SPACE)).toEqual({ used: 16, quarantined: 0, leased: 16 })
  })

  it('in the second that its rest ends is no use before the shard has looked', () => {
    lease(UDP_SPACE, FIRST)
    const taken = Array.from({ length: BLOCK }, () => take(UDP_SPACE))
    ports.freePort(externals.portIndex(0, UDP_SPACE, taken[0]!))
    at(1120)
    expect(take(UDP_SPACE)).toBe(-1)
    ports.endQuarantine()
    expect(take(UDP_SPACE)).toBe(taken[0])
    at(1121)
    ports.endQuarantine()
    expect(take(UDP_SPACE)).toBe(-1)
  })

  it('is for good: a port out of quarantine does not seem to be in it again when its clock has gone round', () => {
    lease(UDP_SPACE, FIRST)
    for (let i = 0; i < BLOCK; i++) ports.freePort(externals.portIndex(0, UDP_SPACE, take(UDP_SPACE)))
    at(1200)
    ports.endQuarantine()
    // 4095 seconds after they were freed.
    at(5100)
    ports.endQuarantine()
    const given = Array.from({ length: BLOCK }, () => take(UDP_SPACE))
    expect(given.toSorted((a, b) => a - b)).toEqual(portsOf(FIRST))
  })
})

describe('leases', () => {
  it('that end take their free ports with them, and those in quarantine', () => {
    lease(UDP_SPACE, FIRST, FIRST + 1)
    const taken = take(UDP_SPACE)
    ports.freePort(externals.portIndex(0, UDP_SPACE, taken))
    const block = Math.floor(taken / BLOCK)
    expect(externals.takeBack(0, UDP_SPACE, block)).toBe(true)
    ports.followLeases()
    expect(gauges(UDP_SPACE)).toEqual({ used: 0, quarantined: 0, leased: 16 })
    const other = block === FIRST ? FIRST + 1 : FIRST
    const given = Array.from({ length: BLOCK }, () => take(UDP_SPACE))
    expect(given.toSorted((a, b) => a - b)).toEqual(portsOf(other))
    expect(take(UDP_SPACE)).toBe(-1)
  })

  it('that come back within a quarantine go on with it, once', () => {
    lease(UDP_SPACE, FIRST)
    for (let i = 0; i < BLOCK; i++) ports.freePort(externals.portIndex(0, UDP_SPACE, take(UDP_SPACE)))
    externals.takeBack(0, UDP_SPACE, FIRST)
    ports.followLeases()
    at(1060)
    lease(UDP_SPACE, FIRST)
    expect(take(UDP_SPACE)).toBe(-1)
    expect(gauges(UDP_SPACE)).toEqual({ used: 0, quarantined: 16, leased: 16 })
    at(1180)
    ports.endQuarantine()
    expect(new Set(Array.from({ length: BLOCK }, () => take(UDP_SPACE))).size).toBe(BLOCK)
    expect(gauges(UDP_SPACE)).toEqual({ used: 16, quarantined: 0, leased: 16 })
  })
})

describe('any sequence of taking, freeing, waiting, leasing and taking back', () => {
  type Step =
    | { readonly do: 'take'; readonly preserve: number }
    | { readonly do: 'free' | 'lease' | 'takeBack'; readonly which: number }
    | { readonly do: 'wait'; readonly seconds: number }
  const step = (): fc.Arbitrary<Step> =>
    fc.oneof(
      { weight: 8, arbitrary: fc.record({ do: fc.constant('take' as const), preserve: fc.nat(63) }) },
      { weight: 5, arbitrary: fc.record({ do: fc.constant('free' as const), which: fc.nat(40) }) },
      {
        weight: 1,
        arbitrary: fc.record({ do: fc.constantFrom('lease' as const, 'takeBack' as const), which: fc.nat(2) }),
      },
      {
        weight: 2,
        arbitrary: fc.record({ do: fc.constant('wait' as const), seconds: fc.constantFrom(1, 60, 120, 4000) }),
      },
    )

  for (const [name, space, quarantine] of [
    ['UDP', UDP_SPACE, QUARANTINE_SECONDS],
    ['TCP', TCP_SPACE, 0],
  ] as const)
    it(`${name}: no port is given twice, nor too early, nor forgotten`, () => {
      fc.assert(
        fc.property(fc.array(step(), { maxLength: 100 }), (steps) => {
          begin()
          let second = 1000
          const taken = new Set<number>()
          const usableFrom = new Map<number, number>()
          const leased = new Set<number>()
          const free = (): number[] =>
            [...leased]
              .flatMap((block) => portsOf(block))
              .filter((port) => !taken.has(port) && (usableFrom.get(port) ?? 0) <= second)
          for (const one of steps) {
            if (one.do === 'take') {
              const wanted = FIRST * BLOCK + one.preserve
              const usable = free()
              const port = take(space, wanted, true)
              if (usable.includes(wanted)) expect(port).toBe(wanted)
              else if (usable.length > 0) expect(usable).toContain(port)
              else expect(port).toBe(-1)
              if (port >= 0) taken.add(port)
            } else if (one.do === 'free') {
              const port = [...taken][one.which]
              if (port === undefined) continue
              ports.freePort(externals.portIndex(0, space, port))
              taken.delete(port)
              usableFrom.set(port, second + quarantine)
            } else if (one.do === 'wait') {
              second += one.seconds
              at(second)
              ports.endQuarantine()
            } else if (one.do === 'lease') {
              const block = FIRST + one.which
              // What was in quarantine in nobody's block is so for a whole time in its next lessee's, at most.
              if (!leased.has(block))
                for (const port of portsOf(block))
                  if ((usableFrom.get(port) ?? 0) > second) usableFrom.set(port, second + quarantine)
              lease(space, block)
              leased.add(block)
            } else {
              const block = FIRST + one.which
              const isUsed = portsOf(block).some((port) => taken.has(port))
              if (leased.has(block)) expect(externals.takeBack(0, space, block)).toBe(!isUsed)
              if (!isUsed) leased.delete(block)
              ports.followLeases()
            }
            expect(gauges(space)).toMatchObject({ used: taken.size, leased: leased.size * BLOCK })
          }
        }),
        { numRuns: 300 },
      )
    })
})

describe('the ports of a dead shard', () => {
  /** Its successor begins; mappings have these ports of UDP. */
  function succeed(mapped: readonly number[] = [], shards = 1, callOut: () => void = () => {}): void {
    const has = new Set(mapped.map((port) => externals.portIndex(0, UDP_SPACE, port)))
    ports.attachPorts(externals, 0, shards, callOut)
    ports.recoverPorts(has)
    ports.followLeases()
  }
  const wordOf = (port: number): number => externals.portWords[externals.portIndex(0, UDP_SPACE, port)]!

  it('stay taken if a mapping has them, else they are in quarantine from now on', () => {
    lease(UDP_SPACE, FIRST)
    const [kept] = [take(UDP_SPACE), take(UDP_SPACE), take(UDP_SPACE)]
    succeed([kept!])
    expect(gauges(UDP_SPACE)).toEqual({ used: 1, quarantined: 2, leased: BLOCK })
    at(1000 + QUARANTINE_SECONDS)
    ports.endQuarantine()
    expect(gauges(UDP_SPACE)).toEqual({ used: 1, quarantined: 0, leased: BLOCK })
    expect(Array.from({ length: BLOCK }, () => take(UDP_SPACE)).filter((port) => port >= 0)).toHaveLength(BLOCK - 1)
  })

  it('are freed in a block that is no longer leased, too', () => {
    lease(UDP_SPACE, FIRST)
    const port = take(UDP_SPACE)
    externals.remove(0)
    succeed()
    expect(isMapped(wordOf(port))).toBe(false)
  })

  it('are freed there although the host has opened a socket on them since; the port stays the host’s', () => {
    lease(UDP_SPACE, FIRST)
    const port = take(UDP_SPACE)
    externals.remove(0)
    externals.setHostBound(0, UDP_SPACE, port, true)
    succeed()
    expect([isMapped(wordOf(port)), isHostBound(wordOf(port))]).toEqual([false, true])
  })

  it('are left alone if another shard has taken them since', () => {
    lease(UDP_SPACE, FIRST)
    const port = take(UDP_SPACE)
    ports.intendToFree(externals.portIndex(0, UDP_SPACE, port))
    ports.freePort(externals.portIndex(0, UDP_SPACE, port))
    externals.lease(0, UDP_SPACE, FIRST, 1)
    externals.portWords[externals.portIndex(0, UDP_SPACE, port)] = withContent(wordOf(port), MAPPED)
    succeed()
    expect(isMapped(wordOf(port))).toBe(true)
  })

  it('are asked for once more: who asked may not have called', () => {
    let calls = 0
    externals.ask(0, 0, UDP_SPACE)
    succeed([], 2, () => calls++)
    expect(calls).toBe(1)
  })
})
