// UDP, ICMP queries and protocols without ports: how long a flow lives, who refreshes it, when it is assured. RFC 4787
// REQ-5 and REQ-6, RFC 5508 REQ-2, nf_conntrack_proto_{udp,icmp,generic,gre}.c.

import { beforeEach, describe, expect, it } from 'vitest'
import { CT_ESTABLISHED, CT_IS_REPLY, CT_NEW } from '../../src/conntrack/terms.ts'
import type { FrameSpec } from '../../src/testing/builder.ts'
import { Gateway } from '../datapath/gateway.ts'
import { EXTERNAL, HOST, SERVER } from '../datapath/network.ts'
import { decode, echo, echoReply, fromOf, udp } from '../datapath/packets.ts'
import { connectionsOf } from '../datapath/tables.ts'
import { onlyOne } from './scripted-connection.ts'

const FROM = `${HOST}:5000`
const bare = (src: string, dst: string, number: number): FrameSpec => ({ ip: { src, dst }, protocol: { number } })

let gateway: Gateway
beforeEach(async () => {
  gateway = await Gateway.start({ nat: { protocols: [47, 50] } })
})

/** The flow that this packet opens lives this long without another. */
function expectLife(seconds: number): void {
  expect(onlyOne(gateway).timeout).toBe(seconds)
  gateway.pass(seconds - 1)
  expect(connectionsOf(gateway.tables)).toHaveLength(1)
  gateway.pass(3)
  expect(connectionsOf(gateway.tables)).toEqual([])
  gateway.check()
}

describe('without an answer', () => {
  const flows = [
    ['UDP', udp(FROM, `${SERVER}:4000`), 300],
    ['UDP to port 53 (RFC 4787 REQ-5a)', udp(FROM, `${SERVER}:53`), 30],
    ['a ping', echo(HOST, SERVER, 7), 60],
    ['GRE', bare(HOST, SERVER, 47), 30],
    ['ESP', bare(HOST, SERVER, 50), 600],
  ] as const
  for (const [what, spec, seconds] of flows)
    it(`${what} lives ${seconds} s`, () => {
      gateway.inside(spec)
      expectLife(seconds)
    })
})

describe('answered', () => {
  const flows = [
    ['UDP', udp(FROM, `${SERVER}:4000`), (out: Uint8Array) => udp(`${SERVER}:4000`, fromOf(out)), 300],
    ['UDP to port 53', udp(FROM, `${SERVER}:53`), (out: Uint8Array) => udp(`${SERVER}:53`, fromOf(out)), 30],
    ['a ping', echo(HOST, SERVER, 7), (out: Uint8Array) => echoReply(SERVER, EXTERNAL, decode(out).icmpId), 60],
    ['GRE', bare(HOST, SERVER, 47), () => bare(SERVER, EXTERNAL, 47), 180],
    ['ESP', bare(HOST, SERVER, 50), () => bare(SERVER, EXTERNAL, 50), 600],
  ] as const
  for (const [what, spec, answer, seconds] of flows)
    it(`${what} lives ${seconds} s from the answer on`, () => {
      const [out] = gateway.inside(spec)
      gateway.pass(20)
      expect(gateway.outside(answer(out!))).toHaveLength(1)
      expect(onlyOne(gateway)).toMatchObject({ seenReply: true, packets: [1, 1] })
      expectLife(seconds)
    })

  it('with a timeout of its own for streams, if there is one', async () => {
    gateway = await Gateway.start({ timeouts: { udpUnreplied: 30, udpStream: 120 } })
    const [out] = gateway.inside(udp(FROM, `${SERVER}:4000`))
    expect(onlyOne(gateway).timeout).toBe(30)
    gateway.outside(udp(`${SERVER}:4000`, fromOf(out!)))
    expectLife(120)
  })
})

describe('refreshing (RFC 4787 REQ-6)', () => {
  it('is what the inside end sends, and what answers it', () => {
    const [out] = gateway.inside(udp(FROM, `${SERVER}:4000`))
    gateway.pass(200)
    gateway.inside(udp(FROM, `${SERVER}:4000`))
    gateway.pass(200)
    expect(gateway.outside(udp(`${SERVER}:4000`, fromOf(out!)))).toHaveLength(1)
    gateway.pass(200)
    expect(gateway.outside(udp(`${SERVER}:4000`, fromOf(out!)))).toHaveLength(1)
    expectLife(300)
  })

  it('is not what the outside opened and the inside has not answered', async () => {
    gateway = await Gateway.start({ nat: { filtering: 'endpoint-independent' } })
    const caller = '198.51.100.7:999'
    const external = fromOf(gateway.inside(udp(FROM, `${SERVER}:4000`))[0]!)
    const fromOutside = () => connectionsOf(gateway.tables).filter(({ origin }) => origin === 1)
    gateway.outside(udp(caller, external))
    const { lastSeen } = fromOutside()[0]!
    gateway.pass(100)
    gateway.outside(udp(caller, external))
    expect(fromOutside()[0]!.lastSeen).toBe(lastSeen)
    gateway.inside(udp(FROM, caller))
    gateway.pass(100)
    gateway.outside(udp(caller, external))
    expect(fromOutside()[0]!.lastSeen).toBe(201)
  })
})

describe('ASSURED', () => {
  const there = udp(FROM, `${SERVER}:4000`)

  it('UDP: two-way traffic for longer than two seconds', () => {
    const [out] = gateway.inside(there)
    const back = udp(`${SERVER}:4000`, fromOf(out!))
    gateway.outside(back)
    gateway.pass(2)
    gateway.inside(there)
    expect(onlyOne(gateway).assured).toBe(false)
    gateway.pass(1)
    gateway.outside(back)
    expect(onlyOne(gateway).assured).toBe(true)
  })

  it('one-way traffic never is, and no ping', () => {
    gateway.inside(there)
    gateway.pass(100)
    gateway.inside(there)
    expect(onlyOne(gateway)).toMatchObject({ seenReply: false, assured: false })
    const [out] = gateway.inside(echo(HOST, SERVER, 7))
    for (let second = 0; second < 5; second++) {
      gateway.outside(echoReply(SERVER, EXTERNAL, decode(out!).icmpId))
      gateway.pass(1)
    }
    expect(connectionsOf(gateway.tables).map(({ assured }) => assured)).toEqual([false, false])
  })
})

describe('ctinfo', () => {
  it('is NEW until a reply has come, then ESTABLISHED, and IS_REPLY for replies', () => {
    const { track } = gateway.tables
    const [out] = gateway.inside(udp(FROM, `${SERVER}:4000`))
    const { row } = onlyOne(gateway)
    expect(track.ctinfo(row, 0)).toBe(CT_NEW)
    gateway.outside(udp(`${SERVER}:4000`, fromOf(out!)))
    expect(track.ctinfo(row, 0)).toBe(CT_ESTABLISHED)
    expect(track.ctinfo(row, 1)).toBe(CT_ESTABLISHED + CT_IS_REPLY)
  })
})
