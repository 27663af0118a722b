// There is room for what has gone on last of so many guarded connections at a time (gone-table.ts). One more is read as
// any other; but if its helper is lost, nobody knows what went before, and its next bytes end it.

import { describe, expect, it, vi } from 'vitest'
import { guardedConnections } from '../../../src/datapath/helped/gone-table.ts'
import { BUILTIN } from '../../../src/helpers/builtin.ts'
import { arm, crashOf, disarm } from '../../faults/armed.ts'
import { Gateway } from '../gateway.ts'
import { HOST, SERVER } from '../network.ts'
import { tcpSegment } from '../packets.ts'
import { Dialogue } from './dialogue.ts'
import { failing, RESET_REASONS } from './failures.ts'

vi.mock('#faults', () => import('../../faults/armed.ts'))

const CONNECTIONS = 128
const ROOM = guardedConnections(CONNECTIONS)
const OTHER = '10.0.0.9'
/** Longer than a connection is kept that has only begun, or was reset. */
const FORGOTTEN = 600

/** An FTP gateway, and so many guarded connections that have only begun. */
async function gatewayWith(others: number): Promise<Gateway> {
  const gateway = await Gateway.start({ connections: CONNECTIONS })
  await gateway.help(BUILTIN.ftp!())
  begin(gateway, others)
  return gateway
}

function begin(gateway: Gateway, others: number): void {
  for (let i = 0; i < others; i++) gateway.inside(tcpSegment(`${OTHER}:${6000 + i}`, `${SERVER}:21`, 'S'))
}

/** A connection whose server has greeted: until then FTP's helper would not take a client for one. */
function greeted(gateway: Gateway): Dialogue {
  const d = new Dialogue(gateway, { clientIsn: 1000 })
  d.tell(d.server, '220 ready\r\n')
  return d
}

async function crash({ gateway }: Dialogue): Promise<void> {
  await gateway.restart()
  gateway.turn()
}

function resets(gateway: Gateway): Record<string, number> {
  const found = RESET_REASONS.map((reason, i) => [reason, gateway.counter('helperResets', i)] as const)
  return Object.fromEntries(found.filter(([, count]) => count > 0))
}

/** Whether its bytes go on after its helper was lost with the thread. */
async function outlivesTheThread(d: Dialogue): Promise<boolean> {
  d.tell(d.client, 'NOOP\r\n')
  expect(d.server.received).toContain('NOOP\r\n')
  await crash(d)
  d.tell(d.client, 'QUIT\r\n')
  return d.server.received.endsWith('QUIT\r\n')
}

it('there is room for an eighth of all connections, and in a small table for 64', () => {
  expect([16, 1024, 2 ** 20].map(guardedConnections)).toEqual([16, 128, 2 ** 17])
  expect(ROOM).toBe(64)
})

describe('a guarded connection', () => {
  it('is the last that there is room for: goes on without its helper', async () => {
    const gateway = await gatewayWith(ROOM - 1)
    expect(await outlivesTheThread(greeted(gateway))).toBe(true)
    expect(resets(gateway)).toEqual({})
    gateway.check()
  })

  it('is one more: is read, and rewritten, but its next bytes end it when its helper is lost', async () => {
    const gateway = await gatewayWith(ROOM)
    const d = greeted(gateway)
    d.tell(d.client, 'PORT 10,0,0,5,156,64\r\n')
    expect(d.server.received).toMatch(/^PORT 203,0,113,1,\d+,\d+\r\n$/)
    expect(await outlivesTheThread(d)).toBe(false)
    expect(resets(gateway)).toEqual({ 'thread-lost': 1 })
    gateway.check()
  })

  it('has room again when others have ended', async () => {
    const gateway = await gatewayWith(ROOM)
    gateway.pass(FORGOTTEN)
    begin(gateway, ROOM - 1)
    expect(await outlivesTheThread(greeted(gateway))).toBe(true)
  })

  it('has room again when others have ended that a successor found', async () => {
    const gateway = await gatewayWith(ROOM)
    await gateway.restart()
    gateway.turn()
    await gateway.help(BUILTIN.ftp!())
    gateway.pass(FORGOTTEN)
    begin(gateway, ROOM - 1)
    expect(await outlivesTheThread(greeted(gateway))).toBe(true)
  })

  it('has no room beside those that a successor found', async () => {
    const gateway = await gatewayWith(ROOM)
    await gateway.restart()
    gateway.turn()
    await gateway.help(BUILTIN.ftp!())
    expect(await outlivesTheThread(greeted(gateway))).toBe(false)
  })

  it('needs none when its helper has said that it is done', async () => {
    const gateway = await Gateway.start({ connections: CONNECTIONS })
    const reads = failing('FAIL')
    await gateway.help({
      ...reads,
      help: (ctx) => (ctx.text.includes('DONE') ? (ctx.done() as never) : reads.help(ctx)),
    })
    for (let i = 0; i < ROOM; i++) {
      const other = new Dialogue(gateway, { clientPort: 6000 + i })
      other.tell(other.client, 'DONE\r\n')
      expect(other.server.received).toBe('DONE\r\n')
    }
    expect(await outlivesTheThread(greeted(gateway))).toBe(true)
  })
})

describe('a crash', () => {
  it('gone bytes without a connection: the row is free, and nothing has gone on', async () => {
    const gateway = await gatewayWith(ROOM - 1)
    arm(0, 'gone bytes without a connection')
    const syn = tcpSegment(`${HOST}:5000`, `${SERVER}:21`, 'S', { tcp: { seq: 1000 } })
    expect(crashOf(() => gateway.inside(syn))).toBe('gone bytes without a connection')
    disarm()
    await gateway.restart()
    gateway.turn()
    gateway.toWan()
    // Its client repeats the SYN, which finds the row.
    expect(await outlivesTheThread(greeted(gateway))).toBe(true)
    gateway.check()
  })

  it('gone bytes of nobody: the row is free, and the connection that was to end has nothing to go by', async () => {
    const gateway = await gatewayWith(ROOM - 1)
    const d = greeted(gateway)
    d.tell(d.client, 'PORT 10,0,0,')
    arm(0, 'gone bytes of nobody')
    const reset = tcpSegment(`${HOST}:5000`, `${SERVER}:21`, 'R', { tcp: { seq: 1001 + 'PORT 10,0,0,'.length } })
    gateway.inside(reset)
    expect(crashOf(() => gateway.pass(FORGOTTEN))).toBe('gone bytes of nobody')
    disarm()
    await gateway.restart()
    gateway.pass(FORGOTTEN)
    await gateway.help(BUILTIN.ftp!())
    begin(gateway, ROOM - 1)
    expect(await outlivesTheThread(greeted(gateway))).toBe(true)
    gateway.check()
  })
})
