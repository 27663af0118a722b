// Next hops that haven't answered ARP yet: packets wait, copied out as received, and go on in order, or their senders
// are told (RFC 1812 4.3.3.1). The kernel does the asking.

import { beforeEach, describe, expect, it } from 'vitest'
import { fragments, frame } from '../../../src/testing/builder.ts'
import { Gateway } from '../gateway.ts'
import { HOST, LAN, MAC, ROUTER, route, SERVER, WAN } from '../network.ts'
import { decode, fromOf, icmpError, printed, tcpSegment, udp } from '../packets.ts'

const packet = (port: number) => udp(`${HOST}:5000`, `${SERVER}:${port}`, { payload: 'payload' })

/** A frame of 1460 bytes, and what waiting takes of memory for it. */
const LARGE = 1400
const TAKEN = LARGE + 42 + 18

/** Sends to one next hop until something is refused; how many wait. */
function flood(address: string): number {
  const [target, payload] = [address === ROUTER ? SERVER : address, new Uint8Array(LARGE)]
  for (let waited = 0; ; waited++) {
    const fate = gateway.fate(LAN, udp(`${HOST}:5000`, `${target}:1`, { payload }))
    if (fate !== 'queued') return waited
  }
}

/** Neighbours answer, but for these; the ports that then are sent to. */
function resolved(silent: readonly string[]): number[] {
  gateway.publish({ silent })
  gateway.turn()
  return gateway.toWan().map((frame) => decode(frame).dport)
}

/** The address of the i-th host of a network that somebody scans. */
const scanned = (i: number): string => `198.51.${Math.floor(i / 200)}.${(i % 200) + 1}`

let gateway: Gateway
beforeEach(async () => {
  gateway = await Gateway.start({ silent: [ROUTER, '203.0.113.9'] })
})

describe('an unknown next hop', () => {
  it('is asked for once, and the packets wait', () => {
    for (const port of [1, 2, 3]) expect(gateway.fate(LAN, packet(port))).toBe('queued')
    expect(gateway.requests()).toEqual([ROUTER])
    expect(gateway.wakes).toBe(1)
    expect(gateway.drops()).toEqual({})
  })

  it('answers: the packets go on in order, and are counted once', () => {
    for (const port of [1, 2, 3]) gateway.inside(packet(port))
    gateway.publish({ silent: [] })
    gateway.turn()
    const sent = gateway.toWan()
    expect(sent.map((frame) => decode(frame).dport)).toEqual([1, 2, 3])
    expect(gateway.counter('receivedPackets', LAN)).toBe(3)
    expect(gateway.counter('sentPackets', WAN)).toBe(3)
    expect(gateway.inside(packet(4))).toHaveLength(1)
    gateway.check()
  })

  it('has answered: what comes next does not wait', () => {
    gateway.inside(packet(1))
    gateway.publish({ silent: [] })
    gateway.turn()
    gateway.toWan()
    expect(gateway.fate(LAN, packet(2))).toBe('sent')
  })

  it('lets a burst of 500 packets wait, and all of them go on in order', () => {
    const ports = Array.from({ length: 500 }, (_, i) => i + 1)
    for (const port of ports) expect(gateway.fate(LAN, packet(port))).toBe('queued')
    expect(resolved([])).toEqual(ports)
    expect(gateway.drops()).toEqual({})
    gateway.check()
  })

  it('lets as many bytes wait as Linux keeps, 212,992, and no more', () => {
    const waited = flood(ROUTER)
    expect(waited * TAKEN).toBeLessThanOrEqual(212_992)
    expect((waited + 1) * TAKEN).toBeGreaterThan(212_992)
    expect(gateway.drops()).toEqual({ 'neighbour-queue-full': 1 })
    expect(resolved([])).toHaveLength(waited)
    // All of the room is free again.
    gateway.publish({ silent: [ROUTER] })
    expect(flood(ROUTER)).toBe(waited)
  })

  it('may be waited for whole however many others are flooded, and they leave something to each other', async () => {
    gateway = await Gateway.start({ routes: [route('198.51.0.0', 16, { port: WAN })] })
    const waited = Array.from({ length: 256 }, (_, i) => flood(scanned(i)))
    expect(waited[5]).toBe(waited[0])
    expect(Math.min(...waited)).toBeGreaterThanOrEqual(2)
    // Three megabytes in all, of which a half may be lost to what doesn't fit a page.
    const bytes = waited.reduce((sum, packets) => sum + packets * TAKEN, 0)
    expect(bytes).toBeLessThanOrEqual(3 << 20)
    expect(bytes).toBeGreaterThan(1.5 * 2 ** 20)
    // Those that wait are given up, and the room is there for the next ones.
    gateway.requests()
    gateway.pass(6)
    expect(flood(scanned(0))).toBe(waited[0])
  })

  it('lets super-packets wait, of any size', () => {
    const large = udp(`${HOST}:5000`, `${SERVER}:1`, { payload: new Uint8Array(60_000) })
    for (let i = 0; i < 3; i++) expect(gateway.fate(LAN, large)).toBe('queued')
    expect(gateway.fate(LAN, large)).toBe('neighbour-queue-full')
    expect(gateway.fate(LAN, packet(1))).toBe('queued')
  })

  it('is a matter of its own for each next hop', () => {
    gateway.inside(packet(1))
    gateway.inside(udp(`${HOST}:5000`, '203.0.113.9:2'))
    expect(gateway.requests()).toEqual([ROUTER, '203.0.113.9'])
    gateway.publish({ silent: [ROUTER] })
    gateway.turn()
    expect(gateway.toWan().map((frame) => decode(frame).dport)).toEqual([2])
  })

  it('refuses a 257th next hop: somebody scans', async () => {
    gateway = await Gateway.start({ routes: [route('198.51.0.0', 16, { port: WAN })] })
    const probe = (i: number): string => gateway.fate(LAN, udp(`${HOST}:5000`, `${scanned(i)}:1`))
    for (let i = 0; i < 256; i++) expect(probe(i)).toBe('queued')
    expect(gateway.requests()).toHaveLength(256)
    expect(probe(256)).toBe('neighbour-queue-full')
    expect(probe(0)).toBe('queued')
  })
})

describe('a next hop that does not answer', () => {
  const unreachable = 'IP 10.0.0.1 > 10.0.0.5: ICMP host 192.0.2.7 unreachable, length 43'

  it('fails after the kernel was seen asking: the senders are told at once, ICMP 3/1', () => {
    for (const port of [1, 2]) gateway.inside(packet(port))
    gateway.publish({ pending: [ROUTER] })
    gateway.turn()
    expect(gateway.toLan()).toEqual([])
    gateway.publish({ pending: [], failed: [ROUTER] })
    gateway.turn()
    expect(printed(gateway.toLan())).toEqual([unreachable, unreachable])
    expect(gateway.drops()).toEqual({ 'neighbour-unreachable': 2 })
    expect(gateway.toWan()).toEqual([])
  })

  it('has failed before: the packets wait for the new answer', () => {
    gateway.publish({ failed: [ROUTER] })
    expect(gateway.fate(LAN, packet(1))).toBe('queued')
    gateway.pass(1)
    expect(gateway.drops()).toEqual({})
    gateway.publish({ failed: [], silent: [] })
    gateway.turn()
    expect(gateway.toWan()).toHaveLength(1)
  })

  it('is given up after five seconds, whatever the kernel says', () => {
    gateway.inside(packet(1))
    gateway.pass(4)
    expect(gateway.toLan()).toEqual([])
    gateway.pass(2)
    expect(printed(gateway.toLan())).toEqual([unreachable])
    gateway.check()
  })

  it('may be asked for again', () => {
    gateway.inside(packet(1))
    gateway.pass(6)
    gateway.requests()
    expect(gateway.fate(LAN, packet(2))).toBe('queued')
    expect(gateway.requests()).toEqual([ROUTER])
  })
})

describe('on the way in', () => {
  it('answers wait for the inside host, too, and so do errors', () => {
    gateway.publish({ silent: [] })
    const [sent] = gateway.inside(packet(1))
    gateway.publish({ silent: [HOST] })
    expect(gateway.fate(WAN, udp(`${SERVER}:1`, fromOf(sent!)))).toBe('queued')
    expect(gateway.fate(WAN, icmpError(SERVER, decode(sent!).src, sent!))).toBe('queued')
    expect(gateway.requests()).toEqual([HOST])
    gateway.publish({ silent: [] })
    gateway.turn()
    expect(gateway.toLan().map((frame) => decode(frame).protocol)).toEqual([17, 1])
  })
})

describe('what waits in vain and is never answered (RFC 1122 3.2.2)', () => {
  it('an ICMP error', () => {
    gateway.publish({ silent: [] })
    const [sent] = gateway.inside(packet(1))
    gateway.publish({ silent: [HOST] })
    expect(gateway.fate(WAN, icmpError(SERVER, decode(sent!).src, sent!))).toBe('queued')
    gateway.pass(6)
    expect(gateway.drops()).toEqual({ 'neighbour-unreachable': 1 })
    expect(gateway.toWan()).toEqual([])
  })

  it('a later fragment', () => {
    const whole = frame({ eth: { src: MAC.host, dst: MAC.lan }, ...packet(1), payload: new Uint8Array(100) })
    for (const piece of fragments(whole, 64)) expect(gateway.fate(LAN, piece)).toBe('queued')
    gateway.pass(6)
    expect(gateway.toLan()).toHaveLength(1)
    expect(gateway.drops()).toEqual({ 'neighbour-unreachable': 2 })
  })
})

describe('a link that is down', () => {
  it('drops with a reason of its own', () => {
    gateway.publish({ silent: [], down: [WAN] })
    expect(gateway.fate(LAN, tcpSegment(`${HOST}:5000`, `${SERVER}:80`, 'S'))).toBe('link-down')
    gateway.publish({ down: [] })
    expect(gateway.fate(LAN, tcpSegment(`${HOST}:5000`, `${SERVER}:80`, 'S'))).toBe('sent')
  })

  it('answers and errors alike', () => {
    gateway.publish({ silent: [] })
    const [sent] = gateway.inside(packet(1))
    gateway.publish({ down: [LAN] })
    expect(gateway.fate(WAN, udp(`${SERVER}:1`, fromOf(sent!)))).toBe('link-down')
    expect(gateway.fate(WAN, icmpError(SERVER, decode(sent!).src, sent!))).toBe('link-down')
  })
})
