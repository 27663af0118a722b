// Segments that open nothing and belong to no connection. With random ports a connection can't be picked up in
// mid-stream: its sender inside had better know at once (RFC 9293 3.5.2), and outside nobody is told anything.

import { beforeEach, describe, expect, it } from 'vitest'
import { type FrameSpec, frame } from '../../../src/testing/builder.ts'
import { Gateway } from '../gateway.ts'
import { EXTERNAL, HOST, LAN, MAC, SERVER, WAN } from '../network.ts'
import { decode, fromOf, printed, tcpSegment } from '../packets.ts'

const FROM = `${HOST}:5000`
const TO = `${SERVER}:80`

function damaged(port: number, spec: FrameSpec): Uint8Array {
  const eth = port === LAN ? { src: MAC.host, dst: MAC.lan } : { src: MAC.server, dst: MAC.wan }
  const bytes = frame({ eth, ...spec })
  bytes[bytes.length - 1]! ^= 1
  return bytes
}

let gateway: Gateway
beforeEach(async () => {
  gateway = await Gateway.start()
})

describe('from inside, without a connection', () => {
  for (const flags of ['A', 'PA', 'FA', 'SA', 'AU'])
    it(`${flags}: a reset, as from the server, with the sequence number that was acknowledged`, () => {
      const segment = tcpSegment(FROM, TO, flags, { tcp: { seq: 1000, ack: 0xfedc_ba98 | 0 } })
      expect(gateway.fate(LAN, segment)).toBe('tcp-no-connection')
      expect(printed(gateway.toLan())).toEqual([
        'IP 192.0.2.7.80 > 10.0.0.5.5000: Flags [R], seq 4275878552, win 0, length 0',
      ])
      expect(gateway.counter('resetsSent')).toBe(1)
      expect(gateway.counter('connectionsInserted')).toBe(0)
    })

  for (const flags of ['R', 'RA'])
    it(`${flags}: no reset about a reset`, () => {
      expect(gateway.fate(LAN, tcpSegment(FROM, TO, flags))).toBe('tcp-no-connection')
      expect(gateway.toLan()).toEqual([])
    })

  it('no reset about a segment with a wrong checksum', () => {
    expect(gateway.fate(LAN, damaged(LAN, tcpSegment(FROM, TO, 'A', { payload: 'data' })))).toBe('tcp-checksum')
    expect(gateway.toLan()).toEqual([])
  })

  it('no reset about a first fragment, whose checksum is nobody to be judged yet', () => {
    const first = tcpSegment(FROM, TO, 'A', { ip: { moreFragments: true }, payload: new Uint8Array(12) })
    expect(gateway.fate(LAN, first)).toBe('tcp-no-connection')
    expect(gateway.toLan()).toEqual([])
  })

  it('no more resets than the rate limit allows', async () => {
    const limited = await Gateway.start({ icmpErrorsPerSecond: 1 })
    for (let port = 1; port <= 60; port++) limited.inside(tcpSegment(`${HOST}:${port}`, TO, 'A'))
    // Of the fifty that the bucket holds a quarter is left to other hosts.
    expect(limited.toLan()).toHaveLength(37)
    expect(limited.drops()).toEqual({ 'tcp-no-connection': 60 })
  })
})

describe('from outside, to the port of a mapping, without a connection', () => {
  const OTHER = '192.0.2.99:80'
  let external: string
  beforeEach(() => {
    external = fromOf(gateway.inside(tcpSegment(FROM, TO, 'S'))[0]!)
  })

  for (const flags of ['A', 'SA', 'FA', 'R'])
    it(`${flags}: dropped, no answer`, () => {
      expect(gateway.fate(WAN, tcpSegment(OTHER, external, flags))).toBe('tcp-no-connection')
      expect(gateway.toWan()).toEqual([])
    })

  it('a SYN: dropped, no answer', () => {
    expect(gateway.fate(WAN, tcpSegment(OTHER, external, 'S'))).toBe('filtered')
    expect(gateway.toWan()).toEqual([])
  })
})

describe('with a connection', () => {
  it('a segment that is invalid in its state is dropped, no answer', () => {
    const [sent] = gateway.inside(tcpSegment(FROM, TO, 'S'))
    const external = `${EXTERNAL}:${decode(sent!).sport}`
    expect(gateway.fate(LAN, tcpSegment(FROM, TO, 'A'))).toBe('tcp-state')
    expect(gateway.fate(LAN, tcpSegment(FROM, TO, 'SF'))).toBe('tcp-flags')
    expect(gateway.fate(WAN, tcpSegment(TO, external, 'FA'))).toBe('tcp-state')
    expect(gateway.toLan()).toEqual([])
    expect(gateway.toWan()).toEqual([])
  })

  for (const flags of ['FA', 'R', 'RA'])
    it(`${flags} with a wrong checksum closes nothing`, () => {
      const external = `${EXTERNAL}:${decode(gateway.inside(tcpSegment(FROM, TO, 'S'))[0]!).sport}`
      gateway.outside(tcpSegment(TO, external, 'SA'))
      gateway.inside(tcpSegment(FROM, TO, 'A'))
      expect(gateway.fate(WAN, damaged(WAN, tcpSegment(TO, external, flags, { payload: 'data' })))).toBe('tcp-checksum')
      expect(gateway.fate(LAN, tcpSegment(FROM, TO, 'A'))).toBe('sent')
      expect(gateway.counter('connections')).toBe(1)
    })
})
