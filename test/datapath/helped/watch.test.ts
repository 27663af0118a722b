// What goes on of a watched connection, one that its helper has left.

import { expect, it } from 'vitest'
import { type Helper, Verdict } from '../../../src/helpers/helper.ts'
import { HOST } from '../network.ts'
import { fromOf, tcpSegment } from '../packets.ts'
import { Dialogue } from './dialogue.ts'
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

it('its bytes go on in order from the first one, also of a connection that took its row over', async () => {
  let connections = 0
  const helper: Helper = {
    name: 'once',
    tuple: { proto: 'tcp', dstPort: 21 },
    state() {
      if (++connections > 1) throw new Error('not again')
    },
    help: () => Verdict.Accept,
  }
  const d = await Dialogue.begin({}, (gateway) => gateway.help(helper))
  d.tell(d.client, 'NOOP\r\n')
  d.forget(2 ** 20, 2 ** 21)
  d.open()
  for (const segment of d.answer()) d.client.take(segment)
  d.say(d.client, 0, 0)
  d.client.text = 'PORT 10,0,0,5,1,2\r\n'
  expect(d.say(d.client, 8, 21)).toEqual([])
  expect(connections).toBe(2)
  expect(d.gateway.drops()).toEqual({ 'helper-window': 1 })
})

it('a later fragment has no numbers: whatever came before it, no helper begins anew', async () => {
  const d = await start(failing('FAIL'))
  d.tell(d.client, 'FAIL\r\n')
  const { from, to } = d.outside
  const old = tcpSegment(from, to, 'A', { tcp: { seq: (d.server.isn - 2 ** 30) >>> 0, ack: d.server.ack >>> 0 } })
  const first = { ...old, ip: { ...old.ip, id: 9, moreFragments: true }, payload: 'x'.repeat(12) }
  expect(d.gateway.outside(first)).toHaveLength(1)
  // Another connection, whose ends have forgotten it, begins anew.
  const says = (flags: string, seq: number, ack: number) =>
    d.gateway.inside(tcpSegment(`${HOST}:6000`, '192.0.2.7:80', flags, { tcp: { seq, ack } }))
  const external = fromOf(says('S', 0, 0)[0]!)
  const answers = (seq: number, ack: number) =>
    d.gateway.outside(tcpSegment('192.0.2.7:80', external, 'SA', { tcp: { seq, ack } }))
  answers(0, 1)
  says('A', 1, 1)
  says('S', 2 ** 20, 0)
  expect(answers(2 ** 21, 2 ** 20 + 1)).toHaveLength(1)
  const later = { ip: { src: old.ip.src, dst: old.ip.dst, id: 9, fragmentOffset: 32 }, protocol: { number: 6 } }
  expect(d.gateway.outside({ ...later, payload: 'x' })).toHaveLength(1)
  expect(d.gateway.counter('helped')).toBe(0)
})

it('that was ended, its ends may begin another one by the same ports, which is read again', async () => {
  const d = await start(failing('FAIL'))
  d.tell(d.client, 'FAIL\r\n')
  expect(d.tell(d.client, '10.0.0.5\r\n').map(({ text }) => text)).not.toContain('10.0.0.5\r\n')
  const drops = d.gateway.drops()
  // The gateway's own resets.
  expect(d.gateway.toWan().length).toBeGreaterThan(0)
  d.forget(2 ** 20, 2 ** 21)
  d.open()
  for (const segment of d.answer()) d.client.take(segment)
  d.say(d.client, 0, 0)
  expect(d.tell(d.client, 'NOOP\r\n')).toHaveLength(1)
  expect(d.gateway.counter('helped')).toBe(1)
  expect(d.gateway.drops()).toEqual(drops)
})
