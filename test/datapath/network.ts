// The network around a gateway under test: who is where, which routes the host has, which neighbours answer.
//
//   10.0.0.0/24 -- lan, 10.0.0.1 -- gateway -- 203.0.113.1, wan -- 203.0.113.0/24 -- 203.0.113.254 -- everything else

import {
  type FibNeighbour,
  type FibPort,
  type FibRoute,
  type FibSnapshot,
  NEIGHBOUR,
  ROUTE,
} from '../../src/routing/fib.ts'
import { parseAddress, parseMac } from '../../src/wire/address.ts'

export const MAC = {
  lan: '02:00:00:00:01:01',
  wan: '02:00:00:00:02:01',
  host: '02:00:00:00:01:05',
  server: '02:00:00:00:02:fe',
} as const

export const HOST = '10.0.0.5'
export const SERVER = '192.0.2.7'
export const EXTERNAL = '203.0.113.1'
export const LAN_ADDRESS = '10.0.0.1'
/** The router that leads to SERVER. */
export const ROUTER = '203.0.113.254'
export const LAN = 0
export const WAN = 1

/** What the routes and neighbours are at a moment. */
export interface Network {
  readonly wanMtu?: number
  readonly lanMtu?: number
  /** Neighbours that the kernel doesn't know, that it asks for, that don't answer; the others of PERMANENT do. */
  readonly silent?: readonly string[]
  readonly pending?: readonly string[]
  readonly failed?: readonly string[]
  /** Ports that are down. */
  readonly down?: readonly number[]
  readonly routes?: readonly FibRoute[]
}

export const route = (destination: string, length: number, extra: Partial<FibRoute> = {}): FibRoute => ({
  destination: parseAddress(destination),
  length,
  type: ROUTE.unicast,
  port: LAN,
  gateway: 0,
  source: 0,
  mtu: 0,
  metric: 0,
  ...extra,
})

const neighbour = (port: number, address: string, mac: string): FibNeighbour => ({
  port,
  address: parseAddress(address),
  state: NEIGHBOUR.resolved,
  mac: parseMac(mac),
})

const PERMANENT: readonly FibNeighbour[] = [
  neighbour(LAN, HOST, MAC.host),
  neighbour(LAN, '10.0.0.6', '02:00:00:00:01:06'),
  neighbour(LAN, '10.0.0.7', '02:00:00:00:01:07'),
  neighbour(LAN, '10.0.0.8', '02:00:00:00:01:08'),
  neighbour(LAN, '10.0.0.10', '02:00:00:00:01:0a'),
  neighbour(WAN, ROUTER, MAC.server),
  neighbour(WAN, '203.0.113.9', '02:00:00:00:02:09'),
]

export function snapshotOf(network: Network, pool: readonly string[] = []): FibSnapshot {
  const { silent = [], pending = [], failed = [], down = [], routes = [] } = network
  const { wanMtu = 1500, lanMtu = 1500 } = network
  const port = (number: number, address: string, mac: string, mtu: number): FibPort => ({
    up: !down.includes(number),
    mtu,
    address: parseAddress(address),
    mac: parseMac(mac),
  })
  const local = { type: ROUTE.local, port: -1, metric: -1 }
  const isOneOf = (list: readonly string[], { address }: FibNeighbour) =>
    list.some((other) => parseAddress(other) === address)
  const unresolved = (state: FibNeighbour['state']) => (address: string) => ({
    port: address.startsWith('10.') ? LAN : WAN,
    address: parseAddress(address),
    state,
    mac: new Uint8Array(6),
  })
  return {
    ports: [port(LAN, LAN_ADDRESS, MAC.lan, lanMtu), port(WAN, EXTERNAL, MAC.wan, wanMtu)],
    routes: [
      route('10.0.0.0', 24),
      route('203.0.113.0', 24, { port: WAN }),
      route('0.0.0.0', 0, { port: WAN, gateway: parseAddress(ROUTER) }),
      route('172.16.0.0', 16, { port: -1 }),
      route(LAN_ADDRESS, 32, local),
      route(EXTERNAL, 32, local),
      route('10.0.0.255', 32, { ...local, type: ROUTE.broadcast }),
      ...pool.map((address) => route(address, 32, local)),
      ...routes,
    ],
    neighbours: [
      ...PERMANENT.filter((at) => !isOneOf([...silent, ...pending, ...failed], at)),
      ...pending.map(unresolved(NEIGHBOUR.pending)),
      ...failed.map(unresolved(NEIGHBOUR.failed)),
    ],
  }
}
