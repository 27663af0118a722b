import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  contains,
  formatAddress,
  formatMac,
  formatPrefix,
  isLimitedBroadcast,
  isLoopback,
  isMulticast,
  isThisNetwork,
  parseAddress,
  parseMac,
  parsePrefix,
  swap16,
  swap32,
} from '../../src/wire/address.ts'
import { i32, u16 } from './arbitraries.ts'

describe('an address as loaded', () => {
  it('is what a little-endian load of its bytes gives', () => {
    const mem = new DataView(Uint8Array.of(192, 0, 2, 1).buffer)
    expect(parseAddress('192.0.2.1')).toBe(mem.getInt32(0, true))
  })

  it('is swapped into numeric order', () => {
    expect(swap32(parseAddress('1.2.3.4'))).toBe(0x01020304)
    expect(swap32(parseAddress('255.0.0.1'))).toBe(0xff000001 | 0)
    expect(swap16(0x3412)).toBe(0x1234)
  })

  it('survives text, and two swaps', () => {
    fc.assert(
      fc.property(i32(), u16(), (a, h) => {
        expect(parseAddress(formatAddress(a))).toBe(a)
        expect(swap32(swap32(a))).toBe(a)
        expect(swap16(swap16(h))).toBe(h)
      }),
    )
  })

  const wrong = [
    '',
    '1.2.3',
    '1.2.3.4.5',
    '256.0.0.1',
    '01.2.3.4',
    '1.2.3.04',
    ' 1.2.3.4',
    '1.2.3.4 ',
    '0x1.2.3.4',
    '::1',
  ]
  for (const text of wrong)
    it(`refuses ${JSON.stringify(text)} and names it`, () => {
      expect(() => parseAddress(text)).toThrow(RangeError)
      expect(() => parseAddress(text)).toThrow(`"${text}" is no IPv4 address`)
    })
})

describe('a special address', () => {
  const table = [
    // address           this network  loopback  multicast  limited broadcast
    ['0.0.0.0', true, false, false, false],
    ['0.255.255.255', true, false, false, false],
    ['10.0.0.1', false, false, false, false],
    ['127.0.0.1', false, true, false, false],
    ['127.255.255.255', false, true, false, false],
    ['128.0.0.1', false, false, false, false],
    ['223.255.255.255', false, false, false, false],
    ['224.0.0.1', false, false, true, false],
    ['239.255.255.255', false, false, true, false],
    ['240.0.0.1', false, false, false, false],
    ['255.255.255.255', false, false, false, true],
  ] as const
  for (const [text, thisNetwork, loopback, multicast, broadcast] of table)
    it(text, () => {
      const a = parseAddress(text)
      expect([isThisNetwork(a), isLoopback(a), isMulticast(a), isLimitedBroadcast(a)]).toEqual([
        thisNetwork,
        loopback,
        multicast,
        broadcast,
      ])
    })
})

describe('a prefix', () => {
  const members = [
    // prefix              first inside      last inside        outside
    ['10.0.0.0/8', '10.0.0.0', '10.255.255.255', '11.0.0.0'],
    ['192.0.2.128/25', '192.0.2.128', '192.0.2.255', '192.0.2.127'],
    ['203.0.113.7/32', '203.0.113.7', '203.0.113.7', '203.0.113.6'],
    ['128.0.0.0/1', '128.0.0.0', '255.255.255.255', '127.255.255.255'],
  ] as const
  for (const [text, first, last, outside] of members)
    it(`${text} contains ${first} to ${last}, not ${outside}`, () => {
      const prefix = parsePrefix(text)
      expect(contains(prefix, parseAddress(first))).toBe(true)
      expect(contains(prefix, parseAddress(last))).toBe(true)
      expect(contains(prefix, parseAddress(outside))).toBe(false)
      expect(formatPrefix(prefix)).toBe(text)
    })

  it('0.0.0.0/0 contains everything', () => {
    const all = parsePrefix('0.0.0.0/0')
    expect(all).toEqual({ address: 0, mask: 0, length: 0 })
    expect(contains(all, parseAddress('255.255.255.255'))).toBe(true)
  })

  it('with bits set beyond its length is refused, and the right one named', () => {
    expect(() => parsePrefix('10.0.0.1/8')).toThrow('"10.0.0.1/8" has bits set beyond its first 8: write 10.0.0.0/8')
    expect(() => parsePrefix('1.2.3.4/0')).toThrow('write 0.0.0.0/0')
  })

  for (const text of ['10.0.0.0', '10.0.0.0/33', '10.0.0.0/', '10.0.0.0/08', '10.0.0/8', '/8', '10.0.0.0/-1', ''])
    it(`refuses ${JSON.stringify(text)} and names it`, () => {
      expect(() => parsePrefix(text)).toThrow(RangeError)
      expect(() => parsePrefix(text)).toThrow(`"${text}" is no IPv4 prefix`)
    })
})

describe('a MAC address', () => {
  it('is read from text in either case, and written in lower case', () => {
    const mac = parseMac('02:00:5E:10:00:ff')
    expect([...mac]).toEqual([0x02, 0x00, 0x5e, 0x10, 0x00, 0xff])
    expect(formatMac(new DataView(mac.buffer), 0)).toBe('02:00:5e:10:00:ff')
  })

  for (const text of [
    '',
    '02:00:5e:10:00',
    '02-00-5e-10-00-01',
    '2:0:5e:10:0:1',
    '02:00:5e:10:00:0g',
    '02:00:5e:10:00:01:02',
  ])
    it(`refuses ${JSON.stringify(text)} and names it`, () => {
      expect(() => parseMac(text)).toThrow(`"${text}" is no MAC address`)
    })
})
