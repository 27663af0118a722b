import { describe, expect, it } from 'vitest'
import { fragments, frame } from '../../src/testing/builder.ts'
import { Cluster, type Deliver, toDispatcher, toFirst, toNeighbour, toOwner } from './cluster.ts'
import { EXTERNAL, HOST, LAN, MAC, SERVER, WAN } from './network.ts'
import { decode, echo, echoReply, fromOf, icmpError, tcpSegment, toOf, udp } from './packets.ts'

const SHARDS = [1, 2, 3, 4, 8]
const DELIVERIES: readonly (readonly [string, Deliver])[] = [
  ['delivered to their owners', toOwner],
  ['all delivered to shard 0', toFirst],
  ['delivered to a wrong shard each', toNeighbour],
  ['delivered by a dispatcher', toDispatcher],
]
const FLOWS = 24
const FROM_LAN = { src: MAC.host, dst: MAC.lan }
const FROM_WAN = { src: MAC.server, dst: MAC.wan }

for (const [how, deliver] of DELIVERIES)
  for (const shards of SHARDS)
    describe(`${shards} shards, packets ${how}`, () => {
      const strays = (packets: number): number =>
        [toOwner, toDispatcher].includes(deliver) || shards === 1 ? 0 : deliver === toNeighbour ? packets : -1

      it('TCP and UDP flows go out and come back, each in one shard', async () => {
        const cluster = await Cluster.start({ shards, deliver })
        for (let i = 0; i < FLOWS; i++) {
          const from = `${HOST}:${40_000 + i}`
          for (const packet of [udp, (a: string, b: string) => tcpSegment(a, b, 'S')]) {
            const out = cluster.inside(packet(from, `${SERVER}:80`))
            expect(out.map(toOf)).toEqual([`${SERVER}:80`])
            const external = fromOf(out[0]!)
            const answer = packet === udp ? udp(`${SERVER}:80`, external) : tcpSegment(`${SERVER}:80`, external, 'SA')
            const back = cluster.outside(answer)
            expect(back.map((bytes) => [fromOf(bytes), toOf(bytes)])).toEqual([[`${SERVER}:80`, from]])
            expect(decode(back[0]!).ttl).toBe(63)
          }
        }
        const connections = cluster.connections()
        expect(connections).toHaveLength(2 * FLOWS)
        for (const { packets, seenReply } of connections) {
          expect(packets).toEqual([1, 1])
          expect(seenReply).toBe(true)
        }
        if (shards > 1) expect(new Set(connections.map(({ shard }) => shard)).size).toBe(shards)
        const handed = cluster.handovers()
        if (strays(1) >= 0) expect(handed.flow ?? 0).toBe(strays(4 * FLOWS))
        expect(handed.dispatch ?? 0).toBe(deliver === toDispatcher ? 4 * FLOWS : 0)
        expect(Object.keys(handed).filter((reason) => !['flow', 'dispatch'].includes(reason))).toEqual([])
        expect(cluster.drops()).toEqual({})
        cluster.check()
      })

      it('an echo and its reply', async () => {
        const cluster = await Cluster.start({ shards, deliver })
        for (let id = 1; id <= FLOWS; id++) {
          const [out] = cluster.inside(echo(HOST, SERVER, id))
          const [back] = cluster.outside(echoReply(SERVER, EXTERNAL, decode(out!).icmpId))
          expect([decode(back!).dst, decode(back!).icmpId]).toEqual([HOST, id])
        }
        expect(cluster.drops()).toEqual({})
        cluster.check()
      })

      it('fragments follow their first one, both ways', async () => {
        const cluster = await Cluster.start({ shards, deliver })
        const payload = Uint8Array.from({ length: 4000 }, (_, i) => i)
        for (let i = 0; i < FLOWS; i++) {
          const from = `${HOST}:${41_000 + i}`
          const whole = frame({ eth: FROM_LAN, ...udp(from, `${SERVER}:53`, { payload, ip: { id: 700 + i } }) })
          // In every second flow the first one comes last.
          const inOrder = fragments(whole, 1480)
          const out = (i % 2 ? [...inOrder].reverse() : inOrder).flatMap((piece) => cluster.inside(piece))
          expect(out.map((bytes) => decode(bytes).src)).toEqual([EXTERNAL, EXTERNAL, EXTERNAL])
          expect(new Set(out.map((bytes) => decode(bytes).id)).size).toBe(1)
          const answer = udp(`${SERVER}:53`, fromOf(out[0]!), { payload, ip: { id: 900 + i } })
          const back = fragments(frame({ eth: FROM_WAN, ...answer }), 1480).flatMap((piece) => cluster.outside(piece))
          expect(back.map((bytes) => decode(bytes).dst)).toEqual([HOST, HOST, HOST])
          expect(toOf(back[0]!)).toBe(from)
        }
        expect(cluster.drops()).toEqual({})
        expect(cluster.connections().map(({ packets }) => packets)).toEqual(Array(FLOWS).fill([3, 3]))
        // The kernel's rule has given them to the shard where they come together.
        if (deliver === toOwner) expect(cluster.handovers().fragment).toBeUndefined()
        cluster.check()
      })

      it('ICMP errors find the connection of what they embed', async () => {
        const cluster = await Cluster.start({ shards, deliver })
        for (let i = 0; i < FLOWS; i++) {
          const from = `${HOST}:${42_000 + i}`
          const [out] = cluster.inside(udp(from, `${SERVER}:53`))
          const [error] = cluster.outside(icmpError('198.51.100.9', EXTERNAL, out!))
          expect([decode(error!).src, decode(error!).dst]).toEqual(['198.51.100.9', HOST])
          const [back] = cluster.outside(udp(`${SERVER}:53`, fromOf(out!)))
          const [answer] = cluster.inside(icmpError(HOST, SERVER, back!))
          expect([decode(answer!).src, decode(answer!).dst]).toEqual([EXTERNAL, SERVER])
        }
        expect(cluster.drops()).toEqual({})
        cluster.check()
      })
    })

describe('a packet between shards', () => {
  it('is lent, not copied, if it is a super-packet, and given back', async () => {
    const cluster = await Cluster.start({ shards: 2, deliver: toNeighbour })
    const from = `${HOST}:43000`
    const [syn] = cluster.inside(tcpSegment(from, `${SERVER}:80`, 'S'))
    cluster.outside(tcpSegment(`${SERVER}:80`, fromOf(syn!), 'SA'))
    // More than a ring has slots: each must come back.
    for (let i = 0; i < 100; i++) {
      const payload = new Uint8Array(20_000).fill(i)
      const header = new Uint8Array(10)
      const view = new DataView(header.buffer)
      view.setUint8(1, 1) // GSO_TCPV4
      view.setUint16(2, 54, true)
      view.setUint16(4, 1448, true)
      const bytes = frame({ eth: FROM_LAN, ...tcpSegment(from, `${SERVER}:80`, 'A', { payload }) })
      const [out] = cluster.inside(Uint8Array.from(bytes), header)
      expect(
        decode(out!)
          .body.subarray(-20_000)
          .every((byte) => byte === i),
      ).toBe(true)
    }
    expect(cluster.drops()).toEqual({})
    for (const driver of cluster.drivers) expect(driver.pending(LAN)).toBe(0)
  })

  it('wakes a sleeper once', async () => {
    const cluster = await Cluster.start({ shards: 2, deliver: toNeighbour })
    cluster.sleep(0)
    cluster.sleep(1)
    expect(cluster.woken).toEqual([])
    cluster.inject(LAN, udp(`${HOST}:44000`, `${SERVER}:53`))
    cluster.turn()
    // A shard that is awake, as both are here, is not woken.
    expect(cluster.woken).toEqual([])
    expect(cluster.taken(WAN)).toHaveLength(1)
  })

  it('finds a full ring and is dropped, with a reason', async () => {
    const cluster = await Cluster.start({ shards: 2, deliver: toNeighbour })
    const owner = toOwner(frame({ eth: FROM_LAN, ...udp(`${HOST}:45000`, `${SERVER}:53`) }), LAN, cluster)
    for (let i = 0; i < 600; i++) {
      cluster.inject(LAN, udp(`${HOST}:45000`, `${SERVER}:${1000 + i}`))
      cluster.turnOne(1 - owner)
    }
    expect(cluster.drops()).toEqual({ 'handover-full': 88 })
    cluster.turn()
    expect(cluster.taken(WAN)).toHaveLength(512)
    cluster.check()
  })
})

describe('hairpin (RFC 4787 REQ-9)', () => {
  const other = '10.0.0.6'
  for (const shards of SHARDS)
    for (const [how, deliver] of DELIVERIES) {
      it(`${shards} shards, ${how}: between two inside hosts, by holes punched from both sides`, async () => {
        const cluster = await Cluster.start({ shards, deliver })
        for (let i = 0; i < FLOWS; i++) {
          const [a, b] = [`${HOST}:${46_000 + i}`, `${other}:${47_000 + i}`]
          const externalA = fromOf(cluster.inside(udp(a, `${SERVER}:3478`))[0]!)
          const externalB = fromOf(cluster.inside(udp(b, `${SERVER}:3478`))[0]!)
          expect(cluster.hairpin(udp(a, externalB))).toEqual([])
          const first = cluster.hairpin(udp(b, externalA))
          expect(first.map((bytes) => [fromOf(bytes), toOf(bytes), decode(bytes).ttl])).toEqual([[externalB, a, 63]])
          const second = cluster.hairpin(udp(a, externalB))
          expect(second.map((bytes) => [fromOf(bytes), toOf(bytes), decode(bytes).ttl])).toEqual([[externalA, b, 63]])
        }
        expect(cluster.drops()).toEqual({ filtered: FLOWS })
        cluster.check()
      })

      it(`${shards} shards, ${how}: a TCP connection, with endpoint-independent filtering`, async () => {
        const cluster = await Cluster.start({ shards, deliver, nat: { filtering: 'endpoint-independent' } })
        for (let i = 0; i < FLOWS; i++) {
          const [a, b] = [`${HOST}:${46_000 + i}`, `${other}:${47_000 + i}`]
          const externalB = fromOf(cluster.inside(tcpSegment(b, `${SERVER}:3478`, 'S'))[0]!)
          const [syn] = cluster.hairpin(tcpSegment(a, externalB, 'S'))
          expect(toOf(syn!)).toBe(b)
          const [synAck] = cluster.hairpin(tcpSegment(b, fromOf(syn!), 'SA'))
          expect([fromOf(synAck!), toOf(synAck!)]).toEqual([externalB, a])
          const [ack] = cluster.hairpin(tcpSegment(a, externalB, 'A'))
          expect(toOf(ack!)).toBe(b)
        }
        expect(cluster.drops()).toEqual({})
        cluster.check()
      })

      it(`${shards} shards, ${how}: an ICMP error about it`, async () => {
        const cluster = await Cluster.start({ shards, deliver, nat: { filtering: 'endpoint-independent' } })
        for (let i = 0; i < FLOWS; i++) {
          const [a, b] = [`${HOST}:${46_000 + i}`, `${other}:${47_000 + i}`]
          const externalB = fromOf(cluster.inside(udp(b, `${SERVER}:3478`))[0]!)
          const [sent] = cluster.hairpin(udp(a, externalB))
          const [error] = cluster.hairpin(icmpError(other, decode(sent!).src, sent!))
          const embedded = decode(error!).embedded
          expect([decode(error!).src, decode(error!).dst, decode(error!).ttl]).toEqual([EXTERNAL, HOST, 63])
          const view = new DataView(embedded.buffer, embedded.byteOffset)
          expect([view.getUint16(20), view.getUint16(22)]).toEqual([46_000 + i, Number(externalB.split(':')[1])])
        }
        expect(cluster.drops()).toEqual({})
        cluster.check()
      })
    }

  it('to oneself: what was sent comes back from the external endpoint', async () => {
    for (const shards of SHARDS) {
      const cluster = await Cluster.start({ shards })
      const self = `${HOST}:48000`
      const external = fromOf(cluster.inside(udp(self, `${SERVER}:3478`))[0]!)
      const back = cluster.hairpin(udp(self, external))
      expect(back.map((bytes) => [fromOf(bytes), toOf(bytes), decode(bytes).ttl])).toEqual([[external, self, 63]])
      cluster.check()
    }
  })

  it('what is too big for the other host is told to its sender', async () => {
    const network = { lanMtu: 1400 }
    const cluster = await Cluster.start({ shards: 2, network, nat: { filtering: 'endpoint-independent' } })
    const externalB = fromOf(cluster.inside(udp(`${other}:47000`, `${SERVER}:3478`))[0]!)
    const payload = new Uint8Array(1450)
    const [error] = cluster.hairpin(udp(`${HOST}:46000`, externalB, { payload, ip: { dontFragment: true } }))
    expect([decode(error!).dst, decode(error!).type, decode(error!).code, decode(error!).mtu]).toEqual([
      HOST,
      3,
      4,
      1400,
    ])
    expect(cluster.drops()).toEqual({ 'too-big': 1 })
    cluster.check()
  })

  it('in fragments', async () => {
    for (const shards of SHARDS) {
      const cluster = await Cluster.start({ shards, nat: { filtering: 'endpoint-independent' } })
      const externalB = fromOf(cluster.inside(udp(`${other}:47000`, `${SERVER}:3478`))[0]!)
      const payload = new Uint8Array(4000)
      const whole = frame({ eth: FROM_LAN, ...udp(`${HOST}:46000`, externalB, { payload, ip: { id: 7 } }) })
      const out = fragments(whole, 1480).flatMap((piece) => cluster.hairpin(piece))
      expect(out.map((bytes) => [decode(bytes).src, decode(bytes).dst])).toEqual(Array(3).fill([EXTERNAL, other]))
      expect(toOf(out[0]!)).toBe(`${other}:47000`)
      expect(cluster.drops()).toEqual({})
    }
  })
})
