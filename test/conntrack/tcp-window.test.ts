// TCP's numbers (nf_conntrack_proto_tcp.c, tcp_in_window; RFC 5961): which segments go on, which of them change what is
// known of the connection, and which are dropped, each with its reason. Both ends begin at 0 and offer 64240 bytes.

import { describe, expect, it } from 'vitest'
import { type FrameSpec, frame, type TcpSpec } from '../../src/testing/builder.ts'
import { tcpSegment } from '../datapath/packets.ts'
import { CLIENT, PEER, ScriptedConnection } from './scripted-connection.ts'

const WINDOW = 64_240
const OPEN = 's SA, c A'

type Numbers = Partial<TcpSpec> & { readonly bytes?: number }

/** An end says something; true if it arrived at the other one. */
function says(talk: ScriptedConnection, who: 'c' | 's', flags: string, { bytes = 0, ...numbers }: Numbers): boolean {
  const more = { payload: 'x'.repeat(bytes), tcp: numbers }
  const sent =
    who === 'c'
      ? talk.gateway.inside(tcpSegment(CLIENT, PEER, flags, more))
      : talk.gateway.outside(tcpSegment(PEER, talk.external, flags, more))
  return sent.length > 0
}

const open = async (): Promise<ScriptedConnection> => (await ScriptedConnection.begin()).sayAll(OPEN)

const SCALE_7 = Uint8Array.of(3, 3, 7)
const SACK_PERMITTED = Uint8Array.of(4, 2)
const sack = (left: number, right: number): Uint8Array => {
  const option = new Uint8Array(10)
  option.set([5, 10])
  new DataView(option.buffer).setUint32(2, left)
  new DataView(option.buffer).setUint32(6, right)
  return option
}

describe('a segment that its receiver can’t want, or that acknowledges what was not sent, is dropped', () => {
  const cases: readonly (readonly [string, 'c' | 's', string, Numbers, string])[] = [
    ['data beyond the window', 'c', 'PA', { seq: 1 + 3 * WINDOW, bytes: 10 }, 'tcp-seq-over'],
    ['the server’s too', 's', 'PA', { seq: 1 + 3 * WINDOW, bytes: 10 }, 'tcp-seq-over'],
    ['far behind, by the sign', 's', 'PA', { seq: 1 + 2 ** 31, bytes: 10 }, 'tcp-seq-over'],
    ['a FIN beyond it', 's', 'FA', { seq: 1 + 3 * WINDOW }, 'tcp-seq-over'],
    ['an acknowledgement of what was not sent', 's', 'A', { ack: 2 }, 'tcp-ack-over'],
    ['the client’s too', 'c', 'A', { ack: 500 }, 'tcp-ack-over'],
    ['a FIN with one', 's', 'FA', { ack: 70_000 }, 'tcp-ack-over'],
    ['a reset below what was acknowledged', 's', 'R', { seq: 0 }, 'tcp-reset'],
    ['a reset beyond the window', 's', 'R', { seq: 1 + 3 * WINDOW }, 'tcp-seq-over'],
    ['a reset that acknowledges too much', 's', 'RA', { seq: 100, ack: 70_000 }, 'tcp-ack-over'],
  ]
  for (const [title, who, flags, numbers, reason] of cases)
    it(`${title}: ${reason}`, async () => {
      const talk = await open()
      const { connection } = talk
      talk.gateway.pass(60)
      expect(says(talk, who, flags, numbers)).toBe(false)
      expect(talk.gateway.drops()).toEqual({ [reason]: 1 })
      expect(talk.connection).toEqual(connection)
      expect(talk.say('c A')).toBe(true)
      talk.gateway.check()
    })
})

describe('a segment that may be late goes on, and changes nothing', () => {
  /** The client has sent `bytes`, all acknowledged. */
  async function withSent(bytes: number): Promise<ScriptedConnection> {
    const talk = await open()
    for (let seq = 1; seq <= bytes; seq += 1000) {
      expect(says(talk, 'c', 'PA', { seq, bytes: 1000 })).toBe(true)
      expect(says(talk, 's', 'A', { ack: seq + 1000 })).toBe(true)
    }
    return talk
  }

  it('data older than the window', async () => {
    const talk = await withSent(200_000)
    talk.gateway.pass(60)
    const { lastSeen } = talk.connection
    expect(says(talk, 'c', 'PA', { seq: 1, bytes: 1000 })).toBe(true)
    expect(talk.connection.lastSeen).toBe(lastSeen)
  })

  it('a FIN older than the window', async () => {
    const talk = await withSent(200_000)
    expect(says(talk, 'c', 'FA', { seq: 1 })).toBe(true)
    expect(talk.state).toBe('ESTABLISHED')
  })

  it('an acknowledgement older than what may be under way', async () => {
    const talk = await withSent(200_000)
    talk.gateway.pass(60)
    const { lastSeen } = talk.connection
    expect(says(talk, 's', 'A', { ack: 1 })).toBe(true)
    expect(talk.connection.lastSeen).toBe(lastSeen)
  })
})

describe('what real ends send goes on', () => {
  it('a keep-alive: a byte before the next one, and its answer', async () => {
    const talk = await open()
    expect(says(talk, 'c', 'A', { seq: 0 })).toBe(true)
    expect(says(talk, 's', 'A', {})).toBe(true)
    expect(says(talk, 'c', 'A', { seq: 0, bytes: 1 })).toBe(true)
    expect(talk.gateway.drops()).toEqual({})
  })

  it('a probe of a closed window, and the window that opens', async () => {
    const talk = await open()
    expect(says(talk, 's', 'A', { window: 0 })).toBe(true)
    expect(says(talk, 'c', 'PA', { bytes: 1 })).toBe(true)
    expect(says(talk, 's', 'A', { window: 0 })).toBe(true)
    expect(says(talk, 's', 'A', { ack: 2, window: 1000 })).toBe(true)
    expect(says(talk, 'c', 'PA', { seq: 2, bytes: 1000 })).toBe(true)
    expect(talk.gateway.drops()).toEqual({})
  })

  it('a little more than the window, and its acknowledgement', async () => {
    const talk = await open()
    expect(says(talk, 'c', 'PA', { seq: 2 + WINDOW, bytes: 100 })).toBe(true)
    expect(says(talk, 's', 'A', { ack: 102 + WINDOW })).toBe(true)
    expect(talk.gateway.drops()).toEqual({})
  })

  it('urgent data, a segment of 64 KB, numbers that wrap', async () => {
    const talk = await ScriptedConnection.begin({})
    expect(says(talk, 's', 'SA', { seq: 2 ** 32 - 5 })).toBe(true)
    expect(says(talk, 'c', 'A', { ack: 2 ** 32 - 4 })).toBe(true)
    expect(says(talk, 's', 'PAU', { seq: 2 ** 32 - 4, bytes: 1400 })).toBe(true)
    expect(says(talk, 'c', 'A', { ack: 1396 })).toBe(true)
    expect(says(talk, 's', 'R', { seq: 1396 })).toBe(true)
    expect(talk.state).toBe('CLOSE')
  })

  it('a segment in fragments, and what acknowledges all of it', async () => {
    const talk = await open()
    const piece = (fragmentOffset: number, more: FrameSpec) => ({
      ...more,
      ip: { ...more.ip, id: 7, fragmentOffset, moreFragments: fragmentOffset === 0 },
    })
    const [first, second] = ['x'.repeat(1420), 'x'.repeat(1480)]
    expect(talk.gateway.inside(piece(0, tcpSegment(CLIENT, PEER, 'PA', { payload: first })))).toHaveLength(1)
    const later = { ip: tcpSegment(CLIENT, PEER, '').ip, protocol: { number: 6 }, payload: second }
    expect(talk.gateway.inside(piece(1440, later))).toHaveLength(1)
    expect(says(talk, 's', 'A', { ack: 2901 })).toBe(true)
    expect(says(talk, 's', 'A', { ack: 2902 })).toBe(false)
    expect(says(talk, 'c', 'PA', { seq: 2901, bytes: 100 })).toBe(true)
    expect(says(talk, 's', 'A', { ack: 3001 })).toBe(true)
    talk.gateway.check()
  })

  it('windows that both scale', async () => {
    const talk = await ScriptedConnection.begin({}, { options: SCALE_7 })
    expect(says(talk, 's', 'SA', { options: SCALE_7 })).toBe(true)
    expect(says(talk, 'c', 'A', { window: 500 })).toBe(true)
    expect(says(talk, 's', 'A', { window: 500 })).toBe(true)
    expect(says(talk, 'c', 'PA', { seq: 1 + WINDOW + 2000, bytes: 100 })).toBe(true)
    expect(says(talk, 'c', 'PA', { seq: 1 + 500 * 128 + WINDOW * 2, bytes: 100 })).toBe(false)
  })

  it('windows that one end offers to scale: neither does', async () => {
    const talk = await ScriptedConnection.begin({}, { options: SCALE_7 })
    expect(says(talk, 's', 'SA', {})).toBe(true)
    expect(says(talk, 'c', 'A', { window: 500 })).toBe(true)
    expect(says(talk, 's', 'PA', { seq: 3 * WINDOW, bytes: 10 })).toBe(false)
  })

  it('SACK of what was sent, where it is permitted; of more only where it isn’t', async () => {
    const permitted = await ScriptedConnection.begin({}, { options: SACK_PERMITTED })
    expect(says(permitted, 's', 'SA', { options: SACK_PERMITTED })).toBe(true)
    permitted.sayAll('c A')
    expect(says(permitted, 'c', 'PA', { seq: 1001, bytes: 1000 })).toBe(true)
    expect(says(permitted, 's', 'A', { ack: 1, options: sack(1001, 2001) })).toBe(true)
    expect(says(permitted, 's', 'A', { ack: 1, options: sack(1001, 2002) })).toBe(false)
    expect(permitted.gateway.drops()).toEqual({ 'tcp-ack-over': 1 })
    const plain = await open()
    expect(says(plain, 's', 'A', { ack: 1, options: sack(1001, 2002) })).toBe(true)
  })
})

describe('who guesses numbers bends nothing', () => {
  it('a reset in the window without the exact number: it goes on, nothing changes (RFC 5961)', async () => {
    const talk = await open()
    talk.gateway.pass(60)
    const { connection } = talk
    expect(says(talk, 's', 'R', { seq: 1000 })).toBe(true)
    expect(talk.connection).toMatchObject({ state: 'ESTABLISHED', timeout: 7440, lastSeen: connection.lastSeen })
    expect(says(talk, 's', 'R', {})).toBe(true)
    expect(talk.state).toBe('CLOSE')
  })

  it('the same of a half-closed connection', async () => {
    const talk = (await open()).sayAll('c FA, s A')
    expect(says(talk, 's', 'R', { seq: 1000 })).toBe(true)
    expect(talk.state).toBe('CLOSE_WAIT')
    expect(says(talk, 's', 'R', {})).toBe(true)
    expect(talk.state).toBe('CLOSE')
  })

  it('a reset whose number follows what its sender has just sent', async () => {
    const talk = await open()
    expect(says(talk, 's', 'PA', { bytes: 100 })).toBe(true)
    expect(says(talk, 's', 'RA', { seq: 101 })).toBe(true)
    expect(talk.state).toBe('CLOSE')
  })

  it.each([
    [{ ack: 2 }, false],
    [{ ack: 70_000 }, false],
    [{ ack: 2 ** 32 - 100 }, true],
    [{ ack: 0 }, true],
  ])('a SYN/ACK with %o does not open', async (numbers, arrives) => {
    const talk = await ScriptedConnection.begin()
    expect(says(talk, 's', 'SA', numbers)).toBe(arrives)
    expect(talk.connection).toMatchObject({ state: 'SYN_SENT', seenReply: false })
    talk.sayAll(OPEN)
    expect(talk.state).toBe('ESTABLISHED')
  })

  it.each([
    ['RA', { seq: 0, ack: 70_000 }, false],
    ['RA', { seq: 0, ack: 2 ** 32 - 100 }, true],
    ['RA', { seq: 0, ack: 0 }, true],
    ['R', { seq: 0 }, true],
  ])('a reset %s with %o does not refuse a SYN', async (flags, numbers, arrives) => {
    const talk = await ScriptedConnection.begin()
    expect(says(talk, 's', flags, numbers)).toBe(arrives)
    expect(talk.state).toBe('SYN_SENT')
    expect(talk.gateway.counter('portsUsed', 0)).toBe(1)
    talk.sayAll(OPEN)
  })

  it.each([
    [0, true],
    [778, false],
  ])('an ACK and a reset with %i, both by who knows no number, do not refuse a SYN', async (ack, arrives) => {
    const talk = await ScriptedConnection.begin()
    expect(says(talk, 's', 'A', { seq: 778, ack: 70_000 })).toBe(true)
    expect(says(talk, 's', 'RA', { seq: 778, ack })).toBe(arrives)
    expect(talk.connection).toMatchObject({ state: 'SYN_SENT', seenReply: false })
    talk.sayAll(OPEN)
    expect(talk.state).toBe('ESTABLISHED')
  })

  it('a reset that acknowledges nothing, after an ACK of the other end, is no answer to that', async () => {
    const talk = await ScriptedConnection.begin()
    expect(says(talk, 's', 'A', { seq: 778, ack: 70_000 })).toBe(true)
    expect(says(talk, 'c', 'RA', { seq: 900_000, ack: 0 })).toBe(false)
    expect(talk.state).toBe('SYN_SENT')
  })

  it('a reset beyond the window, though it acknowledges what came last, while the handshake lasts', async () => {
    const talk = (await ScriptedConnection.begin()).sayAll('s SA')
    expect(says(talk, 's', 'PA', { bytes: 1 })).toBe(true)
    expect(says(talk, 'c', 'RA', { seq: 1 + 3 * WINDOW, ack: 2 })).toBe(false)
    expect(talk.gateway.drops()).toEqual({ 'tcp-seq-over': 1 })
    expect(talk.state).toBe('SYN_RECV')
  })

  it('a second reset keeps nothing alive (RFC 7857 7.1)', async () => {
    const talk = (await open()).sayAll('s R')
    const { lastSeen } = talk.connection
    talk.gateway.pass(100)
    expect(talk.say('c R')).toBe(true)
    expect(talk.say('s R')).toBe(true)
    expect(talk.connection.lastSeen).toBe(lastSeen)
  })

  it('an ACK that challenges a SYN in LAST_ACK is not the last one (RFC 5961 4.2)', async () => {
    const talk = (await open()).sayAll('c FA, s FA')
    expect(says(talk, 'c', 'S', { seq: 90_000 })).toBe(true)
    expect(says(talk, 's', 'A', { seq: 2, ack: 2 })).toBe(true)
    expect(talk.state).toBe('LAST_ACK')
    expect(says(talk, 's', 'A', { seq: 2, ack: 2 })).toBe(true)
    expect(talk.state).toBe('TIME_WAIT')
  })

  it('both ends forget, the client opens anew: by the answer to its SYN', async () => {
    const talk = await open()
    expect(says(talk, 'c', 'S', { seq: 500_000 })).toBe(true)
    expect(talk.state).toBe('ESTABLISHED')
    expect(says(talk, 's', 'SA', { seq: 700_000, ack: 500_002 })).toBe(true)
    expect(talk.state).toBe('ESTABLISHED')
    expect(says(talk, 's', 'SA', { seq: 700_000, ack: 500_001 })).toBe(true)
    expect(talk.state).toBe('SYN_RECV')
    expect(says(talk, 'c', 'A', { seq: 500_001, ack: 700_001 })).toBe(true)
    expect(says(talk, 's', 'PA', { seq: 700_001, ack: 500_001, bytes: 10 })).toBe(true)
    expect(talk.gateway.drops()).toEqual({})
    expect(says(talk, 'c', 'PA', { bytes: 10 })).toBe(true)
    expect(says(talk, 's', 'PA', { bytes: 10 })).toBe(true)
    talk.gateway.check()
  })

  it('a SYN with a wrong checksum does not end a closed connection', async () => {
    const talk = (await open()).sayAll('c FA, s FA, c A')
    const eth = { src: '02:00:00:00:01:05', dst: '02:00:00:00:01:01' }
    const broken = frame({ eth, ...tcpSegment(CLIENT, PEER, 'S', { tcp: { seq: 900_000 } }) })
    broken[broken.length - 1]! ^= 1
    expect(talk.gateway.inside(broken)).toHaveLength(0)
    expect(talk.gateway.drops()).toEqual({ 'tcp-checksum': 1 })
    expect(talk.state).toBe('TIME_WAIT')
  })
})

describe('a SYN from outside to a closed connection', () => {
  it('ends nothing: the end inside decides, and its answer begins a new connection', async () => {
    const talk = (await open()).sayAll('c FA, s FA, c A')
    expect(says(talk, 's', 'S', { seq: 900_000 })).toBe(true)
    expect(talk.state).toBe('TIME_WAIT')
    expect(says(talk, 'c', 'SA', { seq: 700_000, ack: 5 })).toBe(false)
    expect(says(talk, 'c', 'SA', { seq: 700_000, ack: 900_001 })).toBe(true)
    expect(talk.state).toBe('SYN_RECV')
    expect(says(talk, 's', 'A', { seq: 900_001, ack: 700_001 })).toBe(true)
    expect(talk.state).toBe('ESTABLISHED')
    expect(says(talk, 's', 'PA', { seq: 900_001, ack: 700_001, bytes: 10 })).toBe(true)
    talk.gateway.check()
  })
})
