// Packets and bytes of a connection by direction: 32 bits in the hot line, the wraps beside it. And its end: at the
// first packet that comes too late, or by the sweep.

import { beforeEach, describe, expect, it } from 'vitest'
import { CONN, CONN_WORDS } from '../../src/conntrack/connection-table.ts'
import { Gateway } from '../datapath/gateway.ts'
import { HOST, LAN, SERVER, WAN } from '../datapath/network.ts'
import { fromOf, udp } from '../datapath/packets.ts'
import { onlyOne } from './scripted-connection.ts'

const FROM = `${HOST}:5000`
const TO = `${SERVER}:4000`

let gateway: Gateway
let external: string
beforeEach(async () => {
  gateway = await Gateway.start()
  external = fromOf(gateway.inside(udp(FROM, TO, { payload: new Uint8Array(72) }))[0]!)
})

const set = (word: number, value: number): void => {
  gateway.tables.connections.hot[onlyOne(gateway).row * CONN_WORDS + word] = value
}

describe('a connection', () => {
  it('counts packets and bytes, from the IP header on, in both directions', () => {
    gateway.outside(udp(TO, external, { payload: new Uint8Array(10) }))
    gateway.outside(udp(TO, external))
    gateway.inside(udp(FROM, TO))
    expect(onlyOne(gateway)).toMatchObject({ packets: [2, 2], bytes: [128, 66] })
  })

  it('does not count what is dropped', () => {
    gateway.inside(udp(FROM, TO, { ip: { ttl: 1 } }))
    expect(onlyOne(gateway)).toMatchObject({ packets: [1, 0], bytes: [100, 0] })
  })

  it('counts packets beyond 32 bits', () => {
    set(CONN.packets, -1)
    set(CONN.packetsReply, -1)
    gateway.inside(udp(FROM, TO))
    gateway.outside(udp(TO, external))
    gateway.outside(udp(TO, external))
    expect(onlyOne(gateway).packets).toEqual([2 ** 32, 2 ** 32 + 1])
  })

  it('counts bytes beyond 32 bits', () => {
    set(CONN.bytes, -28)
    set(CONN.bytesReply, -27)
    gateway.inside(udp(FROM, TO))
    gateway.outside(udp(TO, external))
    expect(onlyOne(gateway).bytes).toEqual([2 ** 32, 2 ** 32 + 1])
  })

  it('takes nothing else for a wrap: not the middle of 32 bits, nor the upper half', () => {
    for (const before of [0x7fffffff, 0x80000000, 0xffff0000]) {
      set(CONN.bytes, before)
      gateway.inside(udp(FROM, TO))
      expect(onlyOne(gateway).bytes[0]).toBe(before + 28)
    }
  })

  it('begins at zero again in a row that was used before', () => {
    set(CONN.bytes, -28)
    gateway.inside(udp(FROM, TO))
    gateway.pass(302)
    gateway.inside(udp(FROM, TO))
    expect(onlyOne(gateway)).toMatchObject({ row: 1, packets: [1, 0], bytes: [28, 0] })
  })
})

describe('expiry', () => {
  it('is noticed by the next packet, before any sweep: from inside a new connection begins', () => {
    gateway.jump(300)
    expect(gateway.fate(LAN, udp(FROM, TO))).toBe('sent')
    expect(gateway.counter('connectionsInserted', 1)).toBe(2)
    expect(gateway.counter('connectionsExpired', 1)).toBe(1)
    expect(onlyOne(gateway).packets).toEqual([1, 0])
    gateway.check()
  })

  it('is noticed by the next packet: from outside nothing is let in', () => {
    gateway.jump(300)
    expect(gateway.fate(WAN, udp(TO, external))).toBe('not-ours')
    expect(gateway.counter('connections', 1)).toBe(0)
    gateway.check()
  })

  it('is not a second early', () => {
    gateway.jump(299)
    expect(gateway.fate(WAN, udp(TO, external))).toBe('sent')
  })

  it('is noticed by the sweep within two seconds of its time, also in a table full of others', async () => {
    const full = await Gateway.start({ connections: 256 })
    for (let port = 1; port <= 256; port++) full.inside(udp(`${HOST}:${port}`, port % 2 === 0 ? TO : `${SERVER}:53`))
    expect(full.counter('connections', 1)).toBe(256)
    full.pass(29)
    expect(full.counter('connections', 1)).toBe(256)
    full.pass(3)
    expect(full.counter('connections', 1)).toBe(128)
    full.check()
    full.pass(268)
    full.pass(3)
    expect(full.counter('connections', 1)).toBe(0)
    expect(full.counter('portsUsed', 1)).toBe(0)
    full.check()
  })
})
