// Senders that write an announcement one byte at a time, as interactive programs and small devices do, with and without
// Nagle's algorithm (RFC 9293 3.7.4), at several round trips. What they do in time is modelled here: a segment is held
// back while another is not acknowledged (Nagle), what is not acknowledged is probed for after two round trips and 200
// ms (RFC 8985 7.2) and then sent again with a doubled time. Held bytes are repeated that way again and again.
//
// In all of it no inside address goes out, and no byte waits in the gateway for longer than a second.

import { describe, expect, it } from 'vitest'
import { BUILTIN } from '../../../src/helpers/builtin.ts'
import type { Helper } from '../../../src/helpers/helper.ts'
import { parseAddress } from '../../../src/wire/address.ts'
import * as tcp from '../../../src/wire/tcp.ts'
import { HOST } from '../network.ts'
import { type Dialogue, type DialogueOptions, type End, type Segment, segmentOf } from './dialogue.ts'
import { framed, RAW, start } from './failures.ts'

const STEP_MS = 5
const LONGEST_HOLD_MS = 1000
const LEAST_PROBE_MS = 200
const MOST_MS = 120_000

interface Sender {
  readonly nagle: boolean
  readonly roundTripMs: number
  /** Between two bytes that the program writes. */
  readonly gapMs: number
}

interface Outcome {
  /** What has arrived, or gone out at least. */
  readonly received: string
  readonly isReset: boolean
  /** The longest that a byte has waited in the gateway. */
  readonly longestMs: number
}

/** Plays an inside end of a dialogue that writes `text`; the other end acknowledges all that it gets. */
class SlowSender {
  readonly #d: Dialogue
  readonly #end: End
  readonly #sender: Sender
  /** What it had said before. */
  readonly #said: number
  /** By byte of the text: when the gateway saw it first. */
  readonly #came: number[] = []
  #sent: number
  #now = 0
  #isReset = false
  #probeAt = Number.POSITIVE_INFINITY
  #probeAfter = 0
  /** What is on its way to the receiver, or back. */
  readonly #onTheWay: { at: number; act: () => void }[] = []
  #longestMs = 0
  /** What has left the gateway, by its place in what the receiver gets. */
  readonly #left: (string | undefined)[] = []

  constructor(d: Dialogue, end: End, sender: Sender) {
    this.#d = d
    this.#end = end
    this.#sender = sender
    this.#said = end.text.length
    this.#sent = end.text.length
  }

  play(text: string): Outcome {
    const { gapMs } = this.#sender
    const begin = this.#said
    for (; this.#now < MOST_MS && !this.#isReset; this.#now += STEP_MS) {
      const written = Math.min(text.length, Math.floor(this.#now / gapMs) + 1)
      this.#end.text = this.#end.text.slice(0, begin) + text.slice(0, written)
      this.#d.gateway.jump(STEP_MS / 1000)
      this.#d.gateway.turn()
      this.#took(this.#meanwhile())
      for (const due of this.#onTheWay.filter(({ at }) => at <= this.#now)) due.act()
      this.#onTheWay.splice(0, this.#onTheWay.length, ...this.#onTheWay.filter(({ at }) => at > this.#now))
      this.#transmit()
      if (written === text.length && this.#end.acknowledged >= this.#end.text.length) break
    }
    return { received: this.#receives, isReset: this.#isReset, longestMs: this.#longestMs }
  }

  #transmit(): void {
    const { nagle, roundTripMs } = this.#sender
    const { acknowledged, text } = this.#end
    const isIdle = acknowledged >= this.#sent
    if (text.length > this.#sent && (isIdle || !nagle)) this.#send(this.#sent, text.length)
    else if (!isIdle && this.#now >= this.#probeAt) {
      this.#probeAfter *= 2
      this.#probeAt = this.#now + this.#probeAfter
      // A probe brings new data, if there are any.
      if (text.length > this.#sent) this.#send(this.#sent, text.length)
      else this.#send(acknowledged, this.#sent)
    }
    if (isIdle) this.#probeAfter = 2 * roundTripMs + LEAST_PROBE_MS
  }

  #send(from: number, to: number): void {
    for (let i = from; i < to; i++) this.#came[i] ??= this.#now
    if (this.#probeAfter === 0) this.#probeAfter = 2 * this.#sender.roundTripMs + LEAST_PROBE_MS
    if (to > this.#sent) this.#probeAt = this.#now + this.#probeAfter
    this.#sent = Math.max(this.#sent, to)
    this.#took(this.#d.send(this.#end, from, to))
  }

  #meanwhile(): Segment[] {
    return this.#d.gateway.toWan().map(segmentOf)
  }

  #took(segments: readonly Segment[]): void {
    const other = this.#d.other(this.#end)
    for (const segment of segments) {
      if ((segment.flags & tcp.RST) !== 0) this.#isReset = true
      const place = ((segment.seq - other.peerIsn - 1) | 0) - this.#said
      for (const [i, byte] of [...segment.text].entries()) this.#left[place + i] = byte
      this.#onTheWay.push({ at: this.#now + this.#sender.roundTripMs, act: () => this.#arrive(segment) })
    }
    // Where something was rewritten, all that was sent is complete and has gone.
    const text = this.#end.text.slice(this.#said)
    const gone = text.startsWith(this.#receives) ? this.#said + this.#receives.length : this.#sent
    for (let i = gone; i < this.#sent; i++) this.#longestMs = Math.max(this.#longestMs, this.#now - this.#came[i]!)
  }

  get #receives(): string {
    const gap = this.#left.indexOf(undefined)
    return this.#left.slice(0, gap < 0 ? undefined : gap).join('')
  }

  #arrive(segment: Segment): void {
    const other = this.#d.other(this.#end)
    other.take(segment)
    this.#d.acknowledge(other)
  }
}

interface Protocol {
  readonly name: string
  readonly helper: () => Helper
  readonly options?: DialogueOptions
  readonly from: 'client' | 'server'
  /** What is said before, and arrives at once. */
  readonly before: readonly (readonly ['client' | 'server', string])[]
  readonly announcement: string
  readonly told: string
  /** What must not go out. */
  readonly names: string
}

const GREETING = ['server', '220 ready\r\n'] as const
const NAT = { preservePorts: true }

const PROTOCOLS: Protocol[] = [
  {
    name: 'PORT of FTP',
    helper: () => BUILTIN.ftp!(),
    from: 'client',
    before: [GREETING],
    announcement: 'PORT 10,0,0,5,78,32\r\n',
    told: 'PORT 203,0,113,1,78,32\r\n',
    names: '10,0,0,5',
  },
  {
    name: 'EPRT of FTP',
    helper: () => BUILTIN.ftp!(),
    from: 'client',
    before: [GREETING],
    announcement: 'EPRT |1|10.0.0.5|20000|\r\n',
    told: 'EPRT |1|203.0.113.1|20000|\r\n',
    names: '10.0.0.5',
  },
  {
    name: 'the 227 of an FTP server inside',
    helper: () => BUILTIN.ftp!(),
    options: {
      way: 'in',
      forwards: [{ protocol: 6, address: null, port: 21, toAddress: parseAddress(HOST), toPort: 21 }],
    },
    from: 'server',
    before: [GREETING, ['client', 'PASV\r\n']],
    announcement: '227 Entering (10,0,0,5,78,32)\r\n',
    told: '227 Entering (203,0,113,1,78,32)\r\n',
    names: '10,0,0,5',
  },
  {
    name: 'DCC of IRC',
    helper: () => BUILTIN.irc!(),
    options: { serverPort: 6667 },
    from: 'client',
    before: [
      ['client', 'NICK a\r\n'],
      ['server', ':server 001 a :hello\r\n'],
    ],
    announcement: 'PRIVMSG b :\x01DCC SEND c 167772165 20000 9\x01\r\n',
    told: 'PRIVMSG b :\x01DCC SEND c 3405803777 20000 9\x01\r\n',
    names: '167772165',
  },
  {
    name: 'a binary frame',
    helper: () => framed({}),
    from: 'client',
    before: [],
    announcement: `\x06${RAW}\x4e\x20`,
    told: '\x06\xcb\x00\x71\x01\x4e\x20',
    names: RAW,
  },
]

describe.each(PROTOCOLS)('$name', ({ helper, options, from, before, announcement, told, names }) => {
  const play = async (sender: Sender, onFailure: 'reset' | 'pass' = 'reset') => {
    const d = await start(helper(), { nat: NAT, ...options }, onFailure)
    for (const [who, text] of before) d.tell(d[who], text)
    const outcome = new SlowSender(d, d[from], sender).play(announcement)
    d.gateway.check()
    return outcome
  }

  for (const nagle of [false, true])
    for (const roundTripMs of [0, 100, 800])
      for (const gapMs of [10, 40, 130, 1500]) {
        const how = `${nagle ? 'with' : 'without'} Nagle, a byte every ${gapMs} ms, ${roundTripMs} ms round trip`
        it(how, async () => {
          const { received, isReset, longestMs } = await play({ nagle, roundTripMs, gapMs })
          expect(received).not.toContain(names)
          expect(isReset).toBe(received !== told)
          expect(longestMs).toBeLessThanOrEqual(LONGEST_HOLD_MS)
          // Only where the span comes so slowly that a byte of it had to go on before the last one came.
          if (gapMs === 10) expect(isReset).toBe(false)
          if (gapMs > LONGEST_HOLD_MS) expect(isReset).toBe(true)
        })
      }

  it('goes out as it is, where the configuration says so, and no byte of it waits longer', async () => {
    const { received, isReset, longestMs } = await play({ nagle: false, roundTripMs: 100, gapMs: 1500 }, 'pass')
    expect(received).toBe(announcement)
    expect(isReset).toBe(false)
    expect(longestMs).toBeLessThanOrEqual(LONGEST_HOLD_MS)
  })
})
