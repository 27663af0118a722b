import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { LinkReport } from '../../src/host/host-tables.ts'
import { type NetlinkThreadData, readHost, Watcher, type WatcherReport } from '../../src/host/watcher.ts'
import { close, drain, eventfd, POLLIN, pollArray, signal } from '../../src/io/syscalls.ts'
import { type Namespace, run, veth } from '../../src/lab/world/namespace.ts'
import { allocate, Region } from '../../src/memory/region.ts'
import { Fib, FOUND, NEIGHBOUR, ROUTE } from '../../src/routing/fib.ts'
import { testNamespace } from '../leftovers.ts'
import { PATIENCE_MS } from '../patience.ts'
import { addr, inside } from './inside.ts'

const LAN = 0
const WAN = 1
const PORTS = ['lan0', 'wan0']

/** A watcher's thread in the gateway's namespace, and what a shard and the main thread see of it. */
class Watched {
  readonly fib: Fib
  readonly reports: WatcherReport[] = []
  readonly #stop = new SharedArrayBuffer(4)
  readonly #wakeFd = eventfd()
  readonly #shardFd = eventfd()
  readonly #worker: Worker
  readonly #exit: Promise<unknown>

  constructor(gateway: Namespace, limits: { routes?: number } = {}) {
    const options = { ports: 2, shards: 1, ...limits }
    const { buffer } = allocate((region) => new Fib(region, options))
    this.fib = new Fib(new Region(buffer), options)
    const workerData: NetlinkThreadData = {
      fib: { buffer, options },
      ports: PORTS,
      rulesPort: 0,
      wakeFd: this.#wakeFd,
      shardFds: [this.#shardFd],
      stop: this.#stop,
    }
    const script = new URL('../../dist/workers/netlink.js', import.meta.url)
    this.#worker = inside(gateway, () => new Worker(script, { workerData }))
    this.#worker.on('message', (report) => this.reports.push(report))
    this.#exit = once(this.#worker, 'exit')
  }

  lookup(destination: string) {
    const out = new Int32Array(FOUND.words)
    this.fib.lookup(addr(destination), out)
    return {
      type: out[FOUND.type],
      port: out[FOUND.port],
      gateway: out[FOUND.gateway],
      source: out[FOUND.source],
      mtu: out[FOUND.mtu],
      neighbour: out[FOUND.neighbour],
      ethernet: Buffer.from(out.buffer, FOUND.mac0 * 4, 12).toString('hex'),
    }
  }

  /** Waits as a shard does, on its eventfd, until `what` holds after a publication. */
  until(what: () => boolean): void {
    const deadline = performance.now() + PATIENCE_MS
    const pollfd = new Uint8Array(Int32Array.of(this.#shardFd, POLLIN).buffer)
    while (!what()) {
      const left = deadline - performance.now()
      if (left <= 0) throw new Error(`never so: ${what}`)
      pollArray(pollfd, 1, left)
      drain(this.#shardFd)
    }
  }

  /** Waits for a report of which `what` holds. */
  async reported(what: (links: readonly LinkReport[]) => boolean): Promise<void> {
    const holds = (report: WatcherReport) => report.kind === 'changed' && what(report.links)
    const signal = AbortSignal.timeout(PATIENCE_MS)
    while (!this.reports.some(holds)) await once(this.#worker, 'message', { signal })
  }

  async problem(): Promise<string> {
    const signal = AbortSignal.timeout(PATIENCE_MS)
    for (;;) {
      for (const report of this.reports) if (report.kind === 'overflow') return report.message
      await once(this.#worker, 'message', { signal })
    }
  }

  ask(port: number, address: string): void {
    expect(this.fib.requestNeighbour(0, port, addr(address))).toBe(true)
    signal(this.#wakeFd)
  }

  async end(): Promise<void> {
    Atomics.store(new Int32Array(this.#stop), 0, 1)
    signal(this.#wakeFd)
    await this.#exit
    close(this.#wakeFd)
    close(this.#shardFd)
  }
}

describe('netlink watcher', () => {
  let gateway: Namespace
  let lan: Namespace
  let wan: Namespace
  let watched: Watched

  const connect = () => {
    veth(gateway, 'lan0', lan, 'eth0')
    gateway.ip('addr add 10.0.0.1/24 dev lan0')
    lan.ip('addr add 10.0.0.5/24 dev eth0')
  }

  beforeAll(() => {
    gateway = testNamespace('watch-gw')
    lan = testNamespace('watch-lan')
    wan = testNamespace('watch-wan')
    connect()
    veth(gateway, 'wan0', wan, 'eth0')
    gateway.ip('addr add 203.0.113.2/24 dev wan0')
    gateway.ip('route add default via 203.0.113.1')
    wan.ip('addr add 203.0.113.1/24 dev eth0')
    watched = new Watched(gateway)
  })

  afterAll(async () => {
    await watched?.end()
    for (const namespace of [gateway, lan, wan]) namespace?.delete()
  })

  it('publishes what it finds at its start', () => {
    watched.until(() => watched.fib.version() > 0)
    const { fib } = watched
    expect([fib.portUp(LAN), fib.portMtu(LAN), fib.portAddress(LAN)]).toEqual([true, 1500, addr('10.0.0.1')])
    expect(watched.lookup('10.0.0.1')).toMatchObject({ type: ROUTE.local, port: LAN })
    expect(watched.lookup('10.0.0.255')).toMatchObject({ type: ROUTE.broadcast })
    expect(watched.lookup('10.0.0.77')).toMatchObject({ type: ROUTE.unicast, port: LAN, source: addr('10.0.0.1') })
    expect(watched.lookup('8.8.8.8')).toMatchObject({
      type: ROUTE.unicast,
      port: WAN,
      gateway: addr('203.0.113.1'),
      source: addr('203.0.113.2'),
      mtu: 1500,
    })
  })

  it('follows routes: added, more specific, refused, with an MTU, by another interface, deleted', () => {
    gateway.ip('route add 198.51.100.0/24 via 10.0.0.9 mtu 1280 src 203.0.113.2')
    watched.until(() => watched.lookup('198.51.100.7').gateway === addr('10.0.0.9'))
    expect(watched.lookup('198.51.100.7')).toMatchObject({ port: LAN, mtu: 1280, source: addr('203.0.113.2') })
    gateway.ip('route add unreachable 198.51.100.128/25')
    watched.until(() => watched.lookup('198.51.100.200').type === ROUTE.refused)
    gateway.ip('route add throw 198.51.100.192/26')
    watched.until(() => watched.lookup('198.51.100.200').type === ROUTE.none)
    gateway.ip('route add 192.0.2.0/24 dev lo')
    watched.until(() => watched.lookup('192.0.2.1').type === ROUTE.unicast && watched.lookup('192.0.2.1').port === -1)
    gateway.ip('route replace 192.0.2.0/24 nexthop via 203.0.113.9 nexthop via 10.0.0.9')
    watched.until(() => watched.lookup('192.0.2.1').gateway === addr('203.0.113.9'))
    gateway.ip('route del 192.0.2.0/24')
    watched.until(() => watched.lookup('192.0.2.1').gateway === addr('203.0.113.1'))
  })

  it('agrees with the kernel where the local table and the main table overlap', () => {
    const kernelSays = () => gateway.ip('route get 172.16.5.1').split(' ')[0]
    gateway.ip('route add local 172.16.0.0/16 dev lo table local')
    gateway.ip('route add 172.16.5.0/24 via 10.0.0.9')
    watched.until(() => watched.lookup('172.16.9.1').type === ROUTE.local)
    watched.until(() => watched.lookup('172.16.5.1').type === (kernelSays() === 'local' ? ROUTE.local : ROUTE.unicast))
  })

  it('follows addresses, and tells the main thread', async () => {
    gateway.ip('addr add 10.0.1.1/24 dev lan0')
    watched.until(() => watched.lookup('10.0.1.1').type === ROUTE.local)
    await watched.reported((links) => links[LAN].addresses.some(({ address }) => address === addr('10.0.1.1')))
    expect(watched.fib.portAddress(LAN)).toBe(addr('10.0.0.1'))
    watched.reports.length = 0
    gateway.ip('addr del 10.0.1.1/24 dev lan0')
    watched.until(() => watched.lookup('10.0.1.1').port === WAN)
    await watched.reported((links) => links[LAN].addresses.length === 1)
  })

  it('has the kernel resolve a neighbour that a shard asks for', () => {
    expect(watched.lookup('10.0.0.5').neighbour).toBe(NEIGHBOUR.unknown)
    watched.ask(LAN, '10.0.0.5')
    watched.until(() => watched.lookup('10.0.0.5').neighbour === NEIGHBOUR.resolved)
    const mac = (host: Namespace, name: string) =>
      /ether ([0-9a-f:]+)/.exec(host.ip(`link show ${name}`))?.[1]?.replaceAll(':', '')
    expect(watched.lookup('10.0.0.5').ethernet).toBe(`${mac(lan, 'eth0')}${mac(gateway, 'lan0')}`)
  })

  it('publishes a new MAC, but not that the kernel has doubts about the old one', () => {
    const before = watched.fib.version()
    gateway.ip('neigh change 10.0.0.5 dev lan0 nud stale')
    gateway.ip('neigh change 10.0.0.5 dev lan0 nud reachable')
    gateway.ip('neigh replace 10.0.0.5 dev lan0 lladdr 02:00:00:00:00:99 nud reachable')
    watched.until(() => watched.lookup('10.0.0.5').ethernet.startsWith('020000000099'))
    expect(watched.fib.version()).toBe(before + 1)
    gateway.ip('neigh del 10.0.0.5 dev lan0')
    watched.until(() => watched.lookup('10.0.0.5').neighbour !== NEIGHBOUR.resolved)
  })

  it('says pending, then failed, of a neighbour that does not answer, and tries again when asked again', () => {
    watched.ask(LAN, '10.0.0.66')
    watched.until(() => watched.lookup('10.0.0.66').neighbour === NEIGHBOUR.pending)
    watched.until(() => watched.lookup('10.0.0.66').neighbour === NEIGHBOUR.failed)
    lan.ip('addr add 10.0.0.66/24 dev eth0')
    watched.ask(LAN, '10.0.0.66')
    watched.until(() => watched.lookup('10.0.0.66').neighbour === NEIGHBOUR.resolved)
  })

  it('follows a link down, and up again with its routes', async () => {
    gateway.ip('link set wan0 down')
    watched.until(() => !watched.fib.portUp(WAN))
    watched.until(() => watched.lookup('8.8.8.8').type === ROUTE.none)
    expect(watched.fib.portUp(LAN)).toBe(true)
    gateway.ip('link set wan0 up')
    gateway.ip('route add default via 203.0.113.1')
    watched.until(() => watched.fib.portUp(WAN) && watched.lookup('8.8.8.8').port === WAN)
    await watched.reported((links) => !links[WAN].up)
  })

  it('sees a cable pulled at the other end', () => {
    wan.ip('link set eth0 down')
    watched.until(() => !watched.fib.portUp(WAN))
    wan.ip('link set eth0 up')
    watched.until(() => watched.fib.portUp(WAN))
  })

  it('keeps the port number of an interface that vanishes and comes back', async () => {
    watched.reports.length = 0
    gateway.ip('link delete lan0')
    watched.until(() => watched.fib.portAddress(LAN) === 0)
    expect([watched.fib.portUp(LAN), watched.fib.portMacHigh(LAN)]).toEqual([false, 0])
    expect(watched.lookup('10.0.0.5')).toMatchObject({ port: WAN })
    await watched.reported((links) => !links[LAN].present)
    connect()
    watched.until(() => watched.fib.portUp(LAN) && watched.fib.portAddress(LAN) === addr('10.0.0.1'))
    watched.ask(LAN, '10.0.0.5')
    watched.until(() => watched.lookup('10.0.0.5').neighbour === NEIGHBOUR.resolved)
  })

  it('publishes a burst of changes in a few snapshots', () => {
    const before = watched.fib.version()
    const batch = Array.from({ length: 500 }, (_, n) => `route add 100.64.${n >> 8}.${n & 255}/32 via 10.0.0.9`)
    inside(gateway, () => run('ip', ['-batch', '-'], batch.join('\n')))
    watched.until(() => watched.lookup('100.64.1.243').gateway === addr('10.0.0.9'))
    expect(watched.fib.version() - before).toBeLessThan(50)
  })

  it('says it when the routes no longer fit, and keeps the last set that did', async () => {
    const small = new Watched(gateway, { routes: 100 })
    try {
      expect(await small.problem()).toMatch(/the host has \d+ routes, natloom keeps at most 100/)
      gateway.ip('route flush root 100.64.0.0/10')
      small.until(() => small.lookup('8.8.8.8').port === WAN)
    } finally {
      await small.end()
    }
  })
})

describe('a neighbour in use', () => {
  it('is confirmed every 30 s: the kernel sees none of the packets that go there', () => {
    const host = testNamespace('watch-use')
    const peer = testNamespace('watch-peer')
    const wakeFd = eventfd()
    try {
      veth(host, 'lan0', peer, 'eth0')
      host.ip('addr add 10.0.0.1/24 dev lan0')
      for (const [address, state] of [
        ['10.0.0.5', 'stale'],
        ['10.0.0.6', 'permanent'],
      ])
        host.ip(`neigh add ${address} dev lan0 lladdr 02:00:00:00:00:05 nud ${state}`)
      const states = () => JSON.parse(host.ip('-j neigh show dev lan0')) as { dst: string; state: string[] }[]
      const stateOf = (address: string) => states().find(({ dst }) => dst === address)?.state[0]

      let now = 0
      const { view: fib } = allocate((region) => new Fib(region, { ports: 1, shards: 1 }))
      const silent = { published: () => {}, report: () => {} }
      const options = { fib, ports: ['lan0'], rulesPort: 0, wakeFd, now: () => now, ...silent }
      const watcher = inside(host, () => new Watcher(options))
      const turnAt = (time: number) => {
        now = time
        signal(wakeFd) // or it would wait
        watcher.turn()
      }
      turnAt(29_999)
      expect(stateOf('10.0.0.5')).toBe('STALE')
      turnAt(30_000)
      expect(stateOf('10.0.0.5')).toMatch(/DELAY|PROBE/)
      expect(stateOf('10.0.0.6')).toBe('PERMANENT')
      watcher.close()
    } finally {
      close(wakeFd)
      host.delete()
      peer.delete()
    }
  })
})

describe('readHost', () => {
  it('tells what is wrong with an interface before anything starts', () => {
    const host = testNamespace('watch-one')
    try {
      host.ip('link add lan0 type veth peer name eth0')
      host.ip('addr add 10.0.0.1/24 dev lan0')
      host.ip('addr add 10.0.0.2/24 dev lan0')
      const [lan0, lo, missing] = inside(host, () => readHost(['lan0', 'lo', 'wan0']))
      expect(lan0).toMatchObject({ present: true, enabled: false, up: false, ethernet: true, mtu: 1500 })
      expect(lan0.addresses).toEqual([
        { address: addr('10.0.0.1'), prefixLength: 24, primary: true },
        { address: addr('10.0.0.2'), prefixLength: 24, primary: false },
      ])
      expect(lo).toMatchObject({ present: true, up: true, ethernet: false })
      expect(missing).toMatchObject({ name: 'wan0', present: false, index: 0, addresses: [] })
    } finally {
      host.delete()
    }
  })
})
