// Time to live (RFC 1812 5.3.1) and Time Exceeded (4.3, 5.2.7.3; RFC 792): asked before anything is created, embedding
// the packet as received, from the address of the interface that it came by, and no more often than the rate limit
// allows.

import { beforeEach, describe, expect, it } from 'vitest'
import { frame } from '../../../src/testing/builder.ts'
import { Gateway } from '../gateway.ts'
import { EXTERNAL, HOST, LAN, MAC, SERVER, WAN } from '../network.ts'
import { decode, decodeIp, echo, fromOf, icmpError, printed, tcpSegment, udp } from '../packets.ts'

const EXCEEDED = 'IP 10.0.0.1 > 10.0.0.5: ICMP time exceeded in-transit'
const probe = (ttl: number, host = HOST) =>
  udp(`${host}:5000`, `${SERVER}:33434`, { ip: { ttl }, payload: 'traceroute' })

let gateway: Gateway
beforeEach(async () => {
  gateway = await Gateway.start()
})

describe('time to live', () => {
  it('falls by one', () => {
    for (const ttl of [255, 64, 3, 2]) expect(decode(gateway.inside(probe(ttl))[0]!).ttl).toBe(ttl - 1)
  })

  for (const ttl of [0, 1])
    it(`${ttl} from inside: dropped, the sender is told, nothing is created`, () => {
      expect(gateway.fate(LAN, probe(ttl))).toBe('ttl-expired')
      expect(printed(gateway.toLan())).toEqual([`${EXCEEDED}, length 46`])
      expect(gateway.counter('connectionsInserted', 1)).toBe(0)
      expect(gateway.counter('icmpErrorsSent', 0)).toBe(1)
    })

  it('runs out on an established flow, too, and changes nothing there', () => {
    gateway.inside(probe(64))
    expect(gateway.fate(LAN, probe(1))).toBe('ttl-expired')
    expect(printed(gateway.toLan())).toEqual([`${EXCEEDED}, length 46`])
  })

  it('from outside: the sender is told from the outside address, quoting what it sent', () => {
    const port = fromOf(gateway.inside(probe(64))[0]!)
    const answer = udp(`${SERVER}:33434`, port, { ip: { ttl: 1 } })
    expect(gateway.fate(WAN, answer)).toBe('ttl-expired')
    const [error] = gateway.toWan()
    expect(printed([error!])).toEqual(['IP 203.0.113.1 > 192.0.2.7: ICMP time exceeded in-transit, length 36'])
    expect(decodeIp(decode(error!).embedded)).toMatchObject({ src: SERVER, dst: EXTERNAL, ttl: 1 })
  })
})

describe('Time Exceeded', () => {
  const sentFor = (spec: Parameters<Gateway['inside']>[0]): Uint8Array[] => {
    gateway.inside(spec)
    return gateway.toLan()
  }

  it('embeds the packet as received, from its header on, and goes to the MAC address that it came from', () => {
    const bytes = frame({ eth: { src: '02:00:00:00:01:77', dst: MAC.lan }, ...probe(1) })
    const [error] = sentFor(bytes)
    expect(decode(error!).embedded).toEqual(bytes.subarray(14))
    expect([...error!.subarray(0, 6)]).toEqual([2, 0, 0, 0, 1, 0x77])
  })

  it('is at most 576 bytes long (RFC 1812 4.3.2.3)', () => {
    const [error] = sentFor(udp(`${HOST}:5000`, `${SERVER}:33434`, { ip: { ttl: 1 }, payload: new Uint8Array(1400) }))
    expect(decode(error!).length).toBe(576)
  })

  it('has a time to live of its own, internetwork control precedence, and is no fragment', () => {
    const [error] = sentFor(probe(1))
    expect(decode(error!)).toMatchObject({ ttl: 64, dontFragment: true, moreFragments: false, offset: 0 })
    expect(error![15]).toBe(0xc0)
  })

  const silent = [
    ['an ICMP error', icmpError(HOST, SERVER, frame(udp(`${SERVER}:9`, `${HOST}:9`)), { ip: { ttl: 1 } })],
    [
      'a later fragment',
      { ip: { src: HOST, dst: SERVER, ttl: 1, fragmentOffset: 1480 }, protocol: { number: 17 }, payload: 'x' },
    ],
    ['a packet to a group', udp(`${HOST}:5000`, '224.0.0.5:5000', { ip: { ttl: 1 } })],
    ['a packet to everybody', udp(`${HOST}:5000`, '255.255.255.255:5000', { ip: { ttl: 1 } })],
    ['a packet from a martian source', udp('198.51.100.1:5000', `${SERVER}:5000`, { ip: { ttl: 1 } })],
  ] as const
  for (const [what, spec] of silent)
    it(`is not sent about ${what}`, () => {
      expect(sentFor(spec)).toEqual([])
    })

  it('is sent about a first fragment, a ping and a TCP segment', () => {
    const first = { ip: { src: HOST, dst: SERVER, ttl: 1, moreFragments: true }, udp: { sport: 1, dport: 2 } }
    for (const spec of [
      { ...first, payload: new Uint8Array(8) },
      echo(HOST, SERVER, 1, { ip: { ttl: 1 } }),
      tcpSegment(`${HOST}:5000`, `${SERVER}:80`, 'S', { ip: { ttl: 1 } }),
    ])
      expect(sentFor(spec)).toHaveLength(1)
  })
})

describe('the rate limit of errors', () => {
  it('lets a burst of 50 through to several hosts, then as many as its rate allows, and counts the rest', async () => {
    const limited = await Gateway.start({ icmpErrorsPerSecond: 20 })
    const errors = (probes: number): number => {
      // One alone would leave the last quarter to others.
      for (let i = 0; i < probes; i++) limited.inside(probe(1, `10.0.0.${5 + (i % 5)}`))
      return limited.toLan().length
    }
    expect(errors(60)).toBe(50)
    expect(limited.counter('icmpErrorsSuppressed')).toBe(10)
    limited.pass(1)
    expect(errors(30)).toBe(20)
    limited.pass(3600)
    expect(errors(60)).toBe(50)
    expect(limited.drops()).toEqual({ 'ttl-expired': 150 })
  })
})
