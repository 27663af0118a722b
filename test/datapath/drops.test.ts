// Who and what of drops: whatever a flood does to the counter of a reason, the drops of others by the same reason are
// told apart by interface and source, whichever thread drops them, also after a crash.

import { describe, expect, it } from 'vitest'
import { dropList, type ListedDrops } from '../../src/coordinator/api/drop-list.ts'
import { fragments, frame } from '../../src/testing/builder.ts'
import { Cluster, toDispatcher } from './cluster.ts'
import { Gateway } from './gateway.ts'
import { EXTERNAL, HOST, LAN, MAC, SERVER, WAN } from './network.ts'
import { echo, tcpSegment, udp } from './packets.ts'

const LINKS = { interfaces: ['lan0', 'wan0'], sides: [0, 1] } as const

type Table = Pick<Gateway, 'dropTable'>
const listOf = ({ dropTable: drops }: Table, second: number): ListedDrops[] =>
  JSON.parse(dropList({ drops, ...LINKS }, second))
const listed = (gateway: Gateway): ListedDrops[] => listOf(gateway, Math.floor(gateway.clock / 1000))
/** Interface, reason, packets, and each source with how many of them. */
const short = (list: ListedDrops[]) =>
  list.map(({ interface: name, reason, packets, sources }) => [
    `${name} ${reason} ${packets}`,
    ...sources.map(({ source, recent }) => `${source} ${recent}`),
  ])

describe('a flood from outside', () => {
  it('by forged sources does not hide whom inside the same reason hits', async () => {
    const gateway = await Gateway.start()
    for (let n = 0; n < 5000; n++)
      gateway.outside(tcpSegment(`198.18.${n >> 8}.${n & 255}:${1 + n}`, `${EXTERNAL}:80`, 'S', { ip: { ttl: 1 } }))
    for (let port = 1; port <= 3; port++) gateway.inside(udp(`${HOST}:${port}`, `${SERVER}:53`, { ip: { ttl: 1 } }))
    const inside = listed(gateway).filter(({ side }) => side === 'inside')
    expect(short(inside)).toEqual([['lan0 ttl-expired 3', `${HOST} 3`]])
    expect(inside[0]!.sources[0]!.last).toEqual({
      ...{ secondsAgo: 0, protocol: 17, destination: SERVER },
      ...{ sourcePort: 3, destinationPort: 53 },
    })
    gateway.check()
  })

  it('does not hide an outside peer whose packets are dropped for the same reason', async () => {
    const gateway = await Gateway.start()
    const out = gateway.inside(udp(`${HOST}:5000`, `${SERVER}:53`))
    expect(out).toHaveLength(1)
    const external = `${EXTERNAL}:${new DataView(out[0]!.buffer, out[0]!.byteOffset).getUint16(34)}`
    for (let n = 0; n < 20_000; n++) {
      gateway.outside(udp(`198.18.${n >> 8}.${n & 255}:53`, external))
      if (n % 100 === 99) gateway.outside(udp('192.0.2.99:53', external))
    }
    const [first] = listed(gateway)
    expect(first).toMatchObject({ interface: 'wan0', side: 'outside', reason: 'filtered', packets: 20_200 })
    expect(first!.sources[0]!.source).toBe('192.0.2.99')
    gateway.check()
  })
})

describe('what is known of a dropped packet', () => {
  it('is only its interface, if its sender was not read', async () => {
    const gateway = await Gateway.start()
    const bytes = frame({ eth: { src: MAC.host, dst: MAC.lan }, ...udp(`${HOST}:1`, `${SERVER}:2`) })
    bytes[24]! ^= 1
    gateway.inside(udp(`${HOST}:5000`, `${SERVER}:53`))
    gateway.inside(bytes)
    expect(short(listed(gateway))).toEqual([['lan0 ip-checksum 1']])
    gateway.check()
  })

  it('has no ports if it has none, or they were not read', async () => {
    const gateway = await Gateway.start()
    gateway.inside(udp(`${HOST}:5000`, `${SERVER}:53`))
    gateway.inside(echo(HOST, SERVER, 7, { ip: { ttl: 1 } }))
    gateway.inside(udp(`${HOST}:0`, `${SERVER}:53`))
    const ports = listed(gateway).map(({ reason, sources }) => [reason, sources[0]!.last.sourcePort])
    expect(Object.fromEntries(ports)).toEqual({ 'ttl-expired': null, 'port-zero': null })
  })

  it('is its interface and source also of a fragment that has waited in vain', async () => {
    const gateway = await Gateway.start()
    const whole = udp(`${HOST}:5000`, `${SERVER}:53`, { ip: { id: 9 } })
    const eth = { src: MAC.host, dst: MAC.lan }
    const pieces = fragments(frame({ eth, ...whole, payload: new Uint8Array(120) }), 48)
    expect(gateway.fate(LAN, pieces[1]!)).toBe('waiting')
    gateway.fate(WAN, udp(`${SERVER}:1`, `${EXTERNAL}:2`))
    gateway.pass(32)
    expect(short(listed(gateway)).filter(([what]) => what!.includes('orphan'))).toEqual([
      ['lan0 fragment-orphan 1', `${HOST} 1`],
    ])
    gateway.check()
  })
})

it('outlives the thread, whose successor goes on counting', async () => {
  const gateway = await Gateway.start()
  const dying = udp(`${HOST}:5000`, `${SERVER}:53`, { ip: { ttl: 1 } })
  gateway.inside(dying)
  await gateway.restart()
  gateway.turn()
  gateway.inside(dying)
  expect(short(listed(gateway))).toEqual([['lan0 ttl-expired 2', `${HOST} 2`]])
  gateway.check()
})

it('is what shards and a dispatcher have dropped, each its own, and in all what is counted', async () => {
  const cluster = await Cluster.start({ shards: 4, deliver: toDispatcher })
  for (let port = 1; port <= 32; port++) cluster.inside(udp(`${HOST}:${port}`, `${SERVER}:53`, { ip: { ttl: 1 } }))
  for (let port = 1; port <= 5; port++) cluster.inside(udp(`${HOST}:${port}`, `${SERVER}:0`))
  expect(short(listOf(cluster, 1))).toEqual([
    ['lan0 ttl-expired 32', `${HOST} 32`],
    ['lan0 port-zero 5', `${HOST} 5`],
  ])
  expect(cluster.drops()).toEqual({ 'ttl-expired': 32, 'port-zero': 5 })
  cluster.check()
})
