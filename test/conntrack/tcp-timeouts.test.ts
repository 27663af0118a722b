// How long a TCP connection lives without a segment: RFC 5382 REQ-5 (7440 s established, 240 s otherwise), RFC 7857
// 2.1.

import { describe, expect, it } from 'vitest'
import { DEFAULT_TIMEOUTS, tcpTimeouts } from '../../src/conntrack/timeouts.ts'
import { connectionsOf } from '../datapath/tables.ts'
import { ScriptedConnection } from './scripted-connection.ts'

const OPEN = 's SA, c A'

/** Seconds from now that the connection is kept, found out by waiting. */
function keptFor(scripted: ScriptedConnection, upTo: number): boolean {
  scripted.gateway.pass(upTo - 1)
  const kept = connectionsOf(scripted.gateway.tables).length === 1
  // The sweep goes round in a second.
  scripted.gateway.pass(3)
  return kept && connectionsOf(scripted.gateway.tables).length === 0
}

describe('TCP timeouts', () => {
  const states = [
    ['SYN_SENT', '', 240],
    ['SYN_SENT2', 's S', 240],
    ['SYN_RECV', 's SA', 240],
    ['ESTABLISHED', OPEN, 7440],
    ['FIN_WAIT', `${OPEN}, c FA`, 240],
    ['CLOSE_WAIT', `${OPEN}, c FA, s A`, 240],
    ['LAST_ACK', `${OPEN}, c FA, s FA`, 240],
    ['TIME_WAIT', `${OPEN}, c FA, s FA, c A`, 240],
    ['CLOSE', `${OPEN}, s R`, 240],
  ] as const
  for (const [state, story, seconds] of states)
    it(`${state}: ${seconds} s`, async () => {
      const scripted = (await ScriptedConnection.begin()).sayAll(story)
      expect(scripted.connection).toMatchObject({ state, timeout: seconds })
      expect(keptFor(scripted, seconds)).toBe(true)
      scripted.gateway.check()
    })

  it('are configured by state', async () => {
    const timeouts = { tcp: { ...DEFAULT_TIMEOUTS.tcp, ESTABLISHED: 432_000, SYN_SENT: 120 } }
    const scripted = await ScriptedConnection.begin({ timeouts })
    expect(scripted.connection.timeout).toBe(120)
    expect(scripted.sayAll(OPEN).connection.timeout).toBe(432_000)
    expect(tcpTimeouts({ ...DEFAULT_TIMEOUTS, ...timeouts })[3]).toBe(432_000)
  })

  it('begin again with a segment of either end', async () => {
    const scripted = (await ScriptedConnection.begin()).sayAll(OPEN)
    for (const segment of ['c PA', 's PA', 'c A', 's A']) {
      scripted.gateway.pass(7000)
      expect(scripted.say(segment)).toBe(true)
    }
    expect(keptFor(scripted, 7440)).toBe(true)
  })

  it('do not begin again with a SYN sent again without an answer', async () => {
    const scripted = await ScriptedConnection.begin()
    scripted.gateway.pass(200)
    expect(scripted.say('c S')).toBe(true)
    expect(keptFor(scripted, 40)).toBe(true)
  })

  it('begin again with the SYN of a simultaneous open', async () => {
    const scripted = await ScriptedConnection.begin()
    scripted.gateway.pass(200)
    scripted.sayAll('s S')
    expect(keptFor(scripted, 240)).toBe(true)
  })

  it('do not begin again with what is passed and ignored', async () => {
    const scripted = (await ScriptedConnection.begin()).sayAll('s SA')
    scripted.gateway.pass(200)
    scripted.sayAll('s SA, c S')
    expect(keptFor(scripted, 40)).toBe(true)
  })

  it('do not begin again with what is dropped', async () => {
    const scripted = (await ScriptedConnection.begin()).sayAll('s SA')
    scripted.gateway.pass(200)
    expect(scripted.say('s S')).toBe(false)
    expect(keptFor(scripted, 40)).toBe(true)
  })
})

describe('SEEN_REPLY and ASSURED', () => {
  it('a reply: SEEN_REPLY; ESTABLISHED out of SYN_RECV: ASSURED', async () => {
    const scripted = await ScriptedConnection.begin()
    expect(scripted.connection).toMatchObject({ seenReply: false, assured: false })
    scripted.sayAll('s SA')
    expect(scripted.connection).toMatchObject({ seenReply: true, assured: false })
    scripted.sayAll('c A')
    expect(scripted.connection).toMatchObject({ seenReply: true, assured: true })
    scripted.sayAll('c FA, s FA, c A')
    expect(scripted.connection.assured).toBe(true)
  })

  it('a handshake that was never completed is not assured', async () => {
    const scripted = (await ScriptedConnection.begin()).sayAll('s SA, c FA, s FA, c A')
    expect(scripted.connection).toMatchObject({ state: 'TIME_WAIT', seenReply: true, assured: false })
  })

  it('a simultaneous open is', async () => {
    const scripted = (await ScriptedConnection.begin()).sayAll('s S, c SA, s A')
    expect(scripted.connection).toMatchObject({ state: 'ESTABLISHED', assured: true, simultaneousOpen: true })
  })
})
