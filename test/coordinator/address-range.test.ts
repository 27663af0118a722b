import { describe, expect, it } from 'vitest'
import { parseAddressRange, poolAddresses } from '../../src/coordinator/address-range.ts'
import { formatAddress } from '../../src/wire/address.ts'

describe('an entry of a pool', () => {
  const ranges = [
    // text                          first       last
    ['203.0.113.1', 0xcb007101, 0xcb007101],
    ['203.0.113.1-203.0.113.9', 0xcb007101, 0xcb007109],
    ['203.0.113.0/28', 0xcb007100, 0xcb00710f],
    ['203.0.113.7/32', 0xcb007107, 0xcb007107],
    ['0.0.0.0/0', 0, 0xffffffff],
    ['10.255.255.255-11.0.0.0', 0x0affffff, 0x0b000000],
  ] as const
  for (const [text, first, last] of ranges)
    it(`${text} stands for ${last - first + 1} addresses`, () => {
      expect(parseAddressRange(text)).toEqual({ first, last })
    })

  const refused = [
    '',
    '203.0.113',
    '203.0.113.01',
    '1.2.3.4-',
    '-1.2.3.4',
    '1.2.3.4-1.2.3.3',
    '1.2.3.4-1.2.3.5-1.2.3.6',
  ]
  for (const text of [...refused, '1.2.3.4/24', '1.2.3.0/33', '1.2.3.0/24-1.2.4.0', '::1'])
    it(`${JSON.stringify(text)} is refused`, () => {
      expect(() => parseAddressRange(text)).toThrow(RangeError)
    })
})

describe('a pool', () => {
  it('is every address of its entries, in their order', () => {
    const pool = poolAddresses(['203.0.113.4/31', '10.0.0.255-10.0.1.1', '255.255.255.255'])
    expect(pool.map(formatAddress)).toEqual([
      ...['203.0.113.4', '203.0.113.5', '10.0.0.255', '10.0.1.0', '10.0.1.1', '255.255.255.255'],
    ])
  })
})
