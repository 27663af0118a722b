// What a look at the host's sockets makes of the port words, of the rules and of the log.

import { beforeEach, describe, expect, it } from 'vitest'
import { HostSockets } from '../../../src/coordinator/leases/host-sockets.ts'
import type { PortRange } from '../../../src/host/port-range.ts'
import { allocate } from '../../../src/memory/region.ts'
import { Externals, SHARED, TCP_SPACE, UDP_SPACE } from '../../../src/nat/externals.ts'
import type { PortForward } from '../../../src/nat/port-forward-rules.ts'
import { isHostBound, MAPPED, RESERVATION, withContent } from '../../../src/nat/port-words.ts'
import { parseAddress } from '../../../src/wire/address.ts'

const WAN = parseAddress('203.0.113.1')
const OTHER = parseAddress('203.0.113.9')
const PORTS: PortRange = { from: 16384, to: 60991 }
const TCP = 6
const UDP = 17

let externals: Externals
/** `protocol port` of the host's sockets, by address. */
let sockets: Map<number, Set<string>>
let listings: { readonly range: PortRange; readonly protocol: number }[]
let hidden: string[][]
let warnings: object[]
let nftFails: boolean
let listFails: boolean
let now: number
/** How long a listing takes. */
let cost: number

beforeEach(() => {
  externals = allocate((region) => new Externals(region, { capacity: 2, blockSize: 64 })).view
  sockets = new Map([[WAN, new Set()]])
  listings = []
  hidden = []
  warnings = []
  nftFails = false
  listFails = false
  now = 0
  cost = 0
})

const looking = (portForwards: readonly PortForward[] = []): HostSockets =>
  new HostSockets({
    externals,
    ports: PORTS,
    portForwards,
    host: {
      contest(ports) {
        if (nftFails) throw new Error('nft failed')
        hidden.push(ports.map(({ protocol, port }) => `${protocol} ${port}`))
      },
    },
    log: { warn: (what: object) => void warnings.push(what) },
    list([address], range, [protocol] = []) {
      if (listFails) throw new Error('ENOBUFS')
      listings.push({ range, protocol: protocol! })
      now += cost
      const ports = [...(sockets.get(address!) ?? [])].map((text) => text.split(' ').map(Number))
      return new Set(
        ports
          .filter(([of, port]) => of === protocol && port! >= range.from && port! <= range.to)
          .map(([, port]) => port!),
      )
    },
    now: () => now,
  })

const open = (protocol: number, port: number, address = WAN): void =>
  void sockets.get(address)?.add(`${protocol} ${port}`)
const close = (protocol: number, port: number): void => void sockets.get(WAN)?.delete(`${protocol} ${port}`)
const change = (space: number, port: number, content: number): void => {
  const at = externals.portIndex(0, space, port)
  externals.portWords[at] = withContent(externals.portWords[at]!, content)
}
/** Ports whose words say that the host has a socket. */
const bound = (space: number, entry = 0): number[] =>
  Array.from({ length: 65536 }, (_, port) => port).filter((port) =>
    isHostBound(externals.portWords[externals.portIndex(entry, space, port)]!),
  )

describe('the host’s sockets', () => {
  it('are marked in the words of their protocol before any port is leased, and unmarked when they are gone', () => {
    open(TCP, 20000)
    open(UDP, 20001)
    open(UDP, 60992)
    const looked = looking()
    looked.follow(externals.add(WAN, SHARED))
    expect([bound(TCP_SPACE), bound(UDP_SPACE)]).toEqual([[20000], [20001]])
    close(TCP, 20000)
    open(TCP, 20002)
    looked.look()
    expect([bound(TCP_SPACE), bound(UDP_SPACE)]).toEqual([[20002], [20001]])
    expect([looked.bound(TCP), looked.bound(UDP), looked.contested(UDP)]).toEqual([1, 1, 0])
    expect([hidden, warnings]).toEqual([[], []])
  })

  it('are those of the present address, also where the next one gets the same entry', () => {
    open(UDP, 20000)
    const looked = looking()
    looked.follow(externals.add(WAN, SHARED))
    sockets.set(OTHER, new Set(['17 30000']))
    externals.remove(0)
    looked.follow(externals.add(OTHER, SHARED))
    expect(bound(UDP_SPACE)).toEqual([30000])
    looked.follow(-1)
    expect(bound(UDP_SPACE)).toEqual([])
    looked.look()
    expect(bound(UDP_SPACE)).toEqual([])
  })

  it('keep their marks whatever NAT does with the ports meanwhile', () => {
    open(UDP, 20000)
    const looked = looking()
    looked.follow(externals.add(WAN, SHARED))
    for (const content of [MAPPED, MAPPED | RESERVATION, RESERVATION, 0]) {
      change(UDP_SPACE, 20000, content)
      looked.look()
      expect(bound(UDP_SPACE)).toEqual([20000])
    }
    close(UDP, 20000)
    looked.look()
    expect(bound(UDP_SPACE)).toEqual([])
  })

  it('are nobody’s guess after a look that failed: their number is unknown until one succeeds', () => {
    open(TCP, 20000)
    const looked = looking()
    looked.follow(externals.add(WAN, SHARED))
    listFails = true
    expect(() => looked.look()).toThrow('ENOBUFS')
    expect([looked.bound(TCP), looked.contested(TCP)]).toEqual([undefined, undefined])
    expect(bound(TCP_SPACE)).toEqual([20000])
    listFails = false
    looked.look()
    expect([looked.bound(TCP), looked.contested(TCP)]).toEqual([1, 0])
  })

  it('are looked at for a fiftieth of the time at most', () => {
    const looked = looking()
    looked.follow(externals.add(WAN, SHARED))
    cost = 30
    looked.look()
    const first = listings.length
    now += 2999
    looked.look()
    expect(listings).toHaveLength(first)
    now += 1
    looked.look()
    expect(listings).toHaveLength(first + 2)
  })
})

describe('a port that NAT has given out and the host has a socket on', () => {
  for (const [what, content] of [
    ['a mapping has it', MAPPED],
    ['an expectation has announced it', RESERVATION],
  ] as const)
    it(`is contested while both are so: ${what}`, () => {
      const looked = looking()
      looked.follow(externals.add(WAN, SHARED))
      change(UDP_SPACE, 20000, content)
      open(UDP, 20000)
      open(TCP, 20000)
      looked.look()
      looked.look()
      expect([hidden, looked.contested(UDP), looked.contested(TCP)]).toEqual([[['17 20000']], 1, 0])
      expect(warnings).toEqual([{ protocol: UDP, port: 20000 }])
      change(UDP_SPACE, 20000, 0)
      looked.look()
      expect([hidden.at(-1), looked.contested(UDP)]).toEqual([[], 0])
      change(UDP_SPACE, 20000, content)
      looked.look()
      expect([hidden.at(-1), warnings.length]).toEqual([['17 20000'], 1])
      close(UDP, 20000)
      looked.look()
      expect([hidden.at(-1), looked.contested(UDP)]).toEqual([[], 0])
    })

  it('is none any more when the address is gone', () => {
    const looked = looking()
    looked.follow(externals.add(WAN, SHARED))
    change(UDP_SPACE, 20000, MAPPED)
    open(UDP, 20000)
    looked.look()
    looked.follow(-1)
    expect([hidden, looked.contested(UDP)]).toEqual([[['17 20000'], []], 0])
  })

  it('is hidden at the next look if the host has refused, and said to be when it is', () => {
    const looked = looking()
    looked.follow(externals.add(WAN, SHARED))
    change(UDP_SPACE, 20000, MAPPED)
    open(UDP, 20000)
    nftFails = true
    expect(() => looked.look()).toThrow('nft failed')
    expect(warnings).toEqual([])
    nftFails = false
    looked.look()
    expect([hidden, warnings.length]).toEqual([[['17 20000']], 1])
  })

  it('is logged once, and of many only fifty are, with a line that says so', () => {
    const looked = looking()
    looked.follow(externals.add(WAN, SHARED))
    for (let port = 20000; port < 20500; port++) {
      change(UDP_SPACE, port, MAPPED)
      open(UDP, port)
    }
    looked.look()
    looked.look()
    expect([looked.contested(UDP), warnings.length, warnings.at(-1)]).toEqual([500, 51, {}])
  })

  it('may be a forwarded one, which is looked at with one look in ten', () => {
    const to = { toAddress: parseAddress('10.0.0.5'), toPort: 21 }
    const looked = looking([
      { protocol: TCP, address: null, port: 21, ...to },
      { protocol: TCP, address: WAN, port: 80, ...to },
      { protocol: UDP, address: OTHER, port: 53, ...to },
    ])
    looked.follow(externals.add(WAN, SHARED))
    open(TCP, 22)
    open(TCP, 80)
    open(UDP, 53)
    for (let i = 0; i < 10; i++) looked.look()
    expect([hidden, warnings]).toEqual([[['6 80']], [{ protocol: TCP, port: 80 }]])
    expect(bound(TCP_SPACE)).toEqual([])
    expect(listings.filter(({ range }) => range.from < PORTS.from)).toHaveLength(2)
  })
})
