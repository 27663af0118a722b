// The configuration's filter, packets in and packets out: which flows may be opened, from either side. It is asked once
// a flow, when its connection is about to be made; what is denied leaves nothing behind, and its sender is told (ICMP
// 3/13) where an ICMP error may be sent at all.

import { describe, expect, it } from 'vitest'
import { filterRule } from '../../src/control/config.ts'
import { readRule } from '../../src/control/filter-text.ts'
import { filter } from '../../src/control/schema/filter.ts'
import { parseFilterRule } from '../../src/coordinator/filter.ts'
import { type Helper, type HelperContext, Verdict } from '../../src/helpers/helper.ts'
import type { FilterRule } from '../../src/nat/filter-rules.ts'
import { compileRules, DENY, NO_PORT, RELATED_BIT, verdictBy } from '../../src/nat/filter-rules.ts'
import type { FrameSpec } from '../../src/testing/builder.ts'
import { parseAddress } from '../../src/wire/address.ts'
import { Gateway, type GatewayOptions } from '../datapath/gateway.ts'
import { Dialogue } from '../datapath/helped/dialogue.ts'
import { EXTERNAL, HOST, LAN, LAN_ADDRESS, SERVER, WAN } from '../datapath/network.ts'
import { decode, decodeIp, echo, fromOf, icmpError, printed, tcpSegment, toOf, udp } from '../datapath/packets.ts'
import { connectionsOf, mappingsOf } from '../datapath/tables.ts'

const OTHER = '10.0.0.6'
const [GRE, ESP] = [47, 50]

/** Rules as an operator writes them. */
const rules = (...lines: readonly string[]): FilterRule[] =>
  filter.parse(lines.map(readRule)).map(filterRule).map(parseFilterRule)

const start = (lines: readonly string[], more: GatewayOptions = {}): Promise<Gateway> =>
  Gateway.start({ filter: rules(...lines), ...more })

const syn = (from: string, to: string) => tcpSegment(from, to, 'S')
const portless = (src: string, dst: string, number: number): FrameSpec => ({
  ip: { src, dst },
  protocol: { number },
  payload: 'sixteen bytes...',
})

describe('which rule decides', () => {
  const [TCP, UDP, ICMP] = [6, 17, 1]
  const OUT = 0
  const IN = 1 << 8
  const cases = [
    // rules                                                    key                inside   remote     port  allowed
    [[], TCP | OUT, HOST, SERVER, 25, true],
    [['deny'], ICMP | OUT, HOST, SERVER, NO_PORT, false],
    [['allow', 'deny'], TCP | IN, HOST, SERVER, 25, true],
    [['deny out tcp port 25', 'allow'], TCP | OUT, HOST, SERVER, 25, false],
    [['deny out tcp port 25', 'allow'], TCP | OUT, HOST, SERVER, 26, true],
    [['deny out tcp port 25', 'allow'], UDP | OUT, HOST, SERVER, 25, true],
    [['deny out tcp port 25', 'allow'], TCP | IN, HOST, SERVER, 25, true],
    [['deny in'], TCP | IN, HOST, SERVER, 25, false],
    [['deny in'], TCP | OUT, HOST, SERVER, 25, true],
    [['deny port 1-1024'], UDP | OUT, HOST, SERVER, 1, false],
    [['deny port 1-1024'], UDP | OUT, HOST, SERVER, 1024, false],
    [['deny port 1-1024'], UDP | OUT, HOST, SERVER, 1025, true],
    [['deny port 1-65535'], TCP | IN, HOST, SERVER, 65535, false],
    [['deny port 1-65535'], ICMP | OUT, HOST, SERVER, NO_PORT, true],
    [['deny port 1-65535'], GRE | OUT, HOST, SERVER, NO_PORT, true],
    [['deny gre'], GRE | OUT, HOST, SERVER, NO_PORT, false],
    [['deny proto 47'], GRE | OUT, HOST, SERVER, NO_PORT, false],
    [['deny inside 10.0.0.0/30'], TCP | OUT, HOST, SERVER, 25, true],
    [['deny inside 10.0.0.4/30'], TCP | OUT, HOST, SERVER, 25, false],
    [['deny inside 10.0.0.5'], TCP | IN, HOST, SERVER, 25, false],
    [['deny inside 192.0.2.7'], TCP | IN, HOST, SERVER, 25, true],
    [['deny remote 192.0.0.0/16'], TCP | IN, HOST, SERVER, 25, false],
    [['deny remote 10.0.0.0/8'], TCP | IN, HOST, SERVER, 25, true],
    [['allow related', 'deny'], TCP | IN, HOST, SERVER, 25, false],
    [['allow related', 'deny'], TCP | IN | RELATED_BIT, HOST, SERVER, 25, true],
    [['deny new', 'allow'], TCP | OUT | RELATED_BIT, HOST, SERVER, 25, true],
    [['deny new', 'allow'], TCP | OUT, HOST, SERVER, 25, false],
    [['allow out tcp inside 10.0.0.0/8 remote 192.0.2.0/24 port 443', 'deny'], TCP | OUT, HOST, SERVER, 443, true],
    [['allow out tcp inside 10.0.0.0/8 remote 192.0.2.0/24 port 443', 'deny'], TCP | OUT, HOST, SERVER, 80, false],
  ] as const
  for (const [lines, key, inside, remote, port, allowed] of cases)
    it(`${JSON.stringify(lines)} ${allowed ? 'allow' : 'deny'} flow 0x${key.toString(16)} to port ${port}`, () => {
      const words = compileRules(rules(...lines))
      expect(verdictBy(words, key, parseAddress(inside), parseAddress(remote), port) !== DENY).toBe(allowed)
    })
})

describe('a flow from inside that is denied', () => {
  const flows: readonly (readonly [string, string, FrameSpec, FrameSpec])[] = [
    ['TCP to a port', 'deny out tcp port 25', syn(`${HOST}:5000`, `${SERVER}:25`), syn(`${HOST}:5000`, `${SERVER}:80`)],
    [
      'UDP to a prefix',
      'deny remote 192.0.2.0/24',
      udp(`${HOST}:5`, `${SERVER}:53`),
      udp(`${HOST}:5`, '198.51.100.1:53'),
    ],
    ['of a host', `deny inside ${HOST}`, udp(`${HOST}:5000`, `${SERVER}:53`), udp(`${OTHER}:5000`, `${SERVER}:53`)],
    ['a ping', 'deny icmp', echo(HOST, SERVER, 9), udp(`${HOST}:5000`, `${SERVER}:53`)],
    ['a protocol without ports', 'deny gre', portless(HOST, SERVER, GRE), portless(HOST, SERVER, ESP)],
  ]
  for (const [what, line, denied, allowed] of flows)
    it(`${what}: is dropped, its sender is told, and nothing is made`, async () => {
      const gateway = await start([line], { nat: { protocols: [GRE, ESP] } })
      expect(gateway.fate(LAN, denied)).toBe('filter-denied')
      const [told, ...more] = gateway.toLan()
      expect(more).toEqual([])
      expect(decode(told!)).toMatchObject({ src: LAN_ADDRESS, dst: denied.ip!.src, protocol: 1, type: 3, code: 13 })
      expect(decodeIp(decode(told!).embedded)).toMatchObject({ src: denied.ip!.src, dst: denied.ip!.dst })
      expect(connectionsOf(gateway.tables)).toEqual([])
      expect(mappingsOf(gateway.tables)).toEqual([])
      expect(gateway.fate(LAN, allowed)).toBe('sent')
      gateway.check()
    })

  it('is told no more often than ICMP errors may be sent', async () => {
    const gateway = await start(['deny'], { icmpErrorsPerSecond: 0 })
    const asked = 60
    for (let i = 0; i < asked; i++) expect(gateway.fate(LAN, udp(`${HOST}:5000`, `${SERVER}:53`))).toBe('filter-denied')
    const told = gateway.toLan().length
    expect(told).toBeLessThan(asked)
    expect(gateway.counter('icmpErrorsSuppressed')).toBe(asked - told)
  })

  it('is told of the first fragment only, and the others follow nobody', async () => {
    const gateway = await start(['deny udp'])
    const first = udp(`${HOST}:5000`, `${SERVER}:53`, { payload: 'x'.repeat(16), ip: { id: 7, moreFragments: true } })
    const later = {
      ip: { src: HOST, dst: SERVER, id: 7, fragmentOffset: 24 },
      protocol: { number: 17 },
      payload: 'y'.repeat(8),
    }
    expect(gateway.fate(LAN, first)).toBe('filter-denied')
    expect(gateway.toLan()).toHaveLength(1)
    expect(gateway.fate(LAN, later)).toBe('fragment-orphan')
    expect(gateway.toLan()).toEqual([])
  })

  it('has what is wrong with its packet named first', async () => {
    const gateway = await start(['deny'])
    expect(gateway.fate(LAN, tcpSegment(`${HOST}:5000`, `${SERVER}:25`, 'A'))).toBe('tcp-no-connection')
    expect(gateway.fate(LAN, udp(`${HOST}:5000`, `${LAN_ADDRESS}:53`))).toBe('not-ours')
  })
})

describe('a connection that is there', () => {
  it('is not asked again, in either direction, also with its ICMP errors', async () => {
    const gateway = await start(['allow out udp port 53', 'deny'])
    const [sent] = gateway.inside(udp(`${HOST}:5000`, `${SERVER}:53`))
    expect(gateway.fate(WAN, udp(`${SERVER}:53`, fromOf(sent!)))).toBe('sent')
    expect(gateway.fate(LAN, udp(`${HOST}:5000`, `${SERVER}:53`))).toBe('sent')
    expect(gateway.fate(WAN, icmpError(SERVER, EXTERNAL, sent!))).toBe('sent')
    gateway.check()
  })

  it('is asked again when it has ended', async () => {
    const gateway = await start(['allow out udp port 53', 'deny'])
    gateway.inside(udp(`${HOST}:5000`, `${SERVER}:53`))
    gateway.pass(100)
    expect(connectionsOf(gateway.tables)).toEqual([])
    expect(gateway.fate(LAN, udp(`${HOST}:5000`, `${SERVER}:53`))).toBe('sent')
    expect(gateway.drops()).toEqual({})
  })
})

describe('a flow from outside', () => {
  const FORWARDS = [{ protocol: 6, address: null, port: 8080, toAddress: parseAddress(HOST), toPort: 80 }]
  const CLIENT = `${SERVER}:40000`

  it('by a port forward: the port is the one inside, the addresses are untranslated', async () => {
    const gateway = await start([`deny in tcp inside ${HOST} port 80`], { forwards: FORWARDS })
    expect(gateway.fate(WAN, syn(CLIENT, `${EXTERNAL}:8080`))).toBe('filter-denied')
    const [told] = gateway.toWan()
    expect(decode(told!)).toMatchObject({ src: EXTERNAL, dst: SERVER, protocol: 1, type: 3, code: 13 })
    expect(connectionsOf(gateway.tables)).toEqual([])
    const other = await start([`deny in tcp inside ${EXTERNAL}`, 'deny in port 8080'], { forwards: FORWARDS })
    expect(other.fate(WAN, syn(CLIENT, `${EXTERNAL}:8080`))).toBe('sent')
    expect(other.fate(LAN, syn(`${HOST}:80`, `${SERVER}:80`))).toBe('sent')
    other.check()
  })

  it('by a mapping', async () => {
    const gateway = await start(['deny in remote 198.51.100.0/24'], { nat: { filtering: 'endpoint-independent' } })
    const [sent] = gateway.inside(udp(`${HOST}:5000`, `${SERVER}:53`))
    const to = fromOf(sent!)
    expect(gateway.fate(WAN, udp('198.51.100.1:9', to))).toBe('filter-denied')
    expect(gateway.fate(WAN, udp('192.0.2.99:9', to))).toBe('sent')
    gateway.check()
  })

  it('to nobody: is what it would be without a filter, and nobody is told', async () => {
    const gateway = await start(['deny in'])
    const [sent] = gateway.inside(udp(`${HOST}:5000`, `${SERVER}:53`))
    expect(gateway.fate(WAN, udp('192.0.2.99:9', fromOf(sent!)))).toBe('filtered')
    expect(gateway.fate(WAN, udp('192.0.2.99:9', `${EXTERNAL}:16400`))).toBe('not-ours')
    expect(gateway.toWan()).toEqual([])
  })

  it('and one that the server opens itself are two directions', async () => {
    const gateway = await start(['deny out'], { forwards: FORWARDS })
    expect(gateway.fate(LAN, syn(`${HOST}:80`, `${SERVER}:80`))).toBe('filter-denied')
    expect(gateway.fate(WAN, syn(CLIENT, `${EXTERNAL}:8080`))).toBe('sent')
    expect(gateway.fate(LAN, tcpSegment(`${HOST}:80`, CLIENT, 'SA'))).toBe('sent')
    gateway.check()
  })
})

describe('a hairpin is two flows, the sender’s out and the other host’s in', () => {
  const FORWARDS = [{ protocol: 17, address: null, port: 5353, toAddress: parseAddress(HOST), toPort: 53 }]
  const question = udp(`${OTHER}:4000`, `${EXTERNAL}:5353`)

  it('the first of which is denied by the external address', async () => {
    const gateway = await start([`deny out remote ${EXTERNAL}`], { forwards: FORWARDS })
    expect(gateway.fate(LAN, question)).toBe('filter-denied')
    expect(decode(gateway.toLan()[0]!)).toMatchObject({ dst: OTHER, type: 3, code: 13 })
    expect(connectionsOf(gateway.tables)).toEqual([])
  })

  it('the second by the endpoint inside, and the sender is told through its own connection', async () => {
    const gateway = await start([`deny in inside ${HOST} port 53`], { forwards: FORWARDS })
    gateway.inside(question)
    gateway.turn()
    gateway.turn()
    expect(gateway.drops()).toEqual({ 'filter-denied': 1 })
    const [told, ...more] = gateway.toLan()
    expect(more).toEqual([])
    expect(decode(told!)).toMatchObject({ dst: OTHER, protocol: 1, type: 3, code: 13 })
    expect(decodeIp(decode(told!).embedded)).toMatchObject({ src: OTHER, sport: 4000, dst: EXTERNAL, dport: 5353 })
    gateway.check()
  })
})

describe('where nothing is translated', () => {
  it('both directions are asked all the same', async () => {
    const gateway = await start(['deny out port 25', `deny in inside ${HOST} port 22`], { nat: { translate: false } })
    expect(gateway.fate(LAN, syn(`${HOST}:5000`, `${SERVER}:25`))).toBe('filter-denied')
    expect(gateway.toLan()).toHaveLength(1)
    expect(gateway.fate(WAN, syn(`${SERVER}:5000`, `${HOST}:22`))).toBe('filter-denied')
    expect(gateway.fate(WAN, syn(`${SERVER}:5000`, `${HOST}:80`))).toBe('sent')
    gateway.check()
  })
})

describe('a connection that a helper has announced', () => {
  const helper: Helper = {
    name: 'announcing',
    tuple: { proto: 'tcp', dstPort: 21 },
    help(ctx: HelperContext) {
      for (const { at, text } of ctx.lines((partial) => 'PORT '.startsWith(partial.slice(0, 5)))) {
        const port = /^PORT (\d+)$/.exec(text)?.[1]
        const announced = port === undefined ? undefined : ctx.expect({ port: Number(port) })
        if (announced) ctx.mangle(at + 5, port!.length, `${announced.address}:${announced.port}`)
      }
      return Verdict.Accept
    },
  }
  const begin = (...lines: readonly string[]) =>
    Dialogue.begin({ filter: rules('allow out tcp port 21', ...lines) }, (gateway) => gateway.help(helper))
  const told = (text: string): string => /PORT (\S+)/.exec(text)![1]!

  it('from outside: is asked as any other, and stays expected', async () => {
    const d = await begin('deny')
    d.tell(d.client, 'PORT 40000\r\n')
    const data = syn(`${SERVER}:20`, told(d.server.received))
    for (let tries = 0; tries < 2; tries++) expect(d.gateway.fate(WAN, data)).toBe('filter-denied')
    expect(decode(d.gateway.toWan()[0]!)).toMatchObject({ src: EXTERNAL, dst: SERVER, type: 3, code: 13 })
    expect(mappingsOf(d.gateway.tables)).toHaveLength(1)
    d.gateway.check()
  })

  it('from outside: has the announced endpoint inside', async () => {
    const d = await begin('allow in tcp inside 10.0.0.5 port 40000', 'deny')
    d.tell(d.client, 'PORT 40000\r\n')
    const [opened] = d.gateway.outside(syn(`${SERVER}:20`, told(d.server.received)))
    expect(toOf(opened!)).toBe(`${HOST}:40000`)
    d.gateway.check()
  })

  it('is allowed by the one word "related", from either side, where all else is denied', async () => {
    const d = await begin('allow related', 'deny')
    d.tell(d.client, 'PORT 40000\r\n')
    expect(d.gateway.fate(WAN, syn(`${SERVER}:20`, told(d.server.received)))).toBe('sent')
    d.tell(d.server, 'PORT 3333\r\n')
    expect(d.gateway.fate(LAN, syn(`${HOST}:5001`, `${SERVER}:3334`))).toBe('filter-denied')
    expect(d.gateway.fate(LAN, syn(`${HOST}:5001`, `${SERVER}:3333`))).toBe('sent')
    d.gateway.check()
  })

  it('is told from others by the one word "new"', async () => {
    const d = await begin('deny new in', 'deny related out')
    d.tell(d.server, 'PORT 3333\r\n')
    expect(d.gateway.fate(LAN, syn(`${HOST}:5001`, `${SERVER}:3333`))).toBe('filter-denied')
    d.tell(d.client, 'PORT 40000\r\n')
    expect(d.gateway.fate(WAN, syn(`${SERVER}:20`, told(d.server.received)))).toBe('sent')
    d.gateway.check()
  })
})

describe('a message of ICMP that answers nothing', () => {
  it('is no flow: it is not asked about', async () => {
    const gateway = await start(['deny'])
    const stray = echo(HOST, SERVER, 9, { type: 0 })
    expect(gateway.fate(LAN, stray)).toBe('icmp-no-query')
    expect(printed(gateway.toLan())).toEqual([])
  })
})
