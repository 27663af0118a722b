// A helper's call that fails, in all ways, with all that may have gone before: each end gets one reset with exactly the
// number that it expects next, so that an end that follows RFC 5961 3.2 is closed by it at once, and nothing of the
// call is left behind: no expectation, no reserved port, no rewrite that is counted. What an end expects is what it has
// put together itself (dialogue.ts).

import { describe, expect, it } from 'vitest'
import type { Helper, HelperContext } from '../../../src/helpers/helper.ts'
import * as tcp from '../../../src/wire/tcp.ts'
import { Gateway } from '../gateway.ts'
import { HOST, LAN, SERVER } from '../network.ts'
import { tcpSegment, toOf, udp } from '../packets.ts'
import { Dialogue, type DialogueOptions, type End, INSIDE_CLIENT, type Segment, segmentOf } from './dialogue.ts'

/** From where to where: a client inside, outside, or inside by the external address. */
const WAYS = ['out', 'in', 'hairpin'] as const
type Way = (typeof WAYS)[number]
const FORWARDS = [{ protocol: 6, address: null, port: 21, toAddress: 0x0500000a, toPort: 21 }]
const WINDOW = 65535

/**
 * Reads lines, and does what their first word says: KEEP nothing, LONG and SHORT expect a connection and write
 * something longer or shorter instead of the line. The others fail. What is no line yet is held.
 */
const scripted: Helper = {
  name: 'scripted',
  tuple: { proto: 'tcp', dstPort: 21 },
  maxExpected: 8,
  help(ctx) {
    for (const line of ctx.lines(() => true)) act(ctx, line.at, line.text)
  },
}

let nextPort = 20000

function act(ctx: HelperContext, at: number, text: string): void {
  const [word = ''] = text.split(' ')
  if (word === 'THROW') throw new Error('as the test wants it')
  if (word === 'REFUSE') ctx.expect({ port: 0 })
  if (word === 'LATE') ctx.mangle(at, text.length, 'late')
  if (word === 'HUGE') ctx.mangle(at, text.length, 'z'.repeat(1 << 20))
  if (word !== 'LONG' && word !== 'SHORT') return
  if (ctx.hook === 'postrouting') ctx.expect({ port: nextPort++ })
  ctx.mangle(at, text.length, word === 'LONG' ? 'x'.repeat(30) : 'y')
}

/** What an end does about the resets that arrive, until it is closed. */
function ended(end: End, segments: readonly Segment[]): string[] {
  const answers: string[] = []
  for (const segment of segments) {
    if (answers.includes('closed')) break
    if ((segment.flags & tcp.RST) === 0) end.take(segment)
    else answers.push(answerTo((segment.seq - end.ack) | 0))
  }
  return answers
}

/** RFC 5961 3.2, by how far a reset's number is from RCV.NXT. */
function answerTo(distance: number): string {
  if (distance === 0) return 'closed'
  return distance > 0 && distance < WINDOW ? `challenge (${distance} ahead)` : `ignored (${distance})`
}

/** What has left, by the end that gets it. */
function arrivals(d: Dialogue, way: Way, more: readonly Segment[] = []): { client: Segment[]; server: Segment[] } {
  const all = [...more, ...d.gateway.toWan().map(segmentOf), ...d.gateway.toLan().map(segmentOf)]
  const clients = way === 'out' ? HOST : way === 'in' ? SERVER : INSIDE_CLIENT
  const toTheClient = (segment: Segment): boolean => toOf(segment.bytes).startsWith(`${clients}:`)
  return { client: all.filter(toTheClient), server: all.filter((segment) => !toTheClient(segment)) }
}

interface Story {
  readonly d: Dialogue
  readonly way: Way
  /** The end inside: HOST. */
  readonly inside: End
}

/** Adds to an end's text and sends that, from where it was. */
function send(d: Dialogue, end: End, text: string, options: Parameters<Dialogue['send']>[3] = {}): Segment[] {
  const from = end.text.length
  end.text += text
  return d.send(end, from, end.text.length, options)
}

/** What was edited before, and what the other end has acknowledged of it. */
const BEFORE: Record<string, (story: Story) => void> = {
  'no edits': ({ d, inside }) => void d.tell(inside, 'KEEP\n'),
  'a longer line, acknowledged': ({ d, inside }) => void d.tell(inside, 'LONG a\n'),
  'a shorter line, not acknowledged': ({ d, inside }) => {
    const from = inside.text.length
    inside.text += 'SHORT a line\n'
    d.say(inside, from, inside.text.length)
  },
  'edits both ways': ({ d, inside }) => {
    d.tell(inside, 'SHORT a line\nLONG\n')
    d.tell(d.other(inside), 'LONG b\n')
  },
}

/** What else is so when the call fails; `fin`: the failing segment ends its stream. */
const STATES: Record<string, { readonly fin?: true; prepare(story: Story): void }> = {
  'nothing else': { prepare: () => {} },
  'bytes of the other end held': { prepare: ({ d, inside }) => void send(d, d.other(inside), 'HOLD') },
  'a gap in what the other end sends': {
    prepare: ({ d, inside }) => {
      const other = d.other(inside)
      other.text += 'KEEP\nKEEP\n'
      d.send(other, other.text.length - 5, other.text.length)
    },
  },
  'a gap ahead': {
    prepare: ({ d, inside }) => void d.send(inside, inside.text.length + 3000, 0, { text: 'KEEP\n' }),
  },
  'the other end has closed': { prepare: close },
  'the sender closes': { fin: true, prepare: () => {} },
  'both close': { fin: true, prepare: close },
}

function close({ d, inside }: Story): void {
  d.say(d.other(inside), d.other(inside).text.length, d.other(inside).text.length, { fin: true })
  d.acknowledge(inside)
}

interface Failure {
  readonly what: string
  /** Goes on before the call that fails. */
  prepare?(story: Story): void
  /** What is sent; the call that reads it fails, or what is held of it. */
  text(address: string): string
  /** Milliseconds until it does. */
  readonly afterMs?: number
  /** The call itself was well; its bytes went on. */
  readonly isTaken?: true
  /** A FIN changes it into another one. */
  readonly withoutFin?: true
  readonly gso?: number
}

const FAILURES: Failure[] = [
  { what: 'throws', text: (address) => `LONG a\nTHROW ${address}\n` },
  { what: 'is refused what it expects', text: (address) => `LONG a\nREFUSE ${address}\nSHORT line\n` },
  {
    what: 'rewrites what has gone',
    prepare: ({ d, inside, way }) => {
      send(d, inside, 'LATE')
      const other = d.other(inside)
      // Of a hairpin both halves hold it.
      for (let ms = 0; ms < 2500 && !other.received.endsWith('LATE'); ms += 10) {
        d.gateway.jump(0.01)
        d.gateway.turn()
        const { client, server } = arrivals(d, way)
        for (const segment of client) d.client.take(segment)
        for (const segment of server) d.server.take(segment)
      }
      expect(other.received).toMatch(/LATE$/)
    },
    text: (address) => ` ${address}\nLONG a\n`,
  },
  { what: 'holds too much', text: (address) => `LONG a\n${address}${'x'.repeat(8192)}`, gso: 1400 },
  {
    what: 'writes so much that nothing more can be held',
    text: (address) => `HUGE\nLONG a\n${address}`,
    withoutFin: true,
  },
  { what: 'would hold what its sender has closed behind', text: (address) => `LONG a\n${address}` },
  {
    what: 'holds for too long',
    text: (address) => `LONG a\n${address}`,
    afterMs: 1100,
    isTaken: true,
    withoutFin: true,
  },
]

const optionsOf = (way: Way, clientPort: number): DialogueOptions => ({ way, clientPort })

/** One shard for all; each story has a connection of its own. */
async function start(): Promise<Gateway> {
  const gateway = await Gateway.start({ forwards: FORWARDS, nat: { preservePorts: true } })
  await gateway.help(scripted)
  return gateway
}

const cellsOf = (gateway: Gateway, key: 'helperResets' | 'expectationsRemoved', cells: number): number =>
  Array.from({ length: cells }, (_, cell) => gateway.counter(key, cell)).reduce((sum, count) => sum + count, 0)

describe.each(WAYS)(
  'a call that fails, %s: both ends are closed at once, and nothing is left, if its helper',
  (way) => {
    it.each(FAILURES)('$what', async ({ prepare, text, afterMs = 0, isTaken, withoutFin, what, gso }) => {
      const gateway = await start()
      let port = 5000
      const wrong: string[] = []
      for (const [before, edit] of Object.entries(BEFORE))
        for (const [state, { fin, prepare: prepareState }] of Object.entries(STATES)) {
          if (fin ? withoutFin : what.includes('closed behind')) continue
          const d = new Dialogue(gateway, optionsOf(way, port++))
          const inside = way === 'out' ? d.client : d.server
          const story: Story = { d, way, inside }
          edit(story)
          prepareState(story)
          prepare?.(story)
          arrivals(d, way)
          const stood = gateway.expectations.count()
          const rewrites = gateway.counter('helperRewrites')
          const resets = cellsOf(gateway, 'helperResets', 12)
          const options = { ...(fin && { fin }), ...(gso && { gso }) }
          const found = arrivals(d, way, send(d, inside, text(HOST), options))
          for (let ms = 0; ms < afterMs; ms += 10) {
            gateway.jump(0.01)
            gateway.turn()
          }
          const later = arrivals(d, way)
          const is = {
            client: ended(d.client, [...found.client, ...later.client]),
            server: ended(d.server, [...found.server, ...later.server]),
            leaks: d.other(inside).received.includes(HOST),
            expectations: gateway.expectations.count() - stood,
            rewrites: gateway.counter('helperRewrites') - rewrites,
            resets: cellsOf(gateway, 'helperResets', 12) - resets,
          }
          const left = isTaken ? 1 : 0
          const should = {
            client: ['closed'],
            server: ['closed'],
            leaks: false,
            expectations: left,
            rewrites: left,
            resets: 1,
          }
          if (JSON.stringify(is) !== JSON.stringify(should)) wrong.push(`${before}, ${state}: ${JSON.stringify(is)}`)
          gateway.check()
          gateway.pass(250)
          arrivals(d, way)
        }
      expect(wrong).toEqual([])
      expect(gateway.expectations.count()).toBe(0)
    })
  },
)

describe('a connection that its helper has left long ago is closed at both ends at once', () => {
  const left = async (): Promise<Dialogue> => {
    const d = await Dialogue.begin({}, (gateway) => gateway.help(scripted))
    d.tell(d.client, 'LONG a\n')
    d.tell(d.client, 'THROW\n')
    d.tell(d.server, 'KEEP\n')
    return d
  }
  const whole = (d: Dialogue): unknown => {
    const found = arrivals(d, 'out', send(d, d.client, `${HOST}\n`))
    return { client: ended(d.client, found.client), server: ended(d.server, found.server) }
  }
  const BOTH = { client: ['closed'], server: ['closed'] }

  it('with nothing else', async () => expect(whole(await left())).toEqual(BOTH))

  it('with segments that have gone on beyond a gap, both ways', async () => {
    const d = await left()
    for (const end of [d.client, d.server]) {
      const from = end.text.length
      end.text += 'KEEP\nKEEP\nKEEP\n'
      d.say(end, from + 10, from + 15)
      d.say(end, from, from + 5)
      end.text = end.text.slice(0, from + 5)
    }
    expect(whole(d)).toEqual(BOTH)
  })

  it('when such a gap has been filled', async () => {
    const d = await left()
    for (const end of [d.client, d.server]) {
      const from = end.text.length
      end.text += 'KEEP\nKEEP\nKEEP\n'
      // What the inside end has sent behind a gap is dropped, and sent again.
      for (const piece of [2, 1, 0, 1, 2]) d.say(end, from + 5 * piece, from + 5 * piece + 5)
    }
    expect(whole(d)).toEqual(BOTH)
  })

  it('when what the other end has closed with is on its way', async () => {
    const d = await left()
    const fin = send(d, d.server, 'KEEP\n', { fin: true })
    const found = arrivals(d, 'out', [...fin, ...send(d, d.client, `${HOST}\n`)])
    expect({ client: ended(d.client, found.client), server: ended(d.server, found.server) }).toEqual(BOTH)
  })

  it('when its thread is lost', async () => {
    const d = await left()
    await d.gateway.restart()
    d.gateway.turn()
    expect(whole(d)).toEqual(BOTH)
  })

  it('when its thread is lost, and both ends have sent since', async () => {
    const d = await left()
    await d.gateway.restart()
    d.gateway.turn()
    d.acknowledge(d.server)
    d.tell(d.server, 'KEEP\n')
    expect(whole(d)).toEqual(BOTH)
  })
})

describe('bytes that are in no stream, of a connection that a helper reads', () => {
  it('go out of a reset without them, and the connection closes as its sender wishes', async () => {
    const d = await Dialogue.begin({}, (gateway) => gateway.help(scripted))
    d.tell(d.client, 'LONG a\n')
    const out = d.send(d.client, d.client.text.length, 0, { text: `${HOST}\n`, flags: 'R' })
    expect(out.map(({ seq, flags, text }) => [seq, flags & tcp.RST, text])).toEqual([[d.server.ack, tcp.RST, '']])
    expect(d.gateway.toLan()).toEqual([])
    expect(cellsOf(d.gateway, 'helperResets', 12)).toBe(0)
  })

  it('come in as they are', async () => {
    const d = await Dialogue.begin({}, (gateway) => gateway.help(scripted))
    const out = d.send(d.server, 0, 0, { text: 'no more', flags: 'R' })
    expect(out.map(({ text }) => text)).toEqual(['no more'])
  })

  it('go out of a segment before its sender’s SYN without them', async () => {
    const gateway = await start()
    gateway.outside(tcpSegment(`${SERVER}:7000`, '203.0.113.1:21', 'S'))
    const early = gateway.inside({
      ...tcpSegment(`${HOST}:21`, `${SERVER}:7000`, 'A'),
      payload: Uint8Array.from(Buffer.from(`${HOST}\n`)),
    })
    expect(early.map((each) => segmentOf(each).text)).toEqual([''])
    expect(cellsOf(gateway, 'helperResets', 12)).toBe(0)
  })
})

describe('a datagram of which something can not be rewritten', () => {
  /** Announces what each line names; `done` after the first datagram. */
  const datagrams: Helper = {
    name: 'datagrams',
    tuple: { proto: 'udp', dstPort: 69 },
    maxExpected: 8,
    help(ctx) {
      for (const line of ctx.lines(() => true)) act(ctx, line.at, line.text)
      ctx.done()
    },
  }
  const payload = (text: string) => ({ payload: Uint8Array.from(Buffer.from(text, 'latin1')) })

  it('is dropped, nothing of its call is left, and its helper reads the next one', async () => {
    const gateway = await Gateway.start({ nat: { preservePorts: true } })
    await gateway.help(datagrams)
    const request = udp(`${HOST}:7000`, `${SERVER}:69`, payload(`LONG a\nREFUSE ${HOST}\n`))
    expect(gateway.fate(LAN, request)).toBe('helper-failed')
    expect(gateway.expectations.count()).toBe(0)
    expect(gateway.counter('helperRewrites')).toBe(0)
    // Nothing is watched for, and so nothing would stop this one if no helper read it.
    expect(gateway.fate(LAN, udp(`${HOST}:7000`, `${SERVER}:69`, payload(`REFUSE ${HOST}\n`)))).toBe('helper-failed')
    expect(gateway.fate(LAN, udp(`${HOST}:7000`, `${SERVER}:69`, payload('LONG a\n')))).toBe('sent')
    expect(gateway.counter('helperRewrites')).toBe(1)
    gateway.check()
  })
})
