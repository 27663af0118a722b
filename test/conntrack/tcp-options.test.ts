// How strictly TCP is tracked, by configuration: `tcp.liberal`, `liberal` in a rule of the filter, `tcp.pickup`
// (nf_conntrack_tcp_be_liberal, nf_conntrack_tcp_loose).

import { describe, expect, it } from 'vitest'
import { filterRule } from '../../src/control/config.ts'
import { readRule } from '../../src/control/filter-text.ts'
import { filter } from '../../src/control/schema/filter.ts'
import { parseFilterRule } from '../../src/coordinator/filter.ts'
import { Gateway, type GatewayOptions } from '../datapath/gateway.ts'
import { failing, start } from '../datapath/helped/failures.ts'
import { EXTERNAL } from '../datapath/network.ts'
import { fromOf, tcpSegment } from '../datapath/packets.ts'
import { CLIENT, onlyOne, PEER, ScriptedConnection } from './scripted-connection.ts'

const rules = (...lines: readonly string[]) => filter.parse(lines.map(readRule)).map(filterRule).map(parseFilterRule)

describe('nobody is strict about the windows', () => {
  const ways: readonly (readonly [string, GatewayOptions])[] = [
    ['of any connection', { tcp: { liberal: true, pickup: false } }],
    ['of a flow that a rule names', { filter: rules('allow out liberal tcp port 80') }],
  ]
  for (const [of, options] of ways)
    it(`${of}: data and acknowledgements beyond them pass, old resets don’t`, async () => {
      const talk = (await ScriptedConnection.begin(options)).sayAll('s SA, c A')
      const far = (who: 'c' | 's', flags: string, numbers: object) =>
        who === 'c'
          ? talk.gateway.inside(tcpSegment(CLIENT, PEER, flags, { tcp: numbers }))
          : talk.gateway.outside(tcpSegment(PEER, talk.external, flags, { tcp: numbers }))
      expect(far('s', 'PA', { seq: 1_000_000 })).toHaveLength(1)
      expect(far('c', 'A', { ack: 1_000_000 })).toHaveLength(1)
      expect(far('s', 'R', { seq: 0 })).toHaveLength(0)
      expect(talk.gateway.drops()).toEqual({ 'tcp-reset': 1 })
      talk.gateway.check()
    })

  it('a helper reads what is beyond them, too', async () => {
    const d = await start(failing('FAIL'), { tcp: { liberal: true, pickup: false } })
    for (let n = 0; n < 200; n++) {
      d.server.text += `${'x'.repeat(998)}\r\n`
      d.say(d.server, d.server.text.length - 1000, d.server.text.length)
    }
    expect(d.client.received).toBe(d.server.text)
    expect(d.gateway.counter('helped')).toBe(1)
  })

  it('of other flows than the rule’s it is as ever', async () => {
    const options = { filter: rules('allow out liberal tcp port 443') }
    const talk = (await ScriptedConnection.begin(options)).sayAll('s SA, c A')
    expect(talk.gateway.outside(tcpSegment(PEER, talk.external, 'PA', { tcp: { seq: 1_000_000 } }))).toEqual([])
  })
})

describe('a segment in mid-stream', () => {
  const PICKUP = { tcp: { pickup: true, liberal: false } }
  const middle = tcpSegment(CLIENT, PEER, 'PA', { payload: 'in the middle', tcp: { seq: 5_000, ack: 9_000 } })

  it('from inside makes a connection, which waits 300 s for an answer, and has two hours then', async () => {
    const gateway = await Gateway.start(PICKUP)
    const external = fromOf(gateway.inside(middle)[0]!)
    expect(onlyOne(gateway)).toMatchObject({ state: 'ESTABLISHED', seenReply: false, timeout: 300 })
    const answer = tcpSegment(PEER, external, 'A', { tcp: { seq: 9_000, ack: 5_013 } })
    expect(gateway.outside(answer)).toHaveLength(1)
    expect(onlyOne(gateway)).toMatchObject({ state: 'ESTABLISHED', seenReply: true, assured: false, timeout: 7440 })
    gateway.inside(tcpSegment(CLIENT, PEER, 'A', { tcp: { seq: 5_013, ack: 9_000 } }))
    expect(onlyOne(gateway)).toMatchObject({ state: 'ESTABLISHED', seenReply: true, assured: true, timeout: 7440 })
    gateway.check()
  })

  it('makes none if it is a FIN, a SYN/ACK or a reset, or if it comes from outside', async () => {
    const gateway = await Gateway.start({ ...PICKUP, nat: { filtering: 'endpoint-independent' } })
    for (const flags of ['FA', 'SA', 'R']) expect(gateway.inside(tcpSegment(CLIENT, PEER, flags))).toEqual([])
    const external = fromOf(gateway.inside(tcpSegment(CLIENT, PEER, 'S'))[0]!)
    gateway.outside(tcpSegment('198.51.100.7:999', external, 'A'))
    gateway.outside(tcpSegment(PEER, `${EXTERNAL}:20000`, 'A'))
    expect(gateway.drops()).toEqual({ 'tcp-no-connection': 4 })
    expect(onlyOne(gateway).state).toBe('SYN_SENT')
  })

  it('makes none by default', async () => {
    const gateway = await Gateway.start()
    expect(gateway.inside(middle)).toEqual([])
    expect(gateway.drops()).toEqual({ 'tcp-no-connection': 1 })
  })
})
