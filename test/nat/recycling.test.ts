// Who makes room, and for whom: what is not assured can go, and a flood from outside goes at its own cost. RFC 6888
// REQ-11 (what is in use stays); nf_conntrack_core.c, early_drop.

import { describe, expect, it } from 'vitest'
import { DEFAULT_TIMEOUTS } from '../../src/conntrack/timeouts.ts'
import { BUILTIN } from '../../src/helpers/builtin.ts'
import type { PortForward } from '../../src/nat/port-forward-rules.ts'
import { parseAddress } from '../../src/wire/address.ts'
import { Gateway, type GatewayOptions } from '../datapath/gateway.ts'
import { Dialogue } from '../datapath/helped/dialogue.ts'
import { EXTERNAL, HOST, LAN, SERVER, WAN } from '../datapath/network.ts'
import { echo, echoReply, fromOf, tcpSegment, udp } from '../datapath/packets.ts'
import { type Connection, connectionsOf } from '../datapath/tables.ts'
import { has, open, TO } from './openings.ts'

const TCP = 6
const UDP = 17
const WEB = `${HOST}:80`
const FORWARDED = `${EXTERNAL}:80`
const GAME = `${HOST}:53`
const FORWARDED_GAME = `${EXTERNAL}:5353`
const FORWARDS: PortForward[] = [
  { protocol: TCP, address: null, port: 80, toAddress: parseAddress(HOST), toPort: 80 },
  { protocol: UDP, address: null, port: 5353, toAddress: parseAddress(HOST), toPort: 53 },
]
const OTHER_HOST = '10.0.0.6'

const start = (options: GatewayOptions = {}): Promise<Gateway> => Gateway.start({ forwards: FORWARDS, ...options })
/** One of many senders outside. */
const stranger = (i: number): string => `198.18.${(i >> 8) & 255}.${i & 255}:${1024 + (i >> 16)}`

/** A SYN at the forward that the server answers, and nobody acknowledges. */
function halfOpen(gateway: Gateway, from: string): void {
  gateway.outside(tcpSegment(from, FORWARDED, 'S'))
  gateway.inside(tcpSegment(WEB, from, 'SA'))
}

/** A datagram at the forward, and its answer. */
function ask(gateway: Gateway, from: string): void {
  gateway.outside(udp(from, FORWARDED_GAME))
  gateway.inside(udp(GAME, from))
}

/** A client at the forward gets its connection. */
function connect(gateway: Gateway, from: string): void {
  halfOpen(gateway, from)
  gateway.outside(tcpSegment(from, FORWARDED, 'A'))
}

const all = (gateway: Gateway): Connection[] => connectionsOf(gateway.tables)
const recycled = (gateway: Gateway): number[] =>
  [0, 1, 2, 3].map((kind) => gateway.counter('connectionsRecycled', kind))

describe('a flood at a forward', () => {
  const floods = [
    ['SYNs that the server answers', halfOpen],
    ['SYNs at a dead server', (gateway: Gateway, from: string) => gateway.outside(tcpSegment(from, FORWARDED, 'S'))],
    ['datagrams that are answered', ask],
    ['datagrams without an answer', (gateway: Gateway, from: string) => gateway.outside(udp(from, FORWARDED_GAME))],
  ] as const
  for (const [what, packet] of floods)
    it(`of ${what} recycles its own rows: all other connections go on, new ones begin`, async () => {
      const gateway = await start({ connections: 64 })
      const live = Array.from({ length: 8 }, (_, i) => `${HOST}:${5000 + i}`)
      for (const inside of live) open(gateway, inside)
      connect(gateway, `${SERVER}:9000`)
      // A handshake that is older than the flood, and takes longer than the flood needs to fill the table.
      const slow = open(gateway, `${OTHER_HOST}:6000`, 'syn')
      gateway.inside(udp(`${OTHER_HOST}:6001`, TO))
      gateway.pass(3)
      for (let i = 0; i < 640; i++) packet(gateway, stranger(i))
      gateway.check()
      expect(gateway.drops()).toEqual({})
      gateway.outside(tcpSegment(TO, slow, 'SA'))
      for (let i = 0; i < 20; i++) expect(open(gateway, `${OTHER_HOST}:${7000 + i}`)).not.toBe('refused')
      // As old as the newest of the flood's: whoever opened it, its answer is in time.
      connect(gateway, `${SERVER}:9001`)
      for (const inside of [...live, `${OTHER_HOST}:6000`, `${OTHER_HOST}:6001`, `${SERVER}:9000`, `${SERVER}:9001`])
        expect([inside, has(gateway, inside)]).toEqual([inside, true])
      expect(all(gateway).filter(({ assured }) => assured)).toHaveLength(8 + 20 + 2)
      gateway.check()
      gateway.pass(301)
      expect(all(gateway).filter(({ assured }) => !assured)).toEqual([])
    })

  it('of those who really connect leaves an eighth of the rows to the inside', async () => {
    const gateway = await start({ connections: 64 })
    for (let i = 0; i < 56; i++) connect(gateway, stranger(i))
    for (let i = 56; i < 100; i++) expect(gateway.fate(WAN, tcpSegment(stranger(i), FORWARDED, 'S'))).toBe('table-full')
    for (let i = 0; i < 8; i++) expect(open(gateway, `${OTHER_HOST}:${7000 + i}`)).not.toBe('refused')
    expect(all(gateway)).toHaveLength(64)
    expect(open(gateway, `${OTHER_HOST}:7100`)).toBe('refused')
    gateway.check()
  })

  it('of datagrams that come again and again, and are answered, hinders nobody else, nor each other', async () => {
    const gateway = await start({ connections: 64 })
    open(gateway, `${OTHER_HOST}:1`)
    for (let i = 0; i < 56; i++) ask(gateway, stranger(i))
    gateway.pass(3)
    // Whoever goes on for a while is believed: nothing tells these from many players of one game.
    for (let i = 0; i < 56; i++) ask(gateway, stranger(i))
    expect(all(gateway).filter(({ assured, origin }) => assured && origin === 1)).toHaveLength(56)
    for (let i = 56; i < 100; i++) {
      expect(gateway.fate(WAN, udp(stranger(i), FORWARDED_GAME))).toBe('sent')
      expect(gateway.fate(LAN, udp(GAME, stranger(i)))).toBe('sent')
    }
    // Those whose rows have gone go on as before, whoever sends first.
    for (let i = 0; i < 56; i++) {
      expect(fromOf(gateway.inside(udp(GAME, stranger(i)))[0]!)).toBe(FORWARDED_GAME)
      expect(gateway.fate(WAN, udp(stranger(i), FORWARDED_GAME))).toBe('sent')
    }
    for (let i = 0; i < 40; i++) expect(open(gateway, `${OTHER_HOST}:${7000 + i}`)).not.toBe('refused')
    connect(gateway, stranger(200))
    expect([`${OTHER_HOST}:1`, stranger(200)].map((from) => has(gateway, from))).toEqual([true, true])
    gateway.check()
  })

  it('beyond what outsiders may have, a newcomer goes at the cost of another outsider, or is refused', async () => {
    const gateway = await start({ connections: 16 })
    for (let i = 0; i < 13; i++) connect(gateway, stranger(i))
    halfOpen(gateway, stranger(13))
    open(gateway, `${OTHER_HOST}:1`, 'reset')
    halfOpen(gateway, stranger(14))
    expect([13, 14].map((i) => has(gateway, stranger(i)))).toEqual([false, true])
    connect(gateway, stranger(14))
    expect(gateway.fate(WAN, tcpSegment(stranger(15), FORWARDED, 'S'))).toBe('table-full')
    expect(has(gateway, `${OTHER_HOST}:1`)).toBe(true)
    gateway.outside(tcpSegment(stranger(3), FORWARDED, 'R'))
    expect(gateway.fate(WAN, tcpSegment(stranger(15), FORWARDED, 'S'))).toBe('sent')
    expect(has(gateway, stranger(3))).toBe(false)
    gateway.check()
  })

  it('has no part in the rows for what the inside has announced', async () => {
    const options = { forwards: FORWARDS, connections: 16 }
    const d = await Dialogue.begin(options, (gateway) => gateway.help(BUILTIN.ftp!()))
    d.tell(d.server, '220 ready\r\n')
    d.tell(d.client, 'PORT 10,0,0,5,156,64\r\n')
    const [high, low] = /,(\d+),(\d+)\r\n$/.exec(d.server.received)!.slice(1).map(Number)
    for (let i = 0; i < 14; i++) connect(d.gateway, stranger(i))
    expect(d.gateway.fate(WAN, tcpSegment(stranger(20), FORWARDED, 'S'))).toBe('table-full')
    const data = tcpSegment(`${SERVER}:20`, `${EXTERNAL}:${high! * 256 + low!}`, 'S')
    expect(d.gateway.fate(WAN, data)).toBe('sent')
    d.gateway.check()
  })

  it('takes no port', async () => {
    const gateway = await start({ connections: 64 })
    open(gateway, `${OTHER_HOST}:1`)
    for (let i = 0; i < 200; i++) halfOpen(gateway, stranger(i))
    for (let i = 0; i < 200; i++) ask(gateway, stranger(i))
    expect([0, 1, 2].map((space) => gateway.counter('portsUsed', space))).toEqual([1, 0, 0])
  })

  it('goes on at its own cost after a crash', async () => {
    const gateway = await start({ connections: 64 })
    const slow = open(gateway, `${OTHER_HOST}:6000`, 'syn')
    gateway.pass(3)
    for (let i = 0; i < 100; i++) halfOpen(gateway, stranger(i))
    await gateway.restart()
    gateway.turn()
    gateway.check()
    for (let i = 100; i < 200; i++) halfOpen(gateway, stranger(i))
    gateway.outside(tcpSegment(TO, slow, 'SA'))
    expect(has(gateway, `${OTHER_HOST}:6000`)).toBe(true)
    expect(gateway.drops()).toEqual({})
    gateway.check()
  })
})

describe('where established connections have nearly all rows', () => {
  it('a flood of either side leaves the handshakes of the other one alone', async () => {
    const gateway = await start({ connections: 64 })
    for (let i = 0; i < 56; i++) open(gateway, `${HOST}:${2000 + i}`)
    const slow = open(gateway, `${OTHER_HOST}:1`, 'syn')
    gateway.pass(3)
    for (let i = 0; i < 50; i++) halfOpen(gateway, stranger(i))
    gateway.outside(tcpSegment(TO, slow, 'SA'))
    gateway.inside(tcpSegment(`${OTHER_HOST}:1`, TO, 'A'))
    expect(has(gateway, `${OTHER_HOST}:1`)).toBe(true)
    gateway.pass(300)
    halfOpen(gateway, stranger(100))
    gateway.pass(3)
    for (let i = 0; i < 50; i++) gateway.inside(udp(`${OTHER_HOST}:${3000 + i}`, TO))
    gateway.outside(tcpSegment(stranger(100), FORWARDED, 'A'))
    expect(all(gateway).filter(({ assured }) => assured)).toHaveLength(58)
    gateway.check()
  })
})

describe('a connection that is half-open', () => {
  it('lives for a minute if it was opened from outside, as the RFC says if from inside', async () => {
    const gateway = await start()
    open(gateway, `${OTHER_HOST}:1`, 'half-open')
    halfOpen(gateway, stranger(1))
    gateway.outside(tcpSegment(stranger(2), FORWARDED, 'S'))
    connect(gateway, stranger(3))
    expect(all(gateway).map(({ timeout }) => timeout)).toEqual([240, 60, 240, 7440])
    gateway.pass(59)
    expect(has(gateway, stranger(1))).toBe(true)
    gateway.pass(3)
    expect([`${OTHER_HOST}:1`, stranger(1), stranger(2), stranger(3)].map((from) => has(gateway, from))).toEqual([
      true,
      false,
      true,
      true,
    ])
    gateway.check()
  })

  it('lives no longer than Linux would have it live, where that is less', async () => {
    const gateway = await start({ timeouts: { tcp: { ...DEFAULT_TIMEOUTS.tcp, SYN_RECV: 20 } } })
    halfOpen(gateway, stranger(1))
    expect(all(gateway)[0]!.timeout).toBe(20)
  })
})

describe('UDP at a port forward', () => {
  it('that is in use goes last as long as there is little, and a silent one before one that is not', async () => {
    const gateway = await start({ connections: 40 })
    for (let i = 0; i < 34; i++) open(gateway, `${HOST}:${2000 + i}`)
    for (let i = 0; i < 4; i++) ask(gateway, stranger(i))
    gateway.pass(3)
    for (let i = 0; i < 4; i++) ask(gateway, stranger(i))
    gateway.pass(61)
    ask(gateway, stranger(0))
    ask(gateway, stranger(2))
    ask(gateway, stranger(4))
    open(gateway, `${OTHER_HOST}:1`, 'syn')
    for (const [i, goes] of [stranger(4), `${OTHER_HOST}:1`, stranger(1), stranger(3), stranger(0)].entries()) {
      expect(has(gateway, goes)).toBe(true)
      expect(open(gateway, `${HOST}:${3000 + i}`)).not.toBe('refused')
      expect(has(gateway, goes)).toBe(false)
      gateway.check()
    }
    expect([0, 1, 2, 3, 4].map((kind) => gateway.counter('connectionsRecycled', kind))).toEqual([0, 1, 1, 0, 3])
    expect([0, 1].map((side) => gateway.counter('recycledOrigins', side))).toEqual([1, 4])
  })
})

describe('the order in which connections go', () => {
  it('is that of age over both sides and all protocols, while those from outside are few', async () => {
    const gateway = await start({ connections: 24 })
    for (let i = 0; i < 18; i++) open(gateway, `${HOST}:${2000 + i}`)
    const begin = [
      () => gateway.inside(udp(`${OTHER_HOST}:1`, TO)),
      () => halfOpen(gateway, stranger(2)),
      () => open(gateway, `${OTHER_HOST}:3`, 'syn'),
      () => gateway.outside(udp(stranger(4), FORWARDED_GAME)),
      () => open(gateway, `${OTHER_HOST}:5`, 'half-open'),
      () => ask(gateway, stranger(6)),
    ]
    const from = [`${OTHER_HOST}:1`, stranger(2), `${OTHER_HOST}:3`, stranger(4), `${OTHER_HOST}:5`, stranger(6)]
    for (const [i, one] of begin.entries()) {
      one()
      gateway.pass(1)
      expect(has(gateway, from[i]!)).toBe(true)
    }
    for (let gone = 0; gone < from.length; gone++) {
      expect(from.map((each) => has(gateway, each))).toEqual(from.map((_, i) => i >= gone))
      expect(open(gateway, `${HOST}:${3000 + gone}`)).not.toBe('refused')
      gateway.check()
    }
    expect(open(gateway, `${HOST}:3100`)).toBe('refused')
    expect(recycled(gateway)).toEqual([0, 3, 3, 0])
  })

  it('closed ones go before any other, also those of which only the last ACK is missing', async () => {
    const gateway = await start({ connections: 8 })
    for (let i = 0; i < 4; i++) open(gateway, `${HOST}:${2000 + i}`)
    open(gateway, `${OTHER_HOST}:1`, 'syn')
    open(gateway, `${OTHER_HOST}:2`, 'last-ack')
    gateway.pass(1)
    open(gateway, `${OTHER_HOST}:3`, 'time-wait')
    gateway.pass(1)
    open(gateway, `${OTHER_HOST}:4`, 'reset')
    for (const port of [2, 3, 4, 1]) {
      expect(has(gateway, `${OTHER_HOST}:${port}`)).toBe(true)
      open(gateway, `${HOST}:${3000 + port}`)
      expect(has(gateway, `${OTHER_HOST}:${port}`)).toBe(false)
    }
    expect(open(gateway, `${HOST}:3100`)).toBe('refused')
    expect(recycled(gateway)).toEqual([3, 1, 0, 0])
    gateway.check()
  })

  it('half-closed ones go if they are silent, and have been so for longer than others are there', async () => {
    const gateway = await start({ connections: 4 })
    const busy = open(gateway, `${OTHER_HOST}:1`, 'half-closed')
    open(gateway, `${OTHER_HOST}:2`, 'half-closed')
    for (let i = 0; i < 2; i++) open(gateway, `${HOST}:${2000 + i}`)
    gateway.pass(30)
    expect(open(gateway, `${HOST}:3000`)).toBe('refused')
    gateway.pass(29)
    gateway.outside(tcpSegment(TO, busy, 'A', { tcp: { payload: new Uint8Array(10) } as never }))
    gateway.pass(2)
    expect(open(gateway, `${HOST}:3001`)).not.toBe('refused')
    expect([1, 2].map((port) => has(gateway, `${OTHER_HOST}:${port}`))).toEqual([true, false])
    expect(open(gateway, `${HOST}:3002`)).toBe('refused')
    expect(recycled(gateway)).toEqual([0, 0, 0, 1])
    gateway.check()
  })

  it('a silent half-closed one goes before a handshake, but after one that is older than its last packet', async () => {
    const gateway = await start({ connections: 4 })
    for (let i = 0; i < 2; i++) open(gateway, `${HOST}:${2000 + i}`)
    open(gateway, `${OTHER_HOST}:1`, 'syn')
    gateway.pass(2)
    open(gateway, `${OTHER_HOST}:2`, 'half-closed')
    gateway.pass(100)
    open(gateway, `${OTHER_HOST}:3`, 'syn')
    expect([1, 2, 3].map((port) => has(gateway, `${OTHER_HOST}:${port}`))).toEqual([false, true, true])
    open(gateway, `${OTHER_HOST}:4`, 'syn')
    expect([2, 3, 4].map((port) => has(gateway, `${OTHER_HOST}:${port}`))).toEqual([false, true, true])
    gateway.check()
  })

  it('an answered ping and an exchange of datagrams go, two-way traffic that lasts stays', async () => {
    const gateway = await start({ connections: 4, nat: { protocols: [47, 50] } })
    gateway.inside(echo(HOST, SERVER, 7))
    gateway.outside(echoReply(SERVER, EXTERNAL, all(gateway)[0] ? Number(all(gateway)[0]!.reply.split(':').at(-1)) : 0))
    const [out] = gateway.inside(udp(`${HOST}:1`, TO))
    gateway.outside(udp(TO, fromOf(out!)))
    const tunnel = (src: string, dst: string, number: number) => ({ ip: { src, dst }, protocol: { number } })
    for (const protocol of [47, 50]) {
      gateway.inside(tunnel(HOST, SERVER, protocol))
      gateway.outside(tunnel(SERVER, EXTERNAL, protocol))
    }
    gateway.pass(3)
    for (const protocol of [47, 50]) gateway.inside(tunnel(HOST, SERVER, protocol))
    expect(all(gateway).map(({ protocol, assured }) => [protocol, assured])).toEqual([
      [1, false],
      [17, false],
      [47, true],
      [50, true],
    ])
    for (const port of [10, 11]) expect(open(gateway, `${OTHER_HOST}:${port}`)).not.toBe('refused')
    expect(open(gateway, `${OTHER_HOST}:12`)).toBe('refused')
    expect(
      all(gateway)
        .map(({ protocol }) => protocol)
        .toSorted((a, b) => a - b),
    ).toEqual([6, 6, 47, 50])
    gateway.check()
  })
})
