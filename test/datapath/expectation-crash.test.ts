// A thread that crashes between two stores of an expectation's life, in a gateway: whatever it was doing, its successor
// announces and lets in as before, and in the end no expectation, no reserved port and no mapping is left.

import { beforeEach, describe, expect, it, vi } from 'vitest'
import { STATE, stateOf } from '../../src/conntrack/expectation-table.ts'
import { type Helper, type HelperContext, Verdict } from '../../src/helpers/helper.ts'
import { isTaken } from '../../src/nat/port-words.ts'
import { arm, crashOf, disarm } from '../faults/armed.ts'
import { EXPECTATION_POINTS } from '../faults/points.ts'
import type { Gateway } from './gateway.ts'
import { Dialogue } from './helped/dialogue.ts'
import { HOST, SERVER } from './network.ts'
import { tcpSegment } from './packets.ts'
import { connectionsOf } from './tables.ts'

vi.mock('#faults', () => import('../faults/armed.ts'))

/** PORT n announces the sender's port n, STAY n one that stays, TAKE BACK all of them. */
const announcing: Helper<number[]> = {
  name: 'announcing',
  tuple: { proto: 'tcp', dstPort: 21 },
  maxExpected: 2,
  state: () => [],
  help(ctx: HelperContext<number[]>) {
    for (const { at, text } of ctx.lines(() => true)) {
      const port = /^(?:PORT|STAY) (\d+)$/.exec(text)?.[1]
      if (text === 'TAKE BACK') for (const handle of ctx.state.splice(0)) ctx.unexpect(handle)
      if (port === undefined) continue
      const announced = ctx.expect({ port: Number(port), permanent: text.startsWith('STAY') })
      if (!announced) continue
      ctx.state.push(announced.handle)
      ctx.mangle(at + 5, port.length, `${announced.address}:${announced.port}`)
    }
    return Verdict.Accept
  },
}

let d: Dialogue

/** All that an expectation may live through. The peer connects to what it was told last. */
const told = (text: string): string => text.slice(text.lastIndexOf(' ') + 1).trim()
function connect(sourcePort: number): void {
  d.gateway.outside(tcpSegment(`${SERVER}:${sourcePort}`, told(d.server.received), 'S'))
}
const STORY: readonly (() => unknown)[] = [
  () => d.tell(d.client, 'PORT 40000\r\n'),
  () => d.tell(d.client, 'PORT 40000\r\n'),
  () => connect(20),
  () => d.gateway.inside(tcpSegment(`${HOST}:40000`, `${SERVER}:20`, 'SA')),
  () => d.tell(d.client, 'STAY 40001\r\n'),
  () => connect(22),
  () => connect(23),
  () => d.tell(d.client, 'PORT 40002\r\n'),
  () => d.tell(d.client, 'PORT 40003\r\n'),
  () => d.tell(d.client, 'TAKE BACK\r\n'),
  () => d.tell(d.client, 'PORT 40004\r\n'),
  () => d.gateway.pass(8000),
]
const standing = ({ expectations }: Gateway): number =>
  expectations.states.filter((word) => stateOf(word) !== STATE.free).length
const takenPorts = ({ externals }: Gateway): number => externals.portWords.filter(isTaken).length

beforeEach(async () => {
  disarm()
  d = await Dialogue.begin({ connections: 64 }, (gateway) => gateway.help(announcing))
})

describe('a crash', () => {
  for (const point of EXPECTATION_POINTS)
    it(`${point}: what was expected is expected or over, and nothing is left of it`, async () => {
      arm(0, point)
      const crashed = crashOf(() => {
        for (const act of STORY) act()
      })
      expect(crashed).toBe(point)
      const { gateway } = d
      await gateway.restart()
      gateway.turn()
      gateway.toLan()
      gateway.toWan()
      // The successor goes on as if nothing had been.
      await gateway.help(announcing)
      d = new Dialogue(gateway, { clientPort: 6000 })
      d.tell(d.client, 'PORT 41000\r\n')
      connect(20)
      const [child] = connectionsOf(gateway.tables).filter(({ reply }) => reply.startsWith(`${HOST}:41000 `))
      expect(child).toMatchObject({ expected: true })
      // Every second of the last minutes somebody looks: what leaked is found.
      gateway.pass(8000)
      expect(connectionsOf(gateway.tables)).toEqual([])
      expect([gateway.expectationGc.count, standing(gateway), takenPorts(gateway)]).toEqual([0, 0, 0])
      gateway.check()
    })

  it('that a helper catches is the shard’s all the same', async () => {
    const catching: Helper = {
      ...announcing,
      name: 'catching',
      help(ctx) {
        try {
          ctx.expect({ port: 40000 })
        } catch {}
        return Verdict.Accept
      },
    }
    d = await Dialogue.begin({ connections: 64 }, (gateway) => gateway.help(catching))
    arm(0, 'slot busy, nothing in it')
    expect(crashOf(() => d.tell(d.client, 'PORT 40000\r\n'))).toBe('slot busy, nothing in it')
  })

  it('or none: the same', () => {
    for (const act of STORY) act()
    const { gateway } = d
    expect(gateway.counter('expectationsMatched')).toBeGreaterThanOrEqual(3)
    expect([gateway.expectationGc.count, standing(gateway), takenPorts(gateway)]).toEqual([0, 0, 0])
    expect(gateway.expectationGc.mended).toEqual({ slot: 0, count: 0, reservation: 0 })
    gateway.check()
  })
})
