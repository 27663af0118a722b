// Fragments, the first one last, wherever whole packets go too: by a port forward, as an expected connection, as a
// hairpin, to a neighbour that doesn't answer, past the operator's filter.

import { describe, expect, it } from 'vitest'
import { parseFilterRule } from '../../../src/coordinator/filter.ts'
import { tftp } from '../../../src/helpers/tftp.ts'
import { type EthernetSpec, type FrameSpec, fragments, frame } from '../../../src/testing/builder.ts'
import { parseAddress } from '../../../src/wire/address.ts'
import { Cluster } from '../cluster.ts'
import { Gateway } from '../gateway.ts'
import { EXTERNAL, HOST, LAN, MAC, SERVER, WAN } from '../network.ts'
import { decode, decodeIp, fromOf, toOf, udp } from '../packets.ts'
import { received } from './fragment-sequences.ts'

const ID = 7
const payload = Uint8Array.from({ length: 3000 }, (_, i) => (i * 31) & 0xff)
const BODY = 8 + payload.length
const FROM_LAN = { src: MAC.host, dst: MAC.lan }
const FROM_WAN = { src: MAC.server, dst: MAC.wan }

/** The last one first. */
const pieces = (eth: EthernetSpec, spec: FrameSpec): Uint8Array[] =>
  fragments(frame({ eth, ...spec, ip: { ...spec.ip, id: ID }, payload }), 1000).reverse()
const first = (sent: readonly Uint8Array[]): Uint8Array => sent.find((piece) => decode(piece).offset === 0)!
const lengths = (sent: readonly Uint8Array[]): number[] => received(sent).map((body) => body.length)

for (const shards of [1, 4])
  describe(`${shards} shards`, () => {
    it('to a forwarded port, and the answer from there', async () => {
      const to = { toAddress: parseAddress(HOST), toPort: 5353 }
      const cluster = await Cluster.start({ shards, forwards: [{ protocol: 17, address: null, port: 53, ...to }] })
      for (let port = 4000; port < 4008; port++) {
        const remote = `198.51.100.9:${port}`
        const came = pieces(FROM_WAN, udp(remote, `${EXTERNAL}:53`)).flatMap((piece) => cluster.outside(piece))
        expect([lengths(came), toOf(first(came))]).toEqual([[BODY], `${HOST}:5353`])
        const answer = pieces(FROM_LAN, udp(`${HOST}:5353`, remote)).flatMap((piece) => cluster.inside(piece))
        expect([lengths(answer), fromOf(first(answer))]).toEqual([[BODY], `${EXTERNAL}:53`])
        cluster.pass(3)
      }
      expect(cluster.drops()).toEqual({})
      cluster.check()
    })

    it('of a connection that a helper has announced', async () => {
      const cluster = await Cluster.start({ shards })
      cluster.help(tftp)
      const request = udp(`${HOST}:5000`, `${SERVER}:69`, { payload: '\0\x01file\0octet\0blksize\x003004\0' })
      const external = fromOf(cluster.inside(request)[0]!)
      const data = pieces(FROM_WAN, udp(`${SERVER}:33333`, external)).flatMap((piece) => cluster.outside(piece))
      expect([lengths(data), toOf(first(data))]).toEqual([[BODY], `${HOST}:5000`])
      expect(cluster.drops()).toEqual({})
      cluster.check()
    })

    it('of a hairpin to a host that does not answer: its sender is told by its own identification', async () => {
      const nat = { filtering: 'endpoint-independent' } as const
      const cluster = await Cluster.start({ shards, nat, network: { silent: ['10.0.0.6'] } })
      const peer = fromOf(cluster.inside(udp('10.0.0.6:47000', `${SERVER}:3478`))[0]!)
      for (const piece of pieces(FROM_LAN, udp(`${HOST}:5000`, peer))) expect(cluster.hairpin(piece)).toEqual([])
      cluster.pass(8)
      const [told, ...more] = cluster.taken(LAN)
      expect(more).toEqual([])
      expect(decode(told!)).toMatchObject({ dst: HOST, type: 3, code: 1 })
      expect(decodeIp(decode(told!).embedded)).toMatchObject({ id: ID, src: HOST, dst: EXTERNAL })
    })
  })

it('that the filter denies leave nothing behind, and their sender is told once', async () => {
  const gateway = await Gateway.start({ filter: [parseFilterRule({ action: 'deny' })] })
  for (const piece of pieces(FROM_LAN, udp(`${HOST}:5000`, `${SERVER}:53`))) gateway.inside(piece)
  expect(gateway.toLan().map((told) => decode(told))).toMatchObject([{ dst: HOST, type: 3, code: 13 }])
  expect(gateway.drops()).toEqual({ 'filter-denied': 1, 'fragment-orphan': 3 })
  expect(gateway.counter('fragmentsWaiting')).toBe(0)
})

it('of GRE from outside are the host’s until an inside end has a connection', async () => {
  const gateway = await Gateway.start({ nat: { protocols: [47] } })
  const gre = (src: string, dst: string): FrameSpec => ({ ip: { src, dst }, protocol: { number: 47 } })
  const fates = () => pieces(FROM_WAN, gre(SERVER, EXTERNAL)).map((piece) => gateway.fate(WAN, piece))
  expect(fates()).toEqual(['waiting', 'waiting', 'not-ours'])
  gateway.pass(33)
  gateway.inside(gre(HOST, SERVER))
  expect(fates()).toEqual(['waiting', 'waiting', 'sent'])
  expect(gateway.drops()).toEqual({})
})
