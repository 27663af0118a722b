// An announcement in the middle of which the thread ends: its successor knows what has gone out before, and lets out
// nothing that completes the inside address. Wherever the sender cuts it, whenever the crash comes, whoever read it.

import { describe, expect, it, vi } from 'vitest'
import { BUILTIN } from '../../../src/helpers/builtin.ts'
import { type Helper, Verdict } from '../../../src/helpers/helper.ts'
import { parseAddress } from '../../../src/wire/address.ts'
import * as tcp from '../../../src/wire/tcp.ts'
import { arm, crashOf, disarm } from '../../faults/armed.ts'
import { HOST, route } from '../network.ts'
import type { Dialogue } from './dialogue.ts'
import { failing, framed, RAW, RESET_REASONS, start, toClient, toServer } from './failures.ts'

vi.mock('#faults', () => import('../../faults/armed.ts'))

const GREETING = '220 ready\r\n'
const PORT = 'PORT 10,0,0,5,156,64\r\n'
const EPRT = 'EPRT |1|10.0.0.5|40000|\r\n'
const DCC = 'DCC SEND a 167772165 40000\r\n'
const ZEROS = 'PORT 010,000,000,005,1,2\r\n'

const IN_DIGITS = /(?<!\d)(?:0*10[.,]0+[.,]0+[.,]0*5|0*167772165)(?!\d)/
/** Whether the inside address is in it, in any notation. */
const isNamed = (text: string): boolean => IN_DIGITS.test(text) || text.includes(RAW)

function resets({ gateway }: Dialogue): Record<string, number> {
  const found = RESET_REASONS.map((reason, i) => [reason, gateway.counter('helperResets', i)] as const)
  return Object.fromEntries(found.filter(([, count]) => count > 0))
}

async function crash(d: Dialogue): Promise<void> {
  await d.gateway.restart()
  d.gateway.turn()
  d.gateway.toLan()
  d.gateway.toWan()
}

/** Says a text byte by byte, and the thread ends before the byte of this number. What the server has of it then. */
async function sayWithCrash(d: Dialogue, text: string, crashBefore: number, slowly: boolean): Promise<string> {
  const from = d.server.received.length
  for (const [i, byte] of [...text].entries()) {
    if (i === crashBefore) {
      await crash(d)
      // What was held is gone with the thread, and is sent again.
      const has = d.client.acknowledged
      if (has < d.client.text.length) d.say(d.client, has, d.client.text.length)
    }
    d.tell(d.client, byte)
    if (!slowly) continue
    d.gateway.jump(1.1)
    d.gateway.turn()
    for (const segment of toServer(d)) d.server.take(segment)
    d.acknowledge(d.server)
  }
  return d.server.received.slice(from)
}

describe('the thread ends in the middle of an address that is sent byte by byte', () => {
  const cases: [what: string, helper: () => Helper, texts: readonly string[], slowly: boolean][] = [
    ['whose helper has failed', () => failing('FAIL'), [PORT, EPRT, DCC, ZEROS, `\x00${RAW}\x9c\x40`], false],
    ["that FTP's helper reads, and holds as long as it may", () => BUILTIN.ftp!(), [PORT, EPRT], true],
    ['of which a helper holds nothing', () => failing('never'), [PORT, DCC], false],
    ['of binary frames', () => framed({}), [`\xff${RAW}${'x'.repeat(8)}`], true],
  ]
  for (const [what, helper, texts, slowly] of cases)
    for (const text of texts)
      it(`${JSON.stringify(text)}, ${what}`, async () => {
        for (let at = 1; at < text.length; at++) {
          const d = await start(helper())
          d.tell(d.server, GREETING)
          if (what.includes('failed')) d.tell(d.client, 'FAIL\r\n')
          const arrived = await sayWithCrash(d, text, at, slowly)
          // A helper that lets everything pass may have seen the whole address before the crash.
          if (what.includes('holds nothing') && isNamed(text.slice(0, at))) continue
          expect(arrived, `crash before byte ${at}`).not.toSatisfy(isNamed)
          expect([...d.server.contradictions]).toEqual([])
          d.gateway.check()
        }
      })
})

it('a crash between the two halves, in either order, and after the first was sent again', async () => {
  for (const cut of [5, 7, 9, 11]) {
    const d = await start(failing('FAIL'))
    d.tell(d.server, GREETING)
    d.tell(d.client, 'FAIL\r\n')
    const from = d.client.text.length
    d.client.text += PORT
    d.say(d.client, from + cut, from + PORT.length)
    await crash(d)
    d.say(d.client, from, from + cut)
    await crash(d)
    d.say(d.client, from, from + cut)
    d.say(d.client, from + cut, from + PORT.length)
    expect(d.server.received).toBe(`FAIL\r\n${PORT.slice(0, cut)}`)
    expect(resets(d)).toEqual({ 'thread-lost': 1 })
  }
})

it('a crash while it is noted what goes on: what comes then may be the rest, and ends the connection', async () => {
  for (const helper of [failing('FAIL'), failing('never')]) {
    const d = await start(helper)
    d.tell(d.client, 'FAIL\r\n')
    d.tell(d.client, 'PORT 10,0,0,')
    d.client.text += '5,156,64\r\n'
    arm(0, 'gone bytes half noted')
    const from = d.client.text.length - 10
    // Of a watched one the byte before the address is complete.
    const point = crashOf(() => d.say(d.client, from - 1, from))
    disarm()
    if (point === undefined) expect(d.say(d.client, from, from)).toHaveLength(1)
    await crash(d)
    d.say(d.client, from, d.client.text.length)
    expect(d.server.received).not.toSatisfy(isNamed)
  }
})

it('an ended connection stays ended', async () => {
  const d = await start(failing('FAIL'))
  d.tell(d.client, 'FAIL\r\n')
  d.tell(d.client, PORT)
  expect(resets(d)).toEqual({ threw: 1 })
  await crash(d)
  const before = d.gateway.drops()['helper-failed']!
  d.client.text += 'QUIT\r\n'
  expect(d.say(d.client, d.client.text.length - 6, d.client.text.length)).toEqual([])
  expect(d.gateway.drops()).toEqual({ 'helper-failed': before + 1 })
  expect(toClient(d).map(({ flags }) => flags)).toEqual([tcp.RST])
})

it('goes on with all that names nothing of the inside, and what was rewritten before', async () => {
  const d = await start(BUILTIN.ftp!())
  d.tell(d.server, GREETING)
  d.tell(d.client, PORT)
  for (const text of ['5\r\n', 'NOOP\r\n', '0,0,5,1,2\r\n', ',0,0,5\r\n', 'PASV\r\n']) {
    await crash(d)
    expect(d.tell(d.client, text).map((segment) => segment.text)).toEqual([text])
  }
  expect(resets(d)).toEqual({})
  d.gateway.check()
})

describe('four bytes of an address that may also be text', () => {
  // 10.80.65.83 is "\nPAS".
  const options = {
    insideHost: '10.80.65.83',
    routes: [route('10.80.0.0', 16, { gateway: parseAddress(HOST) })],
  }
  const lines: Helper = {
    ...failing('FAIL'),
    help(ctx) {
      for (const _ of ctx.lines(() => true));
      return Verdict.Accept
    },
  }
  it('count after a crash if the helper has asked for no lines', async () => {
    const d = await start(failing('FAIL'), options)
    d.tell(d.client, 'x\n')
    await crash(d)
    d.tell(d.client, 'PAS\n')
    expect(d.server.received).toBe('x\n')
    expect(resets(d)).toEqual({ 'thread-lost': 1 })
  })

  it('do not count if it has', async () => {
    const d = await start(lines, options)
    d.tell(d.client, 'NOOP\r\n')
    await crash(d)
    d.tell(d.client, 'PASV\r\n')
    expect(d.server.received).toBe('NOOP\r\nPASV\r\n')
    expect(resets(d)).toEqual({})
  })
})
