// How small the segments are that a rewritten packet is split into: what the receiver has announced counts down to 536
// bytes (RFC 9293 3.7.1), and no packet becomes more than 64 segments.

import { expect, it } from 'vitest'
import { type Helper, Verdict } from '../../../src/helpers/helper.ts'
import { HOST, LAN, SERVER } from '../network.ts'
import { tcpSegment } from '../packets.ts'
import { Dialogue, type DialogueOptions } from './dialogue.ts'

/** Makes of ADDR in a line a text of so many bytes. */
const growing = (length: number): Helper => ({
  name: 'growing',
  tuple: { proto: 'tcp', dstPort: 21 },
  help(ctx) {
    for (const { at, text } of ctx.lines((partial) => 'ADDR'.startsWith(partial.slice(0, 4))))
      if (text === 'ADDR') ctx.mangle(at, 4, 'y'.repeat(length))
    return Verdict.Accept
  },
})

/** Lengths of the segments that a line of ADDR becomes. */
async function lengths(grownTo: number, options: DialogueOptions): Promise<number[]> {
  const dialogue = await Dialogue.begin(options, (gateway) => gateway.help(growing(grownTo)))
  const segments = dialogue.tell(dialogue.client, 'ADDR\r\n').map(({ text }) => text.length)
  expect(dialogue.server.received).toBe(`${'y'.repeat(grownTo)}\r\n`)
  return segments
}

for (const [announced, expected] of [
  [1, [536, 66]],
  [48, [536, 66]],
  [536, [536, 66]],
  [550, [550, 52]],
  [1460, [602]],
] as const)
  it(`an MSS of ${announced}: segments of ${expected.join(' and ')} bytes`, async () => {
    expect(await lengths(600, { mss: announced })).toEqual(expected)
  })

it('a smaller link counts all the same', async () => {
  expect(await lengths(600, { wanMtu: 340 })).toEqual([300, 300, 2])
})

it('forty segments become forty where the receiver announces one byte', async () => {
  const dialogue = await Dialogue.begin({ mss: 1 }, (gateway) => gateway.help(growing(5)))
  let segments = 0
  dialogue.tell(dialogue.client, 'ADDR\r\n')
  for (let n = 0; n < 40; n++) segments += dialogue.tell(dialogue.client, `${'z'.repeat(500)}\r\n`).length
  expect(segments).toBe(40)
})

it('where the link is too small for that, 64 segments are longer than it takes and leave in fragments', async () => {
  const dialogue = await Dialogue.begin({ wanMtu: 68 }, (gateway) => gateway.help(growing(4000)))
  const { client, gateway } = dialogue
  const tcp = { seq: (client.isn + 1) >>> 0, ack: client.ack >>> 0 }
  gateway.inside(tcpSegment(`${HOST}:5000`, `${SERVER}:21`, 'AP', { tcp, payload: 'ADDR\r\n' }))
  expect(gateway.counter('fragmented')).toBe(64)
  expect(gateway.drops()).toEqual({})
})

for (const [what, grownTo, gso] of [
  ['none that has no more than 536', 500, { type: 0, size: 0 }],
  ['of 536 bytes', 4000, { type: 1, size: 536 }],
  ['of a sixty-fourth', 60_000, { type: 1, size: Math.ceil(60_002 / 64) }],
] as const)
  it(`a super-packet of small segments that has grown: ${what}`, async () => {
    const { client, gateway } = await Dialogue.begin({ mss: 1 }, (gateway) => gateway.help(growing(grownTo)))
    const tcp = { seq: (client.isn + 1) >>> 0, ack: client.ack >>> 0 }
    const line = { tcp, payload: 'ADDR\r\n', gso: { size: 3 } }
    gateway.burst(LAN, [tcpSegment(`${HOST}:5000`, `${SERVER}:21`, 'AP', line)])
    const [sent, ...more] = gateway.toWanWithHeaders()
    expect(more).toEqual([])
    expect({ type: sent![1], size: sent![4]! | (sent![5]! << 8) }).toEqual(gso)
    expect(sent!.length).toBe(10 + 54 + grownTo + 2)
  })
