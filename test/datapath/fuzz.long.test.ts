// Whatever arrives: nothing throws, nothing outside a frame is written (canaries.ts, asked with every frame taken),
// every packet ends as sent, dropped, not ours or queued, and the tables fit together (consistency.ts).

import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { DROP_REASONS } from '../../src/counters/drop-reasons.ts'
import { type FrameSpec, fragments, frame } from '../../src/testing/builder.ts'
import * as ipv4 from '../../src/wire/ipv4.ts'
import { anySpec } from '../wire/arbitraries.ts'
import { Gateway } from './gateway.ts'
import { EXTERNAL, HOST, LAN, MAC, SERVER, WAN } from './network.ts'
import { echo, icmpError, tcpSegment, udp, viewOf } from './packets.ts'

const IP = 14
const MACS = [
  { src: MAC.host, dst: MAC.lan },
  { src: MAC.server, dst: MAC.wan },
] as const

interface Arrival {
  readonly port: number
  readonly bytes: Uint8Array
  readonly virtio: Uint8Array
}

let gateway: Gateway
/** External ends of an established TCP connection and of a UDP flow, to be hit by what comes from outside. */
let tcpEnd: string
let udpEnd: string

const at = (port: number, spec: FrameSpec): Uint8Array => frame({ eth: MACS[port]!, ...spec })

function open(): void {
  const syn = gateway.inside(tcpSegment(`${HOST}:5000`, `${SERVER}:80`, 'S'))
  const datagram = gateway.inside(udp(`${HOST}:5000`, `${SERVER}:80`))
  tcpEnd = fromEnd(syn)
  udpEnd = fromEnd(datagram)
  gateway.outside(tcpSegment(`${SERVER}:80`, tcpEnd, 'SA'))
  gateway.inside(tcpSegment(`${HOST}:5000`, `${SERVER}:80`, 'A'))
}

const fromEnd = ([sent]: Uint8Array[]): string => {
  const mem = viewOf(sent!)
  return `${EXTERNAL}:${mem.getUint16(IP + ipv4.headerLen(mem, IP))}`
}

/** Packets that get far. */
function valid(): fc.Arbitrary<{ port: number; bytes: Uint8Array }> {
  const flags = fc.constantFrom('S', 'SA', 'A', 'PA', 'FA', 'R', 'RA')
  const inside = fc
    .tuple(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 0, max: 3 }), flags, fc.nat(80))
    .map(([port, kind, letters, length]) => {
      const payload = new Uint8Array(length)
      const from = `${HOST}:${4980 + port}`
      if (kind === 0) return tcpSegment(from, `${SERVER}:80`, letters, { payload })
      if (kind === 1) return udp(from, `${SERVER}:80`, { payload })
      if (kind === 2) return echo(HOST, SERVER, port, { payload })
      return { ip: { src: HOST, dst: SERVER }, protocol: { number: 47 }, payload }
    })
    .map((spec) => ({ port: LAN, bytes: at(LAN, spec) }))
  const outside = fc.tuple(fc.integer({ min: 0, max: 3 }), flags, fc.nat(80)).map(([kind, letters, length]) => {
    const payload = new Uint8Array(length)
    const specs = [
      tcpSegment(`${SERVER}:80`, tcpEnd, letters, { payload }),
      udp(`${SERVER}:80`, udpEnd, { payload }),
      udp(`${SERVER}:81`, udpEnd, { payload }),
      icmpError('198.51.100.1', EXTERNAL, at(LAN, udp(udpEnd, `${SERVER}:80`))),
    ]
    return { port: WAN, bytes: at(WAN, specs[kind]!) }
  })
  const piece = fc.tuple(fc.nat(1), fc.integer({ min: 0, max: 3 }), fc.nat(2)).map(([port, id, which]) => {
    const spec = port === LAN ? udp(`${HOST}:5000`, `${SERVER}:80`) : udp(`${SERVER}:80`, udpEnd)
    const whole = at(port, { ...spec, ip: { ...spec.ip, id }, payload: new Uint8Array(100) })
    return { port, bytes: fragments(whole, 40)[which]! }
  })
  const anything = fc.tuple(fc.nat(1), anySpec()).map(([port, spec]) => ({ port, bytes: at(port, spec) }))
  return fc.oneof(inside, outside, piece, anything)
}

type Overwrite = readonly [at: number, value: number]

/** A valid packet, or one with bytes overwritten, its end cut off, and mostly with a header checksum that is right. */
function arrival(): fc.Arbitrary<Arrival> {
  const byte = fc.integer({ min: 0, max: 255 })
  const overwrites: fc.Arbitrary<Overwrite[]> = fc.array(fc.tuple(fc.integer({ min: 12, max: 90 }), byte), {
    maxLength: 3,
  })
  const virtio = fc.oneof(
    { weight: 4, arbitrary: fc.constant(new Uint8Array(10)) },
    { weight: 1, arbitrary: fc.uint8Array({ minLength: 10, maxLength: 10 }) },
  )
  const damaged = fc
    .tuple(valid(), overwrites, fc.option(fc.nat(150)), fc.boolean(), virtio)
    .map(([{ port, bytes }, changes, cut, repaired, header]) => {
      const left = bytes.slice(0, cut === null ? bytes.length : Math.min(cut, bytes.length))
      for (const [where, value] of changes) if (where < left.length) left[where] = value
      if (repaired) repair(left)
      return { port, bytes: left, virtio: header }
    })
  const noise = fc
    .tuple(fc.nat(1), fc.uint8Array({ maxLength: 120 }))
    .map(([port, bytes]) => ({ port, bytes, virtio: new Uint8Array(10) }))
  return fc.oneof({ weight: 9, arbitrary: damaged }, { weight: 1, arbitrary: noise })
}

/** Lengths and header checksum right again, so that what is broken is further in. */
function repair(bytes: Uint8Array): void {
  if (bytes.length < IP + 20) return
  const mem = viewOf(bytes)
  ipv4.setTotalLength(mem, IP, bytes.length - IP)
  if (ipv4.headerLen(mem, IP) <= bytes.length - IP) ipv4.writeChecksum(mem, IP)
}

const sides = [0, 1]
const sumOver = (cells: readonly number[], key: Parameters<Gateway['counter']>[0]): number =>
  cells.reduce((sum, cell) => sum + gateway.counter(key, cell), 0)

/** Packets received, and what became of them by the counters. */
function balance(): { received: number; ended: number } {
  const answers = sumOver([0, 1, 2, 3, 4, 5], 'icmpErrorsSent') + gateway.counter('resetsSent')
  const drops = sumOver([...DROP_REASONS.keys()], 'drops')
  const sent = sumOver(sides, 'sentPackets') - answers
  return {
    received: sumOver(sides, 'receivedPackets'),
    ended:
      sent + drops + sumOver(sides, 'notOurs') + sumOver(sides, 'neighbourWaits') + gateway.counter('fragmentsWaiting'),
  }
}

function arrive(arrivals: readonly Arrival[]): void {
  for (const { port, bytes, virtio } of arrivals) gateway.driver.inject(port, bytes, virtio)
  gateway.turn()
  gateway.toLan()
  gateway.toWan()
}

describe('any bytes', () => {
  beforeAll(async () => {
    gateway = await Gateway.start({ nat: { protocols: [47] }, connections: 64, silent: ['203.0.113.9'] })
    // Damaged packets stay damaged where nobody but the receiver may judge.
    gateway.verifiesTransport = false
    open()
  })

  it('end as sent, drop, not-ours or queued, and leave the tables right', () => {
    fc.assert(
      fc.property(fc.array(arrival(), { minLength: 1, maxLength: 12 }), fc.nat(120), (arrivals, seconds) => {
        arrive(arrivals)
        const { received, ended } = balance()
        expect(ended).toBe(received)
        gateway.check()
        gateway.pass(seconds)
        gateway.check()
      }),
      { numRuns: 250, endOnFailure: true },
    )
  })

  it('have met most reasons to be dropped', () => {
    expect(Object.keys(gateway.drops()).length).toBeGreaterThan(12)
    expect(sumOver(sides, 'sentPackets')).toBeGreaterThan(100)
  })
})

describe('any bytes where links are small', () => {
  beforeAll(async () => {
    gateway = await Gateway.start({ wanMtu: 68, lanMtu: 80 })
    gateway.verifiesTransport = false
    open()
  })

  it('are cut into whole packets, refused, or dropped', () => {
    fc.assert(
      fc.property(fc.array(arrival(), { minLength: 1, maxLength: 12 }), (arrivals) => {
        arrive(arrivals)
        gateway.check()
      }),
      { numRuns: 150, endOnFailure: true },
    )
    expect(gateway.counter('fragmented')).toBeGreaterThan(0)
  })
})
