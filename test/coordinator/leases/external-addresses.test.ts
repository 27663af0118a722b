import { beforeEach, describe, expect, it } from 'vitest'
import { ExternalAddresses } from '../../../src/coordinator/leases/external-addresses.ts'
import type { PortRange } from '../../../src/host/port-range.ts'
import { allocate } from '../../../src/memory/region.ts'
import { Externals, ICMP_SPACE, SPACES, TCP_SPACE, UDP_SPACE } from '../../../src/nat/externals.ts'
import type { PortForward } from '../../../src/nat/port-forward-rules.ts'
import { MAPPED } from '../../../src/nat/port-words.ts'
import { formatAddress, parseAddress } from '../../../src/wire/address.ts'

const WAN = parseAddress('203.0.113.1')
const OTHER = parseAddress('203.0.113.9')
/** 16384-16700: blocks 256 to 259 of 64 ports as a whole, and a part of 260. */
const PORTS: PortRange = { from: 16384, to: 16700 }
const FIRST = 256
const LAST = 259

let externals: Externals
/** Ports that the host has sockets on. */
let hostPorts: Set<number>
/** What the host was told to hide, as text, newest last: `203.0.113.1 16384-16639`. */
let hiding: string[]
let nftFails: boolean

beforeEach(() => {
  externals = allocate((region) => new Externals(region, { capacity: 8, blockSize: 64 })).view
  hostPorts = new Set()
  hiding = []
  nftFails = false
})

const addresses = (pool: readonly string[] = [], shards = 1, forwards: readonly PortForward[] = []) =>
  new ExternalAddresses({
    externals,
    shards,
    pool: pool.map(parseAddress),
    ports: PORTS,
    portForwards: forwards,
    portsInUse: () => hostPorts,
    hide(shared, hidden) {
      if (nftFails) throw new Error('nft failed')
      const ranges = hidden.map(({ from, to }) => ` ${from}-${to}`).join('')
      hiding.push(`${shared.map(formatAddress)}${ranges}`)
    },
    changed() {},
  })

/** Leased blocks of an address. */
function leased(address: number, space = TCP_SPACE): number[] {
  const entry = externals.find(address)
  if (entry < 0) return []
  const all = Array.from({ length: externals.blocksPerSpace }, (_, block) => block)
  return all.filter((block) => externals.ownerOfBlock(entry, space, block) >= 0)
}
const take = (address: number, space: number, port: number) => {
  externals.portWords[externals.portIndex(externals.find(address), space, port)] = MAPPED
}
const free = (address: number, space: number, port: number) => {
  externals.portWords[externals.portIndex(externals.find(address), space, port)] = 0
}

describe('a forwarded port of a pool', () => {
  it('takes its block out of the lease of its protocol, on the addresses that it is of', () => {
    const to = { toAddress: parseAddress('10.0.0.5'), toPort: 21 }
    addresses(['203.0.113.21', '203.0.113.22'], 1, [
      { protocol: 6, address: null, port: 5000, ...to },
      { protocol: 17, address: parseAddress('203.0.113.22'), port: 6001, ...to },
    ])
    for (const [address, space, missing] of [
      ['203.0.113.21', TCP_SPACE, [78]],
      ['203.0.113.21', UDP_SPACE, []],
      ['203.0.113.22', TCP_SPACE, [78]],
      ['203.0.113.22', UDP_SPACE, [93]],
      ['203.0.113.22', ICMP_SPACE, []],
    ] as const) {
      const blocks = new Set(leased(parseAddress(address), space))
      expect(Array.from({ length: 1008 }, (_, i) => i + 16).filter((block) => !blocks.has(block))).toEqual(missing)
    }
  })
})

describe('an address shared with the host', () => {
  it('gives whole blocks of NAT’s ports, for every space, and hides exactly those', () => {
    addresses().follow(WAN)
    for (let space = 0; space < SPACES; space++) expect(leased(WAN, space)).toEqual([256, 257, 258, 259])
    expect(hiding).toEqual(['203.0.113.1 16384-16639'])
  })

  it('leaves a block to the host in which it has a socket; ICMP has no sockets', () => {
    hostPorts = new Set([16450])
    addresses().follow(WAN)
    for (const space of [TCP_SPACE, UDP_SPACE]) expect(leased(WAN, space)).toEqual([256, 258, 259])
    expect(leased(WAN, ICMP_SPACE)).toEqual([256, 257, 258, 259])
    expect(hiding).toEqual(['203.0.113.1 16384-16447 16512-16639'])
  })

  it('gives a block back to the host that listens there from now on, and leases it when it doesn’t any more', () => {
    const followed = addresses()
    followed.follow(WAN)
    hostPorts = new Set([16384, 16400])
    followed.refresh()
    expect(leased(WAN)).toEqual([257, 258, 259])
    expect(hiding.at(-1)).toBe('203.0.113.1 16448-16639')
    hostPorts = new Set()
    followed.refresh()
    expect(leased(WAN)).toEqual([256, 257, 258, 259])
    expect(hiding.at(-1)).toBe('203.0.113.1 16384-16639')
  })

  it('hides such a block as long as NAT has a port of it, but gives no more of the other protocol', () => {
    const followed = addresses()
    followed.follow(WAN)
    take(WAN, UDP_SPACE, 16390)
    hostPorts = new Set([16384])
    followed.refresh()
    expect(leased(WAN, TCP_SPACE)).toEqual([257, 258, 259])
    expect(leased(WAN, UDP_SPACE)).toEqual([256, 257, 258, 259])
    expect(hiding).toEqual(['203.0.113.1 16384-16639'])
    free(WAN, UDP_SPACE, 16390)
    followed.refresh()
    expect(leased(WAN, UDP_SPACE)).toEqual([257, 258, 259])
    expect(hiding.at(-1)).toBe('203.0.113.1 16448-16639')
  })

  it('is replaced by another one', () => {
    const followed = addresses()
    expect(followed.follow(WAN)).toBe(true)
    expect(followed.follow(WAN)).toBe(false)
    expect(followed.follow(OTHER)).toBe(true)
    expect([leased(WAN), leased(OTHER)]).toEqual([[], [256, 257, 258, 259]])
    expect(hiding).toEqual(['203.0.113.1 16384-16639', '203.0.113.9 16384-16639'])
    expect(followed.shared).toBe(OTHER)
  })

  it('may be lost; then nothing is hidden', () => {
    const followed = addresses()
    followed.follow(WAN)
    followed.follow(undefined)
    expect([leased(WAN), followed.shared, followed.count]).toEqual([[], undefined, 0])
    expect(hiding.at(-1)).toBe('')
  })

  it('is hidden again after its interface was made anew', () => {
    const followed = addresses()
    followed.follow(WAN)
    expect(followed.follow(WAN, true)).toBe(false)
    expect(hiding).toHaveLength(2)
  })

  it('changes nothing on the host if nothing has changed', () => {
    const followed = addresses()
    followed.refresh()
    followed.follow(WAN)
    followed.refresh()
    expect(hiding).toHaveLength(1)
  })

  it('gives no ports before they are hidden: if that fails, the next look tries again', () => {
    const followed = addresses()
    nftFails = true
    expect(() => followed.follow(WAN)).toThrow('nft failed')
    expect(leased(WAN)).toEqual([])
    nftFails = false
    followed.refresh()
    expect(leased(WAN)).toEqual([256, 257, 258, 259])
  })
})

describe('a pool', () => {
  it('gives all ports from 1024 of each address, whatever the interface has', () => {
    const followed = addresses(['203.0.113.50', '203.0.113.51'])
    expect(followed.follow(WAN)).toBe(false)
    expect([followed.count, followed.shared, leased(WAN)]).toEqual([2, undefined, []])
    for (const address of ['203.0.113.50', '203.0.113.51']) {
      expect(leased(parseAddress(address))).toHaveLength(1008)
      expect(leased(parseAddress(address))[0]).toBe(16)
    }
  })

  it('is brought back in line after an interface was made anew', () => {
    const followed = addresses(['203.0.113.50'])
    followed.refresh()
    expect(hiding).toEqual([])
    followed.follow(undefined, true)
    expect(hiding).toEqual([''])
  })
})

it('a block’s home is the shard of its number', () => {
  addresses([], 3).follow(WAN)
  for (let block = FIRST; block <= LAST; block++)
    expect(externals.ownerOfBlock(externals.find(WAN), TCP_SPACE, block)).toBe(block % 3)
})
