// What else is limited a host: what the gateway tells it, packets of it that wait for neighbours, expectations and
// edited connections. One host at its limit leaves the others theirs.

import { describe, expect, it } from 'vitest'
import { HOST, type HostWord } from '../../src/conntrack/host-table.ts'
import { HELPER_CUT_OFFS } from '../../src/counters/counters.ts'
import { EXPECT_REFUSED } from '../../src/counters/expect-refusals.ts'
import { HOST_LIMIT, type HostLimitName } from '../../src/counters/host-limits.ts'
import { BUILTIN } from '../../src/helpers/builtin.ts'
import { parseAddress } from '../../src/wire/address.ts'
import { Gateway } from './gateway.ts'
import { Dialogue } from './helped/dialogue.ts'
import { quotas } from './host-quotas.ts'
import { EXTERNAL, LAN, ROUTER, route, SERVER, WAN } from './network.ts'
import { printed, tcpSegment, udp } from './packets.ts'

const [ONE, OTHER] = ['10.0.0.5', '10.0.0.6']

const has = ({ hosts }: Gateway, host: string, word: HostWord): number => {
  const row = hosts.names.indexOf(parseAddress(host))
  return row < 0 ? 0 : hosts.sum(row, word)
}
const limited = (gateway: Gateway, name: HostLimitName) => gateway.counter('hostsLimited', HOST_LIMIT[name])
/** A packet that is over its way's end here: its sender is told. */
const dying = (host: string) => udp(`${host}:5000`, `${SERVER}:80`, { ip: { ttl: 1 } })

describe('what a host is told', () => {
  it('is so much a second, and others are told theirs', async () => {
    const gateway = await Gateway.start({ limits: quotas({ 'icmp-errors': 10 }) })
    for (let i = 0; i < 40; i++) gateway.inside(dying(ONE))
    expect(gateway.toLan()).toHaveLength(10)
    expect(limited(gateway, 'icmp-errors')).toBe(30)
    for (let i = 0; i < 5; i++) gateway.inside(dying(OTHER))
    expect(gateway.toLan()).toHaveLength(5)
    gateway.jump(2)
    for (let i = 0; i < 40; i++) gateway.inside(dying(ONE))
    expect(gateway.toLan()).toHaveLength(10)
  })

  it('leaves the last quarter of the bucket to others: its limit is more than the bucket holds', async () => {
    const gateway = await Gateway.start({ icmpErrorsPerSecond: 1000, limits: quotas({ 'icmp-errors': 250 }) })
    for (let i = 0; i < 150; i++) gateway.inside(dying(ONE))
    expect(gateway.toLan()).toHaveLength(75)
    for (let i = 0; i < 20; i++) gateway.inside(dying(OTHER))
    expect(gateway.toLan()).toHaveLength(20)
  })

  it('counts resets, too', async () => {
    const gateway = await Gateway.start({ limits: quotas({ 'icmp-errors': 2 }) })
    for (let port = 1; port <= 4; port++) gateway.inside(tcpSegment(`${ONE}:${port}`, `${SERVER}:80`, 'A'))
    expect(gateway.toLan()).toHaveLength(2)
  })

  it('is told whatever outsiders make the gateway say: half of the bucket is for hosts', async () => {
    const gateway = await Gateway.start({ icmpErrorsPerSecond: 100, forwards: [FORWARD] })
    for (let port = 1; port <= 200; port++)
      gateway.outside(tcpSegment(`${SERVER}:${port}`, `${EXTERNAL}:8080`, 'S', { ip: { ttl: 1 } }))
    expect(gateway.toWan()).toHaveLength(25)
    // Of whom nothing was said is told by side.
    expect([0, 1].map((side) => gateway.counter('icmpErrorsSuppressed', side))).toEqual([0, 175])
    for (const host of [ONE, OTHER]) for (let i = 0; i < 12; i++) gateway.inside(dying(host))
    expect(printed(gateway.toLan())).toHaveLength(24)
  })
})

const FORWARD = { protocol: 6, address: null, port: 8080, toAddress: parseAddress(ONE), toPort: 80 }

describe('packets that wait for neighbours', () => {
  const scan = { routes: [route('198.51.0.0', 16, { port: WAN })], silent: [ROUTER] }
  const probe = (gateway: Gateway, host: string, i: number) =>
    gateway.fate(LAN, udp(`${host}:5000`, `198.51.${i >> 7}.${(i & 127) + 1}:1`))

  it('of one host that scans are for a quarter of the neighbours, and others wait for theirs', async () => {
    const gateway = await Gateway.start({ ...scan, limits: quotas({ 'waiting-packets': 384 }) })
    const waits = Array.from({ length: 200 }, (_, i) => probe(gateway, ONE, i))
    expect(waits.filter((fate) => fate === 'queued')).toHaveLength(64)
    expect(waits.slice(64).every((fate) => fate === 'neighbour-queue-full')).toBe(true)
    expect(limited(gateway, 'waiting-packets')).toBe(136)
    // The router's among them.
    expect(gateway.fate(LAN, udp(`${OTHER}:5000`, `${SERVER}:1`))).toBe('queued')
    expect(has(gateway, ONE, HOST.waiting)).toBe(384)
    // Nobody has answered: all are given up.
    gateway.requests()
    gateway.pass(6)
    expect([ONE, OTHER].map((host) => has(gateway, host, HOST.waiting))).toEqual([0, 0])
    expect(probe(gateway, ONE, 0)).toBe('queued')
  })

  it('count nothing any more when they have gone on', async () => {
    const gateway = await Gateway.start({ ...scan, limits: quotas({ 'waiting-packets': 384 }) })
    for (let port = 1; port <= 100; port++)
      expect(gateway.fate(LAN, udp(`${ONE}:5000`, `${SERVER}:${port}`))).toBe('queued')
    expect(has(gateway, ONE, HOST.waiting)).toBeGreaterThan(0)
    gateway.publish({ silent: [] })
    gateway.turn()
    expect(gateway.toWan()).toHaveLength(100)
    expect(has(gateway, ONE, HOST.waiting)).toBe(0)
  })

  it('of a shard that has crashed are lost, and counted no longer', async () => {
    const gateway = await Gateway.start({ ...scan, limits: quotas({ 'waiting-packets': 384 }) })
    probe(gateway, ONE, 1)
    await gateway.restart()
    gateway.turn()
    expect(has(gateway, ONE, HOST.waiting)).toBe(0)
  })
})

describe('helped connections of one host', () => {
  /** FTP, a control connection that has sent PORT; whether the announcement was rewritten. */
  async function announce(gateway: Gateway, port: number): Promise<{ readonly rewritten: boolean }> {
    const d = new Dialogue(gateway, { clientIsn: 1000, clientPort: 40_000 + port })
    d.tell(d.server, '220 ready\r\n')
    d.tell(d.client, `PORT 10,0,0,5,100,${port}\r\n`)
    return { rewritten: /PORT 203,/.test(d.server.received) }
  }
  const start = async (limits: Parameters<typeof quotas>[0]) => {
    const gateway = await Gateway.start({ limits: quotas(limits) })
    await gateway.help(BUILTIN.ftp!(), undefined, 'pass')
    return gateway
  }

  it('expect as many connections as the limit says', async () => {
    const gateway = await start({ expectations: 2 })
    for (let port = 1; port <= 2; port++) expect(await announce(gateway, port)).toEqual({ rewritten: true })
    expect(await announce(gateway, 3)).toEqual({ rewritten: false })
    expect(gateway.counter('expectationsRefused', EXPECT_REFUSED['host-limit'])).toBe(1)
    expect(limited(gateway, 'expectations')).toBe(1)
    expect(has(gateway, ONE, HOST.expectations)).toBe(2)
    // Their time is over: the coordinator ends them.
    gateway.pass(301)
    expect(has(gateway, ONE, HOST.expectations)).toBe(0)
    expect(await announce(gateway, 4)).toEqual({ rewritten: true })
    gateway.check()
  })

  it('whose count a crash has left too high or too low is made right by the coordinator', async () => {
    for (const off of [5, -1]) {
      const gateway = await start({ expectations: 2 })
      await announce(gateway, 1)
      const row = gateway.hosts.names.indexOf(parseAddress(ONE))
      gateway.hosts.counts[gateway.hosts.line(row, 0) + HOST.expectations]! += off
      await gateway.restart()
      gateway.turn()
      gateway.expectationGc.look()
      expect(has(gateway, ONE, HOST.expectations)).toBe(1)
    }
  })

  it('are edited as many as the limit says, also after a crash', async () => {
    const gateway = await start({ 'sequence-edits': 2 })
    for (let port = 1; port <= 2; port++) expect(await announce(gateway, port)).toEqual({ rewritten: true })
    expect(await announce(gateway, 3)).toEqual({ rewritten: false })
    expect(has(gateway, ONE, HOST.edits)).toBe(2)
    await gateway.restart()
    gateway.turn()
    expect(has(gateway, ONE, HOST.edits)).toBe(2)
    gateway.pass(7500)
    expect(has(gateway, ONE, HOST.edits)).toBe(0)
    gateway.check()
  })

  it('are read as many as the limit says, and none after a crash', async () => {
    const gateway = await start({ 'helped-connections': 2 })
    for (let port = 1; port <= 2; port++) expect(await announce(gateway, port)).toEqual({ rewritten: true })
    expect(await announce(gateway, 3)).toEqual({ rewritten: false })
    expect(has(gateway, ONE, HOST.helped)).toBe(2)
    expect(limited(gateway, 'helped-connections')).toBe(1)
    expect(gateway.counter('helperCutOffs', HELPER_CUT_OFFS.indexOf('host-limit'))).toBe(1)
    await gateway.restart()
    gateway.turn()
    for (const word of [HOST.helped, HOST.helpedBlocks, HOST.helpedPieces]) expect(has(gateway, ONE, word)).toBe(0)
    // What is left of them is read by nobody, so the next ones are.
    await gateway.help(BUILTIN.ftp!(), undefined, 'pass')
    expect(await announce(gateway, 4)).toEqual({ rewritten: true })
    expect(has(gateway, ONE, HOST.helped)).toBe(1)
    gateway.pass(7500)
    for (const word of [HOST.helped, HOST.helpedBlocks, HOST.helpedPieces]) expect(has(gateway, ONE, word)).toBe(0)
    gateway.check()
  })
})
