// How mapping and filtering depend on the remote endpoint: RFC 4787 REQ-1 and REQ-8, RFC 5382 REQ-1 and REQ-3, RFC 5508
// REQ-1a. Presets by the names of RFC 3489.

import { describe, expect, it } from 'vitest'
import type { Dependence, NatSettings } from '../../src/nat/settings.ts'
import { Gateway } from '../datapath/gateway.ts'
import { EXTERNAL, HOST, LAN, SERVER, WAN } from '../datapath/network.ts'
import { decode, echo, echoReply, fromOf, tcpSegment, toOf, udp } from '../datapath/packets.ts'
import { mappingsOf } from '../datapath/tables.ts'

const FROM = `${HOST}:5000`
const HERE = `${SERVER}:1000`
const OTHER_PORT = `${SERVER}:2000`
const OTHER_ADDRESS = '198.51.100.7:1000'

const EI: Dependence = 'endpoint-independent'
const AD: Dependence = 'address-dependent'
const APD: Dependence = 'address-and-port-dependent'

const start = (nat: Partial<NatSettings> = {}) => Gateway.start({ nat })

const PROTOCOLS = {
  UDP: { open: (from: string, to: string) => udp(from, to), call: (from: string, to: string) => udp(from, to) },
  TCP: {
    open: (from: string, to: string) => tcpSegment(from, to, 'S'),
    call: (from: string, to: string) => tcpSegment(from, to, 'S'),
  },
} as const

for (const [protocol, { open, call }] of Object.entries(PROTOCOLS)) {
  describe(`${protocol} mapping`, () => {
    const rows = [
      // mapping          same external port to: another port, another address
      [EI, true, true],
      [AD, true, false],
      [APD, false, false],
    ] as const
    for (const [mapping, samePort, sameAddress] of rows)
      it(`${mapping}${mapping === EI ? ' (REQ-1)' : ''}`, async () => {
        const gateway = await start({ mapping })
        const ends = [HERE, OTHER_PORT, OTHER_ADDRESS].map((to) => fromOf(gateway.inside(open(FROM, to))[0]!))
        expect(ends[1] === ends[0]).toBe(samePort)
        expect(ends[2] === ends[0]).toBe(sameAddress)
        expect(mappingsOf(gateway.tables)).toHaveLength(new Set(ends).size)
        gateway.check()
      })

    it('tells inside endpoints apart: another port, another host (REQ-3: no overloading)', async () => {
      const gateway = await start()
      const froms = [FROM, `${HOST}:5001`, '10.0.0.6:5000']
      const ends = froms.map((from) => fromOf(gateway.inside(open(from, HERE))[0]!))
      expect(new Set(ends).size).toBe(3)
    })
  })

  describe(`${protocol} filtering`, () => {
    const rows = [
      // filtering      called from: the same endpoint's other port, another address
      [EI, true, true],
      [AD, true, false],
      [APD, false, false],
    ] as const
    for (const [filtering, samePort, sameAddress] of rows)
      it(`${filtering}${filtering === AD ? ' (the default)' : ''}`, async () => {
        const gateway = await start(filtering === AD ? {} : { filtering })
        const external = fromOf(gateway.inside(open(FROM, HERE))[0]!)
        for (const [caller, enters] of [
          [OTHER_PORT, samePort],
          [OTHER_ADDRESS, sameAddress],
        ] as const)
          expect(gateway.fate(WAN, call(caller, external))).toBe(enters ? 'sent' : 'filtered')
        gateway.check()
      })

    it('is by mapping: one endpoint may be called by whom another one has called', async () => {
      const gateway = await start()
      const first = fromOf(gateway.inside(open(FROM, HERE))[0]!)
      const second = fromOf(gateway.inside(open(`${HOST}:5001`, OTHER_ADDRESS))[0]!)
      expect(gateway.fate(WAN, call(OTHER_ADDRESS, first))).toBe('filtered')
      expect(gateway.fate(WAN, call(HERE.replace(':1000', ':9'), second))).toBe('filtered')
      expect(gateway.fate(WAN, call(OTHER_ADDRESS.replace(':1000', ':9'), second))).toBe('sent')
    })
  })
}

describe('the external port', () => {
  const portOf = (gateway: Gateway, port: number): number =>
    Number(fromOf(gateway.inside(udp(`${HOST}:${port}`, HERE))[0]!).split(':')[1])
  const inside = Array.from({ length: 20 }, (_, i) => 20_000 + i)

  it('has the parity of the inside port (RFC 4787 REQ-4), unless that is not wanted', async () => {
    const gateway = await start()
    for (const port of inside) expect(portOf(gateway, port) % 2).toBe(port % 2)
    const without = await start({ parity: false })
    expect(inside.some((port) => portOf(without, port) % 2 !== port % 2)).toBe(true)
  })

  it('is the inside port, if that is wanted and free; else it is not to be guessed', async () => {
    const preserving = await start({ preservePorts: true })
    for (const port of inside) expect(portOf(preserving, port)).toBe(port)
    const random = await Gateway.start({ ports: [16_384, 24_575] })
    const given = inside.map((port) => portOf(random, port))
    expect(given.filter((port, i) => port === inside[i]).length).toBeLessThan(3)
    expect(new Set(given.map((port) => port >> 9)).size).toBeGreaterThan(8)
  })

  it("is one of NAT's, on a shared address", async () => {
    const gateway = await Gateway.start({ nat: { preservePorts: true }, ports: [16_384, 20_479] })
    for (const port of [22, 1024, 60_992, 65_535]) {
      const external = portOf(gateway, port)
      expect(external).toBeGreaterThanOrEqual(16_384)
      expect(external).toBeLessThanOrEqual(20_479)
    }
  })
})

describe('the names of RFC 3489', () => {
  const presets = [
    ['full cone', EI, EI],
    ['restricted cone', EI, AD],
    ['port restricted cone', EI, APD],
    ['symmetric', APD, APD],
  ] as const
  for (const [name, mapping, filtering] of presets)
    it(name, async () => {
      const gateway = await start({ mapping, filtering })
      const here = fromOf(gateway.inside(udp(FROM, HERE))[0]!)
      const there = fromOf(gateway.inside(udp(FROM, OTHER_ADDRESS))[0]!)
      expect(here === there).toBe(mapping === EI)
      expect(gateway.fate(WAN, udp('203.0.113.9:7', here)) === 'sent').toBe(filtering === EI)
      expect(gateway.fate(WAN, udp(OTHER_PORT, here)) === 'sent').toBe(filtering !== APD)
      expect(gateway.fate(WAN, udp(HERE, here))).toBe('sent')
      gateway.check()
    })
})

describe('a call from outside', () => {
  it('reaches the inside endpoint, and its answer comes from the external one', async () => {
    const gateway = await start()
    const external = fromOf(gateway.inside(udp(FROM, HERE))[0]!)
    const [called] = gateway.outside(udp(OTHER_PORT, external))
    expect([fromOf(called!), toOf(called!)]).toEqual([OTHER_PORT, FROM])
    const [answer] = gateway.inside(udp(FROM, OTHER_PORT))
    expect([fromOf(answer!), toOf(answer!)]).toEqual([external, OTHER_PORT])
    expect(gateway.counter('connections', 1)).toBe(2)
    gateway.check()
  })

  it('that would have a tuple twice is refused, where one endpoint has several mappings', async () => {
    const gateway = await start({ mapping: APD, filtering: AD })
    const first = fromOf(gateway.inside(udp(FROM, HERE))[0]!)
    const second = fromOf(gateway.inside(udp(FROM, OTHER_PORT))[0]!)
    // The answer to this would look like a packet of the first flow.
    expect(gateway.fate(WAN, udp(HERE, second))).toBe('no-free-tuple')
    expect(gateway.fate(WAN, udp(`${SERVER}:3000`, second))).toBe('sent')
    expect(fromOf(gateway.inside(udp(FROM, HERE))[0]!)).toBe(first)
    gateway.check()
  })
})

describe('ICMP queries (RFC 5508 REQ-1a)', () => {
  const idOf = (gateway: Gateway, to: string, id: number): number =>
    decode(gateway.inside(echo(HOST, to, id))[0]!).icmpId

  it('one identifier has one mapping, whomever it asks', async () => {
    const gateway = await start()
    expect(idOf(gateway, SERVER, 7)).toBe(idOf(gateway, '198.51.100.7', 7))
    expect(idOf(gateway, SERVER, 8)).not.toBe(idOf(gateway, SERVER, 7))
    gateway.check()
  })

  it('address-dependent mapping tells those asked apart', async () => {
    const gateway = await start({ mapping: AD })
    expect(idOf(gateway, SERVER, 7)).not.toBe(idOf(gateway, '198.51.100.7', 7))
  })

  it('only who was asked may answer, and nobody outside may ask', async () => {
    const gateway = await start({ filtering: EI })
    const id = idOf(gateway, SERVER, 7)
    expect(gateway.fate(WAN, echoReply('198.51.100.7', EXTERNAL, id))).toBe('not-ours')
    expect(gateway.fate(WAN, echo(SERVER, EXTERNAL, id))).toBe('not-ours')
    expect(gateway.fate(WAN, echoReply(SERVER, EXTERNAL, id))).toBe('sent')
  })

  it('identifiers, TCP ports and UDP ports are spaces of their own', async () => {
    const gateway = await Gateway.start({ ports: [20_480, 20_543], nat: { preservePorts: true } })
    const port = 20_500
    expect(idOf(gateway, SERVER, port)).toBe(port)
    for (const spec of [udp(`${HOST}:${port}`, HERE), tcpSegment(`${HOST}:${port}`, HERE, 'S')])
      expect(fromOf(gateway.inside(spec)[0]!)).toBe(`${EXTERNAL}:${port}`)
    expect(gateway.fate(LAN, udp(`10.0.0.6:${port}`, HERE))).toBe('sent')
    gateway.check()
  })
})
