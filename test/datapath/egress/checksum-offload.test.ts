// What the virtio-net header says (virtio 1.2, 5.1.6): super-packets of many segments, checksums still to be computed,
// checksums already verified. All of it passes through a rewrite.

import { beforeEach, describe, expect, it } from 'vitest'
import { frame } from '../../../src/testing/builder.ts'
import * as virtio from '../../../src/wire/virtio-net.ts'
import { Gateway } from '../gateway.ts'
import { EXTERNAL, HOST, LAN, SERVER, WAN } from '../network.ts'
import { decode, fromOf, printed, tcpSegment, udp, viewOf } from '../packets.ts'

const FROM = `${HOST}:5000`
const TO = `${SERVER}:80`
const FRAME = 10
const DATA_VALID = Uint8Array.of(virtio.DATA_VALID, 0, 0, 0, 0, 0, 0, 0, 0, 0)

let gateway: Gateway
let external: string
beforeEach(async () => {
  gateway = await Gateway.start({ wanMtu: 1400 })
  external = fromOf(gateway.inside(tcpSegment(FROM, TO, 'S'))[0]!)
  gateway.outside(tcpSegment(TO, external, 'SA'))
  gateway.inside(tcpSegment(FROM, TO, 'A'))
})

/** What left for outside, virtio-net header first: the gateway has verified the partial sum. */
function sent(): { header: DataView; packet: ReturnType<typeof decode> } {
  const [whole] = gateway.toWanWithHeaders()
  return { header: viewOf(whole!), packet: decode(whole!.subarray(FRAME)) }
}

const superPacket = (size: number, dontFragment = false, payload = 20_000) =>
  tcpSegment(FROM, TO, 'PA', { payload: new Uint8Array(payload), gso: { size }, ip: { dontFragment } })

describe('a TCP super-packet', () => {
  it('goes through whole if its segments fit', () => {
    gateway.burst(LAN, [superPacket(1360)])
    const { header, packet } = sent()
    expect(packet).toMatchObject({ src: EXTERNAL, length: 20_040 })
    expect(virtio.gsoType(header, FRAME)).toBe(virtio.GSO_TCPV4)
    expect(virtio.gsoSize(header, FRAME)).toBe(1360)
    expect(virtio.needsChecksum(header, FRAME)).toBe(true)
  })

  it('gets smaller segments if it may be fragmented', () => {
    gateway.burst(LAN, [superPacket(1361)])
    const { header, packet } = sent()
    expect(packet.length).toBe(20_040)
    expect(virtio.gsoSize(header, FRAME)).toBe(1360)
  })

  it("with don't fragment, the sender is told the MTU", () => {
    expect(gateway.fate(LAN, superPacket(1361, true))).toBe('too-big')
    expect(decode(gateway.toLan()[0]!)).toMatchObject({ type: 3, code: 4, mtu: 1400 })
    expect(gateway.fate(LAN, superPacket(1360, true))).toBe('sent')
  })

  it('is refused by a link that its headers alone would fill', async () => {
    const tiny = await Gateway.start({ wanMtu: 68 })
    const options = Uint8Array.from({ length: 32 }, () => 1)
    const syn = (more: object) => tcpSegment(FROM, TO, 'S', { ip: { options }, tcp: { options }, ...more })
    expect(tiny.fate(LAN, syn({ gso: { size: 500 }, payload: new Uint8Array(2000) }))).toBe('too-big')
  })

  it('is measured by what it is, if that is less than a segment', () => {
    expect(gateway.fate(LAN, superPacket(9000, true, 1000))).toBe('sent')
  })

  it('counts its bytes once', () => {
    const before = gateway.counter('sentBytes', WAN)
    gateway.inside(superPacket(1360))
    expect(gateway.counter('sentBytes', WAN) - before).toBe(20_040)
  })
})

describe('a UDP super-packet', () => {
  const datagrams = (size: number) => udp(FROM, TO, { payload: new Uint8Array(9000), gso: { size } })

  it('goes through whole if its datagrams fit', () => {
    gateway.burst(LAN, [datagrams(1372)])
    const { header, packet } = sent()
    expect(packet.length).toBe(9028)
    expect(virtio.gsoType(header, FRAME)).toBe(virtio.GSO_UDP_L4)
  })

  it('is not cut: the number of datagrams is not ours to change', () => {
    expect(gateway.fate(LAN, datagrams(1373))).toBe('too-big')
  })
})

describe('a partial checksum', () => {
  for (const [what, spec] of [
    ['TCP', tcpSegment(FROM, TO, 'PA', { payload: 'data', partialChecksum: true })],
    ['a SYN', tcpSegment(`${HOST}:5001`, TO, 'S', { partialChecksum: true })],
    ['UDP', udp(FROM, TO, { payload: 'data', partialChecksum: true })],
  ] as const)
    it(`${what}: the sum of the new addresses, the rest is still owed`, () => {
      gateway.burst(LAN, [spec])
      expect(virtio.needsChecksum(sent().header, FRAME)).toBe(true)
    })

  it('on the way back, too', () => {
    gateway.outside(tcpSegment(TO, external, 'PA', { payload: 'data', partialChecksum: true }))
    expect(gateway.drops()).toEqual({})
  })

  it('of a FIN is nobody to be judged', () => {
    expect(gateway.fate(LAN, tcpSegment(FROM, TO, 'FA', { partialChecksum: true }))).toBe('sent')
  })
})

describe('a checksum that somebody has verified', () => {
  const wrong = (spec: Parameters<typeof frame>[0]): Uint8Array => {
    const bytes = frame({ eth: { src: '02:00:00:00:01:05', dst: '02:00:00:00:01:01' }, ...spec })
    bytes[bytes.length - 1]! ^= 1
    return bytes
  }
  const packets = [
    ['a first datagram', 'udp-checksum', udp(`${HOST}:5002`, TO, { payload: 'data' })],
    ['a SYN', 'tcp-checksum', tcpSegment(`${HOST}:5003`, TO, 'S', { payload: 'data' })],
    ['a FIN', 'tcp-checksum', tcpSegment(FROM, TO, 'FA', { payload: 'data' })],
    ['a ping', 'icmp-checksum', { ip: { src: HOST, dst: SERVER }, icmp: { type: 8, id: 1 }, payload: 'data' }],
  ] as const
  for (const [what, reason, spec] of packets)
    it(`${what}: DATA_VALID is believed, without it the reason is ${reason}`, () => {
      gateway.verifiesTransport = false
      const bytes = wrong(spec)
      expect(gateway.fate(LAN, bytes)).toBe(reason)
      expect(gateway.fate(LAN, bytes, DATA_VALID)).toBe('sent')
    })
})

describe('a checksum that is wrong', () => {
  it('in the middle of a flow stays wrong: the receiver sees', () => {
    gateway.verifiesTransport = false
    const bytes = frame({
      eth: { src: '02:00:00:00:01:05', dst: '02:00:00:00:01:01' },
      ...udp(FROM, TO, { payload: 'data' }),
    })
    gateway.inside(bytes)
    const damaged = bytes.slice()
    damaged[damaged.length - 1]! ^= 1
    const [right] = gateway.inside(bytes)
    const [wrong] = gateway.inside(damaged)
    expect(viewOf(wrong!).getUint16(40)).toBe(viewOf(right!).getUint16(40))
    expect(wrong!.at(-1)).not.toBe(right!.at(-1))
  })

  it('none at all in UDP stays none', () => {
    const [out] = gateway.inside(udp(FROM, TO, { payload: 'data', checksum: 'none' }))
    expect(viewOf(out!).getUint16(40)).toBe(0)
    const [back] = gateway.outside(udp(TO, fromOf(out!), { payload: 'data', checksum: 'none' }))
    expect(viewOf(back!).getUint16(40)).toBe(0)
    expect(printed([back!])).toEqual(['IP 192.0.2.7.80 > 10.0.0.5.5000: UDP, length 4'])
  })
})
