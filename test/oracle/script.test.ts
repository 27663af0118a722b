import { describe, expect, it } from 'vitest'
import { randomOf } from '../helpers/mutations.ts'
import { generate } from './generator.ts'
import { parseSegment, parseSequence, printSegment, printSequence } from './script.ts'
import { scriptedSequences } from './scripted.ts'

describe('the notation for TCP sequences', () => {
  const lines = [
    'c S 0 <mss 1460,wscale 7,sackOK>',
    's SA 0 ack 1 win 65160 <wscale 7>',
    'c PA 1+100 ack 1',
    'c PA 1"PORT 10,0,0,5,{port}\\r\\n" ack 1',
    's A 1 ack 101 <sack 201:301,sack 401:501>',
    'c PAU -10+1 ack -5 urg 1',
    's R 101 badsum',
    'c - 0 doff 4',
  ]
  for (const line of lines)
    it(`prints what it has read: ${line}`, () => expect(printSegment(parseSegment(line))).toBe(line))

  it('prints every sequence so that it is read again as the same', () => {
    const random = randomOf(1)
    const generated = Array.from({ length: 500 }, (_, i) => generate(i, random, { pickup: false, liberal: false }))
    for (const sequence of [...scriptedSequences(), ...generated])
      expect(parseSequence(sequence.name, printSequence(sequence))).toEqual(sequence)
  })

  const wrong = ['', 'x S 0', 'c Q 0', 'c S', 'c S 0 ack', 'c S 0 <nothing 1>', 'c S 0 badsum win 7']
  for (const line of wrong)
    it(`can't be: ${JSON.stringify(line)}`, () => expect(() => parseSegment(line)).toThrow(RangeError))
})
