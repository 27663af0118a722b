// Forwards: an external port that belongs to a server inside. Who sends there reaches the server, what the server sends
// from its port comes from there, and neither mapping nor port is used (rule 2 of ownership/ownership-rule.ts).

import { beforeEach, describe, expect, it } from 'vitest'
import type { PortForward } from '../../src/nat/port-forward-rules.ts'
import { parseAddress } from '../../src/wire/address.ts'
import { Cluster, type Deliver, toDispatcher, toFirst, toNeighbour, toOwner } from '../datapath/cluster.ts'
import { Gateway } from '../datapath/gateway.ts'
import { EXTERNAL, HOST, LAN, ROUTER, SERVER, WAN } from '../datapath/network.ts'
import { decode, decodeIp, fromOf, icmpError, tcpSegment, toOf, udp } from '../datapath/packets.ts'
import { connectionsOf, mappingsOf } from '../datapath/tables.ts'

const TCP = 6
const UDP = 17
const SERVICE = `${HOST}:21`
const FORWARDED = `${EXTERNAL}:21`
const CLIENT = `${SERVER}:40000`
const NEIGHBOUR = '10.0.0.6'

const forward = (protocol: number, from: string, to: string): PortForward => {
  const [address, port] = from.split(':')
  const [toAddress, toPort] = to.split(':')
  return {
    protocol,
    address: address === '' ? null : parseAddress(address!),
    port: Number(port),
    toAddress: parseAddress(toAddress!),
    toPort: Number(toPort),
  }
}
const FORWARDS = [forward(TCP, ':21', SERVICE), forward(UDP, ':5353', `${HOST}:53`)]

const ends = (frames: readonly Uint8Array[]): string[] => frames.map((bytes) => `${fromOf(bytes)} > ${toOf(bytes)}`)

let gateway: Gateway
beforeEach(async () => {
  gateway = await Gateway.start({ forwards: FORWARDS })
})

/** The three segments of a handshake from outside. */
function connect(client: string): void {
  gateway.outside(tcpSegment(client, FORWARDED, 'S'))
  gateway.inside(tcpSegment(SERVICE, client, 'SA'))
  gateway.outside(tcpSegment(client, FORWARDED, 'A'))
}

describe('a forwarded port of an address shared with the host', () => {
  it('leads to the server, which answers from it', () => {
    expect(ends(gateway.outside(tcpSegment(CLIENT, FORWARDED, 'S')))).toEqual([`${CLIENT} > ${SERVICE}`])
    expect(ends(gateway.inside(tcpSegment(SERVICE, CLIENT, 'SA')))).toEqual([`${FORWARDED} > ${CLIENT}`])
    expect(ends(gateway.outside(tcpSegment(CLIENT, FORWARDED, 'A')))).toEqual([`${CLIENT} > ${SERVICE}`])
    expect(connectionsOf(gateway.tables)).toMatchObject([
      {
        origin: 1,
        state: 'ESTABLISHED',
        original: `${CLIENT} > ${FORWARDED}`,
        reply: `${SERVICE} > ${CLIENT}`,
        mapping: 0,
      },
    ])
    expect(mappingsOf(gateway.tables)).toEqual([])
    expect(gateway.drops()).toEqual({})
    gateway.check()
  })

  it('is of one protocol: the same port of the other one is the host’s', () => {
    expect(gateway.fate(WAN, udp(CLIENT, FORWARDED))).toBe('not-ours')
    expect(gateway.fate(WAN, tcpSegment(CLIENT, `${EXTERNAL}:5353`, 'S'))).toBe('not-ours')
    expect(gateway.fate(WAN, tcpSegment(CLIENT, `${EXTERNAL}:22`, 'S'))).toBe('not-ours')
  })

  it('may have another number than the server’s', () => {
    expect(ends(gateway.outside(udp(CLIENT, `${EXTERNAL}:5353`)))).toEqual([`${CLIENT} > ${HOST}:53`])
    expect(ends(gateway.inside(udp(`${HOST}:53`, CLIENT)))).toEqual([`${EXTERNAL}:5353 > ${CLIENT}`])
    gateway.check()
  })

  it('needs a SYN first, as every TCP connection does', () => {
    expect(gateway.fate(WAN, tcpSegment(CLIENT, FORWARDED, 'A'))).toBe('tcp-no-connection')
    expect(connectionsOf(gateway.tables)).toEqual([])
  })

  it('is what the server’s own flows from there come from', () => {
    expect(ends(gateway.inside(udp(`${HOST}:53`, `${SERVER}:53`)))).toEqual([`${EXTERNAL}:5353 > ${SERVER}:53`])
    expect(ends(gateway.outside(udp(`${SERVER}:53`, `${EXTERNAL}:5353`)))).toEqual([`${SERVER}:53 > ${HOST}:53`])
    expect(ends(gateway.inside(tcpSegment(SERVICE, `${SERVER}:80`, 'S')))).toEqual([`${FORWARDED} > ${SERVER}:80`])
    expect(ends(gateway.outside(tcpSegment(`${SERVER}:80`, FORWARDED, 'SA')))).toEqual([`${SERVER}:80 > ${SERVICE}`])
    expect(connectionsOf(gateway.tables).map(({ origin, mapping }) => [origin, mapping])).toEqual([
      [0, 0],
      [0, 0],
    ])
    expect(mappingsOf(gateway.tables)).toEqual([])
    gateway.check()
  })

  it('leaves the server’s other ports and the others’ flows to NAT', () => {
    for (const from of [`${HOST}:20`, `${NEIGHBOUR}:21`]) {
      const [sent] = gateway.inside(tcpSegment(from, `${SERVER}:80`, 'S'))
      expect(decode(sent!).sport).toBeGreaterThanOrEqual(16384)
    }
    expect(mappingsOf(gateway.tables)).toHaveLength(2)
    gateway.check()
  })

  it('translates ICMP errors about its connections, from either side', () => {
    const [toServer] = gateway.outside(tcpSegment(CLIENT, FORWARDED, 'S'))
    const [error] = gateway.inside(icmpError(HOST, SERVER, toServer!))
    expect(decode(error!)).toMatchObject({ src: EXTERNAL, dst: SERVER })
    expect(decodeIp(decode(error!).embedded)).toMatchObject({ src: SERVER, dst: EXTERNAL, sport: 40000, dport: 21 })
    const [toClient] = gateway.inside(tcpSegment(SERVICE, CLIENT, 'SA'))
    const [back] = gateway.outside(icmpError(ROUTER, EXTERNAL, toClient!))
    expect(decode(back!)).toMatchObject({ src: ROUTER, dst: HOST })
    expect(decodeIp(decode(back!).embedded)).toMatchObject({ src: HOST, dst: SERVER, sport: 21, dport: 40000 })
    expect(gateway.drops()).toEqual({})
  })

  it('is reached from inside by the external address, by others and by the server itself', () => {
    for (const from of [`${NEIGHBOUR}:4000`, `${HOST}:4000`]) {
      gateway.inside(tcpSegment(from, FORWARDED, 'S'))
      gateway.turn()
      const [toServer] = gateway.toLan()
      expect(toOf(toServer!)).toBe(SERVICE)
      expect(decode(toServer!)).toMatchObject({ src: EXTERNAL, ttl: 63 })
      gateway.inside(tcpSegment(SERVICE, fromOf(toServer!), 'SA'))
      gateway.turn()
      expect(ends(gateway.toLan())).toEqual([`${FORWARDED} > ${from}`])
    }
    expect(gateway.toWan()).toEqual([])
    expect(gateway.drops()).toEqual({})
    gateway.check()
  })
})

describe('two ways to one server', () => {
  it('share it, but for a client that has it by the other already', async () => {
    gateway = await Gateway.start({ forwards: [forward(TCP, ':21', SERVICE), forward(TCP, ':2121', SERVICE)] })
    expect(ends(gateway.outside(tcpSegment(CLIENT, FORWARDED, 'S')))).toEqual([`${CLIENT} > ${SERVICE}`])
    expect(gateway.fate(WAN, tcpSegment(CLIENT, `${EXTERNAL}:2121`, 'S'))).toBe('no-free-tuple')
    const other = `${SERVER}:40001`
    expect(ends(gateway.outside(tcpSegment(other, `${EXTERNAL}:2121`, 'S')))).toEqual([`${other} > ${SERVICE}`])
    expect(ends(gateway.inside(tcpSegment(SERVICE, other, 'SA')))).toEqual([`${EXTERNAL}:2121 > ${other}`])
    // What the server begins goes by the first.
    expect(ends(gateway.inside(tcpSegment(SERVICE, `${SERVER}:80`, 'S')))).toEqual([`${FORWARDED} > ${SERVER}:80`])
    gateway.check()
  })
})

describe('a forward on a pool', () => {
  const POOL = ['203.0.113.21', '203.0.113.22']

  it('of one address leaves the port of the others alone', async () => {
    gateway = await Gateway.start({ pool: POOL, forwards: [forward(TCP, `${POOL[0]}:21`, SERVICE)] })
    expect(ends(gateway.outside(tcpSegment(CLIENT, `${POOL[0]}:21`, 'S')))).toEqual([`${CLIENT} > ${SERVICE}`])
    expect(gateway.fate(WAN, tcpSegment(CLIENT, `${POOL[1]}:21`, 'S'))).toBe('no-mapping')
  })

  it('of all addresses answers from the one that was asked', async () => {
    gateway = await Gateway.start({ pool: POOL, forwards: FORWARDS })
    for (const address of POOL) {
      gateway.outside(tcpSegment(CLIENT, `${address}:21`, 'S'))
      // The second is the same flow to the server, who could not tell them apart.
      if (address === POOL[0]) {
        expect(ends(gateway.inside(tcpSegment(SERVICE, CLIENT, 'SA')))).toEqual([`${address}:21 > ${CLIENT}`])
      }
    }
    expect(gateway.drops()).toEqual({ 'no-free-tuple': 1 })
    gateway.check()
  })

  it('of an address that there is not sends nothing of the server’s from there', async () => {
    gateway = await Gateway.start({ forwards: [forward(TCP, '203.0.113.77:21', SERVICE)] })
    expect(gateway.fate(LAN, tcpSegment(SERVICE, `${SERVER}:80`, 'S'))).toBe('no-external-address')
  })
})

describe('when there is no room', () => {
  it('its closed connections go before its unanswered ones, answered ones never', async () => {
    gateway = await Gateway.start({ forwards: FORWARDS, connections: 4 })
    const client = (i: number) => `${SERVER}:${41_000 + i}`
    connect(client(0))
    connect(client(1))
    gateway.outside(tcpSegment(client(1), FORWARDED, 'R'))
    gateway.outside(tcpSegment(client(2), FORWARDED, 'S'))
    connect(client(3))
    for (const newcomer of [4, 5]) expect(gateway.outside(tcpSegment(client(newcomer), FORWARDED, 'S'))).toHaveLength(1)
    const left = connectionsOf(gateway.tables).map(({ original }) => original.split(' ')[0])
    expect(left.sort()).toEqual([0, 3, 4, 5].map(client))
    expect([0, 1].map((kind) => gateway.counter('connectionsRecycled', kind))).toEqual([1, 1])
    gateway.check()
  })
})

describe('an external address that goes', () => {
  it('takes the connections of its forwards along; another one has the same forwards at once', () => {
    connect(CLIENT)
    gateway.externals.remove(gateway.externals.find(parseAddress(EXTERNAL)))
    gateway.turn()
    expect(connectionsOf(gateway.tables)).toEqual([])
    gateway.addExternal('203.0.113.8', 1)
    gateway.turn()
    expect(ends(gateway.outside(tcpSegment(CLIENT, '203.0.113.8:21', 'S')))).toEqual([`${CLIENT} > ${SERVICE}`])
    gateway.check()
  })
})

describe('a shard that starts again on a dead one’s memory', () => {
  it('goes on with forwarded connections, open, unanswered and closed', async () => {
    const clients = [0, 1, 2].map((i) => `${SERVER}:${42_000 + i}`)
    connect(clients[0]!)
    connect(clients[1]!)
    gateway.inside(tcpSegment(SERVICE, clients[1]!, 'R'))
    gateway.outside(tcpSegment(clients[2]!, FORWARDED, 'S'))
    gateway.inside(udp(`${HOST}:53`, `${SERVER}:53`))
    await gateway.restart()
    gateway.turn()
    gateway.check()
    expect(connectionsOf(gateway.tables).map(({ state }) => state)).toEqual([
      'ESTABLISHED',
      'CLOSE',
      'SYN_SENT',
      'NONE',
    ])
    expect(ends(gateway.inside(tcpSegment(SERVICE, clients[0]!, 'A')))).toEqual([`${FORWARDED} > ${clients[0]}`])
    expect(ends(gateway.outside(udp(`${SERVER}:53`, `${EXTERNAL}:5353`)))).toEqual([`${SERVER}:53 > ${HOST}:53`])
    gateway.pass(7500)
    expect(connectionsOf(gateway.tables)).toEqual([])
    gateway.check()
  })
})

const DELIVERIES: readonly (readonly [string, Deliver])[] = [
  ['delivered to their owners', toOwner],
  ['all delivered to shard 0', toFirst],
  ['delivered to a wrong shard each', toNeighbour],
  ['delivered by a dispatcher', toDispatcher],
]
const CLIENTS = 24

for (const [how, deliver] of DELIVERIES)
  for (const shards of [1, 2, 4])
    describe(`${shards} shards, packets ${how}`, () => {
      const start = () => Cluster.start({ shards, deliver, forwards: FORWARDS })

      it('the clients of a forwarded port are spread over them, each in one', async () => {
        const cluster = await start()
        for (let i = 0; i < CLIENTS; i++) {
          const client = `${SERVER}:${43_000 + i}`
          expect(ends(cluster.outside(tcpSegment(client, FORWARDED, 'S')))).toEqual([`${client} > ${SERVICE}`])
          const [answer] = cluster.inside(tcpSegment(SERVICE, client, 'SA'))
          expect(ends([answer!])).toEqual([`${FORWARDED} > ${client}`])
          const [error] = cluster.outside(icmpError(ROUTER, EXTERNAL, answer!))
          expect(decode(error!).dst).toBe(HOST)
          expect(ends(cluster.outside(tcpSegment(client, FORWARDED, 'A')))).toEqual([`${client} > ${SERVICE}`])
        }
        const connections = cluster.connections()
        expect(connections.map(({ state, packets }) => [state, packets])).toEqual(
          Array(CLIENTS).fill(['ESTABLISHED', [2, 1]]),
        )
        expect(new Set(connections.map(({ shard }) => shard)).size).toBe(shards)
        if (deliver === toOwner) expect(cluster.handovers()).toEqual({})
        expect(cluster.drops()).toEqual({})
        cluster.check()
      })

      it('so are the flows that the server begins', async () => {
        const cluster = await start()
        for (let i = 0; i < CLIENTS; i++) {
          const resolver = `${SERVER}:${44_000 + i}`
          expect(ends(cluster.inside(udp(`${HOST}:53`, resolver)))).toEqual([`${EXTERNAL}:5353 > ${resolver}`])
          expect(ends(cluster.outside(udp(resolver, `${EXTERNAL}:5353`)))).toEqual([`${resolver} > ${HOST}:53`])
        }
        expect(cluster.connections().map(({ packets }) => packets)).toEqual(Array(CLIENTS).fill([1, 1]))
        expect(new Set(cluster.connections().map(({ shard }) => shard)).size).toBe(shards)
        if (deliver === toOwner) expect(cluster.handovers()).toEqual({})
        expect(cluster.drops()).toEqual({})
        cluster.check()
      })

      it('hairpin to a forwarded port goes and comes', async () => {
        const cluster = await start()
        for (let i = 0; i < CLIENTS; i++) {
          const client = `${NEIGHBOUR}:${45_000 + i}`
          const [toServer] = cluster.hairpin(tcpSegment(client, FORWARDED, 'S'))
          expect(toOf(toServer!)).toBe(SERVICE)
          expect(ends(cluster.hairpin(tcpSegment(SERVICE, fromOf(toServer!), 'SA')))).toEqual([
            `${FORWARDED} > ${client}`,
          ])
        }
        expect(cluster.connections()).toHaveLength(2 * CLIENTS)
        expect(cluster.drops()).toEqual({})
        cluster.check()
      })
    })
