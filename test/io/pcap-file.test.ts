import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CaptureWriter, openCapture } from '../../src/io/pcap-file.ts'
import { testFolder } from '../leftovers.ts'
import { pcap, pcapng } from './captures.ts'

let folder: string
beforeAll(() => {
  folder = testFolder('pcap')
})
afterAll(() => rmSync(folder, { recursive: true }))

function file(bytes: Uint8Array): string {
  const path = join(folder, 'x.pcap')
  writeFileSync(path, bytes)
  return path
}

function read(bytes: Uint8Array) {
  const capture = openCapture(file(bytes))
  const frames: { time: string; link: number; text: string; length: number }[] = []
  try {
    for (let frame = capture.next(); frame; frame = capture.next())
      frames.push({
        time: `${frame.seconds}.${String(frame.nanoseconds).padStart(9, '0')}`,
        link: frame.link,
        text: frame.bytes.toString('latin1'),
        length: frame.originalLength,
      })
  } finally {
    capture.close()
  }
  return frames
}

/** Reads a capture; returns the frames before the error, and the error. */
function readUntil(bytes: Uint8Array): { frames: number; code: string; message: string } {
  let frames = 0
  try {
    const capture = openCapture(file(bytes))
    for (; capture.next(); frames++);
    throw new Error('no error came')
  } catch (error) {
    const { code, message, exitCode } = error as { code: string; message: string; exitCode: number }
    expect(exitCode, message).toBe(2)
    return { frames, code, message }
  }
}

const text = (words: string): Buffer => Buffer.from(words, 'latin1')

describe('a pcap file', () => {
  const frames = [
    { seconds: 1_700_000_000, fraction: 123_456, bytes: text('first') },
    { seconds: 1_700_000_001, fraction: 7, bytes: text('second'), originalLength: 1500 },
  ]

  it.each([
    ['little-endian, microseconds', { little: true, nano: false }, ['.123456000', '.000007000']],
    ['big-endian, microseconds', { little: false, nano: false }, ['.123456000', '.000007000']],
    ['little-endian, nanoseconds', { little: true, nano: true }, ['.000123456', '.000000007']],
    ['big-endian, nanoseconds', { little: false, nano: true }, ['.000123456', '.000000007']],
  ])('is read: %s', (_, how, [first, second]) => {
    expect(read(pcap(frames, { ...how, link: 101 }))).toEqual([
      { time: `1700000000${first}`, link: 101, text: 'first', length: 5 },
      { time: `1700000001${second}`, link: 101, text: 'second', length: 1500 },
    ])
  })

  it('may hold no frame at all', () => {
    expect(read(pcap([]))).toEqual([])
  })

  it('may be larger than what is read at once', () => {
    const many = Array.from({ length: 400 }, (_, i) => ({ seconds: i, fraction: 0, bytes: Buffer.alloc(1400, i) }))
    expect(read(pcap(many)).map(({ text }) => text.charCodeAt(1399))).toEqual(many.map((_, i) => i & 0xff))
  })

  it('is written so that it is read again', () => {
    const path = join(folder, 'written.pcap')
    const bytes = fc.uint8Array({ minLength: 1, maxLength: 3000 })
    const frame = fc.record({ s: fc.nat(0x7fffffff), ns: fc.nat(999_999_999), bytes })
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 50 }), fc.boolean(), (list, nanoseconds) => {
        const writer = new CaptureWriter(path, { nanoseconds })
        for (const { s, ns, bytes } of list) writer.write(s, ns, bytes)
        writer.close()
        const capture = openCapture(path)
        expect(capture.hasNanoseconds).toBe(nanoseconds)
        for (const { s, ns, bytes } of list) {
          const found = capture.next()!
          expect([found.seconds, found.link, Uint8Array.from(found.bytes)]).toEqual([s, 1, bytes])
          expect(found.nanoseconds).toBe(nanoseconds ? ns : Math.floor(ns / 1000) * 1000)
        }
        expect(capture.next()).toBeUndefined()
        capture.close()
      }),
      { numRuns: 40 },
    )
  })

  it('is written as every reader knows it', () => {
    const path = join(folder, 'plain.pcap')
    const writer = new CaptureWriter(path)
    writer.write(1, 2000, text('abc'))
    writer.close()
    const expected = 'd4c3b2a1' + '02000400' + '00000000' + '00000000' + '00000400' + '01000000'
    expect(readFileSync(path).toString('hex')).toBe(`${expected}0100000002000000${'03000000'.repeat(2)}616263`)
  })
})

describe('a pcapng file', () => {
  for (const little of [true, false]) {
    const ng = pcapng({ little })

    it(`is read, ${little ? 'little' : 'big'}-endian, with interfaces of several links and clocks`, () => {
      const bytes = Buffer.concat([
        ng.section(),
        ng.interface(1),
        ng.interface(101, { resolution: 9 }),
        ng.interface(113, { resolution: 0x80 | 10 }),
        ng.enhanced(0, 1_700_000_000_123_456n, text('micro')),
        ng.enhanced(1, 1_700_000_000_123_456_789n, text('nano!!')),
        ng.enhanced(2, (1_700_000_000n << 10n) + 512n, text('binary')),
        ng.block(5, text('statistics..')),
        ng.obsolete(1, 1_700_000_001_000_000_001n, text('old')),
        ng.simple(text('simple')),
      ])
      expect(read(bytes)).toEqual([
        { time: '1700000000.123456000', link: 1, text: 'micro', length: 5 },
        { time: '1700000000.123456789', link: 101, text: 'nano!!', length: 6 },
        { time: '1700000000.500000000', link: 113, text: 'binary', length: 6 },
        { time: '1700000001.000000001', link: 101, text: 'old', length: 3 },
        { time: '1700000001.000000001', link: 1, text: 'simple', length: 6 },
      ])
    })
  }

  it('may have sections of either order, each with interfaces of its own', () => {
    const [little, big] = [pcapng({ little: true }), pcapng({ little: false })]
    const bytes = Buffer.concat([
      ...[little.section(), little.interface(1), little.enhanced(0, 1n, text('a'))],
      ...[big.section(), big.interface(101), big.enhanced(0, 2n, text('b'))],
    ])
    expect(read(bytes).map(({ link, text }) => [link, text])).toEqual([
      [1, 'a'],
      [101, 'b'],
    ])
  })

  it('says how much a simple packet had on the wire, and how much was kept', () => {
    const ng = pcapng()
    const bytes = Buffer.concat([ng.section(), ng.interface(1, { snaplen: 4 }), ng.simple(text('abcd'), 900)])
    expect(read(bytes)).toMatchObject([{ text: 'abcd', length: 900 }])
  })
})

describe('what is wrong with a file', () => {
  const one = pcap([{ seconds: 1, fraction: 0, bytes: text('frame one') }])
  const ng = pcapng()
  const section = Buffer.concat([ng.section(), ng.interface(1), ng.enhanced(0, 1n, text('abcd'))])

  it.each([
    // what                                       code              frames  in the message
    ['empty', Buffer.alloc(0), 'PCAP_EMPTY', 0, 'is empty'],
    ['a text', text('hello, world, this is no capture'), 'PCAP_FOREIGN', 0, 'it begins with 68656c6c'],
    ['compressed', Buffer.of(0x1f, 0x8b, 8, 0), 'PCAP_FOREIGN', 0, 'gunzip'],
    ['two bytes', Buffer.of(0xd4, 0xc3), 'PCAP_TRUNCATED', 0, 'cut off'],
    ['cut in the header', one.subarray(0, 20), 'PCAP_TRUNCATED', 0, 'in its header'],
    ['cut in a record', Buffer.concat([one, one.subarray(24, 32)]), 'PCAP_TRUNCATED', 1, 'in frame 2 at byte 49'],
    ['cut in a frame', one.subarray(0, -3), 'PCAP_TRUNCATED', 0, '9 bytes should follow, 6 do'],
    ['a frame of gigabytes', Buffer.concat([one, Buffer.alloc(16, 0x7f)]), 'PCAP_DAMAGED', 1, 'frame 2 would have'],
    ['pcapng cut in a block', section.subarray(0, -5), 'PCAP_TRUNCATED', 0, 'a block'],
    ['a block of odd length', Buffer.concat([section, ng.section().fill(1, 4, 8)]), 'PCAP_DAMAGED', 1, 'a block of'],
    ['no such interface', Buffer.concat([section, ng.enhanced(3, 1n, text('x'))]), 'PCAP_DAMAGED', 1, 'of interface 3'],
    ['simple without interface', Buffer.concat([ng.section(), ng.simple(text('x'))]), 'PCAP_DAMAGED', 0, 'described'],
  ])('%s', (_, bytes, code, frames, message) => {
    const found = readUntil(bytes)
    expect(found).toMatchObject({ code, frames })
    expect(found.message).toContain(message)
    expect(found.message).toContain('x.pcap')
  })

  it('a file that is not there', () => {
    expect(() => openCapture(join(folder, 'nothing'))).toThrow(
      expect.objectContaining({ code: 'PCAP_UNREADABLE', message: expect.stringContaining('there is no such file') }),
    )
    expect(() => openCapture(folder)).toThrow(expect.objectContaining({ code: 'PCAP_UNREADABLE' }))
  })

  it('never is anything but such an error, whatever bytes there are', () => {
    const whole = Buffer.concat([section, ng.obsolete(0, 5n, text('more')), ng.simple(text('and more'))])
    const change = fc.record({ at: fc.nat(whole.length - 1), to: fc.nat(255) })
    fc.assert(
      fc.property(fc.array(change, { maxLength: 4 }), fc.nat(whole.length), fc.boolean(), (changes, cut, isNg) => {
        const bytes = Buffer.from(isNg ? whole : pcap([{ seconds: 1, fraction: 2, bytes: whole }]))
        for (const { at, to } of changes) bytes[at % bytes.length] = to
        try {
          read(bytes.subarray(0, bytes.length - (cut % bytes.length)))
        } catch (error) {
          expect((error as { code: string }).code).toMatch(/^PCAP_/)
        }
      }),
      { numRuns: 400 },
    )
  })
})
