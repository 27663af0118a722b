// A shard that crashes inside any change, and the one that goes on with its memory (docs/decisions/0019): flows
// begin, go on, close and expire, ports and rows run out, an address is lost and comes back, and in between the shard
// throws at a point of fault-points.ts of each layer, also while it recovers. After each crash the tables fit each
// other, what was established goes on by the same external endpoint, and in the end every port is free again.

import { describe, expect, it, vi } from 'vitest'
import { POOL } from '../../src/nat/externals.ts'
import { parseAddress } from '../../src/wire/address.ts'
import { arm, crashOf, disarm } from '../faults/armed.ts'
import { FAULT_POINTS, type FaultPoint } from '../faults/points.ts'
import { Gateway } from './gateway.ts'
import { decode, echo, echoReply, tcpSegment, udp } from './packets.ts'
import { type Connection, connectionsOf, mappingsOf } from './tables.ts'

vi.mock('#faults', () => import('../faults/armed.ts'))

const SEEDS = [1, 2, 3, 4]
const CRASHES = 52
/** Steps in which a crash that was ordered may come. */
const STEPS = 40

const HOSTS = ['10.0.0.5', '10.0.0.6']
const SERVERS = ['192.0.2.7', '198.51.100.7']
const ADDRESSES = ['203.0.113.21', '203.0.113.22']
const BLOCK = 16
const PORTS = [20_480, 20_480 + 2 * BLOCK - 1] as const
const ROWS = 40
const TCP = 6
const UDP = 17

/** To endpoints that flows are also begun from. */
const FORWARDS = [
  { protocol: TCP, address: null, port: 8080, toAddress: parseAddress(HOSTS[0]!), toPort: 4003 },
  { protocol: UDP, address: null, port: 5353, toAddress: parseAddress(HOSTS[1]!), toPort: 4004 },
]

/** Integers from 0 to below `bound`, as a seed decides (mulberry32). */
function numbers(seed: number): (bound: number) => number {
  let state = seed
  return (bound) => {
    state = (state + 0x6d2b79f5) | 0
    let word = Math.imul(state ^ (state >>> 15), state | 1)
    word ^= word + Math.imul(word ^ (word >>> 7), word | 61)
    return Math.floor((((word ^ (word >>> 14)) >>> 0) / 2 ** 32) * bound)
  }
}

/** Answered and not closing: nothing but time or the loss of its address ends it. */
const isEstablished = ({ protocol, state, seenReply }: Connection): boolean =>
  seenReply && (protocol !== TCP || state === 'ESTABLISHED')

/** What must stay as it is while it lives. */
const identity = ({ protocol, origin, original, reply }: Connection): string =>
  `${protocol} ${origin} ${original} | ${reply}`

const ends = (tuple: string): [from: string, to: string] => tuple.split(' > ') as [string, string]
const addressOf = (endpoint: string): string => endpoint.split(':')[0]!
const portOf = (endpoint: string): number => Number(endpoint.split(':')[1])
const externalOf = ({ origin, original, reply }: Connection): string => ends(origin === 0 ? reply : original)[1]

class Story {
  readonly gateway: Gateway
  readonly #draw: (bound: number) => number
  /** Addresses that were taken away in the step in hand. */
  readonly lost = new Set<string>()

  constructor(gateway: Gateway, draw: (bound: number) => number) {
    this.gateway = gateway
    this.#draw = draw
  }

  step(): void {
    this.lost.clear()
    const dice = this.#draw(100)
    if (dice < 34) this.#open()
    else if (dice < 66) this.#goOn('A')
    else if (dice < 73) this.#goOn('FA')
    else if (dice < 78) this.#goOn('R')
    else if (dice < 82) this.#callServer()
    else if (dice < 86) this.#call()
    else if (dice < 95) this.gateway.pass(this.#pick([1, 2, 5, 31, 121, 301]))
    else this.#loseAddress()
    this.gateway.toLan()
    this.gateway.toWan()
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.#draw(list.length)]!
  }

  #open(): void {
    const host = this.#pick(HOSTS)
    const server = this.#pick(SERVERS)
    const port = 4000 + this.#draw(24)
    const kind = this.#draw(5)
    if (kind === 0) this.gateway.inside(echo(host, server, port))
    else if (kind < 3) this.gateway.inside(udp(`${host}:${port}`, `${server}:${this.#pick([53, 80])}`))
    else this.gateway.inside(tcpSegment(`${host}:${port}`, `${server}:80`, 'S'))
  }

  /** Either end of some connection says something. */
  #goOn(flags: string): void {
    const live = connectionsOf(this.gateway.tables)
    if (live.length === 0) return
    const connection = this.#pick(live)
    const begins = connection.protocol === TCP && connection.state === 'SYN_SENT' && flags === 'A'
    if (begins) this.speak(connection, 1, 'SA')
    else this.speak(connection, this.#draw(2), flags)
  }

  /** Somebody outside sends to a mapping from a port of his own. */
  #call(): void {
    const mappings = mappingsOf(this.gateway.tables)
    if (mappings.length === 0) return
    const { protocol, external } = this.#pick(mappings)
    const caller = `${this.#pick(SERVERS)}:${7000 + this.#draw(3)}`
    if (protocol === TCP) this.gateway.outside(tcpSegment(caller, external, 'S'))
    else if (protocol === UDP) this.gateway.outside(udp(caller, external))
  }

  /** Somebody outside sends to a forwarded port. */
  #callServer(): void {
    const { protocol, port } = this.#pick(FORWARDS)
    const endpoint = `${this.#pick(ADDRESSES)}:${port}`
    const caller = `${this.#pick(SERVERS)}:${7000 + this.#draw(3)}`
    if (protocol === TCP) this.gateway.outside(tcpSegment(caller, endpoint, 'S'))
    else this.gateway.outside(udp(caller, endpoint))
  }

  /** An address goes away, for a moment or for a while; or one comes back, perhaps as another entry. */
  #loseAddress(): void {
    const { externals } = this.gateway
    for (const address of ADDRESSES)
      if (externals.find(parseAddress(address)) < 0) this.gateway.addExternal(address, POOL)
    const address = this.#pick(ADDRESSES)
    this.lost.add(address)
    externals.remove(externals.find(parseAddress(address)))
    if (this.#draw(2) === 0) this.gateway.turn()
    if (this.#draw(2) === 0) this.gateway.addExternal(address, POOL)
    this.gateway.turn()
  }

  /** A packet of a connection in its direction 0 or 1; what came out. */
  speak({ protocol, origin, original, reply }: Connection, direction: number, flags: string): Uint8Array[] {
    const [from, to] = ends(direction === 0 ? original : reply)
    const send = (spec: Parameters<Gateway['inside']>[0]) =>
      origin === direction ? this.gateway.inside(spec) : this.gateway.outside(spec)
    if (protocol === TCP) return send(tcpSegment(from, to, flags))
    if (protocol === UDP) return send(udp(from, to))
    if (direction === 0) return send(echo(addressOf(from), addressOf(to), portOf(from)))
    return send(echoReply(addressOf(from), addressOf(to), portOf(to)))
  }
}

/** A packet of each direction comes out as the connection's tuples have it. */
function expectToTalk(story: Story, connection: Connection, told: string): void {
  const { protocol, original, reply } = connection
  for (const direction of [0, 1]) {
    const [back, forth] = ends(direction === 0 ? reply : original)
    const sent = story.speak(connection, direction, 'A').map(decode)
    const seen = sent.map(({ src, dst, sport, dport }) => (protocol === 1 ? [src, dst] : [src, sport, dst, dport]))
    const hosts = [addressOf(forth), addressOf(back)]
    const should = protocol === 1 ? hosts : [hosts[0], portOf(forth), hosts[1], portOf(back)]
    expect(seen, `${told}: ${identity(connection)} in direction ${direction}`).toEqual([should])
    // An identifier stands where its sender's port would.
    if (protocol === 1) expect(sent[0]!.icmpId).toBe(portOf(direction === 0 ? forth : back))
  }
}

const crashes = new Map<FaultPoint, number>()
const crashesAt = (point: FaultPoint): number => crashes.get(point) ?? 0

/** Orders a crash: anywhere, or at one of the points that have crashed least. */
function orderCrash(draw: (bound: number) => number, deepest: number): void {
  const fewest = Math.min(...FAULT_POINTS.map(crashesAt))
  const rare = FAULT_POINTS.filter((point) => crashesAt(point) === fewest)
  if (draw(2) === 0) arm(draw(deepest))
  else arm(draw(3), rare[draw(rare.length)]!)
}

/** The dead shard's successors, until one doesn't crash in its first turn; where they crashed. */
async function replace(story: Story, draw: (bound: number) => number): Promise<FaultPoint[]> {
  const points: FaultPoint[] = []
  for (;;) {
    disarm()
    await story.gateway.restart()
    if (draw(3) === 0) orderCrash(draw, 120)
    const point = crashOf(() => story.gateway.turn())
    if (point === undefined) break
    points.push(point)
  }
  disarm()
  return points
}

async function tell(seed: number): Promise<void> {
  const draw = numbers(seed)
  const gateway = await Gateway.start({
    pool: ADDRESSES,
    ports: PORTS,
    blockSize: BLOCK,
    connections: ROWS,
    forwards: FORWARDS,
  })
  const story = new Story(gateway, draw)
  for (let crashed = 0; crashed < CRASHES; ) {
    for (let calm = draw(10); calm > 0; calm--) story.step()
    orderCrash(draw, 100)
    for (let step = 0; step < STEPS; step++) {
      const before = connectionsOf(gateway.tables).filter(isEstablished)
      const point = crashOf(() => story.step())
      if (point === undefined) continue
      const points = [point, ...(await replace(story, draw))]
      for (const each of points) crashes.set(each, crashesAt(each) + 1)
      crashed += points.length
      expectRight(story, before, `seed ${seed}, crash ${crashed}, at ${points.join(', then at ')}`)
      break
    }
    disarm()
    gateway.check()
  }
  expectAllFree(story)
}

function expectRight(story: Story, before: readonly Connection[], told: string): void {
  const { gateway } = story
  expect(gateway.faults(), told).toEqual([])
  const after = new Map(connectionsOf(gateway.tables).map((connection) => [identity(connection), connection]))
  const second = Math.floor(gateway.clock / 1000)
  for (const connection of before) {
    const isOver = second - connection.lastSeen >= connection.timeout
    if (isOver || story.lost.has(addressOf(externalOf(connection)))) continue
    const kept = after.get(identity(connection))
    expect(kept, `${told}: ${identity(connection)}`).toBeDefined()
    // The step in which the shard died may have closed it.
    if (isEstablished(kept!)) expectToTalk(story, kept!, told)
  }
  expect(gateway.faults(), told).toEqual([])
}

/** Time ends every connection and every quarantine; then each leased port is usable. */
function expectAllFree({ gateway }: Story): void {
  for (const address of ADDRESSES)
    if (gateway.externals.find(parseAddress(address)) < 0) gateway.addExternal(address, POOL)
  gateway.pass(7500)
  gateway.pass(130)
  expect(gateway.faults()).toEqual([])
  expect(connectionsOf(gateway.tables)).toEqual([])
  expect(mappingsOf(gateway.tables)).toEqual([])
  for (const space of [0, 1, 2]) {
    const counted = ['portsLeased', 'portsUsed', 'portsResting'] as const
    expect(counted.map((key) => gateway.counter(key, space))).toEqual([ADDRESSES.length * 2 * BLOCK, 0, 0])
  }
}

describe('a shard on the memory of one that crashed', () => {
  for (const seed of SEEDS)
    it(`keeps what was established, leaks no port, and has tables that fit: seed ${seed}`, () => tell(seed))

  it('was begun after a crash at each point', () => {
    expect(FAULT_POINTS.filter((point) => crashesAt(point) === 0)).toEqual([])
    expect([...crashes.values()].reduce((sum, count) => sum + count, 0)).toBeGreaterThanOrEqual(200)
  })
})
