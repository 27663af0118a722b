// FTP through 1, 2 and 4 shards, packets in and packets out: whoever announces, the control connection, the expectation
// and the data connection may each be another shard's. Both directions of each connection have one owner, which is the
// ownership rule end to end.

import { describe, expect, it } from 'vitest'
import { moveFreeBlock } from '../../src/coordinator/leases/free-blocks.ts'
import { BUILTIN } from '../../src/helpers/builtin.ts'
import { ownerOf } from '../../src/ownership/ownership-rule.ts'
import { parseAddress } from '../../src/wire/address.ts'
import * as tcp from '../../src/wire/tcp.ts'
import { Cluster, type Deliver, toDispatcher, toFirst, toNeighbour, toOwner } from './cluster.ts'
import { Dialogue, INSIDE_CLIENT, segmentOf } from './helped/dialogue.ts'
import { EXTERNAL, HOST, SERVER, WAN } from './network.ts'
import { decode, fromOf, tcpSegment, toOf } from './packets.ts'

const SHARDS = [1, 2, 4]
const SESSIONS = 12
const TCP = 6
const FORWARD = { protocol: TCP, address: null, port: 21, toAddress: parseAddress(HOST), toPort: 21 }

const start = async (shards: number, deliver: Deliver = toOwner): Promise<Cluster> => {
  const cluster = await Cluster.start({ shards, deliver, forwards: [FORWARD] })
  cluster.help(() => BUILTIN.ftp!())
  return cluster
}

const hostPort = (address: string, port: number): string => [...address.split('.'), port >> 8, port & 255].join(',')
/** The endpoint that a line names: `address:port`. */
const endpointIn = (line: string): string => {
  const numbers = /(\d+),(\d+),(\d+),(\d+),(\d+),(\d+)/.exec(line)!.slice(1).map(Number)
  return `${numbers.slice(0, 4).join('.')}:${numbers[4]! * 256 + numbers[5]!}`
}

/** The handshake of a data connection; its ends as the two hosts see them. */
function connect(cluster: Cluster, openerIsInside: boolean, from: string, to: string) {
  const go = (isInside: boolean, a: string, b: string, flags: string) =>
    isInside ? cluster.inside(tcpSegment(a, b, flags)) : cluster.outside(tcpSegment(a, b, flags))
  const [syn] = go(openerIsInside, from, to, 'S')
  expect(syn, `${from} > ${to}`).toBeDefined()
  const [answer] = go(!openerIsInside, toOf(syn!), fromOf(syn!), 'SA')
  expect([fromOf(answer!), toOf(answer!)]).toEqual([to, from])
  go(openerIsInside, from, to, 'A')
  return { seenFrom: fromOf(syn!), seenTo: toOf(syn!), ttl: decode(syn!).ttl }
}

/** A control connection, greeted. */
function control(cluster: Cluster, number: number, way: 'in' | 'out' | 'hairpin'): Dialogue<Cluster> {
  const d = new Dialogue(cluster, { clientPort: 50_000 + number, way })
  d.tell(d.server, '220 ready\r\n')
  d.tell(d.client, 'USER somebody\r\n')
  d.tell(d.server, '230 in\r\n')
  return d
}

for (const shards of SHARDS)
  for (const forwarded of [false, true])
    describe(`${shards} shards, the ${forwarded ? 'server' : 'client'} inside`, () => {
      it('active: the server comes to the port that it is told', async () => {
        const cluster = await start(shards)
        for (let i = 0; i < SESSIONS; i++) {
          const d = control(cluster, i, forwarded ? 'in' : 'out')
          const own = forwarded ? SERVER : HOST
          d.tell(d.client, `PORT ${hostPort(own, 40_000 + i)}\r\n`)
          const told = endpointIn(d.server.received)
          if (forwarded) expect(told).toBe(`${SERVER}:${40_000 + i}`)
          else expect(told.split(':')[0]).toBe(EXTERNAL)
          const from = forwarded ? `${HOST}:20` : `${SERVER}:20`
          const { seenTo } = connect(cluster, forwarded, from, told)
          expect(seenTo).toBe(`${own}:${40_000 + i}`)
        }
        verify(cluster)
      })

      it('passive: the client comes to the port that it is told', async () => {
        const cluster = await start(shards)
        for (let i = 0; i < SESSIONS; i++) {
          const d = control(cluster, i, forwarded ? 'in' : 'out')
          const own = forwarded ? HOST : SERVER
          d.tell(d.client, 'PASV\r\n')
          d.tell(d.server, `227 Entering Passive Mode (${hostPort(own, 40_000 + i)}).\r\n`)
          const told = endpointIn(d.client.received)
          if (!forwarded) expect(told).toBe(`${SERVER}:${40_000 + i}`)
          else expect(told.split(':')[0]).toBe(EXTERNAL)
          const from = forwarded ? `${SERVER}:${51_000 + i}` : `${HOST}:${51_000 + i}`
          const { seenTo } = connect(cluster, !forwarded, from, told)
          expect(seenTo).toBe(`${own}:${40_000 + i}`)
        }
        verify(cluster)
      })

      function verify(cluster: Cluster): void {
        const connections = cluster.connections()
        const masters = connections.filter(({ expected }) => !expected)
        const children = connections.filter(({ expected }) => expected)
        expect([masters.length, children.length]).toEqual([SESSIONS, SESSIONS])
        for (const { master, packets, state } of children) {
          const its = masters.find(({ shard, row }) => shard === master!.shard && row === master!.row)
          expect(its).toBeDefined()
          expect([packets, state]).toEqual([[2, 1], 'ESTABLISHED'])
        }
        // Nothing was handed over: every packet came to its owner, and both directions have the same.
        expect(cluster.handovers()).toEqual({})
        expect(cluster.drops()).toEqual({})
        if (shards === 4) {
          // Sessions were spread, and expectations met in other shards than they were made in.
          expect(children.some(({ master, shard }) => master!.shard !== shard)).toBe(true)
        }
        cluster.check()
      }
    })

describe('whoever gets a packet first', () => {
  for (const [how, deliver] of [
    ['one shard', toFirst],
    ['a wrong one', toNeighbour],
    ['a dispatcher', toDispatcher],
  ] as const)
    it(`${how}: the data connection is the same`, async () => {
      const cluster = await start(4, deliver)
      for (let i = 0; i < SESSIONS; i++) {
        const d = control(cluster, i, 'out')
        d.tell(d.client, `PORT ${hostPort(HOST, 40_000 + i)}\r\n`)
        connect(cluster, false, `${SERVER}:20`, endpointIn(d.server.received))
      }
      expect(cluster.connections().filter(({ expected }) => expected)).toHaveLength(SESSIONS)
      expect(cluster.drops()).toEqual({})
      cluster.check()
    })
})

describe('an inside endpoint that has a mapping', () => {
  it('is announced at that port, whichever shard it is announced through', async () => {
    const cluster = await start(4)
    let elsewhere = 0
    for (let i = 0; i < SESSIONS; i++) {
      const [syn] = cluster.inside(tcpSegment(`${HOST}:${40_000 + i}`, '192.0.2.200:80', 'S'))
      const d = control(cluster, i, 'out')
      d.tell(d.client, `PORT ${hostPort(HOST, 40_000 + i)}\r\n`)
      const told = endpointIn(d.server.received)
      expect(told).toBe(fromOf(syn!))
      connect(cluster, false, `${SERVER}:20`, told)
      const shardOf = (from: string) => cluster.connections().find(({ original }) => original.startsWith(from))!.shard
      if (shardOf(`${HOST}:${40_000 + i} `) !== shardOf(`${HOST}:${50_000 + i} `)) elsewhere++
    }
    expect(elsewhere).toBeGreaterThan(0)
    expect(cluster.drops()).toEqual({})
    cluster.check()
  })
})

describe('the owner of the announced endpoint has no port left', () => {
  /** Every block is the first shard's. */
  const greedy = async () => {
    const cluster = await start(2)
    const { externals } = cluster
    for (let block = 256; block < 384; block++) externals.lease(0, 0, block, 0)
    cluster.turn()
    return cluster
  }
  /** Of a connection that the first shard owns, whose client announces an endpoint of the second. */
  const announce = (cluster: Cluster, before = '') => {
    for (let i = 0; ; i++) {
      const d = control(cluster, i, 'out')
      const of = `${HOST}:${d.clientPort} `
      if (cluster.connections().find(({ original }) => original.startsWith(of))!.shard !== 0) continue
      for (let port = 40_000; ; port += 2) {
        const numbers = { protocol: TCP, source: HOST_NUMBER, sourcePort: port, destination: 1, destinationPort: 0 }
        if (ownerOf(0, numbers, cluster.leases, cluster.rules) !== 1) continue
        return {
          d,
          line: `PORT ${hostPort(HOST, port)}\r\n`,
          got: d.tell(d.client, `${before}PORT ${hostPort(HOST, port)}\r\n`),
        }
      }
    }
  }
  const HOST_NUMBER = 0x0a000005

  it('the line waits for it, and goes on when the port is there', async () => {
    const cluster = await greedy()
    const { d, got } = announce(cluster)
    expect(got).toEqual([])
    const asked = cluster.externals.requests()
    expect(asked).toEqual([{ shard: 1, entry: 0, space: 0 }])
    expect(moveFreeBlock(cluster.externals, 0, 0, 1)).toBe(true)
    cluster.externals.answer(1, 0, 0, true)
    cluster.pass(0.2)
    for (const segment of cluster.taken(WAN).map(segmentOf)) d.server.take(segment)
    const told = endpointIn(d.server.received)
    connect(cluster, false, `${SERVER}:20`, told)
    cluster.check()
  })

  it('what came before the line in its segment goes on meanwhile, and is read once', async () => {
    const cluster = await greedy()
    const { d, got } = announce(cluster, 'TYPE I\r\n')
    expect(got.map(({ text }) => text)).toEqual(['TYPE I\r\n'])
    expect(moveFreeBlock(cluster.externals, 0, 0, 1)).toBe(true)
    cluster.externals.answer(1, 0, 0, true)
    cluster.pass(0.2)
    for (const segment of cluster.taken(WAN).map(segmentOf)) d.server.take(segment)
    expect(d.server.received).toMatch(/TYPE I\r\nPORT 203,0,113,1,\d+,\d+\r\n$/)
    cluster.check()
  })

  it('the line does not go on if there is none to be had: its connection ends', async () => {
    const cluster = await greedy()
    const { d, line } = announce(cluster)
    cluster.externals.answer(1, 0, 0, false)
    cluster.pass(0.2)
    const [reset] = cluster.taken(WAN).map(segmentOf)
    expect([reset?.flags, reset?.seq]).toEqual([tcp.RST, d.server.ack])
    expect(d.server.received).not.toContain(line)
    cluster.check()
  })
})

describe('client and server are both inside, and talk by the external address', () => {
  for (const shards of SHARDS)
    it(`${shards} shards: each half of the hairpin has a helper, an expectation and a connection`, async () => {
      const cluster = await start(shards)
      for (let i = 0; i < SESSIONS; i++) {
        const d = control(cluster, i, 'hairpin')
        d.tell(d.client, 'PASV\r\n')
        d.tell(d.server, `227 Entering Passive Mode (${hostPort(HOST, 40_000 + i)}).\r\n`)
        const told = endpointIn(d.client.received)
        const [syn] = cluster.hairpin(tcpSegment(`${INSIDE_CLIENT}:${51_000 + i}`, told, 'S'))
        expect([fromOf(syn!).split(':')[0], toOf(syn!)]).toEqual([EXTERNAL, `${HOST}:${40_000 + i}`])
        const [answer] = cluster.hairpin(tcpSegment(toOf(syn!), fromOf(syn!), 'SA'))
        expect([fromOf(answer!), toOf(answer!)]).toEqual([told, `${INSIDE_CLIENT}:${51_000 + i}`])
        // The client's own announcement is told to the server as the external address has it.
        d.tell(d.client, `PORT ${hostPort(INSIDE_CLIENT, 42_000 + i)}\r\n`)
        const active = endpointIn(d.server.received)
        expect(active.split(':')[0]).toBe(EXTERNAL)
        const [data] = cluster.hairpin(tcpSegment(`${HOST}:20`, active, 'S'))
        expect(toOf(data!)).toBe(`${INSIDE_CLIENT}:${42_000 + i}`)
      }
      expect(cluster.connections().filter(({ expected }) => expected)).toHaveLength(4 * SESSIONS)
      expect(cluster.drops()).toEqual({})
      cluster.check()
    })
})
