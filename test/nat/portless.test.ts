// Protocols without ports on an address that is shared: translated only if listed (nat.protocols), one inside host per
// remote address, the first one.

import { beforeEach, describe, expect, it } from 'vitest'
import { Gateway } from '../datapath/gateway.ts'
import { EXTERNAL, HOST, LAN, SERVER, WAN } from '../datapath/network.ts'
import { decode, icmpError, printed } from '../datapath/packets.ts'
import { connectionsOf } from '../datapath/tables.ts'

const [GRE, ESP] = [47, 50]
const OTHER = '10.0.0.6'
const packet = (src: string, dst: string, number = GRE) => ({
  ip: { src, dst },
  protocol: { number },
  payload: 'sixteen bytes...',
})

let gateway: Gateway
beforeEach(async () => {
  gateway = await Gateway.start({ nat: { protocols: [GRE, ESP] } })
})

describe('a protocol that is listed', () => {
  it('is translated, both ways', () => {
    expect(printed(gateway.inside(packet(HOST, SERVER)))).toEqual(['IP 203.0.113.1 > 192.0.2.7: gre 16'])
    expect(printed(gateway.outside(packet(SERVER, EXTERNAL)))).toEqual(['IP 192.0.2.7 > 10.0.0.5: gre 16'])
    expect(connectionsOf(gateway.tables)).toMatchObject([{ protocol: GRE, mapping: 0, packets: [1, 1] }])
    gateway.check()
  })

  it('has one inside host per remote address: the first, as long as it lives', () => {
    gateway.inside(packet(HOST, SERVER))
    expect(gateway.fate(LAN, packet(OTHER, SERVER))).toBe('no-free-tuple')
    expect(gateway.fate(LAN, packet(OTHER, '192.0.2.8'))).toBe('sent')
    expect(gateway.fate(LAN, packet(OTHER, SERVER, ESP))).toBe('sent')
    gateway.jump(30)
    expect(gateway.fate(LAN, packet(OTHER, SERVER))).toBe('sent')
    expect(decode(gateway.outside(packet(SERVER, EXTERNAL))[0]!).dst).toBe(OTHER)
    gateway.check()
  })

  it('is not let in from outside', () => {
    expect(gateway.fate(WAN, packet(SERVER, EXTERNAL))).toBe('not-ours')
  })

  it('has its ICMP errors translated back', () => {
    const [sent] = gateway.inside(packet(HOST, SERVER))
    const [error] = gateway.outside(icmpError(SERVER, EXTERNAL, sent!, { icmp: { code: 2 } }))
    expect(printed([error!])).toEqual(['IP 192.0.2.7 > 10.0.0.5: ICMP 192.0.2.7 protocol 47 unreachable, length 36'])
  })
})

describe('a protocol that is not listed', () => {
  for (const number of [0, 2, 41, 51, 89, 132, 136, 255])
    it(`${number} is dropped, nothing is created`, () => {
      expect(gateway.fate(LAN, packet(HOST, SERVER, number))).toBe('protocol-not-translated')
      expect(connectionsOf(gateway.tables)).toEqual([])
    })
})
