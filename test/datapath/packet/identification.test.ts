// What leaves in fragments never has the identification of another datagram towards the same remote end (RFC 6864),
// whoever sent it; who sent it is told its own by ICMP errors. Whole datagrams keep theirs.

import { describe, expect, it } from 'vitest'
import { type FrameSpec, fragments, frame } from '../../../src/testing/builder.ts'
import { parseAddress } from '../../../src/wire/address.ts'
import { Cluster } from '../cluster.ts'
import { Gateway } from '../gateway.ts'
import { EXTERNAL, HOST, MAC, ROUTER, SERVER } from '../network.ts'
import { decode, decodeIp, fromOf, icmpError, udp } from '../packets.ts'
import { received } from './fragment-sequences.ts'

const OTHER = '10.0.0.6'
const payload = Uint8Array.from({ length: 1200 }, (_, i) => i & 0xff)
const ID = 7

const pieces = (spec: FrameSpec, size = 400): Uint8Array[] =>
  fragments(frame({ eth: { src: MAC.host, dst: MAC.lan }, ...spec, ip: { ...spec.ip, id: ID }, payload }), size)
const idsOf = (sent: readonly Uint8Array[]): number[] => [...new Set(sent.map((bytes) => decode(bytes).id))]

describe('the numbers that shards choose', () => {
  for (const shards of [1, 2, 3, 4, 7, 32])
    it(`by ${shards} shards, towards one remote end, are all 65536 before one comes again`, async () => {
      await Gateway.start()
      const { attachIdentification, chooseIdentification } = await import(
        '../../../src/datapath/packet/identification.ts'
      )
      const chosen = new Set<number>()
      for (let shard = 0; shard < shards; shard++) {
        attachIdentification(shard, shards, true)
        const own = Math.floor((65535 - shard) / shards) + 1
        for (let n = 0; n < own; n++) chosen.add(chooseIdentification(parseAddress(SERVER), 17))
      }
      expect(chosen.size).toBe(65536)
    })

  it('are in another order for another remote end, and in none that one sees', async () => {
    await Gateway.start()
    const { attachIdentification, chooseIdentification } = await import(
      '../../../src/datapath/packet/identification.ts'
    )
    attachIdentification(0, 1, true)
    const numbers = (remote: string) =>
      Array.from({ length: 1000 }, () => chooseIdentification(parseAddress(remote), 17))
    const [some, others] = [numbers(SERVER), numbers(ROUTER)]
    const steps = new Set(some.slice(1).map((number, i) => (number - some[i]!) & 0xffff))
    expect(steps.size).toBeGreaterThan(900)
    expect(some.filter((number, i) => number === others[i]).length).toBeLessThan(5)
  })
})

describe('datagrams that come in fragments', () => {
  it('of two hosts with one identification have two, each one in all its fragments', async () => {
    const gateway = await Gateway.start()
    const [some, others] = [HOST, OTHER].map((host) => pieces(udp(`${host}:5000`, `${SERVER}:53`)))
    const sent = some!.flatMap((piece, i) => [...gateway.inside(piece), ...gateway.inside(others![i]!)])
    expect(idsOf(sent)).toHaveLength(2)
    expect(received(sent)).toHaveLength(2)
  })

  it('of many hosts, through four shards, have one each', async () => {
    const cluster = await Cluster.start({ shards: 4 })
    const sent: Uint8Array[] = []
    for (let host = 2; host < 102; host++)
      for (const spec of [udp(`10.0.0.${host}:5000`, `${SERVER}:53`), udp(`10.0.0.${host}:5002`, `${SERVER}:53`)]) {
        const id = host * 2 + Number(spec.udp?.sport === 5002)
        const its = fragments(
          frame({ eth: { src: MAC.host, dst: MAC.lan }, ...spec, ip: { ...spec.ip, id: id % 5 }, payload }),
          400,
        )
        sent.push(...its.flatMap((piece) => cluster.inside(piece)))
        cluster.pass(0.063)
      }
    expect(idsOf(sent)).toHaveLength(200)
    expect(received(sent)).toHaveLength(200)
    cluster.check()
  })

  it('keep it where nothing is translated', async () => {
    const gateway = await Gateway.start({ nat: { translate: false } })
    const sent = pieces(udp(`${HOST}:5000`, `${SERVER}:53`)).flatMap((piece) => gateway.inside(piece))
    expect([idsOf(sent), sent.length]).toEqual([[ID], 4])
  })

  it('by hairpin, of two hosts, have two', async () => {
    const gateway = await Gateway.start({ nat: { filtering: 'endpoint-independent' } })
    const external = fromOf(gateway.inside(udp(`${OTHER}:47000`, `${SERVER}:3478`))[0]!)
    const [some, others] = [HOST, '10.0.0.9'].map((host) => pieces(udp(`${host}:5000`, external)))
    const sent = some!.flatMap((piece, i) => [...gateway.hairpin(piece), ...gateway.hairpin(others![i]!)])
    expect([idsOf(sent).length, received(sent).length]).toEqual([2, 2])
  })

  it('are cut once more with the same number', async () => {
    const gateway = await Gateway.start({ wanMtu: 300 })
    const sent = pieces(udp(`${HOST}:5000`, `${SERVER}:53`)).flatMap((piece) => gateway.inside(piece))
    expect(idsOf(sent)).toHaveLength(1)
    expect(received(sent).map((body) => body.length)).toEqual([1208])
  })
})

describe('datagrams that are cut here', () => {
  it('of two hosts with one identification have two, and whole ones keep theirs', async () => {
    const gateway = await Gateway.start({ wanMtu: 576 })
    const long = [HOST, OTHER].flatMap((host) =>
      gateway.inside(udp(`${host}:5000`, `${SERVER}:53`, { ip: { id: ID }, payload })),
    )
    expect([idsOf(long).length, received(long).length]).toEqual([2, 2])
    const short = gateway.inside(udp(`${HOST}:5000`, `${SERVER}:53`, { ip: { id: ID } }))
    expect(idsOf(short)).toEqual([ID])
  })

  it('keep it where nothing is translated', async () => {
    const gateway = await Gateway.start({ wanMtu: 576, nat: { translate: false } })
    expect(idsOf(gateway.inside(udp(`${HOST}:5000`, `${SERVER}:53`, { ip: { id: ID }, payload })))).toEqual([ID])
  })
})

describe('an ICMP error', () => {
  const quotedId = ([error]: Uint8Array[]): number => decodeIp(decode(error!).embedded).id

  it('about a first fragment that came as one quotes what its sender has sent', async () => {
    const gateway = await Gateway.start()
    const sent = pieces(udp(`${HOST}:5000`, `${SERVER}:53`)).flatMap((piece) => gateway.inside(piece))
    expect(idsOf(sent)).not.toEqual([ID])
    expect(quotedId(gateway.outside(icmpError(ROUTER, EXTERNAL, sent[0]!)))).toBe(ID)
  })

  it('about one that was cut here does too, in whichever shard', async () => {
    const cluster = await Cluster.start({ shards: 4, network: { wanMtu: 576 } })
    for (let port = 5000; port < 5016; port++) {
      const sent = cluster.inside(udp(`${HOST}:${port}`, `${SERVER}:53`, { ip: { id: ID }, payload }))
      expect(idsOf(sent)).not.toEqual([ID])
      expect(quotedId(cluster.outside(icmpError(ROUTER, EXTERNAL, sent[0]!)))).toBe(ID)
    }
  })

  it('about a fragment whose flow is another shard’s does too', async () => {
    const cluster = await Cluster.start({ shards: 4 })
    for (let port = 5000; port < 5016; port++) {
      const sent = pieces(udp(`${HOST}:${port}`, `${SERVER}:53`)).flatMap((piece) => cluster.inside(piece))
      expect(quotedId(cluster.outside(icmpError(ROUTER, EXTERNAL, sent[0]!)))).toBe(ID)
      cluster.pass(2)
    }
  })

  it("of the gateway's own quotes what has come", async () => {
    const gateway = await Gateway.start()
    const [first] = pieces(udp(`${HOST}:5000`, `${SERVER}:53`, { ip: { ttl: 1 } }))
    gateway.inside(first!)
    expect(quotedId(gateway.toLan())).toBe(ID)
  })

  it('of the gateway’s own about one that has waited for its next hop does too', async () => {
    const gateway = await Gateway.start({ silent: [ROUTER] })
    const [first] = pieces(udp(`${HOST}:5000`, `${SERVER}:53`))
    expect(gateway.fate(0, first!)).toBe('queued')
    gateway.pass(6)
    expect(quotedId(gateway.toLan())).toBe(ID)
  })

  it('about a hairpin that was cut behind its first half is, too', async () => {
    const gateway = await Gateway.start({ lanMtu: 576, nat: { filtering: 'endpoint-independent' } })
    const external = fromOf(gateway.inside(udp(`${OTHER}:47000`, `${SERVER}:3478`))[0]!)
    const cut = gateway.hairpin(udp(`${HOST}:5000`, external, { ip: { id: ID }, payload }))
    expect(idsOf(cut)).not.toEqual([ID])
    const error = gateway.hairpin(icmpError(OTHER, EXTERNAL, cut[0]!))
    expect([decode(error[0]!).dst, quotedId(error)]).toEqual([HOST, ID])
  })

  it('about a hairpin is turned back twice', async () => {
    const cluster = await Cluster.start({ shards: 4, nat: { filtering: 'endpoint-independent' } })
    const external = fromOf(cluster.inside(udp(`${OTHER}:47000`, `${SERVER}:3478`))[0]!)
    const [first] = pieces(udp(`${HOST}:5000`, external)).flatMap((piece) => cluster.hairpin(piece))
    expect(decode(first!).id).not.toBe(ID)
    const error = cluster.hairpin(icmpError(OTHER, EXTERNAL, first!))
    expect([decode(error[0]!).dst, quotedId(error)]).toEqual([HOST, ID])
  })
})
