// An announcement that its helper can't rewrite (onHelperFailure): by default its connection is ended with a reset for
// each end, a datagram is dropped, and no inside address goes out; with `pass` it goes out as it is. All ways in which
// a helper fails, and what an address is cut into by its sender.

import { describe, expect, it } from 'vitest'
import { BUILTIN } from '../../../src/helpers/builtin.ts'
import type { Helper } from '../../../src/helpers/helper.ts'
import * as tcp from '../../../src/wire/tcp.ts'
import { Gateway } from '../gateway.ts'
import { EXTERNAL, HOST, LAN, SERVER } from '../network.ts'
import { fromOf, toOf, udp } from '../packets.ts'
import { Dialogue, INSIDE_CLIENT, segmentOf } from './dialogue.ts'
import { connectionsOf, failing, framed, RAW, RESET_REASONS, start, toClient, toServer } from './failures.ts'

const GREETING = '220 ready\r\n'
const PORT = 'PORT 10,0,0,5,156,64\r\n'
const EPRT = 'EPRT |1|10.0.0.5|40000|\r\n'

const ftp = (): Helper => BUILTIN.ftp!()

/** Why connections were ended, without zeros. */
function resets({ gateway }: Dialogue): Record<string, number> {
  const found = RESET_REASONS.map((reason, i) => [reason, gateway.counter('helperResets', i)] as const)
  return Object.fromEntries(found.filter(([, count]) => count > 0))
}

describe('the resets of a connection whose announcement can not be rewritten', () => {
  for (const way of ['out', 'in', 'hairpin'] as const)
    it(`go both ways, ${way}`, async () => {
      const forwards =
        way === 'out' ? [] : [{ protocol: 6, address: null, port: 21, toAddress: 0x0500000a, toPort: 21 }]
      const d = await start(failing('FAIL'), { way, forwards })
      d.tell(d.server, GREETING)
      const inside = way === 'in' ? d.server : d.client
      const address = way === 'hairpin' ? INSIDE_CLIENT : HOST
      d.tell(inside, 'FAIL\r\n')
      d.gateway.toLan()
      d.gateway.toWan()
      const from = inside.text.length
      inside.text += `${address}\r\n`
      const across = d.send(inside, from, inside.text.length)
      const back = [...d.gateway.toLan(), ...d.gateway.toWan()].map(segmentOf)
      const all = [...across, ...back]
      expect(all.map(({ flags, text }) => [flags, text])).toEqual(Array(2).fill([tcp.RST, '']))
      const other = d.other(inside)
      expect(all.map(({ seq }) => seq).toSorted()).toEqual([inside.ack, other.ack].toSorted())
      expect(resets(d)).toEqual({ threw: 1 })
    })

  it('are answered to by nothing that goes on, and a new connection is possible at once', async () => {
    const d = await start(failing('FAIL'))
    d.tell(d.server, GREETING)
    d.tell(d.client, 'FAIL\r\n')
    d.client.text += PORT
    const from = d.client.text.length - PORT.length
    d.send(d.client, from, d.client.text.length)
    toClient(d)
    // Either end had not got its reset: it is told by the number that it names.
    expect(d.send(d.client, from, from + PORT.length)).toEqual([])
    expect(toClient(d).map(({ seq, flags }) => [seq, flags])).toEqual([[d.client.ack, tcp.RST]])
    d.server.text += 'x'
    expect(d.send(d.server, GREETING.length, GREETING.length + 1)).toEqual([])
    expect(toServer(d).map(({ seq, flags }) => [seq, flags])).toEqual([[d.server.ack, tcp.RST]])
    expect(d.gateway.drops()).toEqual({ 'helper-failed': 3 })
    expect(connectionsOf(d).map(({ state }) => state)).toEqual(['CLOSE'])
    d.gateway.check()
    d.gateway.pass(250)
    expect(connectionsOf(d)).toEqual([])
  })
})

/** What breaks the helper, said by the client before, or with, its announcement. */
interface Way {
  readonly what: string
  readonly helper: Helper
  /** Sends up to, and without, the announcement. */
  prepare?(d: Dialogue): void | Promise<void>
  readonly announcement: string
  /** Milliseconds until it is decided; 0: at once. */
  readonly afterMs?: number
  readonly resets: Record<string, number>
  /** What `pass` lets out, if it isn't the announcement as it was sent. */
  readonly passes?: string
}

const WAYS: Way[] = [
  { what: 'the helper throws on it', helper: failing('10,0,0,5'), announcement: PORT, resets: { threw: 1 } },
  {
    what: 'the helper has thrown before',
    helper: failing('FAIL'),
    prepare: (d) => void d.tell(d.client, 'FAIL\r\n'),
    announcement: EPRT,
    resets: { threw: 1 },
  },
  {
    what: 'the expectation is refused',
    helper: framed({ refuses: true }),
    announcement: `\x04${RAW}`,
    resets: { 'not-expected': 1 },
  },
  {
    what: 'the span is none',
    helper: framed({ nonsense: true }),
    announcement: `\x04${RAW}`,
    resets: { 'not-expected': 1 },
  },
  {
    what: 'more is held than fits',
    helper: framed({}),
    announcement: `\xff${RAW}${'x'.repeat(8192)}`,
    resets: { 'held-too-much': 1 },
  },
  {
    what: 'the sender closes in the middle',
    helper: ftp(),
    announcement: PORT.slice(0, -2),
    resets: { 'sender-closed': 1 },
  },
  {
    what: 'it is not complete within a second',
    helper: ftp(),
    announcement: PORT.slice(0, -2),
    afterMs: 1000,
    resets: { 'held-too-long': 1 },
  },
  {
    what: 'there is no port',
    helper: ftp(),
    prepare: (d) => useAllPorts(d),
    announcement: PORT,
    resets: { 'not-expected': 1 },
  },
  {
    what: 'the helper is unloaded while it holds it',
    helper: ftp(),
    announcement: PORT.slice(0, -2),
    afterMs: 1,
    resets: { unregistered: 1 },
  },
  {
    what: 'the thread is replaced while it holds it, and it is sent again',
    helper: ftp(),
    prepare: async (d) => {
      expect(d.send(d.client, 0, 0, { text: PORT.slice(0, 12) })).toEqual([])
      await d.gateway.restart()
      d.gateway.turn()
    },
    announcement: PORT,
    resets: { 'thread-lost': 1 },
  },
]

/** Every port of the one block that there is. */
function useAllPorts(d: Dialogue): void {
  for (let port = 0; port < 80; port++) d.gateway.inside(syn(port))
  d.gateway.toLan()
}
const syn = (port: number) => ({
  ip: { src: '10.0.0.6', dst: SERVER },
  tcp: { sport: 6000 + port, dport: 80, seq: 1, flags: 'S' },
})

describe.each(WAYS)('$what', ({ what, helper, prepare, announcement, afterMs = 0, ...way }) => {
  const play = async (onFailure: 'reset' | 'pass') => {
    const d = await start(helper, { ports: [16384, 16447] }, onFailure)
    if (helper.name === 'ftp') d.tell(d.server, GREETING)
    await prepare?.(d)
    const from = d.client.text.length
    d.client.text += announcement
    const fin = what.includes('closes')
    const gso = announcement.length > 1400 ? { gso: 1400 } : {}
    const out = [...d.say(d.client, from, d.client.text.length, { fin, ...gso })]
    if (what.includes('unloaded')) await unload(d)
    for (let ms = 0; ms < afterMs + 20; ms += 10) {
      d.gateway.jump(0.01)
      d.gateway.turn()
      out.push(...toServer(d))
    }
    return { d, out }
  }

  it('reset: the connection ends, and nothing of it goes out', async () => {
    const { d, out } = await play('reset')
    expect(out.map(({ text }) => text).join('')).toSatisfy((text: string) =>
      ['', 'PORT ', '\xff', '\x04'].includes(text),
    )
    expect(out.filter(({ flags }) => flags === tcp.RST)).toHaveLength(1)
    expect(resets(d)).toEqual(way.resets)
    d.gateway.check()
  })

  it('pass: it goes out as it is', async () => {
    const { d, out } = await play('pass')
    expect(out.map(({ text }) => text).join('')).toBe(announcement)
    expect(out.some(({ flags }) => (flags & tcp.RST) !== 0)).toBe(false)
    expect(resets(d)).toEqual({})
    d.gateway.check()
  })
})

async function unload(d: Dialogue): Promise<void> {
  const { detachHelper } = await import('../../../src/datapath/helped/helped-connections.ts')
  detachHelper(1)
  d.gateway.turn()
}

describe('a connection whose helper has failed before it began', () => {
  for (const text of [PORT, EPRT])
    it(`ends before ${JSON.stringify(text)} has gone out`, async () => {
      const d = await Dialogue.begin({}, async () => {
        const { noteUnavailable } = await import('../../../src/helpers/registry.shard.ts')
        noteUnavailable([{ id: 9, bindings: [{ tuple: { proto: 'tcp', dstPort: 21 } }] }])
      })
      d.tell(d.server, GREETING)
      expect(d.client.received).toBe(GREETING)
      d.client.text += text
      const out = d.say(d.client, 0, text.length)
      expect(out.filter(({ flags }) => flags === tcp.RST).length).toBeGreaterThan(0)
      expect(d.server.received).toBe('')
      expect(resets(d)).toEqual({ unregistered: 1 })
      d.gateway.check()
    })
})

describe('a connection that its helper has left', () => {
  const left = async (helper = failing('FAIL')): Promise<Dialogue> => {
    const d = await start(helper)
    d.tell(d.server, GREETING)
    d.tell(d.client, 'FAIL\r\n')
    return d
  }

  for (const text of [PORT, EPRT, 'DCC SEND a 167772165 40000\r\n', `\x00${RAW}\x9c\x40`, '010,000,000,005,1,2\r\n'])
    it(`ends before ${JSON.stringify(text)} has gone out, in whatever pieces and order it is sent`, async () => {
      for (let cut = 2; cut < text.length; cut += 5) {
        const d = await left()
        const from = d.client.text.length
        d.client.text += text
        const pieces = [
          [from + cut, from + text.length],
          [from, from + cut],
          [from + cut, from + text.length],
        ] as const
        const out = pieces.flatMap(([a, b]) => d.say(d.client, a, b))
        expect(out.filter(({ flags }) => flags === tcp.RST).length, `cut at ${cut}`).toBeGreaterThan(0)
        expect(d.server.received).not.toContain(text)
        expect(Object.keys(resets(d))).toEqual(['threw'])
      }
    })

  it('ends at the byte that would complete the address, if its sender sends them one by one', async () => {
    const d = await left()
    for (const byte of PORT) d.tell(d.client, byte)
    expect(d.server.received).toBe(`FAIL\r\nPORT 10,0,0,`)
  })

  it('goes on with all that names nothing of the inside', async () => {
    const d = await left()
    const text = 'PORT 10,0,0,50,1,2\r\nPORT 110,0,0,5,1,2\r\n10.0.0.6 1677721650 \n\x00\x00\x06 PASV\r\n'
    for (const piece of text.match(/.{1,7}/gs)!) d.tell(d.client, piece)
    d.tell(d.server, `227 (10,0,0,5,1,2)\r\n`)
    expect(d.server.received).toBe(`FAIL\r\n${text}`)
    expect(d.client.received).toContain('10,0,0,5')
    expect(resets(d)).toEqual({})
    d.gateway.check()
  })

  it('is watched on by the successor of a thread that has died', async () => {
    const d = await left()
    await d.gateway.restart()
    d.gateway.turn()
    d.tell(d.client, 'NOOP\r\n')
    for (const byte of PORT) d.tell(d.client, byte)
    expect(d.server.received).toBe(`FAIL\r\nNOOP\r\nPORT 10,0,0,`)
    expect(resets(d)).toEqual({ 'thread-lost': 1 })
  })

  it('is not watched if the helper had no more interest', async () => {
    const d = await start({ ...failing('FAIL'), help: (ctx) => ctx.done() as never })
    d.tell(d.client, 'HELLO\r\n')
    expect(d.tell(d.client, PORT).map(({ text }) => text)).toEqual([PORT])
  })

  it('is watched from its first byte if the helper fails at its beginning', async () => {
    const d = await start({
      ...failing('FAIL'),
      state: () => {
        throw new Error('no')
      },
    })
    expect(d.tell(d.client, 'HELLO\r\n').map(({ text }) => text)).toEqual(['HELLO\r\n'])
    d.tell(d.client, PORT)
    expect(resets(d)).toEqual({ threw: 1 })
    expect(d.server.received).toBe('HELLO\r\n')
  })
})

it('a rewritten line that its sender repeats, although it has arrived, goes out without its bytes', async () => {
  const d = await start(ftp(), { nat: { preservePorts: true } })
  d.tell(d.server, GREETING)
  d.tell(d.client, 'PORT 10,0,0,5,78,32\r\n')
  expect(d.send(d.client, 0, 21).map(({ text }) => text)).toEqual([''])
})

it('the same, when its helper has no more interest and its stream is forgotten', async () => {
  const { help, ...rest } = ftp()
  const d = await start({
    ...rest,
    help(ctx) {
      const verdict = help.call(this, ctx)
      if (ctx.text.startsWith('PORT')) ctx.done()
      return verdict
    },
  })
  d.tell(d.server, GREETING)
  d.tell(d.client, PORT)
  d.tell(d.client, 'NOOP\r\n')
  expect(d.send(d.client, 0, PORT.length).map(({ text }) => text)).toEqual([''])
  d.tell(d.client, 'NOOP\r\n')
  expect(d.server.received).toMatch(/^PORT 203,0,113,1,\d+,\d+\r\nNOOP\r\nNOOP\r\n$/)
  expect(d.gateway.drops()).toEqual({})
})

describe('a datagram', () => {
  const cases: [what: string, helper: Helper, payload: string][] = [
    ['on which its helper throws', failing('10.0.0.5', 'udp'), 'my address is 10.0.0.5'],
    ['whose helper has thrown before', failing('FAIL', 'udp'), 'my address is 10.0.0.5'],
    ['whose expectation is refused', framed({ refuses: true, proto: 'udp' }), `\x04${RAW}`],
    ['that would become too long', framed({ grows: true, proto: 'udp' }), `\x04${RAW}`],
  ]
  for (const [what, helper, payload] of cases)
    it(`${what} is dropped with its reason, or passes`, async () => {
      for (const [onFailure, fate] of [
        ['reset', 'helper-failed'],
        ['pass', 'sent'],
      ] as const) {
        const gateway = await Gateway.start()
        await gateway.help(helper, undefined, onFailure)
        const send = (text: string) =>
          gateway.fate(
            LAN,
            udp(`${HOST}:7000`, `${SERVER}:69`, { payload: Uint8Array.from(Buffer.from(text, 'latin1')) }),
          )
        if (what.includes('before')) expect(send('FAIL')).toBe('sent')
        expect(send(payload)).toBe(fate)
        expect(send('nothing of the inside')).toBe('sent')
      }
    })

  it('of which nothing is rewritten passes, expected or not', async () => {
    const gateway = await Gateway.start({ ports: [16384, 16447] })
    await gateway.help(BUILTIN.tftp!())
    const request = Uint8Array.from(Buffer.from('\0\x01file\0octet\0', 'latin1'))
    expect(gateway.fate(LAN, udp(`${HOST}:7000`, `${SERVER}:69`, { payload: request }))).toBe('sent')
  })
})

it('a seventeenth rewrite waits until the receiver has acknowledged one', async () => {
  const d = await start(ftp(), { nat: { preservePorts: true } })
  d.tell(d.server, GREETING)
  const line = 'PORT 10,0,0,5,78,32\r\n'
  for (let i = 0; i < 16; i++) {
    d.client.text += line
    expect(d.say(d.client, i * line.length, (i + 1) * line.length)).toHaveLength(1)
  }
  d.client.text += line
  expect(d.say(d.client, 16 * line.length, 17 * line.length)).toEqual([])
  d.acknowledge(d.server)
  d.gateway.jump(0.2)
  d.gateway.turn()
  const [late] = toServer(d)
  expect(late!.text).toBe('PORT 203,0,113,1,78,32\r\n')
  expect(fromOf(late!.bytes)).toMatch(`${EXTERNAL}:`)
  expect(toOf(late!.bytes)).toBe(`${SERVER}:21`)
})
