// No port given twice, whatever comes (RFC 4787 REQ-3, RFC 5382 REQ-7): random opening, answering, resetting, closing
// and waiting over TCP, UDP and ICMP, with leases that come and go and addresses that change, on few enough ports to
// run out all the time. After every step the tables are held against each other; what ports are mapped, and since when
// they were free, against this model.

import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { SHARED, spaceOf } from '../../src/nat/externals.ts'
import type { FrameSpec } from '../../src/testing/builder.ts'
import { Gateway } from '../datapath/gateway.ts'
import { HOST, SERVER } from '../datapath/network.ts'
import { echo, echoReply, tcpSegment, udp } from '../datapath/packets.ts'
import { connectionsOf, type Mapping, mappingsOf } from '../datapath/tables.ts'

const BLOCK = 16
const FIRST_BLOCK = 1280
const BLOCKS = 1
const QUARANTINE = 120
const HOSTS = [HOST, '10.0.0.6', '10.0.0.7']
const SERVERS = [SERVER, '198.51.100.7']

type Opening = { do: 'open'; host: number; port: number; server: number; kind: number }
type Step =
  | Opening
  | { do: 'answer' | 'reset' | 'close' | 'call'; which: number }
  | { do: 'wait'; seconds: number }
  | { do: 'lease'; block: number; space: number }
  | { do: 'takeBack'; block: number; space: number }
  | { do: 'address'; number: number }

const one = <Name extends string>(name: Name) => fc.constant(name)

const step = (): fc.Arbitrary<Step> =>
  fc.oneof(
    {
      weight: 100,
      arbitrary: fc.record({
        do: one('open'),
        host: fc.nat(2),
        port: fc.integer({ min: 1, max: 20 }),
        server: fc.nat(1),
        kind: fc.nat(2),
      }),
    },
    {
      weight: 60,
      arbitrary: fc.record({ do: fc.constantFrom('answer', 'reset', 'close', 'call'), which: fc.nat(150) }),
    },
    { weight: 10, arbitrary: fc.record({ do: one('wait'), seconds: fc.constantFrom(1, 1, 1, 40, 121, 301) }) },
    {
      weight: 5,
      arbitrary: fc.record({ do: fc.constantFrom('lease', 'takeBack'), block: fc.nat(BLOCKS - 1), space: fc.nat(2) }),
    },
    { weight: 1, arbitrary: fc.record({ do: one('address'), number: fc.nat(2) }) },
  ) as fc.Arbitrary<Step>

let gateway: Gateway
let entry: number

const opening = ({ host, port, server, kind }: Opening): FrameSpec => {
  const [from, to] = [`${HOSTS[host]!}:${port}`, `${SERVERS[server]!}:80`]
  if (kind === 2) return echo(HOSTS[host]!, SERVERS[server]!, port)
  return kind === 1 ? udp(from, to) : tcpSegment(from, to, 'S')
}

/** A packet from the other end of some connection. */
function fromAfar(what: string, which: number): void {
  const all = connectionsOf(gateway.tables)
  const connection = all[which % Math.max(1, all.length)]
  if (!connection) return
  const [peer, external] = connection.reply.split(' > ') as [string, string]
  const [address, port] = external.split(':') as [string, string]
  const flags = { answer: 'SA', reset: 'R', close: 'FA', call: 'S' }[what]!
  if (connection.protocol === 6) gateway.outside(tcpSegment(peer, external, flags))
  else if (connection.protocol === 17) gateway.outside(udp(what === 'call' ? `${peer}1` : peer, external))
  else gateway.outside(echoReply(peer.split(':')[0]!, address, Number(port)))
}

function perform(one: Step): void {
  if (one.do === 'open') gateway.inside(opening(one))
  else if (one.do === 'wait') gateway.pass(one.seconds)
  else if (one.do === 'lease') gateway.externals.lease(entry, one.space, FIRST_BLOCK + one.block, 0)
  else if (one.do === 'takeBack') gateway.externals.takeBack(entry, one.space, FIRST_BLOCK + one.block)
  else if (one.do === 'address') {
    gateway.externals.remove(entry)
    entry = gateway.addExternal(`203.0.113.${1 + one.number}`, SHARED)
  } else fromAfar(one.do, one.which)
  gateway.turn()
  gateway.toLan()
  gateway.toWan()
}

/** An external endpoint of one protocol: the same port of another address is another one. */
const nameOf = ({ protocol, external }: Mapping): string => `${protocol} ${external}`

describe('external ports', () => {
  beforeAll(async () => {
    const ports = [FIRST_BLOCK * BLOCK, (FIRST_BLOCK + BLOCKS) * BLOCK - 1] as const
    gateway = await Gateway.start({ ports, blockSize: BLOCK, connections: 40, icmpErrorsPerSecond: 100_000 })
    entry = 0
  })

  it('belong to one inside endpoint at a time, rest after UDP and ICMP, and fit the tables after every step', () => {
    let mapped = new Map<string, Mapping>()
    const freed = new Map<string, number>()
    fc.assert(
      fc.property(fc.array(step(), { minLength: 40, maxLength: 120 }), (steps) => {
        for (const next of steps) {
          const second = Math.floor(gateway.clock / 1000)
          perform(next)
          gateway.check()
          const now = new Map(mappingsOf(gateway.tables).map((mapping) => [nameOf(mapping), mapping]))
          for (const [name, mapping] of now) {
            const before = mapped.get(name)
            if (before?.inside === mapping.inside) continue
            // A new mapping's port lies in a leased block, and was in quarantine since the step in which it was freed.
            const block = Math.floor(mapping.port / BLOCK)
            expect(gateway.externals.ownerOfBlock(mapping.entry, spaceOf(mapping.protocol), block)).toBe(0)
            if (mapping.protocol !== 6)
              expect(second - (freed.get(name) ?? -QUARANTINE)).toBeGreaterThanOrEqual(QUARANTINE)
          }
          for (const name of mapped.keys())
            if (now.get(name)?.inside !== mapped.get(name)!.inside) freed.set(name, second)
          mapped = now
        }
      }),
      { numRuns: 15, endOnFailure: true },
    )
    expect(gateway.drops()['no-port']).toBeGreaterThan(0)
    expect(gateway.counter('connectionsRecycled', 0) + gateway.counter('connectionsRecycled', 1)).toBeGreaterThan(0)
  })
})
