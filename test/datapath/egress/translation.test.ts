// Translation, packets in and packets out: what changes is addresses, ports or identifier, time to live and checksums,
// and nothing else. The gateway verifies every checksum of every frame that it sends (verify.ts).

import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { type FrameSpec, frame } from '../../../src/testing/builder.ts'
import { u16 } from '../../wire/arbitraries.ts'
import { Gateway } from '../gateway.ts'
import { EXTERNAL, HOST, MAC, SERVER, WAN } from '../network.ts'
import { decode, echo, echoReply, fromOf, printed, tcpSegment, toOf, udp } from '../packets.ts'

let gateway: Gateway
beforeAll(async () => {
  gateway = await Gateway.start({ connections: 4096, nat: { protocols: [47, 50] } })
})

describe('translation', () => {
  it('of a TCP connection', () => {
    const [out] = gateway.inside(tcpSegment(`${HOST}:40000`, `${SERVER}:80`, 'S'))
    const external = fromOf(out!)
    expect(printed([out!])).toEqual([
      `IP ${external.replace(':', '.')} > 192.0.2.7.80: Flags [S], seq 0, win 64240, length 0`,
    ])
    expect(printed(gateway.outside(tcpSegment(`${SERVER}:80`, external, 'SA')))).toEqual([
      'IP 192.0.2.7.80 > 10.0.0.5.40000: Flags [S.], seq 0, ack 1, win 64240, length 0',
    ])
    const [data] = gateway.inside(tcpSegment(`${HOST}:40000`, `${SERVER}:80`, 'PA', { payload: 'GET /' }))
    expect(fromOf(data!)).toBe(external)
  })

  it('of a UDP flow', () => {
    const external = fromOf(gateway.inside(udp(`${HOST}:40000`, `${SERVER}:53`, { payload: 'query' }))[0]!)
    expect(printed(gateway.outside(udp(`${SERVER}:53`, external, { payload: 'answer' })))).toEqual([
      'IP 192.0.2.7.53 > 10.0.0.5.40000: UDP, length 6',
    ])
  })

  it('of a ping: its identifier is what a port is elsewhere (RFC 5508 section 3.1)', () => {
    const [out] = gateway.inside(echo(HOST, SERVER, 77))
    const { icmpId } = decode(out!)
    expect(printed(gateway.outside(echoReply(SERVER, EXTERNAL, icmpId)))).toEqual([
      'IP 192.0.2.7 > 10.0.0.5: ICMP echo reply, id 77, seq 1, length 8',
    ])
  })

  for (const [query, reply] of [
    [13, 14],
    [15, 16],
    [17, 18],
  ] as const)
    it(`of the ICMP queries of type ${query}, which a ping's answer doesn't answer`, () => {
      const { icmpId } = decode(gateway.inside(echo(HOST, SERVER, 100 + query, { type: query }))[0]!)
      expect(gateway.fate(WAN, echo(SERVER, EXTERNAL, icmpId, { type: 0 }))).toBe('not-ours')
      const [back] = gateway.outside(echo(SERVER, EXTERNAL, icmpId, { type: reply }))
      expect(decode(back!)).toMatchObject({ dst: HOST, type: reply, icmpId: 100 + query })
    })

  it('readdresses the frame to the next hop', () => {
    const [out] = gateway.inside(udp(`${HOST}:40000`, `${SERVER}:53`))
    expect([...out!.subarray(0, 12)]).toEqual(macs(MAC.server, MAC.wan))
    const [back] = gateway.outside(udp(`${SERVER}:53`, fromOf(out!)))
    expect([...back!.subarray(0, 12)]).toEqual(macs(MAC.host, MAC.lan))
  })
})

const macs = (...addresses: string[]): number[] =>
  addresses.flatMap((address) => address.split(':').map((byte) => Number.parseInt(byte, 16)))

const port = (): fc.Arbitrary<number> => fc.integer({ min: 1, max: 65535 })
const payload = (): fc.Arbitrary<Uint8Array> => fc.uint8Array({ maxLength: 200 })
const remote = (): fc.Arbitrary<string> =>
  fc.tuple(fc.integer({ min: 1, max: 9 }), fc.nat(255)).map(([a, b]) => `${a}.0.2.${b}`)
const more = () => fc.record({ ttl: fc.integer({ min: 2, max: 255 }), id: u16(), tos: fc.nat(255) })

describe('any packet', () => {
  const flow = (): fc.Arbitrary<(there: boolean, external: string) => FrameSpec> =>
    fc.tuple(fc.nat(3), port(), port(), remote(), payload(), more()).map(([kind, own, other, server, data, ip]) => {
      const [inside, outside] = [`${HOST}:${own}`, `${server}:${other}`]
      return (there, external) => {
        const extra = { ip, payload: data }
        const [address] = external.split(':') as [string]
        if (kind === 0)
          return there ? tcpSegment(inside, outside, 'S', extra) : tcpSegment(outside, external, 'SA', extra)
        if (kind === 1) return there ? udp(inside, outside, extra) : udp(outside, external, extra)
        if (kind === 2)
          return there
            ? echo(HOST, server, own, extra)
            : echoReply(server, address, Number(external.split(':')[1]), extra)
        const [src, dst] = there ? [HOST, server] : [server, address]
        return { ip: { src, dst, ...ip }, protocol: { number: 47 }, payload: data }
      }
    })

  it('goes out and its answer comes back, changed in nothing but what translation changes', () => {
    fc.assert(
      fc.property(flow(), (packet) => {
        const original = packet(true, '')
        const [out] = gateway.inside(original)
        const sent = decode(out!)
        expect(sent).toMatchObject({ ...kept(frame(original)), src: EXTERNAL, ttl: decode(frame(original)).ttl - 1 })
        expect(payloadOf(out!)).toEqual(payloadOf(frame(original)))
        const external = `${EXTERNAL}:${sent.protocol === 1 ? sent.icmpId : sent.sport}`
        const answer = packet(false, external)
        const [back] = gateway.outside(answer)
        const received = decode(back!)
        expect(received).toMatchObject({ ...kept(frame(answer)), dst: HOST, ttl: decode(frame(answer)).ttl - 1 })
        expect(payloadOf(back!)).toEqual(payloadOf(frame(answer)))
        if (sent.protocol === 6 || sent.protocol === 17)
          expect([fromOf(back!), toOf(back!)]).toEqual([toOf(out!), `${HOST}:${(original.tcp ?? original.udp)!.sport}`])
        if (sent.protocol === 1) expect(received.icmpId).toBe(original.icmp!.id)
      }),
      { numRuns: 500 },
    )
    gateway.check()
  })

  /** What must be the same before and after. */
  function kept(bytes: Uint8Array) {
    const { protocol, id, length, dontFragment, flags, seq, ack, type, code, options } = decode(bytes)
    return { protocol, id, length, dontFragment, flags, seq, ack, type, code, options }
  }

  /** Behind ports, identifier and checksum. */
  const payloadOf = (bytes: Uint8Array): Uint8Array => {
    const { protocol, body } = decode(bytes)
    return body.subarray({ 6: 18, 17: 8, 1: 6 }[protocol] ?? 0)
  }
})
