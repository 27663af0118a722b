// A thread that crashes between two stores of a helped connection's state, and its successor: numbers are right for the
// rest of the connection, what was announced is let in, and nothing leaks. What a helper knew is lost.

import { describe, expect, it, vi } from 'vitest'
import { BUILTIN } from '../../../src/helpers/builtin.ts'
import { type Helper, Verdict } from '../../../src/helpers/helper.ts'
import { arm, crashOf, disarm } from '../../faults/armed.ts'
import { type FaultPoint, HELPED_POINTS } from '../../faults/points.ts'
import { Gateway } from '../gateway.ts'
import { HOST, SERVER } from '../network.ts'
import { tcpSegment } from '../packets.ts'
import { connectionsOf } from '../tables.ts'
import { Dialogue } from './dialogue.ts'

vi.mock('#faults', () => import('../../faults/armed.ts'))

const announcing: Helper = {
  name: 'announcing',
  tuple: { proto: 'tcp', dstPort: 21 },
  help(ctx) {
    for (const { at, text } of ctx.lines(() => true)) {
      const port = /^PORT (\d+)$/.exec(text)?.[1]
      const announced = port === undefined ? undefined : ctx.expect({ port: Number(port) })
      if (announced) ctx.mangle(at + 5, 5, `${announced.address}:${announced.port}`)
    }
    return Verdict.Accept
  },
}
const LINE = 'PORT 40000\r\n'
const told = (text: string): string | undefined => /PORT (\S+:\d+)/.exec(text)?.[1]
const start = () => Dialogue.begin({}, (gateway) => gateway.help(announcing))

/** Does it with a crash ordered at a point, and lets a successor go on; the point that it crashed at. */
async function crashAt(d: Dialogue, point: FaultPoint, act: () => void): Promise<FaultPoint | undefined> {
  arm(0, point)
  const crashed = crashOf(act)
  disarm()
  if (crashed === undefined) return undefined
  await d.gateway.restart()
  d.gateway.turn()
  // As from a reset network card: what was sent in the moment of the crash may be lost.
  d.gateway.toLan()
  d.gateway.toWan()
  return crashed
}

/** What each end has said so far arrives, and more of it, with right numbers. */
function goesOn(d: Dialogue): void {
  const from = d.client.acknowledged
  d.say(d.client, from, d.client.text.length)
  d.acknowledge(d.server)
  expect(d.tell(d.client, 'NOOP\r\n').map(({ text }) => text)).toEqual(['NOOP\r\n'])
  expect(d.client.acknowledged).toBe(d.client.text.length)
  expect(d.tell(d.server, '200 ok\r\n').map(({ text }) => text)).toEqual(['200 ok\r\n'])
  expect(d.server.acknowledged).toBe(d.server.text.length)
  expect([...d.client.contradictions, ...d.server.contradictions]).toEqual([])
  d.gateway.check()
}

const POINTS = ['edits without a connection', 'edit written, not in force'] as const

describe('a crash', () => {
  for (const point of POINTS)
    it(`${point}: the line goes on as it came`, async () => {
      const d = await start()
      d.client.text = LINE
      expect(await crashAt(d, point, () => d.say(d.client, 0, LINE.length))).toBe(point)
      goesOn(d)
      expect(d.server.received).toBe(`${LINE}NOOP\r\n`)
      // Room for as many edited connections as before.
      const { roomForEdits } = await import('../../../src/nat/sequence-edits.shard.ts')
      expect(roomForEdits(connectionsOf(d.gateway.tables)[0]!.row, 0)).toBe(16)
    })

  const BEGINNINGS = [
    'connection found by its original tuple only',
    'connection without permission',
    'connection in no queue',
    'connection inserted, not counted',
    'help begun',
  ] as const
  for (const [point, onFailure] of BEGINNINGS.flatMap((each) => [[each, 'reset'] as const, [each, 'pass'] as const]))
    it(`${point}, and no helper reads it: watched or not, by onHelperFailure (${onFailure})`, async () => {
      const gateway = await Gateway.start()
      await gateway.help(announcing, undefined, onFailure)
      const syn = tcpSegment(`${HOST}:5000`, `${SERVER}:21`, 'S', { tcp: { seq: 1000 } })
      arm(0, point)
      expect(crashOf(() => gateway.inside(syn))).toBe(point)
      disarm()
      await gateway.restart()
      // Its client repeats the SYN, which finds the row.
      const d = new Dialogue(gateway, { clientIsn: 1000 })
      expect(connectionsOf(gateway.tables)).toHaveLength(1)
      d.tell(d.client, 'NOOP\r\n')
      d.tell(d.client, 'PORT 10,0,0,5,156,64\r\n')
      expect(d.server.received.includes('10,0,0,5')).toBe(onFailure === 'pass')
      gateway.check()
    })

  it('expectation met, not consumed: the connection has come, and goes on', async () => {
    const d = await start()
    d.tell(d.client, LINE)
    const syn = tcpSegment(`${SERVER}:20`, told(d.server.received)!, 'S')
    const point = 'expectation met, not consumed'
    expect(await crashAt(d, point, () => d.gateway.outside(syn))).toBe(point)
    expect(d.gateway.outside(syn)).toHaveLength(1)
    const [child] = connectionsOf(d.gateway.tables).filter(({ expected }) => expected)
    expect(child?.master).toEqual({ shard: 0, row: connectionsOf(d.gateway.tables)[0]!.row })
    goesOn(d)
    expect(told(d.server.received)).toBeDefined()
  })

  it('edits of nobody: their row is free again', async () => {
    const d = await start()
    d.tell(d.client, LINE)
    const point = 'edits of nobody'
    const reset = () => d.gateway.pass(8000)
    expect(await crashAt(d, point, reset)).toBe(point)
    d.gateway.pass(8000)
    expect(connectionsOf(d.gateway.tables)).toEqual([])
    d.gateway.check()
  })

  it('is tested at each point of helped connections', () => {
    const tested = [
      'help begun',
      'gone bytes half noted',
      'gone bytes without a connection',
      'gone bytes of nobody',
      'expectation met, not consumed',
      ...POINTS,
      'edits of nobody',
    ]
    expect(tested).toEqual(HELPED_POINTS)
  })

  it('after a rewritten line was acknowledged: what is sent again of it goes on without its bytes', async () => {
    const d = await Dialogue.begin({}, (gateway) => gateway.help(BUILTIN.ftp!()))
    const line = 'PORT 10,0,0,5,156,64\r\n'
    d.tell(d.server, '220 ready\r\n')
    d.tell(d.client, line)
    await d.gateway.restart()
    d.gateway.turn()
    // Alone, and together with what follows: its receiver says what it has, and its sender repeats only the rest.
    d.client.text += 'NOOP\r\n'
    for (const to of [line.length, d.client.text.length]) {
      const [again] = d.say(d.client, 0, to)
      expect(again?.text).toBe('')
      expect(again!.seq).toSatisfy((seq: number) => ((seq - d.server.ack) | 0) < 0)
    }
    expect(d.say(d.client, line.length, d.client.text.length).map(({ text }) => text)).toEqual(['NOOP\r\n'])
    expect(d.gateway.drops()).toEqual({})
    goesOn(d)
  })

  it('between a rewritten line and its acknowledgement: what is sent again of it has lost its text', async () => {
    const d = await start()
    d.client.text = `${LINE}NEXT\r\n`
    const [rewritten] = d.send(d.client, 0, LINE.length)
    await d.gateway.restart()
    d.gateway.turn()
    expect(d.send(d.client, 0, LINE.length)).toEqual([])
    expect(d.gateway.drops()).toEqual({ 'edit-lost': 1 })
    // It had arrived, as nearly always: then its acknowledgement ends the matter.
    d.server.take(rewritten!)
    d.acknowledge(d.server)
    goesOn(d)
  })
})
