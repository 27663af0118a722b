// ICMP errors about translated packets: RFC 5508 section 4 (REQ-3 to REQ-6), RFC 4787 REQ-12, RFC 5382 REQ-9 and
// REQ-10. The gateway verifies the checksums of every error sent, and of the packet that it embeds as far as that is
// whole.

import { beforeEach, describe, expect, it } from 'vitest'
import { type FrameSpec, frame } from '../../../src/testing/builder.ts'
import { Gateway } from '../gateway.ts'
import { EXTERNAL, HOST, LAN, LAN_ADDRESS, MAC, ROUTER, SERVER, WAN } from '../network.ts'
import { decode, decodeIp, echo, echoReply, fromOf, icmpError, printed, tcpSegment, udp } from '../packets.ts'
import { connectionsOf } from '../tables.ts'

const FROM = `${HOST}:5000`
const TO = `${SERVER}:80`
const INSIDE_ROUTER = '10.0.0.77'

let gateway: Gateway
beforeEach(async () => {
  gateway = await Gateway.start()
})

/** The packet that an error sent into a LAN or out of it embeds. */
const embeddedIn = ([error]: Uint8Array[]) => decodeIp(decode(error!).embedded)

describe('from outside, about what an inside host has sent', () => {
  const packets: readonly (readonly [string, FrameSpec, number])[] = [
    ['UDP, as much as RFC 792 asks for', udp(FROM, TO, { payload: 'payload' }), 28],
    ['UDP, whole', udp(FROM, TO, { payload: 'payload' }), 35],
    ['UDP without a checksum', udp(FROM, TO, { payload: 'payload', checksum: 'none' }), 35],
    ['TCP, eight bytes of it', tcpSegment(FROM, TO, 'S'), 28],
    ['TCP up to the checksum', tcpSegment(FROM, TO, 'S'), 38],
    ['TCP, whole', tcpSegment(FROM, TO, 'S', { payload: 'early' }), 45],
    ['a ping, eight bytes of it', echo(HOST, SERVER, 9, { payload: 'ping' }), 28],
    ['a ping, whole', echo(HOST, SERVER, 9, { payload: 'ping' }), 32],
    ['a packet with IP options', udp(FROM, TO, { payload: 'x', ip: { options: Uint8Array.of(7, 4, 4, 0) } }), 33],
  ]
  for (const [what, spec, bytes] of packets)
    it(`${what}: it embeds what was sent, the error goes to its sender`, () => {
      const asSent = { ...spec, ip: { ...spec.ip, id: 99 } }
      const original = decode(frame(asSent))
      const [translated] = gateway.inside(asSent)
      const [error] = gateway.outside(icmpError(ROUTER, EXTERNAL, translated!, { bytes }))
      expect(decode(error!)).toMatchObject({ src: ROUTER, dst: HOST, type: 3, code: 3, ttl: 63 })
      const embedded = decode(error!).embedded
      expect(decodeIp(embedded)).toMatchObject({ src: HOST, dst: SERVER, id: 99, ttl: 63, length: original.length })
      // The transport header as the inside host had sent it, checksum included where it is embedded.
      const header = embedded.subarray(20 + original.options.length)
      const seen = spec.tcp && bytes < 40 ? (bytes >= 38 ? 18 : 8) : bytes - 20 - original.options.length
      expect(header.subarray(0, seen)).toEqual(original.body.subarray(0, seen))
      expect(gateway.counter('icmpErrorsTranslated')).toBe(1)
      expect(gateway.drops()).toEqual({})
    })

  it('about a packet of a protocol without ports that has no eight bytes', async () => {
    const gre = await Gateway.start({ nat: { protocols: [47] } })
    const [sent] = gre.inside({ ip: { src: HOST, dst: SERVER }, protocol: { number: 47 }, payload: new Uint8Array(4) })
    const error = gre.outside(icmpError(ROUTER, EXTERNAL, sent!, { bytes: 24 }))
    expect(embeddedIn(error)).toMatchObject({ src: HOST, dst: SERVER, protocol: 47, length: 24 })
    expect(gre.fate(WAN, icmpError(ROUTER, EXTERNAL, sent!, { bytes: 19 }))).toBe('icmp-embedded')
    const [datagram] = gre.inside(udp(FROM, TO))
    expect(gre.fate(WAN, icmpError(ROUTER, EXTERNAL, datagram!, { bytes: 27 }))).toBe('icmp-embedded')
  })

  it('keeps type, code and the second word: Fragmentation Needed with its MTU (REQ-5)', () => {
    const [translated] = gateway.inside(udp(FROM, TO, { payload: 'payload' }))
    const needed = icmpError(ROUTER, EXTERNAL, translated!, { icmp: { type: 3, code: 4, mtu: 1400 } })
    expect(decode(gateway.outside(needed)[0]!)).toMatchObject({ type: 3, code: 4, mtu: 1400 })
  })

  it("keeps a router's address, so that traceroute shows it", () => {
    const [translated] = gateway.inside(udp(FROM, `${SERVER}:33434`))
    const exceeded = icmpError('198.51.100.9', EXTERNAL, translated!, { icmp: { type: 11, code: 0 } })
    expect(printed(gateway.outside(exceeded))).toEqual([
      'IP 198.51.100.9 > 10.0.0.5: ICMP time exceeded in-transit, length 36',
    ])
  })

  it('comes from the other end itself: port unreachable', () => {
    const [translated] = gateway.inside(udp(FROM, TO))
    expect(printed(gateway.outside(icmpError(SERVER, EXTERNAL, translated!)))).toEqual([
      'IP 192.0.2.7 > 10.0.0.5: ICMP 192.0.2.7 udp port 80 unreachable, length 36',
    ])
  })

  it('embeds a packet with a wrong checksum, which is not judged (REQ-3)', () => {
    gateway.verifiesTransport = false
    const [translated] = gateway.inside(udp(FROM, TO, { payload: 'payload' }))
    const damaged = translated!.slice()
    damaged[40]! ^= 0xff
    expect(gateway.fate(WAN, icmpError(ROUTER, EXTERNAL, damaged, { bytes: 35 }))).toBe('sent')
  })

  it('is carried although the embedded packet has extensions behind it (RFC 4884)', () => {
    const [translated] = gateway.inside(udp(FROM, TO, { payload: new Uint8Array(100) }))
    const spec = icmpError(ROUTER, EXTERNAL, translated!, { bytes: 128, payload: Uint8Array.of(0x20, 0, 0xdf, 0xff) })
    expect(gateway.fate(WAN, spec)).toBe('sent')
  })
})

describe('from inside, about what came from outside', () => {
  let answer: Uint8Array
  let external: string
  beforeEach(() => {
    external = fromOf(gateway.inside(udp(FROM, TO))[0]!)
    answer = gateway.outside(udp(TO, external, { payload: 'answer' }))[0]!
  })

  it('goes out as from the external address, embedding what the outside had sent', () => {
    const sent = gateway.inside(icmpError(HOST, SERVER, answer, { bytes: 34 }))
    expect(decode(sent[0]!)).toMatchObject({ src: EXTERNAL, dst: SERVER, type: 3, code: 3 })
    expect(embeddedIn(sent)).toMatchObject({ src: SERVER, dst: EXTERNAL })
    expect(`${embeddedIn(sent).dst}:${embeddedIn(sent).dport}`).toBe(external)
  })

  it('from a router inside, whose address means nothing outside: from the external address, too', () => {
    const sent = gateway.inside(icmpError(INSIDE_ROUTER, SERVER, answer))
    expect(decode(sent[0]!).src).toBe(EXTERNAL)
  })

  it('from a router inside, where nothing is translated: by its own address', async () => {
    const plain = await Gateway.start({ nat: { translate: false } })
    const [came] = plain.outside(udp(TO, FROM))
    const exceeded = icmpError(INSIDE_ROUTER, SERVER, came!, { icmp: { type: 11, code: 0 } })
    expect(decode(plain.inside(exceeded)[0]!)).toMatchObject({ src: INSIDE_ROUTER, dst: SERVER, type: 11 })
  })

  it("about a ping's answer", () => {
    const { icmpId } = decode(gateway.inside(echo(HOST, SERVER, 9))[0]!)
    const [reply] = gateway.outside(echoReply(SERVER, EXTERNAL, icmpId))
    const sent = gateway.inside(icmpError(HOST, SERVER, reply!))
    expect(embeddedIn(sent)).toMatchObject({ src: SERVER, dst: EXTERNAL, icmpId })
  })
})

describe('an error that is not believed', () => {
  let translated: Uint8Array
  beforeEach(() => {
    translated = gateway.inside(udp(FROM, TO, { payload: 'payload' }))[0]!
  })

  const embeddedBut = (change: (mem: DataView) => void): Uint8Array => {
    const copy = translated.slice()
    change(new DataView(copy.buffer))
    return copy
  }

  it('is sent to another address than the embedded packet came from (RFC 5927)', async () => {
    const pool = await Gateway.start({ pool: ['198.51.100.1', '198.51.100.2'] })
    const [sent] = pool.inside(udp(FROM, TO))
    const { src } = decode(sent!)
    const other = src === '198.51.100.1' ? '198.51.100.2' : '198.51.100.1'
    expect(pool.fate(WAN, icmpError(ROUTER, other, sent!))).toBe('icmp-error-unrelated')
    expect(pool.fate(WAN, icmpError(ROUTER, src, sent!))).toBe('sent')
  })

  for (const [what, source] of [
    ['an inside host', '10.0.0.9'],
    ['the inside host that it goes to', HOST],
    ['the gateway itself, outside', EXTERNAL],
    ['the gateway itself, inside', LAN_ADDRESS],
    ['a network behind a third interface', '172.16.0.1'],
  ] as const)
    it(`comes from outside by the address of ${what} (RFC 1812 5.3.8)`, () => {
      expect(gateway.fate(WAN, icmpError(source, EXTERNAL, translated))).toBe('martian-source')
    })

  it('comes from inside by an address outside', () => {
    const answer = gateway.outside(udp(TO, fromOf(translated)))[0]!
    expect(gateway.fate(LAN, icmpError('192.0.2.99', SERVER, answer))).toBe('martian-source')
  })

  for (const source of [SERVER, ROUTER, '198.51.100.9', '100.64.0.1', '192.168.7.1'])
    it(`comes from ${source}, which the default route leads to: it may be a router on the way, and is believed`, () => {
      expect(gateway.fate(WAN, icmpError(source, EXTERNAL, translated))).toBe('sent')
    })

  it('embeds an IPv4 header whose checksum is wrong (RFC 5508 REQ-3a)', () => {
    const other = embeddedBut((mem) => mem.setUint8(22, 9))
    expect(gateway.fate(WAN, icmpError(ROUTER, EXTERNAL, other))).toBe('icmp-embedded-checksum')
    // With options in it, all of the header counts.
    const options = { ip: { options: Uint8Array.of(7, 4, 4, 0) } }
    const [sent] = gateway.inside(udp(FROM, TO, options))
    const damaged = sent!.slice()
    damaged[35]! ^= 1
    expect(gateway.fate(WAN, icmpError(ROUTER, EXTERNAL, damaged, { bytes: 32 }))).toBe('icmp-embedded-checksum')
    expect(gateway.fate(WAN, icmpError(ROUTER, EXTERNAL, sent!, { bytes: 32 }))).toBe('sent')
  })

  it('embeds a port that nobody has: it may be about a packet of the host', () => {
    const other = embeddedBut((mem) => mem.setUint16(34, 20_001))
    expect(gateway.fate(WAN, icmpError(ROUTER, EXTERNAL, other))).toBe('not-ours')
  })

  it('embeds another receiver', () => {
    const other = embeddedBut((mem) => mem.setUint16(36, 81))
    expect(gateway.fate(WAN, icmpError(ROUTER, EXTERNAL, other))).toBe('not-ours')
  })

  it('has a wrong checksum (REQ-3)', () => {
    const bytes = frame({ eth: { src: MAC.server, dst: MAC.wan }, ...icmpError(ROUTER, EXTERNAL, translated) })
    bytes[60]! ^= 1
    expect(gateway.fate(WAN, bytes)).toBe('icmp-checksum')
  })

  it('comes after its connection has ended (REQ-4: dropped silently)', () => {
    gateway.jump(301)
    expect(gateway.fate(WAN, icmpError(ROUTER, EXTERNAL, translated))).toBe('not-ours')
  })

  it('from inside about a packet that nobody sent', () => {
    const unknown = frame(udp(`${SERVER}:81`, FROM))
    expect(gateway.fate(LAN, icmpError(HOST, SERVER, unknown))).toBe('icmp-error-unrelated')
  })

  it('has no time to live, and nobody is told', () => {
    expect(gateway.fate(WAN, icmpError(ROUTER, EXTERNAL, translated, { ip: { ttl: 1 } }))).toBe('ttl-expired')
    expect(gateway.toWan()).toEqual([])
  })

  it('is larger than the next link takes', async () => {
    const small = await Gateway.start({ lanMtu: 300 })
    const [sent] = small.inside(udp(FROM, TO, { payload: new Uint8Array(400) }))
    expect(small.fate(WAN, icmpError(ROUTER, EXTERNAL, sent!, { bytes: 400 }))).toBe('too-big')
    expect(small.toWan()).toEqual([])
  })
})

describe('an error ends nothing and refreshes nothing (RFC 4787 REQ-12, RFC 5382 REQ-10, RFC 5508 REQ-6)', () => {
  for (const [what, spec] of [
    ['UDP', udp(FROM, TO)],
    ['TCP', tcpSegment(FROM, TO, 'S')],
    ['ICMP', echo(HOST, SERVER, 9)],
  ] as const)
    it(what, () => {
      const [translated] = gateway.inside(spec)
      const before = connectionsOf(gateway.tables)
      gateway.pass(20)
      for (let code = 0; code < 4; code++)
        gateway.outside(icmpError(SERVER, EXTERNAL, translated!, { icmp: { type: 3, code } }))
      expect(connectionsOf(gateway.tables)).toEqual(before)
      gateway.check()
    })
})
