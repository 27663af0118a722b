// The script by which helpers are tried (natloom/testing): that what it shows is what a gateway would do. For whole
// sessions test/helpers/gateway.long.test.ts compares the two; here is what the built-in helpers don't do.

import { describe, expect, it } from 'vitest'
import { type Helper, type HelperContext, Verdict } from '../../src/helpers/helper.ts'
import { Script } from '../../src/testing/helper-script.ts'

const helperOf = (help: (ctx: HelperContext) => Verdict | undefined, more: Partial<Helper> = {}): Helper => ({
  name: 'tried',
  tuple: { proto: 'tcp', dstPort: 7 },
  maxExpected: 2,
  help,
  ...more,
})

describe('what a helper drops', () => {
  const script = new Script(
    helperOf((ctx) => {
      if (ctx.direction === 'reply') return undefined
      ctx.expect({ port: 40_000 })
      return ctx.text.includes('no') ? Verdict.Drop : Verdict.Accept
    }),
  )

  it('reaches nobody, and what was announced in it is expected no more', () => {
    expect(script.client('no')).toBe('')
    expect(script.expected).toEqual([])
    expect([script.sent('original'), script.received('original'), script.held('original')]).toEqual(['', '', ''])
  })
  it('is sent again, and what comes then goes on', () => {
    expect(script.client('yes')).toBe('yes')
    expect(script.expected).toMatchObject([{ to: '10.0.0.5:40000' }])
    expect(script.sent('original')).toBe('yes')
  })
})

describe('an inactive expectation', () => {
  let handle = 0
  const script = new Script(
    helperOf((ctx) => {
      if (ctx.text === 'REGISTER') handle = ctx.expect({ port: 5060, inactive: true, permanent: true })!.handle
      if (ctx.text === 'OK') ctx.activate(handle, true)
      if (ctx.text === 'BYE') ctx.activate(handle, false)
      return undefined
    }),
  )

  it('lets nobody in before it is activated, nor after that has ended', () => {
    script.client('REGISTER')
    expect(script.expected).toEqual([])
    expect(script.everExpected).toHaveLength(1)
    script.server('OK')
    expect(script.expected).toMatchObject([{ from: 'server', to: '10.0.0.5:5060' }])
    script.client('BYE')
    expect(script.expected).toEqual([])
  })
})

describe('expectations', () => {
  it('make room for newer ones: the oldest of the class goes', () => {
    const script = new Script(
      helperOf((ctx) => {
        ctx.expect({ port: Number(ctx.text) })
        return undefined
      }),
    )
    for (const port of ['1000', '1001', '1002']) script.client(port)
    expect(script.expected.map(({ to }) => to)).toEqual(['10.0.0.5:1001', '10.0.0.5:1002'])
  })

  const refused: readonly (readonly [what: string, port: number, address?: string])[] = [
    ['port 0', 0],
    ['a port above 65535', 65_536],
    ['no whole number', 1.5],
    ['another host inside', 40_000, '10.0.0.9'],
  ]
  for (const [what, port, address] of refused)
    it(`are refused for ${what}`, () => {
      const script = new Script(
        helperOf((ctx) => {
          expect(ctx.expect({ port, ...(address !== undefined && { address }) })).toBeUndefined()
          return undefined
        }),
      )
      script.client('x')
      expect(script.everExpected).toEqual([])
    })
})

describe('a helper that changes what it holds', () => {
  it('is told so: nothing may go on half rewritten', () => {
    const script = new Script(
      helperOf((ctx) => {
        ctx.mangle(0, 4, 'told')
        ctx.hold(2)
        return undefined
      }),
    )
    expect(() => script.client('1234')).toThrow('nothing may go on half rewritten')
  })
})
