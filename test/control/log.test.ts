import { describe, expect, it } from 'vitest'
import { createLog } from '../../src/control/log.ts'
import type { GatewayConfig } from '../../src/coordinator/config.ts'

type LogConfig = GatewayConfig['log']

function lines(config: LogConfig, isTTY: boolean, speak: (log: ReturnType<typeof createLog>) => void): string[] {
  const written: string[] = []
  speak(createLog(config, { isTTY, write: (line) => written.push(line) }))
  return written
}

describe('the log', () => {
  const formats = [
    // format  terminal   written as
    ['auto', true, 'text'],
    ['auto', false, 'json'],
    ['text', false, 'text'],
    ['json', true, 'json'],
  ] as const
  for (const [format, isTTY, form] of formats)
    it(`in format ${format} ${isTTY ? 'on' : 'off'} a terminal is ${form}`, () => {
      const [line = ''] = lines({ level: 'info', format }, isTTY, (log) => log.info({ shard: 0 }, 'started'))
      if (form === 'text') expect(line).toMatch(/^\d\d:\d\d:\d\d\.\d{3} INFO {2}started shard=0\n$/)
      else
        expect(JSON.parse(line)).toEqual({ level: 'info', time: expect.stringMatching(/Z$/), shard: 0, msg: 'started' })
    })

  it('is silent below its level', () => {
    const written = lines({ level: 'warn', format: 'text' }, true, (log) => {
      log.info('routine')
      log.warn('odd')
    })
    expect(written).toEqual([expect.stringMatching(/ WARN {2}odd\n$/)])
  })

  it('quotes, in text, what is not one plain word', () => {
    const [line] = lines({ level: 'info', format: 'text' }, true, (log) =>
      log.info({ inside: ['lan0'], reason: 'link down', mark: 'a=b', empty: '' }, 'now'),
    )
    expect(line).toMatch(/now inside=\["lan0"\] reason="link down" mark="a=b" empty=""\n$/)
  })

  it('shows, in text, the stack of an error on lines of its own', () => {
    const error = new Error('the shard ended')
    const [line] = lines({ level: 'info', format: 'text' }, true, (log) => log.error(error, 'stopping'))
    expect(line).toMatch(/ ERROR stopping\nError: the shard ended\n {4}at /)
  })
})
