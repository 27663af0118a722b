// Helped TCP connections: streams, holding, rewriting, and the numbers of all that follows. The helper here reads lines
// and makes of ADDR an address that is longer or shorter; packets in, packets out.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Helper, Verdict } from '../../../src/helpers/helper.ts'
import { Dialogue, type DialogueOptions, type End, segmentOf } from './dialogue.ts'

const couldBecome = (partial: string): boolean => 'ADDR '.startsWith(partial.slice(0, 5))

/** Replaces what follows ADDR in a line by a text that `replace` makes of it. */
const rewriting = (replace: (word: string) => string, calls: string[] = []): Helper => ({
  name: 'rewriting',
  tuple: { proto: 'tcp', dstPort: 21 },
  help(ctx) {
    calls.push(ctx.text)
    for (const { at, text } of ctx.lines(couldBecome)) {
      const word = /^ADDR (.+)$/.exec(text)?.[1]
      if (word !== undefined) ctx.mangle(at + 5, word.length, replace(word))
    }
    return Verdict.Accept
  },
})

const LONGER = (word: string): string => `<${word}-${word}>`
const rewritten = (text: string, replace: (word: string) => string): string =>
  text.replaceAll(/^ADDR (.+?)(\r?)$/gm, (_, word, cr) => `ADDR ${replace(word)}${cr}`)

const start = (helper: Helper, options: DialogueOptions = {}): Promise<Dialogue> =>
  Dialogue.begin(options, (gateway) => gateway.help(helper))

describe('a stream that a helper reads', () => {
  it('goes on as it came where nothing is rewritten', async () => {
    const d = await start(rewriting(LONGER))
    expect(d.tell(d.client, 'USER x\r\n').map(({ text }) => text)).toEqual(['USER x\r\n'])
    expect(d.tell(d.server, '331 ok\r\n').map(({ text }) => text)).toEqual(['331 ok\r\n'])
    expect(d.client.acknowledged).toBe(8)
    d.gateway.check()
  })

  it('is rewritten, and everything behind has other numbers, both ways', async () => {
    const d = await start(rewriting(LONGER))
    expect(d.tell(d.client, 'ADDR 1234\r\n').map(({ text }) => text)).toEqual(['ADDR <1234-1234>\r\n'])
    expect(d.client.acknowledged).toBe(11)
    expect(d.tell(d.client, 'NEXT\r\n').map(({ text }) => text)).toEqual(['NEXT\r\n'])
    expect(d.server.received).toBe('ADDR <1234-1234>\r\nNEXT\r\n')
    expect(d.client.acknowledged).toBe(17)
    d.tell(d.server, 'ADDR ab\r\n')
    expect(d.client.received).toBe('ADDR <ab-ab>\r\n')
    expect(d.server.acknowledged).toBe(9)
  })

  it('holds a line that may become one to be rewritten, and not a byte that comes before it', async () => {
    const d = await start(rewriting(LONGER))
    d.client.text = 'HELLO\r\nADDR 12\r\nBYE\r\n'
    expect(d.say(d.client, 0, 9).map(({ text }) => text)).toEqual(['HELLO\r\n'])
    expect(d.say(d.client, 9, 14)).toEqual([])
    expect(d.say(d.client, 14, 21).map(({ text }) => text)).toEqual(['ADDR <12-12>\r\nBYE\r\n'])
  })

  it('lets a line go on at once that can become nothing, and the rest of it with it', async () => {
    const calls: string[] = []
    const d = await start(rewriting(LONGER, calls))
    d.tell(d.client, 'XAD')
    d.tell(d.client, 'ADDR 12\r\n')
    d.tell(d.client, 'ADDR 12\r\n')
    expect(d.server.received).toBe('XADADDR 12\r\nADDR <12-12>\r\n')
    expect(calls).toEqual(['XAD', 'ADDR 12\r\n', 'ADDR 12\r\n'])
  })

  it('repeats a rewritten line whole, whatever part of it is sent again', async () => {
    const d = await start(rewriting(LONGER))
    d.client.text = 'ADDR 1234\r\nNEXT\r\n'
    d.say(d.client, 0, 11)
    expect(d.say(d.client, 0, 11).map(({ text }) => text)).toEqual(['ADDR <1234-1234>\r\n'])
    expect(d.say(d.client, 0, 7).map(({ text }) => text)).toEqual(['ADDR <1234-1234>'])
    expect(d.say(d.client, 7, 11).map(({ text }) => text)).toEqual(['<1234-1234>\r\n'])
    expect(d.say(d.client, 2, 17).map(({ text }) => text)).toEqual(['DR <1234-1234>\r\nNEXT\r\n'])
    expect(d.server.contradictions).toEqual([])
    expect(d.server.received).toBe('ADDR <1234-1234>\r\nNEXT\r\n')
  })

  it('keeps what comes too early until the gap is filled', async () => {
    const d = await start(rewriting(LONGER))
    d.client.text = 'ADDR 1234\r\nNEXT\r\n'
    expect(d.say(d.client, 11, 17)).toEqual([])
    expect(d.say(d.client, 4, 9)).toEqual([])
    expect(d.say(d.client, 0, 4)).toEqual([])
    expect(d.say(d.client, 9, 11).map(({ text }) => text)).toEqual(['ADDR <1234-1234>\r\nNEXT\r\n'])
  })

  it('forgets, cut off, what lies behind a gap, and nothing that lies before it', async () => {
    const d = await start(rewriting(LONGER))
    d.client.text = 'ADDR 1234\r\nADDR 5678\r\nNEXT\r\n'
    // The first line leaves rewritten, and is lost; NEXT comes early, and nothing fills the gap for a minute.
    d.send(d.client, 0, 11)
    expect(d.say(d.client, 22, 28)).toEqual([])
    expect(d.say(d.client, 11, 14)).toEqual([])
    d.gateway.pass(61)
    const held = d.gateway.toWan().map(segmentOf)
    expect(held.map(({ text }) => text)).toEqual(['ADD'])
    d.server.take(held[0]!)
    expect(d.say(d.client, 0, 11).map(({ text }) => text)).toEqual(['ADDR <1234-1234>\r\n'])
    d.say(d.client, 11, 28)
    expect(d.server.contradictions).toEqual([])
    expect(d.server.received).toBe('ADDR <1234-1234>\r\nADDR 5678\r\nNEXT\r\n')
    d.acknowledge(d.server)
    expect(d.client.acknowledged).toBe(28)
  })

  it('believes the bytes that came first', async () => {
    const d = await start(rewriting(LONGER))
    d.client.text = 'HELLO\r\n'
    d.say(d.client, 0, 7)
    expect(d.say(d.client, 0, 7, { text: 'ADDR 1\n' }).map(({ text }) => text)).toEqual(['HELLO\r\n'])
  })

  it('takes nothing that is more than 64 KB beyond the next byte', async () => {
    const d = await start(rewriting(LONGER))
    expect(d.send(d.client, 65537, 65537, { text: 'x' })).toEqual([])
    expect(d.gateway.drops()).toEqual({ 'helper-window': 1 })
  })

  it('splits what has outgrown a segment', async () => {
    const d = await start(
      rewriting(() => 'y'.repeat(60)),
      { wanMtu: 90 },
    )
    d.client.text = `ADDR 1\r\n${'z'.repeat(30)}\r\n`
    const got = d.say(d.client, 0, d.client.text.length)
    expect(got.map(({ text }) => text.length)).toEqual([50, 49])
    expect(d.server.received).toBe(`ADDR ${'y'.repeat(60)}\r\n${'z'.repeat(30)}\r\n`)
  })

  it('ends: a FIN lets a held prefix go, and is acknowledged by its own number', async () => {
    const d = await start(rewriting(LONGER))
    d.client.text = 'ADDR 1234\r\nADD'
    d.say(d.client, 0, 14)
    const got = d.say(d.client, 14, 14, { fin: true })
    expect(got.map(({ text }) => text)).toEqual(['ADD'])
    expect(d.server.peerHasEnded).toBe(true)
    d.acknowledge(d.server)
    expect(d.client.acknowledged).toBe(15)
  })

  it('ends where its sender says so in order, whatever a forged end has said before', async () => {
    const forged: readonly (readonly [title: string, at: number])[] = [
      ['within what has come', 3],
      ['ahead', 40],
      ['short of the end', 13],
    ]
    for (const [title, at] of forged) {
      const d = await start(rewriting(LONGER))
      d.client.text = 'ADDR 1234\r\nADD'
      d.say(d.client, 0, 11)
      expect(d.send(d.client, at, at, { fin: true }), title).toEqual([])
      d.say(d.client, 11, 14, { fin: true })
      expect(d.server.received, title).toBe('ADDR <1234-1234>\r\nADD')
      expect(d.server.peerHasEnded, title).toBe(true)
    }
  })

  it('lets what was held for a second go untouched, and is read on from its beginning', async () => {
    const calls: string[] = []
    const d = await start(rewriting(LONGER, calls))
    d.tell(d.client, 'ADDR ')
    d.gateway.pass(2)
    const held = d.gateway.toWan().map(segmentOf)
    expect(held.map(({ text }) => text)).toEqual(['ADDR '])
    d.server.take(held[0]!)
    expect(d.tell(d.client, '12\r\nADDR 34\r\n').map(({ text }) => text)).toEqual(['<12-12>\r\nADDR <34-34>\r\n'])
    expect(calls).toEqual(['ADDR ', 'ADDR 12\r\nADDR 34\r\n'])
    d.tell(d.client, 'NEXT\r\n')
    expect(d.server.received).toBe('ADDR <12-12>\r\nADDR <34-34>\r\nNEXT\r\n')
    expect(d.gateway.counter('helperCutOffs', 2)).toBe(0)
    d.gateway.check()
  })

  it('holds on, however often its sender repeats it', async () => {
    const d = await start(rewriting(LONGER))
    d.client.text = 'ADDR 12\r\n'
    for (let i = 0; i < 10; i++) expect(d.say(d.client, 0, 7)).toEqual([])
    expect(d.say(d.client, 0, 9).map(({ text }) => text)).toEqual(['ADDR <12-12>\r\n'])
  })

  it('goes on without a helper that throws, as it came', async () => {
    const d = await start({
      name: 'throwing',
      tuple: { proto: 'tcp', dstPort: 21 },
      help() {
        throw new Error('no')
      },
    })
    expect(d.tell(d.client, 'ADDR 12\r\n').map(({ text }) => text)).toEqual(['ADDR 12\r\n'])
    expect(d.gateway.counter('helperCutOffs', 0)).toBe(1)
    expect(d.tell(d.client, 'MORE\r\n').map(({ text }) => text)).toEqual(['MORE\r\n'])
  })

  it('takes nothing from a helper that is nonsense', async () => {
    const said: unknown[] = []
    const d = await start({
      name: 'nonsense',
      tuple: { proto: 'tcp', dstPort: 21 },
      help(ctx) {
        const mangle = ctx.mangle.bind(ctx) as (...anything: unknown[]) => boolean
        for (const wrong of [
          [0, 1, 7],
          [Number.NaN, 1, 'x'],
          [0.5, 1, 'x'],
          [0, 99, 'x'],
          [0, 0, 'x'],
          [-1, 1, 'x'],
          [],
        ])
          said.push(mangle(...wrong))
        ctx.hold(0.5)
        ctx.hold(Number.NaN)
        ctx.unexpect(Number.NaN)
        ctx.unexpect(123_456_789)
        said.push(ctx.expect({ port: 0 }), ctx.expect({ port: 1.5 }), ctx.expect({ port: 40000, class: 3 }))
        return 'what' as never
      },
    })
    expect(d.tell(d.client, 'HELLO\r\n').map(({ text }) => text)).toEqual(['HELLO\r\n'])
    expect(said).toEqual([...Array(7).fill(false), undefined, undefined, undefined])
    expect(d.gateway.counter('announcementsRefused', 0)).toBe(3)
  })

  it('writes a character as a byte, whatever it is', async () => {
    const d = await start(rewriting(() => '\u00ff\u2026'))
    expect(d.tell(d.client, 'ADDR 1\r\nNEXT\r\n').map(({ text }) => text)).toEqual(['ADDR \u00ff&\r\nNEXT\r\n'])
    expect(d.client.acknowledged).toBe(14)
  })

  it('adjusts SACK blocks, rounded so that nothing counts as received that was not', async () => {
    const d = await start(rewriting(LONGER))
    d.client.text = 'ADDR 1234\r\nNEXT\r\n'
    d.send(d.client, 0, 17)
    const first = d.server.peerIsn + 1
    // Of the receiver's ADDR <1234-1234>\r\nNEXT\r\n: the second half of the replacement and NEXT.
    const got = d.send(d.server, 0, 0, { sack: [[first + 10, first + 24]] })
    expect(got[0]!.sack).toEqual([[d.client.isn + 1 + 9, d.client.isn + 1 + 17]])
  })

  it('goes through super-packets', async () => {
    const d = await start(rewriting(LONGER))
    d.client.text = `${'x'.repeat(3000)}\r\nADDR 12\r\n`
    d.say(d.client, 0, d.client.text.length, { gso: 1400 })
    expect(d.server.received).toBe(rewritten(d.client.text, LONGER))
  })

  it('has numbers that wrap', async () => {
    const d = await start(rewriting(LONGER), { clientIsn: -5, serverIsn: 0x7ffffffa })
    d.tell(d.client, 'ADDR 1234\r\n')
    d.tell(d.server, 'ADDR 12\r\n')
    d.tell(d.client, 'NEXT\r\n')
    expect(d.server.received).toBe('ADDR <1234-1234>\r\nNEXT\r\n')
    expect(d.client.received).toBe('ADDR <12-12>\r\n')
    expect([d.client.acknowledged, d.server.acknowledged]).toEqual([17, 9])
  })

  it('begins once: a SYN/ACK that comes late, or that somebody has made up, changes nothing', async () => {
    const d = await start(rewriting(LONGER))
    d.tell(d.server, 'ADDR 12\r\n')
    d.answer()
    d.answer(4711)
    d.tell(d.server, 'ADDR 12\r\n')
    expect(d.client.received).toBe('ADDR <12-12>\r\nADDR <12-12>\r\n')
  })

  it('has right numbers after its shard has started again', async () => {
    const d = await start(rewriting(LONGER))
    d.tell(d.client, 'ADDR 1234\r\n')
    await d.gateway.restart()
    expect(d.tell(d.client, 'ADDR 1\r\n').map(({ text }) => text)).toEqual(['ADDR 1\r\n'])
    expect(d.client.acknowledged).toBe(19)
    expect(d.server.received).toBe('ADDR <1234-1234>\r\nADDR 1\r\n')
  })
})

/** A line of a text: mostly ones that matter. */
const line = fc.oneof(
  { arbitrary: fc.stringMatching(/^ADDR [a-z]{1,12}$/), weight: 2 },
  fc.stringMatching(/^AD?D?R? ?[a-z]{0,5}$/),
  fc.stringMatching(/^[ -~]{0,20}$/),
)
const text = fc
  .array(fc.tuple(line, fc.constantFrom('\r\n', '\n')), { maxLength: 8 })
  .map((lines) => lines.map((parts) => parts.join('')).join(''))

/** One move: who, which part of what is not acknowledged, and what becomes of what leaves the gateway. */
const move = fc.record({
  client: fc.boolean(),
  skip: fc.nat(30),
  length: fc.integer({ min: 1, max: 40 }),
  fate: fc.constantFrom('arrives', 'arrives', 'arrives', 'lost', 'late', 'twice'),
  acks: fc.boolean(),
})

describe('whatever is lost, repeated, cut or late', () => {
  const replacements = [LONGER, () => 'x', (word: string) => word.toUpperCase(), (word: string) => word.slice(1) || '-']

  it("the receiver gets the sender's text, rewritten, and never two versions of it", async () => {
    await fc.assert(
      fc.asyncProperty(
        text,
        text,
        fc.array(move, { maxLength: 60 }),
        fc.nat(3),
        fc.integer(),
        async (up, down, moves, which, isn) => {
          const replace = replacements[which]!
          const d = await start(rewriting(replace), { clientIsn: isn, serverIsn: -isn, lanMtu: 80, wanMtu: 80 })
          d.client.text = up
          d.server.text = down
          const late: [End, ReturnType<Dialogue['send']>][] = []
          const take = (end: End, segments: ReturnType<Dialogue['send']>) => {
            for (const segment of segments) d.other(end).take(segment)
          }
          for (const { client, skip, length, fate, acks } of moves) {
            const end = client ? d.client : d.server
            const from = Math.min(Math.max(0, end.acknowledged - 5) + skip, end.text.length)
            const to = Math.min(from + length, end.text.length)
            const left = d.send(end, from, to, { fin: to === end.text.length && skip % 3 === 0 })
            if (fate === 'late') late.push([end, left])
            else if (fate !== 'lost') take(end, left)
            if (fate === 'twice') take(end, left)
            if (acks) take(d.other(end), d.send(d.other(end), d.other(end).acknowledged, d.other(end).acknowledged))
          }
          for (const [end, left] of late) take(end, left)
          // Then everything not acknowledged is sent until it is, as TCP does.
          for (let round = 0; round < 200 && !isThrough(d); round++) {
            for (const end of [d.client, d.server]) {
              const from = Math.min(end.acknowledged, end.text.length)
              d.say(end, from, Math.min(from + 40, end.text.length), { fin: from + 40 >= end.text.length })
              d.say(d.other(end), d.other(end).acknowledged, d.other(end).acknowledged)
            }
          }
          expect(isThrough(d)).toBe(true)
          for (const [end, sent] of [
            [d.server, up],
            [d.client, down],
          ] as const) {
            expect(end.contradictions).toEqual([])
            expect(end.received).toBe(rewritten(sent, replace))
          }
        },
      ),
      { numRuns: 150 },
    )
  })
})

const isThrough = (d: Dialogue): boolean =>
  d.client.acknowledged === d.client.text.length + 1 && d.server.acknowledged === d.server.text.length + 1
