// What a packet is when it reaches its shard by others: counted once, its time to live one less, its fragments in
// order; and what becomes of those that can't go on.

import { describe, expect, it } from 'vitest'
import { MAPPED } from '../../../src/nat/port-words.ts'
import { fragments, frame } from '../../../src/testing/builder.ts'
import { Cluster, type ClusterOptions, type Deliver, toDispatcher, toFirst, toNeighbour, toOwner } from '../cluster.ts'
import { EXTERNAL, HOST, LAN, MAC, SERVER, snapshotOf, WAN } from '../network.ts'
import { decode, fromOf, tcpSegment, toOf, udp } from '../packets.ts'

const SHARDS = [1, 2, 3, 4, 8]
const OTHER = '10.0.0.6'
const FROM_LAN = { src: MAC.host, dst: MAC.lan }
const SEEDS = [1]

/** To any shard, each packet to another one, as a seed decides (mulberry32). */
function toAny(seed: number): Deliver {
  let state = seed
  return (_bytes, _side, { shards }) => {
    state = (state + 0x6d2b79f5) | 0
    let word = Math.imul(state ^ (state >>> 15), state | 1)
    word ^= word + Math.imul(word ^ (word >>> 7), word | 61)
    return (word >>> 0) % shards
  }
}

const DELIVERIES: readonly (readonly [string, Deliver])[] = [
  ['to their owners', toOwner],
  ['to shard 0', toFirst],
  ['to a wrong shard each', toNeighbour],
  ['to a dispatcher', toDispatcher],
  ...SEEDS.map((seed) => [`to any shard, seed ${seed}`, toAny(seed)] as const),
]
/** Where all fragments of a datagram go the same way, as they do by the kernel's program and by a dispatcher. */
const STEADY = DELIVERIES.filter(([how]) => !how.includes('any shard'))

const open = { filtering: 'endpoint-independent' } as const
const sum = (cluster: Cluster, key: Parameters<Cluster['counter']>[1], cell = 0): number =>
  cluster.drivers.reduce((total, _, place) => total + cluster.counter(place, key, cell), 0)

/** Has OTHER an external endpoint, and HOST something to send to it. */
function pairOf(cluster: Cluster, i: number): { readonly from: string; readonly to: string; readonly inside: string } {
  const inside = `${OTHER}:${47_000 + i}`
  const to = fromOf(cluster.inside(udp(inside, `${SERVER}:3478`))[0]!)
  return { from: `${HOST}:${46_000 + i}`, to, inside }
}

for (const [how, deliver] of DELIVERIES)
  for (const shards of SHARDS)
    describe(`packets that come ${how}, of ${shards}`, () => {
      const start = (options: Partial<ClusterOptions> = {}) => Cluster.start({ shards, deliver, ...options })

      it('are received, forwarded and tracked once, all at the same time', async () => {
        const cluster = await start()
        const flows = Array.from({ length: 40 }, (_, i) => `${HOST}:${40_000 + i}`)
        for (const from of flows) cluster.inject(LAN, udp(from, `${SERVER}:53`))
        cluster.turn()
        const out = cluster.taken(WAN)
        expect(out).toHaveLength(flows.length)
        for (const bytes of out) cluster.inject(WAN, udp(`${SERVER}:53`, fromOf(bytes)))
        cluster.turn()
        expect(cluster.taken(LAN).map(toOf).sort()).toEqual([...flows].sort())

        const connections = cluster.connections()
        expect(connections.map(({ packets }) => packets)).toEqual(flows.map(() => [1, 1]))
        expect([sum(cluster, 'receivedPackets', LAN), sum(cluster, 'receivedPackets', WAN)]).toEqual([40, 40])
        expect([sum(cluster, 'sentPackets', WAN), sum(cluster, 'sentPackets', LAN)]).toEqual([40, 40])
        const handed = Object.values(cluster.handovers()).reduce((total, count) => total + count, 0)
        expect(sum(cluster, 'handoversReceived')).toBe(handed)
        if (deliver === toOwner || shards === 1) expect(cluster.handovers().flow).toBeUndefined()
        expect(cluster.drops()).toEqual({})
        cluster.check()
      })

      it('by hairpin have a time to live that is one less, and end where it ends', async () => {
        const cluster = await start({ nat: open })
        for (let i = 0; i < 8; i++) {
          const { from, to, inside } = pairOf(cluster, i)
          const [last] = cluster.hairpin(udp(from, to, { ip: { ttl: 2 } }))
          expect([toOf(last!), decode(last!).ttl]).toEqual([inside, 1])
          const [error] = cluster.hairpin(udp(from, to, { ip: { ttl: 1 } }))
          expect([decode(error!).dst, decode(error!).type, decode(error!).code]).toEqual([HOST, 11, 0])
        }
        expect(cluster.drops()).toEqual({ 'ttl-expired': 8 })
        cluster.check()
      })

      it('by hairpin that are too big for the other host: their sender is told', async () => {
        const cluster = await start({ nat: open, network: { lanMtu: 1400 } })
        for (let i = 0; i < 8; i++) {
          const { from, to } = pairOf(cluster, i)
          const payload = new Uint8Array(1450)
          const [error] = cluster.hairpin(udp(from, to, { payload, ip: { dontFragment: true } }))
          const { dst, type, code, mtu, embedded } = decode(error!)
          expect([dst, type, code, mtu]).toEqual([HOST, 3, 4, 1400])
          const view = new DataView(embedded.buffer, embedded.byteOffset)
          expect([view.getUint16(20), view.getUint16(22)].join()).toBe(
            [from, to].map((end) => end.split(':')[1]).join(),
          )
        }
        expect(cluster.drops()).toEqual({ 'too-big': 8 })
        expect(sum(cluster, 'icmpErrorsSent', 1)).toBe(8)
        cluster.check()
      })

      it('by hairpin, for a host that has not answered ARP, wait and go on as what they were', async () => {
        const cluster = await start({ nat: open, network: { silent: [OTHER] } })
        for (let i = 0; i < 8; i++) {
          const { from, to, inside } = pairOf(cluster, i)
          expect(cluster.hairpin(udp(from, to))).toEqual([])
          cluster.fib.publish(snapshotOf({}))
          cluster.turn()
          const sent = cluster.taken(LAN)
          expect(sent.map((bytes) => [decode(bytes).src, toOf(bytes), decode(bytes).ttl])).toEqual([
            [EXTERNAL, inside, 63],
          ])
          cluster.fib.publish(snapshotOf({ silent: [OTHER] }))
          cluster.turn()
        }
        expect(cluster.drops()).toEqual({})
        cluster.check()
      })

      it('by hairpin, for a host that never answers: their senders are told', async () => {
        const cluster = await start({ nat: open, network: { silent: [OTHER] } })
        for (let i = 0; i < 8; i++) {
          const { from, to } = pairOf(cluster, i)
          expect(cluster.hairpin(udp(from, to))).toEqual([])
        }
        cluster.pass(6)
        const errors = cluster.taken(LAN).map(decode)
        expect(errors.map(({ dst, type, code }) => [dst, type, code])).toEqual(Array(8).fill([HOST, 3, 1]))
        expect(cluster.drops()).toEqual({ 'neighbour-unreachable': 8 })
        cluster.check()
      })
    })

for (const [how, deliver] of STEADY)
  for (const shards of SHARDS)
    describe(`fragments that come ${how}, of ${shards}`, () => {
      const pieces = (from: string, to: string, id: number): Uint8Array[] =>
        fragments(frame({ eth: FROM_LAN, ...udp(from, to, { payload: new Uint8Array(4000), ip: { id } }) }), 1480)

      it('leave in order, though many datagrams come at the same time', async () => {
        const cluster = await Cluster.start({ shards, deliver })
        for (let i = 0; i < 20; i++)
          for (const piece of pieces(`${HOST}:${41_000 + i}`, `${SERVER}:53`, 700 + i)) cluster.inject(LAN, piece)
        cluster.turn()
        const offsets = new Map<number, number[]>()
        for (const bytes of cluster.taken(WAN)) {
          const view = new DataView(bytes.buffer, bytes.byteOffset)
          const id = view.getUint16(18)
          offsets.set(id, [...(offsets.get(id) ?? []), view.getUint16(20) & 0x1fff])
        }
        // Each datagram has an identification of its own, whichever that is.
        expect(offsets.size).toBe(20)
        for (const each of offsets.values()) expect(each).toEqual([0, 185, 370])
        expect(cluster.drops()).toEqual({})
        cluster.check()
      })

      it('by hairpin, for a host that never answers: their sender is told once a datagram', async () => {
        const cluster = await Cluster.start({ shards, deliver, nat: open, network: { silent: [OTHER] } })
        for (let i = 0; i < 8; i++) {
          const { from, to } = pairOf(cluster, i)
          for (const piece of pieces(from, to, 800 + i)) cluster.inject(LAN, piece)
          cluster.turn()
        }
        cluster.pass(6)
        const errors = cluster.taken(LAN).map(decode)
        expect(errors.map(({ dst, type, code }) => [dst, type, code])).toEqual(Array(8).fill([HOST, 3, 1]))
        expect(cluster.drops()).toEqual({ 'neighbour-unreachable': 24 })
      })
    })

describe('a block that moves faster than its packets', () => {
  it('ends those that have been handed over three times', async () => {
    const cluster = await Cluster.start({ shards: 4, deliver: toFirst })
    const entry = cluster.externals.find(new Int32Array(new Uint8Array([203, 0, 113, 1]).buffer)[0]!)
    const [UDP_SPACE, port] = [1, 20_000]
    // Somebody has the port, or it would be the host's.
    cluster.externals.portWords[cluster.externals.portIndex(entry, UDP_SPACE, port)] = MAPPED
    cluster.inject(WAN, udp(`${SERVER}:53`, `${EXTERNAL}:${port}`))
    for (const [shard, next] of [
      [0, 1],
      [1, 2],
      [2, 3],
    ] as const) {
      cluster.externals.lease(entry, UDP_SPACE, Math.floor(port / 64), next)
      cluster.turnOne(shard)
    }
    expect([cluster.handovers(), cluster.drops()]).toEqual([{ flow: 3 }, {}])
    cluster.externals.lease(entry, UDP_SPACE, Math.floor(port / 64), 0)
    cluster.turnOne(3)
    expect([cluster.handovers(), cluster.drops()]).toEqual([{ flow: 3 }, { 'handover-loop': 1 }])
  })
})

describe('a TCP segment in mid-stream that nobody knows', () => {
  it('is answered by a reset from its owner, whoever got it', async () => {
    for (const [, deliver] of DELIVERIES) {
      const cluster = await Cluster.start({ shards: 3, deliver })
      const [reset] = cluster.hairpin(tcpSegment(`${HOST}:40000`, `${SERVER}:80`, 'A'))
      expect([fromOf(reset!), toOf(reset!)]).toEqual([`${SERVER}:80`, `${HOST}:40000`])
      expect(cluster.drops()).toEqual({ 'tcp-no-connection': 1 })
    }
  })
})
