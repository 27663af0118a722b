import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { allocate, Region } from '../../src/memory/region.ts'
import {
  Fib,
  FibCapacityError,
  type FibNeighbour,
  type FibPort,
  type FibRoute,
  type FibSnapshot,
  FOUND,
  NEIGHBOUR,
  ROUTE,
} from '../../src/routing/fib.ts'
import { PATIENCE_MS } from '../patience.ts'
import type { FibWriterData } from './fib-writer.ts'

const addr = (text: string): number => new Int32Array(Uint8Array.from(text.split('.'), Number).buffer)[0]
const mac = (text: string): Uint8Array => Uint8Array.from(text.split(':'), (byte) => Number.parseInt(byte, 16))

const LAN: FibPort = { up: true, mtu: 1500, address: addr('10.0.0.1'), mac: mac('02:00:00:00:00:01') }
const WAN: FibPort = { up: true, mtu: 1400, address: addr('203.0.113.2'), mac: mac('02:aa:bb:cc:dd:02') }

const route = (prefix: string, fields: Partial<FibRoute>): FibRoute => {
  const [destination, length] = prefix.split('/')
  const defaults = { type: ROUTE.unicast, port: -1, gateway: 0, source: 0, mtu: 0, metric: 0 } as const
  return { ...defaults, destination: addr(destination), length: Number(length), ...fields }
}

const make = (options: { routes?: number; neighbours?: number } = {}): Fib =>
  allocate((region) => new Fib(region, { ports: 2, shards: 2, ...options })).view

const withRoutes = (...routes: FibRoute[]): FibSnapshot => ({ ports: [LAN, WAN], routes, neighbours: [] })

function lookup(fib: Fib, destination: string | number) {
  const out = new Int32Array(FOUND.words).fill(0x5a5a5a5a)
  fib.lookup(typeof destination === 'number' ? destination : addr(destination), out)
  return {
    type: out[FOUND.type],
    port: out[FOUND.port],
    gateway: out[FOUND.gateway],
    source: out[FOUND.source],
    mtu: out[FOUND.mtu],
    neighbour: out[FOUND.neighbour],
    ethernet: Buffer.from(out.buffer, FOUND.mac0 * 4, 12).toString('hex'),
  }
}

describe('forwarding information base', () => {
  it('knows no route and no port before the first snapshot', () => {
    const fib = make()
    expect(fib.version()).toBe(0)
    expect(lookup(fib, '192.0.2.1')).toMatchObject({ type: ROUTE.none, port: -1, gateway: 0, mtu: 0 })
    expect(fib.portUp(0)).toBe(false)
  })

  it('finds the longest prefix, with the next hop, source and MTU that follow from it', () => {
    const fib = make()
    fib.publish(
      withRoutes(
        route('0.0.0.0/0', { port: 1, gateway: addr('203.0.113.1') }),
        route('203.0.113.0/24', { port: 1 }),
        route('10.0.0.0/8', { port: 0, source: addr('10.0.0.7'), mtu: 1300 }),
        route('10.9.0.0/16', { port: 1, mtu: 9000 }),
        route('10.9.9.0/24', { type: ROUTE.refused }),
        route('10.0.0.1/32', { type: ROUTE.local, port: 0 }),
        route('10.255.255.255/32', { type: ROUTE.broadcast, port: 0 }),
        route('127.0.0.0/8', { type: ROUTE.local }),
      ),
    )
    const found = [
      ['198.51.100.9', { type: ROUTE.unicast, port: 1, gateway: addr('203.0.113.1'), source: WAN.address, mtu: 1400 }],
      ['203.0.113.77', { type: ROUTE.unicast, port: 1, gateway: addr('203.0.113.77'), source: WAN.address, mtu: 1400 }],
      ['10.1.2.3', { type: ROUTE.unicast, port: 0, source: addr('10.0.0.7'), mtu: 1300 }],
      ['10.9.1.1', { type: ROUTE.unicast, port: 1, mtu: 1400 }],
      ['10.9.9.1', { type: ROUTE.refused, port: -1 }],
      ['10.0.0.1', { type: ROUTE.local, port: 0 }],
      ['10.255.255.255', { type: ROUTE.broadcast, port: 0 }],
      ['127.3.2.1', { type: ROUTE.local, port: -1, mtu: 0 }],
    ] as const
    for (const [destination, expected] of found) expect(lookup(fib, destination), destination).toMatchObject(expected)
  })

  it('answers multicast and the limited broadcast whatever the routes say', () => {
    const fib = make()
    fib.publish(withRoutes(route('0.0.0.0/0', { port: 1 })))
    expect(lookup(fib, '224.0.0.251')).toMatchObject({ type: ROUTE.multicast, port: -1 })
    expect(lookup(fib, '239.255.255.250')).toMatchObject({ type: ROUTE.multicast, port: -1 })
    expect(lookup(fib, '255.255.255.255')).toMatchObject({ type: ROUTE.broadcast, port: -1 })
    expect(lookup(fib, '223.255.255.255')).toMatchObject({ type: ROUTE.unicast })
    expect(lookup(fib, '240.0.0.1')).toMatchObject({ type: ROUTE.unicast })
  })

  it('uses the lowest metric of one prefix, and the local table before all', () => {
    const fib = make()
    fib.publish(
      withRoutes(
        route('0.0.0.0/0', { port: 1, metric: 100 }),
        route('0.0.0.0/0', { port: 0, metric: 50 }),
        route('0.0.0.0/0', { port: 1, metric: 0xffffffff }),
        route('192.0.2.1/32', { port: 0, metric: 0 }),
        route('192.0.2.1/32', { type: ROUTE.local, port: 1, metric: -1 }),
      ),
    )
    expect(lookup(fib, '8.8.8.8')).toMatchObject({ port: 0 })
    expect(lookup(fib, '192.0.2.1')).toMatchObject({ type: ROUTE.local, port: 1 })
  })

  it('equals a linear search for the longest prefix, on random routes', () => {
    // Few distinct bytes, so that prefixes nest and fork at every depth.
    const octet = fc.constantFrom(0, 1, 2, 3, 10, 127, 128, 192, 254, 255)
    const address = fc.tuple(octet, octet, octet, octet).map((octets) => octets.join('.'))
    const prefix = fc.record({
      address,
      length: fc.integer({ min: 0, max: 32 }),
      mtu: fc.integer({ min: 68, max: 1499 }),
    })
    const bits = (text: string, length: number): bigint => {
      const value = text.split('.').reduce((sum, octet) => (sum << 8n) | BigInt(octet), 0n)
      return value >> BigInt(32 - length)
    }
    fc.assert(
      fc.property(
        fc.array(prefix, { maxLength: 60 }),
        fc.array(address, { minLength: 1, maxLength: 40 }),
        (rows, probes) => {
          const fib = make({ routes: 60 })
          fib.publish(
            withRoutes(...rows.map((row) => route(`${row.address}/${row.length}`, { port: 0, mtu: row.mtu }))),
          )
          // Addresses that routes name are the most telling ones to ask for.
          for (const destination of [...probes, ...rows.map((row) => row.address)]) {
            if (/^(22[4-9]|23\d)\.|^255\.255\.255\.255$/.test(destination)) continue
            let best = { length: -1, mtu: 0 }
            for (const row of rows)
              if (row.length > best.length && bits(row.address, row.length) === bits(destination, row.length))
                best = row
            expect(lookup(fib, destination), destination).toMatchObject({
              type: best.length < 0 ? ROUTE.none : ROUTE.unicast,
              mtu: best.mtu,
            })
          }
        },
      ),
    )
  })

  it('holds as many routes as it was made for, however they fork, and refuses one more, keeping what it had', () => {
    const fib = make({ routes: 64 })
    const comb = Array.from({ length: 32 }, (_, length) => [
      route(`0.0.0.0/${length + 1}`, { port: 0 }),
      route('0.0.0.0/32', { port: 0, destination: new Int32Array(Uint8Array.of(0, 0, 0, length + 1).buffer)[0] }),
    ]).flat()
    fib.publish(withRoutes(...comb))
    expect(lookup(fib, '0.0.0.5')).toMatchObject({ type: ROUTE.unicast })
    expect(() => fib.publish(withRoutes(...comb, route('192.0.2.0/24', { port: 1 })))).toThrow(FibCapacityError)
    expect(() => fib.publish(withRoutes(...comb, route('192.0.2.0/24', { port: 1 })))).toThrow(/65 routes.*at most 64/)
    expect(fib.version()).toBe(1)
    expect(lookup(fib, '0.0.0.5')).toMatchObject({ type: ROUTE.unicast })
    expect(lookup(fib, '192.0.2.1')).toMatchObject({ type: ROUTE.none })
  })
})

describe('ports', () => {
  it('tells a port’s link and address as the last snapshot has them', () => {
    const fib = make()
    fib.publish(withRoutes())
    expect([fib.portUp(1), fib.portMtu(1), fib.portAddress(1)]).toEqual([true, 1400, WAN.address])
    expect(fib.portMacHigh(1)).toBe(new Int32Array(WAN.mac.slice(0, 4).buffer)[0])
    expect(fib.portMacLow(1)).toBe(0x02dd)
    fib.publish({ ...withRoutes(), ports: [LAN, { up: false, mtu: 0, address: 0, mac: new Uint8Array(6) }] })
    expect([fib.portUp(1), fib.portMtu(1), fib.portAddress(1), fib.portMacHigh(1)]).toEqual([false, 0, 0, 0])
    expect(fib.portUp(0)).toBe(true)
  })
})

describe('neighbours', () => {
  const gateway = addr('203.0.113.1')
  const resolved: FibNeighbour = { port: 1, address: gateway, state: NEIGHBOUR.resolved, mac: mac('06:11:22:33:44:55') }
  const table = (...neighbours: FibNeighbour[]): FibSnapshot => ({
    ...withRoutes(route('0.0.0.0/0', { port: 1, gateway }), route('10.0.0.0/8', { port: 0 })),
    neighbours,
  })

  it('gives the Ethernet header to a resolved next hop', () => {
    const fib = make()
    fib.publish(table(resolved))
    expect(lookup(fib, '8.8.8.8')).toMatchObject({
      neighbour: NEIGHBOUR.resolved,
      ethernet: '061122334455' + '02aabbccdd02',
    })
  })

  it('distinguishes unknown, pending and failed, and one address on two ports', () => {
    const fib = make()
    fib.publish(table())
    expect(lookup(fib, '8.8.8.8').neighbour).toBe(NEIGHBOUR.unknown)
    fib.publish(table({ ...resolved, state: NEIGHBOUR.pending }))
    expect(lookup(fib, '8.8.8.8').neighbour).toBe(NEIGHBOUR.pending)
    fib.publish(table({ ...resolved, state: NEIGHBOUR.failed }))
    expect(lookup(fib, '8.8.8.8').neighbour).toBe(NEIGHBOUR.failed)
    fib.publish(table({ ...resolved, port: 0 }))
    expect(lookup(fib, '8.8.8.8').neighbour).toBe(NEIGHBOUR.unknown)
  })

  it('finds each of a full table', () => {
    const fib = make({ neighbours: 500 })
    const all = Array.from({ length: 500 }, (_, n): FibNeighbour => {
      const address = addr(`10.0.${n >> 8}.${n & 255}`)
      return { port: 0, address, state: NEIGHBOUR.resolved, mac: Uint8Array.of(2, 0, 0, 0, n >> 8, n & 255) }
    })
    fib.publish(table(...all))
    for (const { address, mac } of all)
      expect(lookup(fib, address).ethernet).toBe(`${Buffer.from(mac).toString('hex')}020000000001`)
    expect(() => fib.publish(table(...all, resolved))).toThrow(/501 neighbours.*at most 500/)
  })

  it('carries requests to the watcher, each shard in its own order, and refuses when a ring is full', () => {
    const fib = make()
    const taken: [number, number][] = []
    const take = () => fib.takeRequests((port, address) => taken.push([port, address]))
    for (let lap = 0; lap < 3; lap++) {
      let put = 0
      while (fib.requestNeighbour(1, lap, put)) put++
      expect(put).toBe(256)
      expect(fib.requestNeighbour(0, 9, -1)).toBe(true)
      take()
      expect(taken.splice(0)).toEqual([[9, -1], ...Array.from({ length: 256 }, (_, n) => [lap, n])])
    }
    take()
    expect(taken).toEqual([])
  })
})

describe('a writer in another thread', () => {
  it('never lets a reader see two snapshots mixed', async () => {
    const options = { ports: 1, shards: 1, routes: 2, neighbours: 4 }
    const { buffer } = allocate((region) => new Fib(region, options))
    const fib = new Fib(new Region(buffer), options)
    const destination = addr('192.0.2.1')
    const stop = new SharedArrayBuffer(4)
    const workerData: FibWriterData = { buffer, options, destination, stop }
    const script = new URL('../../dist/test/routing/fib-writer.js', import.meta.url)
    const writer = new Worker(script, { workerData })
    const ended = once(writer, 'exit')
    const out = new Int32Array(FOUND.words)
    const seen = new Set<number>()
    // This loop keeps the event loop: the writer's snapshots are seen in shared memory. Many of them, where there are
    // two processors; where there is one, few in a long time.
    const [begin, enough, long] = [performance.now(), 50_000, 5000]
    const isOver = (): boolean => {
      const elapsed = performance.now() - begin
      return seen.size >= enough || (seen.size > 1 && elapsed > long) || elapsed > PATIENCE_MS
    }
    try {
      while (!isOver()) {
        const none = fib.version() === 0
        fib.lookup(destination, out)
        const n = out[FOUND.gateway]
        if (none) continue
        seen.add(n)
        const torn = out[FOUND.source] !== n || out[FOUND.mac0] !== n || out[FOUND.neighbour] !== NEIGHBOUR.resolved
        if (torn) expect.fail(`a mixture: ${out.join(' ')}`)
      }
    } finally {
      Atomics.store(new Int32Array(stop), 0, 1)
      await ended
    }
    expect(seen.size).toBeGreaterThan(1)
  })
})
