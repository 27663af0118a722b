// Floods at a port forward as large as the table, in the time that they take: while they last and afterwards, what was
// established goes on, hosts inside and real clients of the same forward open connections, and nothing is left of it.

import { describe, expect, it } from 'vitest'
import type { PortForward } from '../../src/nat/port-forward-rules.ts'
import type { FrameSpec } from '../../src/testing/builder.ts'
import { parseAddress } from '../../src/wire/address.ts'
import { Gateway } from '../datapath/gateway.ts'
import { EXTERNAL, HOST, LAN, SERVER, WAN } from '../datapath/network.ts'
import { fromOf, tcpSegment, udp } from '../datapath/packets.ts'
import { connectionsOf } from '../datapath/tables.ts'

const ROWS = 16_384
const PACKETS = 17_500
const SECONDS = 7
const BURST = 50
const ROUND_TRIP = 0.3
const TO = `${SERVER}:443`
const FORWARDS: PortForward[] = [
  { protocol: 6, address: null, port: 80, toAddress: parseAddress(HOST), toPort: 80 },
  { protocol: 17, address: null, port: 5353, toAddress: parseAddress(HOST), toPort: 53 },
]

const stranger = (i: number): string => `198.${18 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}:${1024 + (i % 5000)}`

interface Flood {
  readonly packet: (from: string) => FrameSpec
  readonly answer: (from: string) => FrameSpec
}
const FLOODS: Record<string, Flood> = {
  'SYNs that the server answers': {
    packet: (from) => tcpSegment(from, `${EXTERNAL}:80`, 'S'),
    answer: (from) => tcpSegment(`${HOST}:80`, from, 'SA'),
  },
  'datagrams that the server answers': {
    packet: (from) => udp(from, `${EXTERNAL}:5353`),
    answer: (from) => udp(`${HOST}:53`, from),
  },
}

/** A connection from inside whose answer comes after a while. */
function fromInside(gateway: Gateway, inside: string): () => boolean {
  const [syn] = gateway.inside(tcpSegment(inside, TO, 'S'))
  if (!syn) return () => false
  const external = fromOf(syn)
  return () => {
    if (gateway.outside(tcpSegment(TO, external, 'SA')).length === 0) return false
    return gateway.inside(tcpSegment(inside, TO, 'A')).length === 1
  }
}

/** A client's connection to the forward, whose last ACK comes after a while. */
function toForward(gateway: Gateway, client: string): () => boolean {
  gateway.outside(tcpSegment(client, `${EXTERNAL}:80`, 'S'))
  gateway.inside(tcpSegment(`${HOST}:80`, client, 'SA'))
  return () => {
    gateway.outside(tcpSegment(client, `${EXTERNAL}:80`, 'A'))
    return gateway.inside(tcpSegment(`${HOST}:80`, client, 'A')).length === 1
  }
}

describe('a flood as large as the table', () => {
  for (const [what, { packet, answer }] of Object.entries(FLOODS))
    it(`of ${what} leaves everybody else alone, and nothing behind`, async () => {
      const gateway = await Gateway.start({ forwards: FORWARDS, connections: ROWS, icmpErrorsPerSecond: 0 })
      const established = Array.from({ length: 100 }, (_, i) => `${HOST}:${5000 + i}`)
      for (const inside of established) expect(fromInside(gateway, inside)()).toBe(true)

      const due: { at: number; finish: () => boolean }[] = []
      const done: boolean[] = []
      const finish = (until: number): void => {
        while (due.length > 0 && due[0]!.at <= until) done.push(due.shift()!.finish())
      }
      for (let sent = 0; sent < PACKETS; sent += BURST) {
        const from = Array.from({ length: BURST }, (_, i) => stranger(sent + i))
        gateway.burst(WAN, from.map(packet))
        gateway.burst(LAN, from.map(answer))
        gateway.toLan()
        gateway.toWan()
        gateway.jump((SECONDS * BURST) / PACKETS)
        finish(gateway.clock)
        if (sent % (5 * BURST) !== 0) continue
        const at = gateway.clock + ROUND_TRIP * 1000
        due.push({ at, finish: fromInside(gateway, `${HOST}:${6000 + sent / BURST}`) })
        due.push({ at, finish: toForward(gateway, `${SERVER}:${6000 + sent / BURST}`) })
      }
      finish(Number.POSITIVE_INFINITY)
      expect(done).toHaveLength(140)
      expect(done.filter((succeeded) => !succeeded)).toEqual([])
      expect(gateway.drops()).toEqual({})
      expect(gateway.counter('connectionsRecycled', 2)).toBeGreaterThan(0)
      expect([0, 1, 3, 4].map((kind) => gateway.counter('connectionsRecycled', kind))).toEqual([0, 0, 0, 0])
      gateway.check()

      for (const inside of established) expect(gateway.fate(LAN, tcpSegment(inside, TO, 'A'))).toBe('sent')
      for (const [i, wait] of [1, 60, 60].entries()) {
        gateway.pass(wait)
        expect(fromInside(gateway, `${HOST}:${9000 + i}`)()).toBe(true)
      }
      gateway.pass(301)
      expect(connectionsOf(gateway.tables).filter(({ assured }) => !assured)).toEqual([])
      gateway.pass(7441)
      expect([0, 1, 2, 3].map((cell) => gateway.counter('connections', cell))).toEqual([0, 0, 0, 0])
      expect([0, 1, 2].map((space) => gateway.counter('portsUsed', space))).toEqual([0, 0, 0])
      gateway.check()
    })
})
