// Fragments are bounded by count, bytes, time, host and source, and no record is kept of what is not to be carried:
// whatever one of them sends, the datagrams of others pass. Several shards: ../hosts.long.test.ts.

import { beforeEach, describe, expect, it } from 'vitest'
import { HOST as COUNTS } from '../../../src/conntrack/host-table.ts'
import { HOST_LIMIT } from '../../../src/counters/host-limits.ts'
import { fragments, frame } from '../../../src/testing/builder.ts'
import { parseAddress } from '../../../src/wire/address.ts'
import { Gateway } from '../gateway.ts'
import { quotas } from '../host-quotas.ts'
import { EXTERNAL, HOST, LAN, MAC, SERVER, WAN } from '../network.ts'
import { fromOf, udp } from '../packets.ts'

const OTHER = '10.0.0.6'
const BURST = 64
const ROOM = 512
const SHARE = 64
const RECORDS = 8192
/** Of one inside host, as its limit says; as many has one source outside. */
const OF_ONE = 1024
const LIMITS = { limits: quotas({ 'fragment-records': OF_ONE }) }
const ETH = { [LAN]: { src: MAC.host, dst: MAC.lan }, [WAN]: { src: MAC.server, dst: MAC.wan } } as const

const payload = new Uint8Array(120)
/** Three fragments of a datagram. */
const datagram = (from: string, to: string, id: number, port: 0 | 1 = LAN): Uint8Array[] =>
  fragments(frame({ eth: ETH[port], ...udp(from, to, { ip: { id } }), payload }), 48)

/** The same packet by another identification, its header checksum right. */
function withId(bytes: Uint8Array, id: number): Uint8Array {
  const copy = bytes.slice()
  const mem = new DataView(copy.buffer)
  const sum = (~mem.getUint16(24) & 0xffff) + (~mem.getUint16(18) & 0xffff) + id
  mem.setUint16(18, id)
  const folded = (sum & 0xffff) + (sum >>> 16)
  mem.setUint16(24, ~((folded & 0xffff) + (folded >>> 16)))
  return copy
}

let gateway: Gateway
beforeEach(async () => {
  gateway = await Gateway.start(LIMITS)
})

/** Records that count for an inside host. */
function recordsOf(host: string): number {
  const row = gateway.hosts.names.indexOf(parseAddress(host))
  return row < 0 ? 0 : gateway.hosts.sum(row, COUNTS.fragments)
}

/** The same packet by so many identifications. */
function flood(port: 0 | 1, bytes: Uint8Array, count: number): void {
  for (let id = 0; id < count; id += BURST)
    gateway.burst(
      port,
      Array.from({ length: BURST }, (_, i) => withId(bytes, id + i)),
    )
}

/** How many of 20 datagrams of another host pass whole, each with its first fragment last. */
function passing(): number {
  gateway.toWan()
  let whole = 0
  for (let id = 0; id < 20; id++) {
    const sent = [...datagram(`${OTHER}:6000`, `${SERVER}:53`, id)].reverse().flatMap((piece) => gateway.inside(piece))
    if (sent.length === 3) whole++
  }
  return whole
}

describe('no record is kept of', () => {
  it("8192 first fragments to a port of the host: they are the kernel's, and what follows them is too", () => {
    const [first, second] = datagram(`${SERVER}:53`, `${EXTERNAL}:4000`, 0, WAN) as [Uint8Array, Uint8Array]
    flood(WAN, first, RECORDS)
    expect([gateway.counter('notOurs', WAN), gateway.drops()]).toEqual([RECORDS, {}])
    expect(gateway.fate(WAN, withId(second, RECORDS - 1))).toBe('not-ours')
    expect(passing()).toBe(20)
  })

  it('8192 first fragments that nobody has asked for: they are dropped, and so is what follows them', () => {
    const external = fromOf(gateway.inside(udp(`${HOST}:5000`, `${SERVER}:53`))[0]!)
    const [first, second] = datagram('192.0.2.99:53', external, 0, WAN) as [Uint8Array, Uint8Array]
    flood(WAN, first, RECORDS)
    expect(gateway.drops()).toEqual({ filtered: RECORDS })
    expect(gateway.fate(WAN, withId(second, RECORDS - 1))).toBe('fragment-orphan')
    expect(passing()).toBe(20)
  })

  it("later fragments to an address inside, to no address of NAT's, and from a source that is not there", () => {
    const later = (from: string, to: string, port: 0 | 1) => datagram(`${from}:1`, `${to}:2`, 1, port)[1]!
    expect(gateway.fate(LAN, later(HOST, '10.0.0.1', LAN))).toBe('not-ours')
    expect(gateway.fate(LAN, later(HOST, '10.0.0.9', LAN))).toBe('not-ours')
    expect(gateway.fate(LAN, later('192.0.2.1', SERVER, LAN))).toBe('martian-source')
    expect(gateway.fate(WAN, later(SERVER, '10.0.0.9', WAN))).toBe('no-mapping')
    expect(gateway.counter('fragmentsWaiting')).toBe(0)
  })
})

describe('one source that sends', () => {
  it('first fragments without an end has as many records as its limit says, and none when their time is over', () => {
    flood(LAN, datagram(`${HOST}:5000`, `${SERVER}:53`, 0)[0]!, 2 * RECORDS)
    expect(gateway.toWan()).toHaveLength(2 * RECORDS)
    expect(recordsOf(HOST)).toBe(OF_ONE)
    expect(gateway.counter('hostsLimited', HOST_LIMIT['fragment-records'])).toBe(2 * RECORDS - OF_ONE)
    expect(passing()).toBe(20)
    expect(recordsOf(OTHER)).toBe(0)
    // Its own newest ones are those that still have a record.
    const [, second] = datagram(`${HOST}:5000`, `${SERVER}:53`, 0)
    expect(gateway.fate(LAN, withId(second!, 2 * RECORDS - 1))).toBe('sent')
    expect(gateway.fate(LAN, withId(second!, 2 * RECORDS - OF_ONE - 1))).toBe('waiting')
    gateway.pass(32)
    expect(recordsOf(HOST)).toBe(0)
    flood(LAN, datagram(`${HOST}:5000`, `${SERVER}:53`, 0)[0]!, OF_ONE)
    expect(recordsOf(HOST)).toBe(OF_ONE)
  })

  it('with a limit of none has its first fragments sent and nothing kept, and others are followed', async () => {
    gateway = await Gateway.start({ limits: quotas({}, [`${HOST}/32`, { 'fragment-records': 0 }]) })
    const [first, second, last] = datagram(`${HOST}:5000`, `${SERVER}:53`, 7) as [Uint8Array, Uint8Array, Uint8Array]
    const fates = [first, second, last].map((piece) => gateway.fate(LAN, piece))
    expect(fates).toEqual(['sent', 'fragment-orphan', 'fragment-orphan'])
    const another = datagram(`${HOST}:5000`, `${SERVER}:53`, 8)
    expect(gateway.fate(LAN, another[1]!)).toBe('fragment-table-full')
    expect(gateway.counter('fragmentsWaiting')).toBe(0)
    expect(passing()).toBe(20)
  })

  it('first fragments without an end from outside has an eighth of the records, and no host is counted for it', () => {
    const external = fromOf(gateway.inside(udp(`${HOST}:5000`, `${SERVER}:53`))[0]!)
    flood(WAN, datagram(`${SERVER}:53`, external, 0, WAN)[0]!, 2 * RECORDS)
    expect(gateway.drops()).toEqual({})
    expect(recordsOf(HOST)).toBe(0)
    expect(passing()).toBe(20)
    const [, second] = datagram(`${SERVER}:53`, external, 0, WAN)
    expect(gateway.fate(WAN, withId(second!, 2 * RECORDS - 1))).toBe('sent')
    expect(gateway.fate(WAN, withId(second!, 2 * RECORDS - OF_ONE - 1))).toBe('waiting')
  })

  it('later fragments without a first one has an eighth of the room, for the newest of them', () => {
    const [first, second] = datagram(`${HOST}:5000`, `${SERVER}:53`, 0) as [Uint8Array, Uint8Array]
    flood(LAN, second, 2048)
    expect(gateway.counter('fragmentsWaiting')).toBe(SHARE)
    expect(gateway.drops()).toEqual({ 'fragment-table-full': 2048 - SHARE })
    expect(passing()).toBe(20)
    expect(gateway.inside(withId(first, 2047))).toHaveLength(2)
    expect(gateway.inside(withId(first, 2047 - SHARE))).toHaveLength(1)
  })

  it('one datagram in pieces of 8 bytes has no more either', () => {
    const tiny = fragments(
      frame({ eth: ETH[LAN], ...udp(`${HOST}:1`, `${SERVER}:2`), payload: new Uint8Array(800) }),
      8,
    )
    for (const piece of [...tiny].reverse()) gateway.inside(piece)
    expect(gateway.counter('fragmentsWaiting')).toBe(0)
    expect(gateway.drops()).toEqual({ 'fragment-table-full': tiny.length - 1 - SHARE })
  })
})

describe('what waits', () => {
  it('from many sources makes room for the newest, the oldest first', () => {
    const from = (n: number): string => `198.18.${n >> 8}.${n & 255}:53`
    const pieces = (n: number) => datagram(from(n), `${EXTERNAL}:20000`, 1, WAN)
    for (let n = 1; n <= 1000; n++) gateway.outside(pieces(n)[1]!)
    expect(gateway.counter('fragmentsWaiting')).toBe(ROOM)
    expect(gateway.drops()).toEqual({ 'fragment-table-full': 1000 - ROOM })
    expect(passing()).toBe(20)
  })

  it('is given back when its time is over, and leaves as much room as before', () => {
    flood(LAN, datagram(`${HOST}:5000`, `${SERVER}:53`, 0)[1]!, 256)
    gateway.pass(32)
    expect(gateway.counter('fragmentsWaiting')).toBe(0)
    expect(gateway.drops()).toEqual({ 'fragment-table-full': 256 - SHARE, 'fragment-orphan': SHARE })
    flood(LAN, datagram(`${HOST}:5000`, `${SERVER}:53`, 0)[1]!, 64)
    expect(gateway.counter('fragmentsWaiting')).toBe(SHARE)
  })

  it('may be larger than a page, and goes on as it came', () => {
    const whole = frame({
      eth: ETH[LAN],
      ...udp(`${HOST}:5000`, `${SERVER}:53`),
      payload: new Uint8Array(30_000).fill(7),
    })
    gateway.publish({ wanMtu: 9000 })
    const pieces = fragments(whole, 8960)
    const sent = [...pieces].reverse().flatMap((piece) => gateway.inside(piece))
    expect(sent.map((piece) => piece.length).sort()).toEqual(pieces.map((piece) => piece.length).sort())
    expect(gateway.drops()).toEqual({})
  })

  it('is lost with the thread, and what comes after it is not', async () => {
    const [first, second, last] = datagram(`${HOST}:5000`, `${SERVER}:53`, 7) as [Uint8Array, Uint8Array, Uint8Array]
    gateway.inside(last)
    expect(gateway.counter('fragmentsWaiting')).toBe(1)
    expect(recordsOf(HOST)).toBe(1)
    await gateway.restart()
    gateway.turn()
    expect(gateway.counter('fragmentsWaiting')).toBe(0)
    expect(recordsOf(HOST)).toBe(0)
    expect(gateway.fate(LAN, first)).toBe('sent')
    expect(gateway.fate(LAN, second)).toBe('sent')
    gateway.check()
  })

  it("goes on with its first fragment when that one's next hop has answered, once", () => {
    gateway.publish({ silent: ['203.0.113.254'] })
    const [first, second, last] = datagram(`${HOST}:5000`, `${SERVER}:53`, 7) as [Uint8Array, Uint8Array, Uint8Array]
    for (const piece of [last, first, second]) gateway.inside(piece)
    expect([gateway.fate(LAN, second), gateway.toWan()]).toEqual(['fragment-duplicate', []])
    gateway.publish({ silent: [] })
    gateway.turn()
    expect(gateway.toWan()).toHaveLength(3)
    expect(gateway.drops()).toEqual({ 'fragment-duplicate': 1 })
  })
})
