// External addresses: several in a pool (RFC 4787 REQ-2, RFC 6888 REQ-2), one that is lost, one that changes.

import { describe, expect, it } from 'vitest'
import { POOL, SHARED } from '../../src/nat/externals.ts'
import { Gateway } from '../datapath/gateway.ts'
import { EXTERNAL, HOST, LAN, SERVER, WAN } from '../datapath/network.ts'
import { decode, echo, fromOf, tcpSegment, udp } from '../datapath/packets.ts'
import { connectionsOf, mappingsOf } from '../datapath/tables.ts'

const POOL_ADDRESSES = ['198.51.100.1', '198.51.100.2', '198.51.100.3']
const HOSTS = Array.from({ length: 40 }, (_, i) => `10.0.0.${i + 20}`)

const addressOf = (gateway: Gateway, host: string, port = 5000, to = `${SERVER}:80`): string =>
  decode(gateway.inside(udp(`${host}:${port}`, to))[0]!).src

describe('a pool', () => {
  it('gives an inside address one external address, for every port and protocol (RFC 4787 REQ-2: paired)', async () => {
    const gateway = await Gateway.start({ pool: POOL_ADDRESSES })
    for (const host of HOSTS.slice(0, 10)) {
      const address = addressOf(gateway, host)
      for (let port = 1; port < 5; port++)
        expect(addressOf(gateway, host, port, `198.51.100.${99 + port}:80`)).toBe(address)
      expect(decode(gateway.inside(tcpSegment(`${host}:1`, `${SERVER}:80`, 'S'))[0]!).src).toBe(address)
      expect(decode(gateway.inside(echo(host, SERVER, 1))[0]!).src).toBe(address)
    }
    gateway.check()
  })

  it('spreads inside addresses over all of its own', async () => {
    const gateway = await Gateway.start({ pool: POOL_ADDRESSES })
    const used = HOSTS.map((host) => addressOf(gateway, host))
    for (const address of POOL_ADDRESSES) expect(used.filter((each) => each === address).length).toBeGreaterThan(4)
  })

  it('keeps nearly all pairs when an address is added: only those that go to the new one move', async () => {
    const gateway = await Gateway.start({ pool: POOL_ADDRESSES })
    const before = HOSTS.map((host) => addressOf(gateway, host))
    gateway.addExternal('198.51.100.4', POOL)
    gateway.pass(302)
    const after = HOSTS.map((host) => addressOf(gateway, host))
    const moved = HOSTS.filter((_, i) => before[i] !== after[i])
    expect(moved.length).toBeGreaterThan(0)
    expect(moved.length).toBeLessThan(HOSTS.length / 2)
    for (const [i, address] of after.entries()) if (address !== before[i]) expect(address).toBe('198.51.100.4')
  })
})

describe('an address that is lost', () => {
  it('ends the mappings on it, and no others', async () => {
    const gateway = await Gateway.start({ pool: POOL_ADDRESSES })
    const pairs = HOSTS.map((host) => [host, addressOf(gateway, host)] as const)
    gateway.externals.remove(1)
    gateway.turn()
    const lost = POOL_ADDRESSES[1]!
    expect(new Set(mappingsOf(gateway.tables).map(({ external }) => external.split(':')[0]))).toEqual(
      new Set(POOL_ADDRESSES.filter((address) => address !== lost)),
    )
    expect(connectionsOf(gateway.tables)).toHaveLength(pairs.filter(([, address]) => address !== lost).length)
    gateway.check()
    for (const [host, address] of pairs) {
      const now = addressOf(gateway, host)
      if (address === lost) expect(now).not.toBe(lost)
      else expect(now).toBe(address)
    }
    gateway.check()
  })

  it('is no address of ours any more', async () => {
    const gateway = await Gateway.start()
    const external = fromOf(gateway.inside(udp(`${HOST}:5000`, `${SERVER}:80`))[0]!)
    gateway.externals.remove(0)
    expect(gateway.fate(WAN, udp(`${SERVER}:80`, external))).toBe('not-ours')
    expect(gateway.fate(LAN, udp(`${HOST}:5000`, `${SERVER}:80`))).toBe('no-external-address')
    expect(gateway.counter('portsLeased', 1)).toBe(0)
    gateway.check()
  })

  it('frees all its ports, at once or by ending their quarantine here', async () => {
    const gateway = await Gateway.start({ pool: POOL_ADDRESSES })
    for (const host of HOSTS) addressOf(gateway, host)
    for (const host of HOSTS) gateway.inside(tcpSegment(`${host}:1`, `${SERVER}:80`, 'S'))
    for (const entry of POOL_ADDRESSES.keys()) gateway.externals.remove(entry)
    gateway.turn()
    for (const space of [0, 1, 2])
      expect([
        gateway.counter('portsUsed', space),
        gateway.counter('portsResting', space),
        gateway.counter('portsLeased', space),
      ]).toEqual([0, 0, 0])
    gateway.check()
  })
})

describe('an outside address that changes', () => {
  const NEW = '203.0.113.77'

  for (const [how, between] of [
    ['the shard turning in between', true],
    ['before the shard has seen that it was lost', false],
  ] as const)
    it(`${how}: connections on the old one end, new ones are on the new one, no port is lost`, async () => {
      const gateway = await Gateway.start({ ports: [20_480, 20_543] })
      for (let port = 1; port <= 64; port++) gateway.inside(tcpSegment(`${HOST}:${port}`, `${SERVER}:80`, 'S'))
      expect(gateway.counter('portsUsed', 0)).toBe(64)
      gateway.externals.remove(0)
      if (between) gateway.turn()
      expect(gateway.addExternal(NEW, SHARED)).toBe(0)
      gateway.turn()
      expect(connectionsOf(gateway.tables)).toEqual([])
      expect(gateway.counter('portsUsed', 0)).toBe(0)
      for (let port = 1; port <= 64; port++)
        expect(decode(gateway.inside(tcpSegment(`${HOST}:${port}`, `${SERVER}:80`, 'S'))[0]!).src).toBe(NEW)
      gateway.check()
    })

  it('and comes back under another entry: its ports are given once', async () => {
    const gateway = await Gateway.start({ ports: [20_480, 20_543] })
    gateway.inside(tcpSegment(`${HOST}:1`, `${SERVER}:80`, 'S'))
    gateway.externals.remove(0)
    expect(gateway.addExternal(NEW, SHARED)).toBe(0)
    expect(gateway.addExternal(EXTERNAL, SHARED)).toBe(1)
    gateway.turn()
    expect(connectionsOf(gateway.tables)).toEqual([])
    gateway.check()
  })
})
