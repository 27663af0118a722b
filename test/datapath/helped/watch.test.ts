// What goes on of a watched connection, one that its helper has left.

import { expect, it } from 'vitest'
import { failing, start } from './failures.ts'

const GREETING = '220 ready\r\n'

it('its bytes go on in order: what lies behind a gap is dropped, for its sender to repeat', async () => {
  const d = await start(failing('FAIL'))
  d.tell(d.server, GREETING)
  d.tell(d.client, 'FAIL\r\n')
  const from = d.client.text.length
  d.client.text += 'NOOP\r\nPASV\r\n'
  expect(d.say(d.client, from + 6, from + 12)).toEqual([])
  expect(d.gateway.drops()).toEqual({ 'helper-window': 1 })
  // An acknowledgement says nothing.
  d.server.text += '200 ok\r\n'
  d.say(d.server, GREETING.length, d.server.text.length)
  expect(d.say(d.client, from + 6, from + 6)).toHaveLength(1)
  for (const [begin, end] of [
    [0, 6],
    [6, 12],
    [0, 12],
  ] as const)
    expect(d.say(d.client, from + begin, from + end)).toHaveLength(1)
  expect(d.server.received).toBe('FAIL\r\nNOOP\r\nPASV\r\n')
  d.gateway.check()
})

it('it goes on behind a line that its helper has let out as it is, and that names the address', async () => {
  const d = await start(failing('FAIL'))
  d.tell(d.client, '10.0.0.5\r\n')
  d.tell(d.client, 'FAIL\r\n')
  expect(d.tell(d.client, '1,2\r\n').map(({ text }) => text)).toEqual(['1,2\r\n'])
  expect(d.gateway.drops()).toEqual({})
})
