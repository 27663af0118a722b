// There is room for what has gone on last of so many guarded connections at a time (gone-table.ts). One more is read as
// any other; but if its helper is lost, nobody knows what went before, and its next bytes end it.

import { describe, expect, it, vi } from 'vitest'
import { guardedConnections } from '../../../src/datapath/helped/gone-table.ts'
import { BUILTIN } from '../../../src/helpers/builtin.ts'
import { arm, crashOf, disarm } from '../../faults/armed.ts'
import { Gateway } from '../gateway.ts'
import { Dialogue } from './dialogue.ts'
import { failing, RESET_REASONS } from './failures.ts'

vi.mock('#faults', () => import('../../faults/armed.ts'))

const CONNECTIONS = 128
const ROOM = guardedConnections(CONNECTIONS)
/** Longer than a connection is kept that was reset. */
const FORGOTTEN = 600

/** An FTP gateway. */
async function gatewayOf(): Promise<Gateway> {
  const gateway = await Gateway.start({ connections: CONNECTIONS })
  await gateway.help(BUILTIN.ftp!())
  return gateway
}

/** The same, and so many guarded connections whose inside ends have sent. */
async function gatewayWith(others: number): Promise<Gateway> {
  const gateway = await gatewayOf()
  begin(gateway, others)
  return gateway
}

function begin(gateway: Gateway, others: number): Dialogue[] {
  return Array.from({ length: others }, (_, i) => {
    const other = greeted(gateway, 6000 + i)
    other.tell(other.client, 'NOOP\r\n')
    return other
  })
}

function reset(dialogues: readonly Dialogue[]): void {
  for (const d of dialogues) d.send(d.client, d.client.text.length, d.client.text.length, { flags: 'R' })
}

/** A connection whose server has greeted: until then FTP's helper would not take a client for one. */
function greeted(gateway: Gateway, clientPort = 5000): Dialogue {
  const d = new Dialogue(gateway, { clientIsn: 1000, clientPort })
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

  it('is one more beside those that have only begun: they have sent nothing, and need none', async () => {
    const gateway = await gatewayOf()
    for (let i = 0; i < ROOM; i++) greeted(gateway, 6000 + i)
    expect(await outlivesTheThread(greeted(gateway))).toBe(true)
  })

  it('has room again when others have ended', async () => {
    const gateway = await gatewayOf()
    reset(begin(gateway, ROOM))
    gateway.pass(FORGOTTEN)
    begin(gateway, ROOM - 1)
    expect(await outlivesTheThread(greeted(gateway))).toBe(true)
  })

  it('has room again when others have ended that a successor found', async () => {
    const gateway = await gatewayOf()
    const others = begin(gateway, ROOM)
    await gateway.restart()
    gateway.turn()
    await gateway.help(BUILTIN.ftp!())
    reset(others)
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
    const d = greeted(gateway)
    arm(0, 'gone bytes without a connection')
    d.client.text += 'NOOP\r\n'
    expect(crashOf(() => d.send(d.client, 0, 6))).toBe('gone bytes without a connection')
    disarm()
    await gateway.restart()
    gateway.turn()
    expect(gateway.toWan()).toEqual([])
    // Its client repeats them, and they take the row.
    d.say(d.client, 0, 6)
    d.acknowledge(d.server)
    expect(await outlivesTheThread(d)).toBe(true)
    gateway.check()
  })

  it('gone bytes of nobody: the row is free, and the connection that was to end has nothing to go by', async () => {
    const gateway = await gatewayOf()
    const all = begin(gateway, ROOM)
    arm(0, 'gone bytes of nobody')
    reset(all)
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
