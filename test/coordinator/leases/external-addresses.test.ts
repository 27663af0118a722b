import { beforeEach, describe, expect, it } from 'vitest'
import { ExternalAddresses } from '../../../src/coordinator/leases/external-addresses.ts'
import type { PortRange } from '../../../src/host/port-range.ts'
import { allocate } from '../../../src/memory/region.ts'
import { Externals, ICMP_SPACE, SPACES, TCP_SPACE, UDP_SPACE } from '../../../src/nat/externals.ts'
import type { PortForward } from '../../../src/nat/port-forward-rules.ts'
import { formatAddress, parseAddress } from '../../../src/wire/address.ts'

const WAN = parseAddress('203.0.113.1')
const OTHER = parseAddress('203.0.113.9')
/** 16384-16700: blocks 256 to 259 of 64 ports as a whole, and a part of 260. */
const PORTS: PortRange = { from: 16384, to: 16700 }
const FIRST = 256
const LAST = 259

let externals: Externals
/** What was done for shared addresses, newest last: `sockets 0` (an entry), `hide 203.0.113.1`. */
let done: string[]
let nftFails: boolean
let announced: string[]

beforeEach(() => {
  externals = allocate((region) => new Externals(region, { capacity: 8, blockSize: 64 })).view
  done = []
  nftFails = false
  announced = []
})

const addresses = (pool: readonly string[] = [], shards = 1, forwards: readonly PortForward[] = []) =>
  new ExternalAddresses({
    externals,
    shards,
    pool: pool.map(parseAddress),
    ports: PORTS,
    portForwards: forwards,
    followSockets(entry) {
      done.push(`sockets ${entry}, leased: ${leased(WAN).length}`)
    },
    hide(shared) {
      if (nftFails) throw new Error('nft failed')
      done.push(`hide ${shared.map(formatAddress)}, leased: ${leased(WAN).length}`)
    },
    changed() {},
    announce: (shared) => void announced.push(shared === undefined ? 'none' : formatAddress(shared)),
  })

/** Leased blocks of an address. */
function leased(address: number, space = TCP_SPACE): number[] {
  const entry = externals.find(address)
  if (entry < 0) return []
  const all = Array.from({ length: externals.blocksPerSpace }, (_, block) => block)
  return all.filter((block) => externals.ownerOfBlock(entry, space, block) >= 0)
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
  it('gives whole blocks, for every space; before, the host’s sockets are marked and NAT’s ports hidden', () => {
    addresses().follow(WAN)
    for (let space = 0; space < SPACES; space++) expect(leased(WAN, space)).toEqual([256, 257, 258, 259])
    expect(done).toEqual(['sockets 0, leased: 0', 'hide 203.0.113.1, leased: 0'])
  })

  it('is replaced by another one', () => {
    const followed = addresses()
    followed.follow(WAN)
    followed.follow(WAN)
    done = []
    followed.follow(OTHER)
    expect(announced).toEqual(['203.0.113.1', '203.0.113.9'])
    expect([leased(WAN), leased(OTHER)]).toEqual([[], [256, 257, 258, 259]])
    expect(done).toEqual(['sockets 0, leased: 0', 'hide 203.0.113.9, leased: 0'])
    expect(followed.shared).toBe(OTHER)
  })

  it('may be lost; then nothing is hidden', () => {
    const followed = addresses()
    followed.follow(WAN)
    done = []
    followed.follow(undefined)
    expect(announced).toEqual(['203.0.113.1', 'none'])
    expect([leased(WAN), followed.shared, followed.count]).toEqual([[], undefined, 0])
    expect(done).toEqual(['sockets -1, leased: 0', 'hide , leased: 0'])
  })

  it('is hidden again after its interface was made anew', () => {
    const followed = addresses()
    followed.follow(WAN)
    done = []
    followed.follow(WAN, true)
    expect(announced).toEqual(['203.0.113.1'])
    expect(done).toEqual(['sockets 0, leased: 4', 'hide 203.0.113.1, leased: 4'])
  })

  it('changes nothing on the host if nothing has changed', () => {
    const followed = addresses()
    for (let i = 0; i < 3; i++) followed.follow(WAN)
    expect(done).toHaveLength(2)
  })

  it('gives no ports, nor is announced, before they are hidden; if that fails, the next call tries again', () => {
    const followed = addresses()
    nftFails = true
    expect(() => followed.follow(WAN)).toThrow('nft failed')
    expect([leased(WAN), announced]).toEqual([[], []])
    nftFails = false
    followed.follow(WAN)
    expect([leased(WAN), announced]).toEqual([[256, 257, 258, 259], ['203.0.113.1']])
  })

  it('that is lost is said at once, also where hiding fails', () => {
    const followed = addresses()
    followed.follow(WAN)
    nftFails = true
    expect(() => followed.follow(undefined)).toThrow('nft failed')
    expect(announced).toEqual(['203.0.113.1', 'none'])
    expect(() => followed.follow(undefined)).toThrow('nft failed')
    expect(announced).toHaveLength(2)
  })

  it('that isn’t there at first is said too', () => {
    addresses().follow(undefined)
    expect(announced).toEqual(['none'])
  })
})

describe('a pool', () => {
  it('gives all ports from 1024 of each address, whatever the interface has', () => {
    const followed = addresses(['203.0.113.50', '203.0.113.51'])
    followed.follow(WAN)
    expect(announced).toEqual([])
    expect([followed.count, followed.shared, leased(WAN)]).toEqual([2, undefined, []])
    for (const address of ['203.0.113.50', '203.0.113.51']) {
      expect(leased(parseAddress(address))).toHaveLength(1008)
      expect(leased(parseAddress(address))[0]).toBe(16)
    }
  })

  it('is brought back in line after an interface was made anew', () => {
    const followed = addresses(['203.0.113.50'])
    followed.follow(undefined)
    expect(done).toEqual([])
    followed.follow(undefined, true)
    expect(done).toEqual(['sockets -1, leased: 0', 'hide , leased: 0'])
  })
})

it('a block’s home is the shard of its number', () => {
  addresses([], 3).follow(WAN)
  for (let block = FIRST; block <= LAST; block++)
    expect(externals.ownerOfBlock(externals.find(WAN), TCP_SPACE, block)).toBe(block % 3)
})
