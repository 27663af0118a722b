// Endpoints as text: what is written can be read, its every beginning is known as one, and nothing else is read.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { extendedPassive, extendedPort, hostPort, type Notation, wordAndPort } from '../../src/helpers/notations.ts'

const address = fc.tuple(...Array.from({ length: 4 }, () => fc.nat(255))).map((octets) => octets.join('.'))
const endpoint = fc.record({ address, port: fc.integer({ min: 1, max: 65535 }) })
/** As helpers are given them: a character a byte. */
const bytes = fc.uint8Array().map((octets) => String.fromCharCode(...octets))
const delimiter = fc
  .integer({ min: 33, max: 126 })
  .map((code) => String.fromCharCode(code))
  .filter((c) => !/[\d.]/.test(c))

const SAMPLES: readonly (readonly [string, Notation, string])[] = [
  ['h,h,h,h,p,p', hostPort, '10,0,0,5,156,64'],
  ['|1|address|port|', extendedPort, '|1|10.0.0.5|40000|'],
  ['|||port|', extendedPassive, '|||40000|'],
  ['word port', wordAndPort, '167772165 40000'],
]

describe.each(SAMPLES)('%s', (_, notation, sample) => {
  it('is read at its place, with its span', () => {
    const text = `before ${sample} after`
    const found = notation.read(text, 7)!
    expect(found).toMatchObject({ port: 40000, end: 7 + sample.length })
    if (found.address !== undefined) expect(found.address).toBe('10.0.0.5')
    expect(found.as({ address: '10.0.0.5', port: 40000 })).toBe(text.slice(found.at, found.at + found.length))
    expect(notation.read(text, 6)).toBeUndefined()
  })

  it('is read again as what it was written for', () => {
    fc.assert(
      fc.property(endpoint, (told) => {
        const { at, length, as } = notation.read(sample, 0)!
        const found = notation.read(sample.slice(0, at) + as(told) + sample.slice(at + length), 0)
        expect(found?.port).toBe(told.port)
        if (found?.address !== undefined) expect(found.address).toBe(told.address)
      }),
    )
  })

  it('is known by every beginning of it, and by nothing that no bytes can complete', () => {
    for (let length = 0; length <= sample.length; length++)
      expect(notation.begins(sample.slice(0, length), 0)).toBe(true)
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'0125,.| !x'), maxLength: 12 }), (text) => {
        if (notation.read(text, 0)?.end === text.length) expect(notation.begins(text, 0)).toBe(true)
        if (notation.begins(text, 0)) expect(canBeCompleted(notation, text)).toBe(true)
      }),
      { numRuns: 2000 },
    )
  })

  it('reads any bytes without a fault, and nothing out of range', () => {
    fc.assert(
      fc.property(bytes, fc.nat(10), (text, at) => {
        const found = notation.read(text, at)
        notation.begins(text, Math.min(at, text.length))
        if (!found) return
        expect(found.port).toBeLessThanOrEqual(65535)
        expect(found.end).toBeLessThanOrEqual(text.length)
      }),
    )
  })
})

/** Whether some bytes make it one: tried one after the other, as long as it is known for a beginning. */
function canBeCompleted(notation: Notation, text: string, most = 28): boolean {
  if (notation.read(text, 0)?.end === text.length) return true
  if (text.length === most || !notation.begins(text, 0)) return false
  return [text[0] ?? '|', ',', '.', ' ', '1'].some((next) => canBeCompleted(notation, text + next, most))
}

describe('the extended notations', () => {
  it('take any delimiter of RFC 2428 but digits and the dot', () => {
    fc.assert(
      fc.property(delimiter, (d) => {
        expect(extendedPort.read(`${d}1${d}10.0.0.5${d}40000${d}`, 0)?.port).toBe(40000)
        expect(extendedPassive.read(`${d}${d}${d}40000${d}`, 0)?.port).toBe(40000)
      }),
    )
    for (const d of ['0', '9', '.', ' ', '\x7f', '\xe9', '']) {
      expect(extendedPort.read(`${d}1${d}10.0.0.5${d}40000${d}`, 0)).toBeUndefined()
      expect(extendedPassive.read(`${d}${d}${d}40000${d}`, 0)).toBeUndefined()
    }
  })
})
