// What a helper's code has thrown, in words (helpers/thrown.ts).

import { describe, expect, it } from 'vitest'
import { describeThrown, thrownText } from '../../src/helpers/thrown.ts'

const errorWith = (stack: string): Error => Object.assign(new Error('out of order'), { stack })
const OWN = new URL('../../src/datapath/helped/helper-call.ts', import.meta.url).href

describe('the place of an error', () => {
  const stacks = [
    // a frame of the stack                                        the place
    ['at help (file:///etc/natloom/beacon.mjs?load=3:12:9)', '/etc/natloom/beacon.mjs:12:9'],
    ['at Object.help (file:///etc/a%20b/beacon.mjs:12:9)', '/etc/a b/beacon.mjs:12:9'],
    ['at file:///etc/natloom/beacon.mjs?load=1:3:3', '/etc/natloom/beacon.mjs:3:3'],
    ['at async file:///etc/natloom/beacon.mjs:3:3', '/etc/natloom/beacon.mjs:3:3'],
    ['at Object.<anonymous> (/etc/natloom/beacon.cjs:7:1)', '/etc/natloom/beacon.cjs:7:1'],
    ['at compileSourceTextModule (node:internal/modules/esm/utils:346:16)', undefined],
    [`at call (${OWN}:96:30)`, undefined],
    ['at <anonymous>', undefined],
  ] as const
  for (const [frame, place] of stacks)
    it(`of a stack with ${frame.replace(OWN, 'natloom’s own file')}`, () => {
      const { message, at } = describeThrown(errorWith(`Error: out of order\n    ${frame}`))
      expect({ message, at }).toEqual({ message: 'out of order', at: place })
    })

  it('is the innermost one outside of natloom', () => {
    const stack = ['Error', `at context (${OWN}:1:1)`, 'at a (file:///h.mjs:2:2)', 'at b (file:///h.mjs:3:3)']
    expect(thrownText(describeThrown(errorWith(stack.join('\n    '))))).toBe('out of order (at /h.mjs:2:2)')
  })
})

describe('what is no error', () => {
  const things = [
    [null, 'null'],
    ['text', 'text'],
    [Symbol('s'), 'Symbol(s)'],
    [{ toString: () => 'made up' }, 'made up'],
    [Object.create(null), 'something that has no text'],
    [
      {
        toString() {
          throw new Error('no')
        },
      },
      'something that has no text',
    ],
  ] as const
  for (const [thing, text] of things)
    it(`is told as ${text}`, () => expect(describeThrown(thing)).toEqual({ message: text }))

  it('is cut short', () => expect(describeThrown('x'.repeat(100_000)).message.length).toBeLessThan(5000))
})
