// Related connections, packets in and packets out: what a helper announces, what the peer is told, and the connection
// that comes. The helper here has one command either way: PORT n announces the sender's port n.

import { describe, expect, it } from 'vitest'
import { Expected, type Helper, type HelperContext, Verdict } from '../../src/helpers/helper.ts'
import type { Gateway } from './gateway.ts'
import { Dialogue } from './helped/dialogue.ts'
import { EXTERNAL, HOST, LAN, SERVER, WAN } from './network.ts'
import { decode, tcpSegment, udp } from './packets.ts'
import { connectionsOf } from './tables.ts'

const COMMAND = /^PORT (\d+)$/

function announcing(more: Partial<Helper> & { how?: object } = {}): Helper {
  const { how = {}, ...rest } = more
  return {
    name: 'announcing',
    tuple: { proto: 'tcp', dstPort: 21 },
    help(ctx: HelperContext) {
      for (const { at, text } of ctx.lines((partial) => 'PORT '.startsWith(partial.slice(0, 5)))) {
        const port = COMMAND.exec(text)?.[1]
        if (port === undefined) continue
        const announced = ctx.expect({ port: Number(port), ...how })
        if (announced) ctx.mangle(at + 5, port.length, `${announced.address}:${announced.port}`)
      }
      return Verdict.Accept
    },
    ...rest,
  }
}

const start = (helper = announcing(), options = {}) => Dialogue.begin(options, (gateway) => gateway.help(helper))

/** What the peer was told. */
const told = (text: string): string => /PORT (\S+)/.exec(text)![1]!

const flow = (gateway: Gateway, of: string) =>
  connectionsOf(gateway.tables).find(({ original }) => original.startsWith(of))

describe('an inside end announces a port', () => {
  it('at an external port that leads to it, for the peer alone, once', async () => {
    const d = await start()
    d.tell(d.client, 'PORT 40000\r\n')
    const to = told(d.server.received)
    expect(to).toMatch(/^203\.0\.113\.1:\d+$/)
    const { gateway } = d
    const stranger = tcpSegment('192.0.2.99:20', to, 'S')
    expect(gateway.fate(WAN, stranger)).toBe('no-mapping')
    const [syn] = gateway.outside(tcpSegment(`${SERVER}:20`, to, 'S', { tcp: { seq: 7 } }))
    expect(decode(syn!)).toMatchObject({ src: SERVER, sport: 20, dst: HOST, dport: 40000 })
    const [answer] = gateway.inside(tcpSegment(`${HOST}:40000`, `${SERVER}:20`, 'SA'))
    expect(decode(answer!)).toMatchObject({ src: EXTERNAL, sport: Number(to.split(':')[1]), dst: SERVER, dport: 20 })
    // It has come: there is no second one.
    expect(gateway.fate(WAN, tcpSegment(`${SERVER}:21`, to, 'S'))).not.toBe('no-mapping')
    gateway.check()
  })

  it('and the connection is related to its master', async () => {
    const d = await start()
    d.tell(d.client, 'PORT 40000\r\n')
    d.gateway.outside(tcpSegment(`${SERVER}:20`, told(d.server.received), 'S'))
    const child = flow(d.gateway, `${SERVER}:20`)!
    expect(child.expected).toBe(true)
    expect(child.master).toEqual({ shard: 0, row: flow(d.gateway, `${HOST}:5000`)!.row })
    d.gateway.check()
  })

  it('and it keeps its port when it sends first itself', async () => {
    const d = await start()
    d.tell(d.client, 'PORT 40000\r\n')
    const to = told(d.server.received)
    const [syn] = d.gateway.inside(tcpSegment(`${HOST}:40000`, '192.0.2.200:80', 'S'))
    expect(`${decode(syn!).src}:${decode(syn!).sport}`).toBe(to)
    expect(d.gateway.fate(WAN, tcpSegment(`${SERVER}:20`, to, 'S'))).toBe('sent')
    d.gateway.check()
  })

  it('of an endpoint that has a mapping: at that port', async () => {
    const d = await start()
    const [syn] = d.gateway.inside(tcpSegment(`${HOST}:40000`, '192.0.2.200:80', 'S'))
    d.tell(d.client, 'PORT 40000\r\n')
    expect(told(d.server.received)).toBe(`${decode(syn!).src}:${decode(syn!).sport}`)
    d.gateway.check()
  })

  it("in vain before anything has come back, and in another's name", async () => {
    const d = await start(announcing({ how: { address: '10.0.0.77' } }))
    d.tell(d.client, 'PORT 40000\r\n')
    expect(d.server.received).toBe('PORT 40000\r\n')
    expect(d.gateway.counter('announcementsRefused', 2)).toBe(1)
  })

  it('for anyone, if its helper says so', async () => {
    const d = await start(announcing({ how: { from: 'anyone' } }))
    d.tell(d.client, 'PORT 40000\r\n')
    expect(d.gateway.fate(WAN, tcpSegment('192.0.2.99:20', told(d.server.received), 'S'))).toBe('sent')
  })

  it('which is gone when its control connection is', async () => {
    const d = await start()
    d.tell(d.client, 'PORT 40000\r\n')
    d.gateway.pass(8000)
    expect(d.gateway.fate(WAN, tcpSegment(`${SERVER}:20`, told(d.server.received), 'S'))).toBe('not-ours')
    d.gateway.check()
  })
})

describe('an outside end announces a port', () => {
  it('which is related, and translated as any other', async () => {
    const d = await start()
    d.tell(d.server, 'PORT 3333\r\n')
    expect(told(d.client.received)).toBe(`${SERVER}:3333`)
    const [syn] = d.gateway.inside(tcpSegment(`${HOST}:5001`, `${SERVER}:3333`, 'S'))
    expect(decode(syn!)).toMatchObject({ src: EXTERNAL, dst: SERVER, dport: 3333 })
    expect(flow(d.gateway, `${HOST}:5001`)!.expected).toBe(true)
    d.gateway.check()
  })
})

describe('the helper is asked about the connection that comes', () => {
  const arrives = async (answer: Expected) => {
    const asked: unknown[] = []
    const d = await start(
      announcing({
        expected(child, master) {
          asked.push([child.tuple.src.address, child.announced, child.class, master.tuple.dst])
          return answer
        },
      }),
    )
    d.tell(d.client, 'PORT 40000\r\n')
    const fate = d.gateway.fate(WAN, tcpSegment(`${SERVER}:20`, told(d.server.received), 'S'))
    return { asked, fate, d }
  }

  it('and follows', async () => {
    const { asked, fate } = await arrives(Expected.Follow)
    expect(fate).toBe('sent')
    expect(asked).toEqual([[SERVER, { address: HOST, port: 40000 }, 0, { address: SERVER, port: 21 }]])
  })

  it('and says that it is not its own', async () => {
    expect((await arrives(Expected.NotMine)).fate).toBe('no-mapping')
  })

  it('and drops it', async () => {
    expect((await arrives(Expected.Drop)).fate).toBe('helper-verdict')
  })
})

describe('a connection that was expected may have a helper of its own', () => {
  it('which reads it from its first byte', async () => {
    const read: string[] = []
    const d = await Dialogue.begin({}, async (gateway) => {
      await gateway.help({
        name: 'child',
        tuple: { proto: 'udp', dstPort: 9 },
        help(ctx) {
          read.push(ctx.text)
          return Verdict.Accept
        },
      })
      await gateway.help(announcing({ how: { protocol: 'udp', helper: 'child' } }))
    })
    d.tell(d.client, 'PORT 40000\r\n')
    d.gateway.outside(udp(`${SERVER}:20`, told(d.server.received), { payload: 'hello' }))
    expect(read).toEqual(['hello'])
  })
})

describe('datagrams', () => {
  const RENAMED: Helper = {
    name: 'renaming',
    tuple: { proto: 'udp', dstPort: 5353 },
    help(ctx) {
      const at = ctx.text.indexOf('name')
      if (at >= 0) ctx.mangle(at, 4, 'a longer name')
      return ctx.text === 'no' ? Verdict.Drop : Verdict.Accept
    },
  }

  it('are rewritten, with lengths and checksums', async () => {
    const d = await start(RENAMED)
    const [sent] = d.gateway.inside(udp(`${HOST}:7`, `${SERVER}:5353`, { payload: 'my name.' }))
    expect(Buffer.from(decode(sent!).body.subarray(8)).toString()).toBe('my a longer name.')
  })

  it('and dropped if the helper says so', async () => {
    const d = await start(RENAMED)
    d.gateway.inside(udp(`${HOST}:7`, `${SERVER}:5353`, { payload: 'yes' }))
    expect(d.gateway.fate(LAN, udp(`${HOST}:7`, `${SERVER}:5353`, { payload: 'no' }))).toBe('helper-verdict')
  })
})
