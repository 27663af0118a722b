// A thread that crashes while it hands packets over, or while it has what others handed over, and its successor. Lent
// frames are what may be lost for good: a receive ring stops at one that nobody gives back. So after each crash every
// frame is the link's again, once what is on its way has arrived, and packets go through as before.

import { describe, expect, it, vi } from 'vitest'
import { frame } from '../../../src/testing/builder.ts'
import { arm, crashOf, disarm } from '../../faults/armed.ts'
import { type FaultPoint, HANDOVER_POINTS } from '../../faults/points.ts'
import { Cluster, type Deliver, toDispatcher, toNeighbour, toOwner } from '../cluster.ts'
import { HOST, LAN, MAC, SERVER, WAN } from '../network.ts'
import { decode, fromOf, tcpSegment, udp } from '../packets.ts'

vi.mock('#faults', () => import('../../faults/armed.ts'))

const OTHER = '10.0.0.6'
const FROM_LAN = { src: MAC.host, dst: MAC.lan }
const SUPER_PACKET = 20_000
/** A loopback ring's slots. */
const SLOTS = 64

const gso = (): Uint8Array => {
  const header = new Uint8Array(10)
  const view = new DataView(header.buffer)
  view.setUint8(1, 1) // GSO_TCPV4
  view.setUint16(2, 54, true)
  view.setUint16(4, 1448, true)
  return header
}

/** A TCP connection that is under way, and what its client sends in super-packets. */
class Stream {
  readonly #cluster: Cluster
  readonly #from: string
  readonly #to: string

  private constructor(cluster: Cluster, from: string, to: string) {
    this.#cluster = cluster
    this.#from = from
    this.#to = to
  }

  static toServer(cluster: Cluster, from = `${HOST}:43000`): Stream {
    const to = `${SERVER}:80`
    const [syn] = cluster.inside(tcpSegment(from, to, 'S'))
    cluster.outside(tcpSegment(to, fromOf(syn!), 'SA'))
    return new Stream(cluster, from, to)
  }

  static toInsideHost(cluster: Cluster): Stream {
    const [from, other] = [`${HOST}:43000`, `${OTHER}:44000`]
    const to = fromOf(cluster.inside(tcpSegment(other, `${SERVER}:80`, 'S'))[0]!)
    const [syn] = cluster.hairpin(tcpSegment(from, to, 'S'))
    cluster.hairpin(tcpSegment(other, fromOf(syn!), 'SA'))
    return new Stream(cluster, from, to)
  }

  get frame(): Uint8Array {
    const payload = new Uint8Array(SUPER_PACKET)
    return Uint8Array.from(frame({ eth: FROM_LAN, ...tcpSegment(this.#from, this.#to, 'A', { payload }) }))
  }

  inject(packets: number): void {
    for (let i = 0; i < packets; i++) this.#cluster.inject(LAN, this.frame, gso())
  }

  /** More than a ring of frames has; each arrives. */
  expectToFlow(packets = 2 * SLOTS): void {
    for (let i = 0; i < packets; i++) {
      this.inject(1)
      this.#cluster.turn()
      const sent = [...this.#cluster.taken(WAN), ...this.#cluster.taken(LAN)]
      expect(sent.map((bytes) => decode(bytes).body.length >= SUPER_PACKET)).toEqual([true])
    }
  }
}

/** Where a successor crashes in its turn, while it takes over. */
const SUCCESSORS = HANDOVER_POINTS.filter((point) => point.startsWith('predecessor'))

/** A successor, after one that crashed at `point` if it came there; whether it did. */
async function succeed(cluster: Cluster, dead: number, point: FaultPoint): Promise<boolean> {
  arm(0, point)
  const crash = await cluster.restart(dead).then(
    () => undefined,
    (error: unknown) => error,
  )
  disarm()
  if (crash === undefined) return false
  expect(crash).toMatchObject({ name: 'Crash', point })
  await cluster.restart(dead)
  return true
}

/** Turns each thread once, round and round, until one crashes or none has anything to do; who crashed. */
function crashedOne(cluster: Cluster): number {
  for (let idle = 0, place = 0; idle <= cluster.shards; place = (place + 1) % (cluster.shards + 1)) {
    let received = 0
    if (crashOf(() => (received = cluster.turnOne(place))) !== undefined) return place
    idle = received === 0 ? idle + 1 : 0
  }
  return -1
}

function expectNothingHeld(cluster: Cluster): void {
  expect(cluster.drivers.map((driver) => driver.pending(LAN))).toEqual(cluster.drivers.map(() => 0))
}

const DELIVERIES: readonly (readonly [string, Deliver, (cluster: Cluster) => Stream])[] = [
  ['to a wrong shard', toNeighbour, (cluster) => Stream.toServer(cluster)],
  ['by a dispatcher', toDispatcher, (cluster) => Stream.toServer(cluster)],
  ['by hairpin', toOwner, (cluster) => Stream.toInsideHost(cluster)],
  ['by hairpin, from a wrong shard', toNeighbour, (cluster) => Stream.toInsideHost(cluster)],
  ['by hairpin, from a dispatcher', toDispatcher, (cluster) => Stream.toInsideHost(cluster)],
]

describe('a thread that crashes with lent frames', () => {
  const reached = new Set<string>()
  for (const [how, deliver, open] of DELIVERIES)
    for (const shards of [2, 3])
      for (const point of HANDOVER_POINTS.filter((each) => !SUCCESSORS.includes(each)))
        it(`${how}, ${shards} shards, at '${point}', leaves none behind`, async () => {
          const cluster = await Cluster.start({ shards, deliver, nat: { filtering: 'endpoint-independent' } })
          const stream = open(cluster)
          // Entries of many frames that were lent and given back lie in the rings.
          stream.expectToFlow()
          for (let time = 0; time < 6; time++) {
            stream.inject(5)
            arm(time, point)
            const crashed = crashedOne(cluster)
            disarm()
            if (crashed < 0) continue
            reached.add(point)
            const next = SUCCESSORS[time % SUCCESSORS.length]!
            if (await succeed(cluster, crashed, next)) reached.add(next)
          }
          cluster.turn()
          cluster.taken(WAN)
          cluster.taken(LAN)
          expectNothingHeld(cluster)
          stream.expectToFlow()
          expectNothingHeld(cluster)
          cluster.check()
        })

  it('did so at each point', () => {
    expect(HANDOVER_POINTS.filter((each) => !reached.has(each))).toEqual([])
  })
})

describe('a thread that crashes between showing entries and ringing the doorbell', () => {
  it('has a successor that rings', async () => {
    const cluster = await Cluster.start({ shards: 2, deliver: toNeighbour })
    const packet = udp(`${HOST}:44000`, `${SERVER}:53`)
    const owner = toOwner(frame({ eth: FROM_LAN, ...packet }), LAN, cluster)
    cluster.sleep(owner)
    cluster.inject(LAN, packet)
    arm(0, 'head shown, doorbell not rung')
    expect(crashOf(() => cluster.turnOne(1 - owner))).toBe('head shown, doorbell not rung')
    await cluster.restart(1 - owner)
    cluster.turn()
    expect(cluster.taken(WAN)).toHaveLength(1)
  })
})
