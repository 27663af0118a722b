// TCP connections from their first segment to their last (nf_conntrack_proto_tcp.c; RFC 5382 REQ-2): each story tells
// who sends what, and the state after it. The client's SYN has always been sent.

import { describe, expect, it } from 'vitest'
import { Gateway } from '../datapath/gateway.ts'
import { fromOf, tcpSegment } from '../datapath/packets.ts'
import { connectionsOf } from '../datapath/tables.ts'
import { CLIENT, PEER, ScriptedConnection } from './scripted-connection.ts'

const OPEN = 's SA, c A'

const STORIES: readonly (readonly [title: string, ...steps: (readonly [segment: string, state: string])[]])[] = [
  ['a handshake', ['s SA', 'SYN_RECV'], ['c A', 'ESTABLISHED'], ['s PA', 'ESTABLISHED'], ['c PA', 'ESTABLISHED']],
  [
    'the client closes first',
    ['s SA', 'SYN_RECV'],
    ['c A', 'ESTABLISHED'],
    ['c FA', 'FIN_WAIT'],
    ['s A', 'CLOSE_WAIT'],
    ['s FA', 'LAST_ACK'],
    ['c A', 'TIME_WAIT'],
  ],
  [
    'the server closes first',
    ['s SA', 'SYN_RECV'],
    ['c A', 'ESTABLISHED'],
    ['s FA', 'FIN_WAIT'],
    ['c A', 'CLOSE_WAIT'],
    ['c FA', 'LAST_ACK'],
    ['s A', 'TIME_WAIT'],
  ],
  [
    'both close at once',
    ['s SA', 'SYN_RECV'],
    ['c A', 'ESTABLISHED'],
    ['c FA', 'FIN_WAIT'],
    ['s FA', 'LAST_ACK'],
    ['c A', 'TIME_WAIT'],
    ['s A', 'TIME_WAIT'],
  ],
  ['a FIN right after the handshake began', ['s SA', 'SYN_RECV'], ['c FA', 'FIN_WAIT']],
  [
    'data after a FIN: half closed',
    ['s SA', 'SYN_RECV'],
    ['c A', 'ESTABLISHED'],
    ['c FA', 'FIN_WAIT'],
    ['s PA', 'CLOSE_WAIT'],
    ['s PA', 'CLOSE_WAIT'],
  ],
  [
    'simultaneous open, acknowledged by SYN/ACKs, the client first',
    ['s S', 'SYN_SENT2'],
    ['c SA', 'SYN_RECV'],
    ['s SA', 'SYN_RECV'],
    ['c A', 'ESTABLISHED'],
  ],
  ["simultaneous open, ended by the server's ACK", ['s S', 'SYN_SENT2'], ['c SA', 'SYN_RECV'], ['s A', 'ESTABLISHED']],
  [
    'simultaneous open, the server first',
    ['s S', 'SYN_SENT2'],
    ['s SA', 'SYN_RECV'],
    ['c SA', 'SYN_RECV'],
    ['s A', 'ESTABLISHED'],
  ],
  [
    "an ordinary open isn't ended by the server's ACK",
    ['s SA', 'SYN_RECV'],
    ['s A', 'SYN_RECV'],
    ['c A', 'ESTABLISHED'],
  ],
  [
    'SYN and SYN/ACK sent again',
    ['c S', 'SYN_SENT'],
    ['s SA', 'SYN_RECV'],
    ['c S', 'SYN_RECV'],
    ['s SA', 'SYN_RECV'],
    ['c A', 'ESTABLISHED'],
    ['s SA', 'ESTABLISHED'],
    ['c S', 'ESTABLISHED'],
  ],
  ['the client gives up', ['c R', 'CLOSE']],
  ['the client resets what the server accepted', ['s SA', 'SYN_RECV'], ['c R', 'CLOSE']],
  ['the client resets', ['s SA', 'SYN_RECV'], ['c A', 'ESTABLISHED'], ['c RA', 'CLOSE'], ['s PA', 'CLOSE']],
  ['the server resets', ['s SA', 'SYN_RECV'], ['c A', 'ESTABLISHED'], ['s R', 'CLOSE'], ['s R', 'CLOSE']],
  ['a reset in FIN_WAIT', ['s SA', 'SYN_RECV'], ['c FA', 'FIN_WAIT'], ['s R', 'CLOSE']],
  ['a reset in CLOSE_WAIT', ['s SA', 'SYN_RECV'], ['c FA', 'FIN_WAIT'], ['s A', 'CLOSE_WAIT'], ['c R', 'CLOSE']],
  ['a reset in LAST_ACK', ['s SA', 'SYN_RECV'], ['c FA', 'FIN_WAIT'], ['s FA', 'LAST_ACK'], ['c R', 'CLOSE']],
  [
    'a reset in TIME_WAIT',
    ['s SA', 'SYN_RECV'],
    ['c FA', 'FIN_WAIT'],
    ['s FA', 'LAST_ACK'],
    ['c A', 'TIME_WAIT'],
    ['s R', 'CLOSE'],
  ],
]

describe('TCP', () => {
  for (const [title, ...steps] of STORIES)
    it(`${title}: ${steps.map((step) => step.join(' -> ')).join(', ')}`, async () => {
      const talk = await ScriptedConnection.begin()
      expect(talk.state).toBe('SYN_SENT')
      for (const [segment, state] of steps) {
        expect(talk.say(segment)).toBe(true)
        expect(talk.state).toBe(state)
        talk.gateway.check()
      }
      expect(talk.gateway.drops()).toEqual({})
    })

  const invalid = [
    ['', 'c A', "the client's ACK to nothing"],
    ['', 'c SA', "the client's SYN/ACK to nothing"],
    ['', 'c FA', "the client's FIN before an answer"],
    ['', 's FA', "the server's FIN before its SYN"],
    ['s S', 'c A', 'an ACK before the SYN/ACK of a simultaneous open'],
    ['s SA', 's S', 'a SYN after the SYN/ACK'],
    [OPEN, 's S', "the server's SYN in an established connection"],
    [OPEN, 'c SA', "the client's SYN/ACK in an established connection"],
    [`${OPEN}, c R`, 's S', "the server's SYN after a reset"],
  ] as const
  for (const [before, segment, why] of invalid)
    it(`drops ${why} (${segment}) and changes nothing`, async () => {
      const talk = (await ScriptedConnection.begin()).sayAll(before)
      const state = talk.connection
      expect(talk.say(segment)).toBe(false)
      expect(talk.connection).toEqual(state)
      expect(talk.gateway.drops()).toEqual({ 'tcp-state': 1 })
    })

  it("passes the server's ACK of nothing, unchanged: it may be a challenge (RFC 5961)", async () => {
    const talk = await ScriptedConnection.begin()
    expect(talk.say('s A')).toBe(true)
    expect(talk.connection).toMatchObject({ state: 'SYN_SENT', seenReply: false })
  })
})

describe('the end of a connection', () => {
  it('an RST that answers a SYN ends it at once, and frees its port', async () => {
    const talk = await ScriptedConnection.begin()
    expect(talk.say('s RA')).toBe(true)
    expect(connectionsOf(talk.gateway.tables)).toEqual([])
    expect(talk.gateway.counter('portsUsed', 0)).toBe(0)
    talk.gateway.check()
  })

  it('any other RST keeps it, so that what is under way finds its receiver (RFC 7857 2.2)', async () => {
    const talk = (await ScriptedConnection.begin()).sayAll(`${OPEN}, s R`)
    expect(talk.connection.timeout).toBe(240)
    expect(talk.say('s R')).toBe(true)
  })

  const closed = [`${OPEN}, c FA, s FA, c A`, `${OPEN}, c R`, 'c R']
  for (const story of closed)
    it(`a new SYN after ${story}, ahead of the old numbers, opens anew`, async () => {
      const talk = (await ScriptedConnection.begin()).sayAll(story)
      const [out] = talk.gateway.inside(tcpSegment(CLIENT, PEER, 'S', { tcp: { seq: 9000 } }))
      expect(out).toBeDefined()
      expect(talk.connection).toMatchObject({ state: 'SYN_SENT', seenReply: false, packets: [1, 0] })
      expect(talk.gateway.counter('connectionsInserted')).toBe(2)
      talk.gateway.check()
      talk.gateway.outside(tcpSegment(PEER, fromOf(out!), 'SA', { tcp: { ack: 9001 } }))
      expect(talk.state).toBe('SYN_RECV')
    })

  const unsure = [
    ['after both FINs, with a number that the client has had already', `${OPEN}, c FA, s FA, c A`, 'TIME_WAIT', 0],
    ["after the server's reset", `${OPEN}, s R`, 'CLOSE', 9000],
  ] as const
  for (const [when, story, state, seq] of unsure)
    it(`a new SYN ${when}: passes, and the answer opens anew`, async () => {
      const talk = (await ScriptedConnection.begin()).sayAll(story)
      expect(talk.gateway.inside(tcpSegment(CLIENT, PEER, 'S', { tcp: { seq } }))).toHaveLength(1)
      expect(talk.state).toBe(state)
      const answer = tcpSegment(PEER, talk.external, 'SA', { tcp: { seq: 70_000, ack: seq + 1 } })
      expect(talk.gateway.outside(answer)).toHaveLength(1)
      expect(talk.state).toBe('SYN_RECV')
      const last = tcpSegment(CLIENT, PEER, 'A', { tcp: { seq: seq + 1, ack: 70_001 } })
      expect(talk.gateway.inside(last)).toHaveLength(1)
      expect(talk.state).toBe('ESTABLISHED')
      talk.gateway.check()
    })

  it('a SYN in LAST_ACK passes and changes nothing', async () => {
    const talk = (await ScriptedConnection.begin()).sayAll(`${OPEN}, c FA, s FA`)
    expect(talk.say('c S')).toBe(true)
    expect(talk.state).toBe('LAST_ACK')
  })
})

describe('opened from outside', () => {
  it('to an endpoint that an inside host has opened, it is tracked as any other', async () => {
    const gateway = await Gateway.start({ nat: { filtering: 'endpoint-independent' } })
    const external = fromOf(gateway.inside(tcpSegment(CLIENT, PEER, 'S'))[0]!)
    const caller = '198.51.100.7:999'
    const states = (): string[] =>
      connectionsOf(gateway.tables)
        .filter(({ origin }) => origin === 1)
        .map(({ state }) => state)
    for (const [inside, flags, state] of [
      [false, 'S', 'SYN_SENT'],
      [true, 'SA', 'SYN_RECV'],
      [false, 'A', 'ESTABLISHED'],
      [true, 'FA', 'FIN_WAIT'],
    ] as const) {
      const sent = inside
        ? gateway.inside(tcpSegment(CLIENT, caller, flags))
        : gateway.outside(tcpSegment(caller, external, flags))
      expect(sent).toHaveLength(1)
      expect(states()).toEqual([state])
      gateway.check()
    }
  })
})
