import { describe, expect, it } from 'vitest'
import { parseAddress, parseMac } from '../../src/wire/address.ts'
import * as arp from '../../src/wire/arp.ts'
import * as ethernet from '../../src/wire/ethernet.ts'
import { atEnd } from './memory.ts'

const A = parseMac('02:0a:0b:0c:0d:0e')
const B = parseMac('06:1a:1b:1c:1d:1e')
const HEADER = Uint8Array.of(...A, ...B, 0x08, 0x00)

describe('an Ethernet header', () => {
  it('is read field by field, MAC addresses as loaded', () => {
    const { mem, end } = atEnd(HEADER)
    expect(ethernet.fits(mem, 0, end)).toBe(true)
    expect(ethernet.fits(mem, 0, end - 1)).toBe(false)
    expect(ethernet.etherType(mem, 0)).toBe(ethernet.TYPE_IPV4)
    expect([ethernet.dstHigh(mem, 0), ethernet.dstLow(mem, 0)]).toEqual([0x0c0b0a02, 0x0e0d])
    expect([ethernet.srcHigh(mem, 0), ethernet.srcLow(mem, 0)]).toEqual([0x1c1b1a06, 0x1e1d])
  })

  it('gets both addresses by three words', () => {
    const { mem } = atEnd(new Uint8Array(14))
    ethernet.setAddressWords(mem, 0, ...ethernet.addressWords(A, B))
    ethernet.setEtherType(mem, 0, ethernet.TYPE_IPV4)
    expect(new Uint8Array(mem.buffer)).toEqual(HEADER)
  })

  const groups = [
    ['ff:ff:ff:ff:ff:ff', true],
    ['01:00:5e:00:00:01', true],
    ['33:33:00:00:00:01', true],
    ['02:00:00:00:00:01', false],
    ['00:ff:ff:ff:ff:ff', false],
  ] as const
  for (const [mac, expected] of groups)
    it(`to ${mac} is ${expected ? '' : 'not '}for a group`, () => {
      const { mem } = atEnd(Uint8Array.of(...parseMac(mac), ...B, 0x08, 0x00))
      expect(ethernet.isGroup(mem, 0)).toBe(expected)
    })

  const answer = Uint8Array.of(...B, ...A, 0x08, 0x00)
  it('is answered elsewhere: to its source, from its destination', () => {
    const { mem } = atEnd(Uint8Array.of(...HEADER, ...new Array(14).fill(0xee)))
    ethernet.answerTo(mem, 14, 0)
    expect(new Uint8Array(mem.buffer)).toEqual(Uint8Array.of(...HEADER, ...answer))
  })

  it('is answered in place', () => {
    const { mem } = atEnd(HEADER)
    ethernet.answerTo(mem, 0, 0)
    expect(new Uint8Array(mem.buffer)).toEqual(answer)
  })
})

describe('an ARP message', () => {
  const request: arp.Arp = {
    operation: arp.REQUEST,
    senderMac: A,
    sender: parseAddress('10.0.0.1'),
    targetMac: new Uint8Array(6),
    target: parseAddress('10.0.0.5'),
  }
  const bytes = Uint8Array.of(...[0, 1, 8, 0, 6, 4, 0, 1], ...[...A, 10, 0, 0, 1], ...[0, 0, 0, 0, 0, 0, 10, 0, 0, 5])

  it('is emitted as RFC 826 draws it', () => {
    const { mem } = atEnd(new Uint8Array(arp.LEN).fill(0xee))
    arp.emit(mem, 0, request)
    expect(new Uint8Array(mem.buffer)).toEqual(bytes)
  })

  it('is parsed to what was emitted', () => {
    const { mem, end } = atEnd(bytes)
    expect(arp.parse(mem, 0, end)).toEqual(request)
  })

  const others = [
    ['cut short', (message: Uint8Array) => message.slice(0, 27)],
    ['of other hardware', (message: Uint8Array) => message.with(1, 6)],
    ['about another protocol', (message: Uint8Array) => message.with(2, 0x86)],
    ['with longer hardware addresses', (message: Uint8Array) => message.with(4, 8)],
    ['with longer protocol addresses', (message: Uint8Array) => message.with(5, 16)],
  ] as const
  for (const [what, change] of others)
    it(`${what} is not parsed`, () => {
      const { mem, end } = atEnd(change(bytes))
      expect(arp.parse(mem, 0, end)).toBeUndefined()
    })
})
