// How long a mapping lives: it has no timer of its own, and ends with the last connection that its inside end has taken
// part in (RFC 4787 REQ-5, REQ-6; nf_nat has none at all). What frees its port, and when that is given again: RFC 6888
// REQ-8.

import { beforeEach, describe, expect, it } from 'vitest'
import { Gateway } from '../datapath/gateway.ts'
import { HOST, LAN, SERVER, WAN } from '../datapath/network.ts'
import { fromOf, tcpSegment, udp } from '../datapath/packets.ts'
import { connectionsOf, mappingsOf } from '../datapath/tables.ts'

const FROM = `${HOST}:5000`
const HERE = `${SERVER}:1000`
const CALLER = '198.51.100.7:1000'

let gateway: Gateway
let external: string

const mapping = () => mappingsOf(gateway.tables)

describe('a mapping', () => {
  beforeEach(async () => {
    gateway = await Gateway.start({ nat: { filtering: 'endpoint-independent' } })
    external = fromOf(gateway.inside(udp(FROM, HERE))[0]!)
  })

  it('lives with the connection that made it, and its port is in quarantine for 120 s after it', () => {
    gateway.pass(298)
    expect(mapping()).toHaveLength(1)
    gateway.pass(4)
    expect(mapping()).toEqual([])
    expect([gateway.counter('portsUsed', 1), gateway.counter('portsResting', 1)]).toEqual([0, 1])
    gateway.pass(116)
    expect(gateway.counter('portsResting', 1)).toBe(1)
    gateway.pass(6)
    expect(gateway.counter('portsResting', 1)).toBe(0)
    gateway.check()
  })

  it('lives on with any other connection of its inside end', () => {
    gateway.pass(200)
    expect(fromOf(gateway.inside(udp(FROM, `${SERVER}:2000`))[0]!)).toBe(external)
    gateway.pass(200)
    expect(connectionsOf(gateway.tables)).toHaveLength(1)
    expect(fromOf(gateway.inside(udp(FROM, `${SERVER}:3000`))[0]!)).toBe(external)
    expect(mapping()).toMatchObject([{ holders: 2, rows: 2, ended: false }])
    gateway.check()
  })

  it('is not held by a caller from outside that the inside end has not answered', () => {
    for (let second = 0; second < 290; second += 10) {
      gateway.pass(10)
      expect(gateway.outside(udp(CALLER, external))).toHaveLength(1)
    }
    expect(mapping()).toMatchObject([{ holders: 1, rows: 2 }])
    gateway.pass(12)
    expect(connectionsOf(gateway.tables)).toEqual([])
    expect(mapping()).toEqual([])
    expect(gateway.fate(WAN, udp(CALLER, external))).toBe('not-ours')
    gateway.check()
  })

  it('is held by a caller from outside that the inside end has answered', () => {
    gateway.pass(150)
    gateway.outside(udp(CALLER, external))
    gateway.inside(udp(FROM, CALLER))
    expect(mapping()).toMatchObject([{ holders: 2, rows: 2 }])
    gateway.pass(152)
    expect(mapping()).toMatchObject([{ holders: 1, rows: 1, ended: false }])
    expect(gateway.fate(WAN, udp(HERE, external))).toBe('sent')
    expect(gateway.fate(WAN, udp(CALLER, external))).toBe('sent')
    gateway.check()
  })

  it('that ends just before the inside end answers a caller lives on for them, but lets nobody else in', () => {
    gateway.pass(200)
    gateway.outside(udp(CALLER, external))
    // The first packet finds its connection over, which ends the mapping; the second one answers by it.
    gateway.jump(100)
    gateway.burst(LAN, [udp(FROM, HERE), udp(FROM, CALLER)])
    const [anew, answer] = gateway.toWan().map(fromOf)
    expect(answer).toBe(external)
    expect(anew).not.toBe(external)
    gateway.check()
    gateway.pass(3)
    expect(gateway.fate(WAN, udp(CALLER, external))).toBe('sent')
    expect(gateway.fate(WAN, udp(HERE, external))).toBe('no-mapping')
    gateway.check()
  })
})

describe('permissions under address-dependent filtering', () => {
  beforeEach(async () => {
    gateway = await Gateway.start()
    external = fromOf(gateway.inside(udp(FROM, HERE))[0]!)
  })
  const count = () => gateway.counter('permissions')

  it('count the connections behind them, and end with the last', () => {
    gateway.pass(100)
    gateway.inside(udp(FROM, `${SERVER}:2000`))
    gateway.inside(udp(FROM, CALLER))
    expect(count()).toBe(2)
    gateway.pass(203)
    expect(connectionsOf(gateway.tables)).toHaveLength(2)
    expect(count()).toBe(2)
    expect(gateway.fate(WAN, udp(`${SERVER}:9`, external))).toBe('sent')
    gateway.check()
  })

  it("end although the mapping lives on, and an unanswered caller doesn't make one", () => {
    gateway.pass(150)
    gateway.inside(udp(FROM, CALLER))
    gateway.pass(100)
    gateway.outside(udp(`${SERVER}:9`, external))
    gateway.pass(52)
    expect(count()).toBe(1)
    expect(gateway.fate(WAN, udp(`${SERVER}:10`, external))).toBe('filtered')
    gateway.check()
  })
})

describe('a TCP mapping', () => {
  beforeEach(async () => {
    gateway = await Gateway.start({ ports: [20_480, 20_543] })
    external = fromOf(gateway.inside(tcpSegment(FROM, HERE, 'S'))[0]!)
  })

  it('lives through the closing state, and its port is free at once after it', () => {
    gateway.outside(tcpSegment(HERE, external, 'SA'))
    gateway.inside(tcpSegment(FROM, HERE, 'A'))
    gateway.outside(tcpSegment(HERE, external, 'R'))
    gateway.pass(238)
    expect(gateway.counter('portsUsed', 0)).toBe(1)
    gateway.pass(4)
    expect([gateway.counter('portsUsed', 0), gateway.counter('portsResting', 0)]).toEqual([0, 0])
    gateway.check()
  })

  it('ends at once with an RST that answers its SYN, unless another connection has it', () => {
    const other = `${SERVER}:2000`
    expect(fromOf(gateway.inside(tcpSegment(FROM, other, 'S'))[0]!)).toBe(external)
    gateway.outside(tcpSegment(HERE, external, 'RA'))
    expect(mapping()).toMatchObject([{ holders: 1, rows: 1, ended: false }])
    gateway.outside(tcpSegment(other, external, 'RA'))
    expect(mapping()).toEqual([])
    gateway.check()
  })
})
