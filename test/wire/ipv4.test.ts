import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseAddress } from '../../src/wire/address.ts'
import * as ipv4 from '../../src/wire/ipv4.ts'
import { atEnd } from './memory.ts'

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(' ', ''), 'hex'))

// Written by hand; 0xb861 is its checksum by pencil and paper.
const HEADER = hex('4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7')

/** A header with these options, padded to four bytes with zeros. */
function withOptions(options: readonly number[]): Uint8Array {
  const header = new Uint8Array(20 + ((options.length + 3) & ~3))
  header.set(HEADER)
  header.set(options, 20)
  header[0] = 0x40 | (header.length / 4)
  return header
}

describe('an IPv4 header', () => {
  it('is read field by field', () => {
    const { mem } = atEnd(HEADER)
    expect({
      versionAndLength: ipv4.versionAndLength(mem, 0),
      version: ipv4.version(mem, 0),
      headerLen: ipv4.headerLen(mem, 0),
      tos: ipv4.tos(mem, 0),
      totalLength: ipv4.totalLength(mem, 0),
      id: ipv4.id(mem, 0),
      fragmentWord: ipv4.fragmentWord(mem, 0),
      ttl: ipv4.ttl(mem, 0),
      protocol: ipv4.protocol(mem, 0),
      checksum: ipv4.checksum(mem, 0),
      src: ipv4.src(mem, 0),
      dst: ipv4.dst(mem, 0),
    }).toEqual({
      versionAndLength: 0x45,
      version: 4,
      headerLen: 20,
      tos: 0,
      totalLength: 0x73,
      id: 0,
      fragmentWord: ipv4.DONT_FRAGMENT,
      ttl: 64,
      protocol: ipv4.PROTO_UDP,
      checksum: 0x61b8,
      src: parseAddress('192.168.0.1'),
      dst: parseAddress('192.168.0.199'),
    })
  })

  it('is written by its setters to the same bytes', () => {
    const { mem } = atEnd(new Uint8Array(20))
    ipv4.setHeaderLen(mem, 0, 20)
    ipv4.setTos(mem, 0, 0)
    ipv4.setTotalLength(mem, 0, 0x73)
    ipv4.setId(mem, 0, 0)
    ipv4.setFragmentWord(mem, 0, ipv4.DONT_FRAGMENT)
    ipv4.setTtl(mem, 0, 64)
    ipv4.setProtocol(mem, 0, ipv4.PROTO_UDP)
    ipv4.setSrc(mem, 0, parseAddress('192.168.0.1'))
    ipv4.setDst(mem, 0, parseAddress('192.168.0.199'))
    ipv4.writeChecksum(mem, 0)
    expect(new Uint8Array(mem.buffer)).toEqual(HEADER)
  })

  it('changes the identification, and the checksum with it', () => {
    const { mem } = atEnd(HEADER.slice())
    for (const id of [0, 1, 0xff00, 0x00ff, 0xffff, 0x1234, 0]) {
      ipv4.changeId(mem, 0, id)
      expect([ipv4.id(mem, 0), ipv4.headerOk(mem, 0)]).toEqual([id, true])
    }
    expect(new Uint8Array(mem.buffer)).toEqual(HEADER)
  })

  const fits = [
    // what                                                 change            fits
    ['as it is, with its payload', [], true],
    ['version 6', [[0, 0x65]], false],
    ['a header length of 16', [[0, 0x44]], false],
    ['a header longer than the packet', [[0, 0x4f]], false],
    [
      'a total length below the header',
      [
        [3, 19],
        [2, 0],
      ],
      false,
    ],
    ['a total length beyond the end', [[3, 24]], false],
    ['a total length of the header alone', [[3, 20]], true],
  ] as const
  for (const [what, changes, expected] of fits)
    it(`${expected ? 'fits' : 'does not fit'}: ${what}`, () => {
      const packet = Uint8Array.of(...HEADER, 1, 2, 3)
      packet[3] = packet.length
      for (const [at, value] of changes) packet[at] = value
      const { mem, at, end } = atEnd(packet)
      expect(ipv4.fits(mem, at, end)).toBe(expected)
    })

  it('does not fit if a byte of it is missing', () => {
    const { mem } = atEnd(HEADER)
    expect(ipv4.fits(mem, 0, 19)).toBe(false)
  })

  const fragmented = [
    [0, false],
    [ipv4.DONT_FRAGMENT, false],
    [0x8000, false],
    [ipv4.MORE_FRAGMENTS, true],
    [185, true],
    [ipv4.MORE_FRAGMENTS | 185, true],
  ] as const
  for (const [word, expected] of fragmented)
    it(`is ${expected ? 'a' : 'no'} fragment with a fragment word of 0x${word.toString(16)}`, () => {
      const { mem } = atEnd(HEADER)
      ipv4.setFragmentWord(mem, 0, word)
      expect(ipv4.isFragment(mem, 0)).toBe(expected)
    })
})

describe('the header checksum', () => {
  it('is right in a header written by hand', () => expect(ipv4.headerOk(atEnd(HEADER).mem, 0)).toBe(true))

  it('is found wrong if any bit of the header is turned, with and without options', () => {
    for (const header of [
      HEADER.slice(),
      withOptions([0x94, 4, 0, 0]),
      withOptions([7, 39, 4, ...new Array(36).fill(9)]),
    ]) {
      const { mem } = atEnd(header)
      ipv4.writeChecksum(mem, 0)
      expect(ipv4.headerOk(mem, 0)).toBe(true)
      // From the second byte on: the first says how far the checksum reaches.
      for (let bit = 8; bit < header.length * 8; bit++) {
        const at = bit >>> 3
        mem.setUint8(at, mem.getUint8(at) ^ (1 << (bit & 7)))
        expect(ipv4.headerOk(mem, 0)).toBe(false)
        mem.setUint8(at, mem.getUint8(at) ^ (1 << (bit & 7)))
      }
    }
  })
})

describe('options', () => {
  const table = [
    // what                                         options                              fault
    ['none', [], false],
    ['only padding', [1, 1, 1, 0], false],
    ['router alert', [0x94, 4, 0, 0], false],
    ['record route', [7, 7, 4, 0, 0, 0, 0, 0], false],
    ['garbage after the end of the list', [0, 0xff, 0xff, 0xff], false],
    ['loose source routing', [0x83, 7, 4, 192, 0, 2, 1, 0], true],
    ['strict source routing', [0x89, 7, 4, 192, 0, 2, 1, 0], true],
    ['source routing behind padding', [1, 1, 0x83, 7, 4, 192, 0, 2, 1], true],
    ['a length of 0', [7, 0, 0, 0], true],
    ['a length of 1', [7, 1, 0, 0], true],
    ['a length beyond the header', [7, 5, 4, 0], true],
    ['a kind as the last byte, without a length', [1, 1, 1, 7], true],
  ] as const
  for (const [what, options, fault] of table)
    it(`${what}: ${fault ? 'at fault' : 'in order'}`, () => {
      expect(ipv4.optionsFault(atEnd(withOptions(options)).mem, 0)).toBe(fault)
    })

  const copied = [
    // what                                 in the whole packet                      in later fragments
    ['none', [], []],
    ['a copied one', [0x94, 4, 1, 2], [0x94, 4, 1, 2]],
    ['one that is not copied', [7, 4, 4, 0], []],
    ['padding is not copied', [1, 0x94, 4, 1, 2, 1, 0, 0], [0x94, 4, 1, 2]],
    ['both kinds', [7, 3, 4, 0x94, 4, 1, 2, 0x88, 3, 5, 0, 0], [0x94, 4, 1, 2, 0x88, 3, 5, 0]],
    ['an end before a copied one', [0, 0x94, 4, 1], []],
  ] as const
  for (const [what, whole, later] of copied)
    it(`in later fragments: ${what}`, () => {
      const from = withOptions(whole)
      const expected = withOptions(later)
      const memory = new Uint8Array(from.length + 60).fill(0xee)
      memory.set(from)
      const mem = new DataView(memory.buffer)
      expect(ipv4.copiedOptions(mem, 0, from.length)).toBe(expected.length)
      expect(memory.subarray(from.length + 20, from.length + expected.length)).toEqual(expected.subarray(20))
      expect(memory.subarray(from.length + expected.length).every((byte) => byte === 0xee)).toBe(true)
      expect(ipv4.copiedOptions(mem, 0, 0)).toBe(expected.length)
      expect(memory.subarray(20, expected.length)).toEqual(expected.subarray(20))
    })

  it('malformed in any way end the walk within the header', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 40, maxLength: 40 }), (options) => {
        const { mem } = atEnd(withOptions([...options]))
        expect(typeof ipv4.optionsFault(mem, 0)).toBe('boolean')
      }),
    )
  })
})
