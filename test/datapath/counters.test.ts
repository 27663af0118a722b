// What a shard counts: packets and bytes by side, once each, whatever becomes of them.

import { beforeEach, describe, expect, it } from 'vitest'
import { Gateway } from './gateway.ts'
import { HOST, LAN, SERVER, WAN } from './network.ts'
import { fromOf, tcpSegment, udp } from './packets.ts'

const FROM = `${HOST}:5000`
const TO = `${SERVER}:53`

let gateway: Gateway
beforeEach(async () => {
  gateway = await Gateway.start()
})

/** By side: packets and bytes, received and sent. */
const traffic = () =>
  [LAN, WAN].map((side) => [
    gateway.counter('receivedPackets', side),
    gateway.counter('receivedBytes', side),
    gateway.counter('sentPackets', side),
    gateway.counter('sentBytes', side),
  ])

describe('packets and bytes', () => {
  it('by the side that they came and went by, from the IP header on', () => {
    const [sent] = gateway.inside(udp(FROM, TO, { payload: new Uint8Array(100) }))
    gateway.outside(udp(TO, fromOf(sent!), { payload: new Uint8Array(10) }))
    gateway.outside(udp(TO, fromOf(sent!), { payload: new Uint8Array(10) }))
    expect(traffic()).toEqual([
      [1, 128, 2, 76],
      [2, 76, 1, 128],
    ])
  })

  it('of the answers to a sender, too', () => {
    gateway.inside(udp(FROM, TO, { ip: { ttl: 1 } }))
    expect(traffic()[LAN]).toEqual([1, 28, 1, 56])
  })

  it('a frame shorter than its header has no bytes', () => {
    gateway.inside(new Uint8Array(5))
    expect(traffic()[LAN]).toEqual([1, 0, 0, 0])
  })

  it('padding counts where it arrives only', () => {
    const padded = new Uint8Array(60)
    padded.set([2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 1, 5, 8, 6])
    gateway.inside(padded)
    expect(traffic()[LAN]).toEqual([1, 46, 0, 0])
    expect(gateway.counter('notOurs', LAN)).toBe(1)
  })

  it('turns and the drops of a burst', () => {
    const turns = gateway.counter('turns')
    gateway.burst(LAN, [tcpSegment(FROM, TO, 'SF'), tcpSegment(FROM, TO, 'R'), tcpSegment(FROM, TO, 'SF')])
    expect(gateway.drops()).toEqual({ 'tcp-flags': 2, 'tcp-no-connection': 1 })
    expect(gateway.counter('turns')).toBe(turns + 1)
  })
})

describe('a burst', () => {
  it('of 64 packets of one new flow makes one connection and keeps their order', () => {
    gateway.burst(
      LAN,
      Array.from({ length: 64 }, (_, i) => udp(FROM, TO, { payload: new Uint8Array(i) })),
    )
    expect(gateway.toWan().map((frame) => frame.length - 42)).toEqual(Array.from({ length: 64 }, (_, i) => i))
    expect(gateway.counter('connectionsInserted', 1)).toBe(1)
  })

  it('may open, close and open again: each packet meets what the one before it left', () => {
    const port = fromOf(gateway.inside(tcpSegment(FROM, TO, 'S'))[0]!)
    gateway.burst(WAN, [tcpSegment(TO, port, 'RA'), tcpSegment(TO, port, 'SA')])
    expect(gateway.toLan()).toHaveLength(1)
    expect(gateway.counter('connections')).toBe(0)
    // With its connection the mapping has ended: the port is the host's again.
    expect(gateway.drops()).toEqual({})
    expect(gateway.counter('notOurs', WAN)).toBe(1)
    gateway.check()
  })

  it('of 64 new flows makes 64 connections', () => {
    gateway.burst(
      LAN,
      Array.from({ length: 64 }, (_, i) => udp(`${HOST}:${i + 1}`, TO)),
    )
    expect(gateway.toWan()).toHaveLength(64)
    expect(gateway.counter('connections', 1)).toBe(64)
    gateway.check()
  })
})

describe('busy seconds', () => {
  it('are those from a turn that received something to the next turn, which follows at once', () => {
    gateway.inside(udp(FROM, TO))
    expect(gateway.counter('busySeconds')).toBe(0)
    gateway.jump(0.25)
    gateway.turn()
    expect(gateway.counter('busySeconds')).toBe(0.25)
    // That one received nothing, and the shard slept behind it.
    gateway.jump(0.5)
    gateway.turn()
    expect(gateway.counter('busySeconds')).toBe(0.25)
  })
})

it('what interfaces refuse to send and lose is counted by side, and by interface', async () => {
  const { copyLinkCounts } = await import('../../src/datapath/packet/counting.ts')
  const driver = { ports: 2, sendFailures: (port: number) => 3 + port, receiveLosses: (port: number) => 10 + port }
  const { dropTable } = gateway
  const links = () => [...dropTable.links.subarray(dropTable.linkOf(0, LAN), dropTable.linkOf(0, WAN) + 2)]
  // Both interfaces lead inside.
  copyLinkCounts(driver, [LAN, LAN])
  expect([LAN, WAN].map((side) => gateway.counter('sendFailures', side))).toEqual([7, 0])
  expect([LAN, WAN].map((side) => gateway.counter('receiveLosses', side))).toEqual([21, 0])
  expect(links()).toEqual([3, 10, 4, 11])
  // They are counts so far, and not added up.
  copyLinkCounts(driver, [LAN, WAN])
  expect([LAN, WAN].map((side) => gateway.counter('sendFailures', side))).toEqual([3, 4])
  expect(links()).toEqual([3, 10, 4, 11])
})
