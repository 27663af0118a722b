// The driver of a replay: frames come from a capture and go into captures. Behind it is a loopback (the ring rules of a
// real link); in front, what a capture lacks. Its packets are given links with an Ethernet header, whatever they were
// captured on, and routes and neighbours that never change stand where the netlink watcher's would.
//
//   inside hosts -- INSIDE_ROUTER -- port 0, INSIDE -- gateway -- OUTSIDE, port 1 -- OUTSIDE_ROUTER -- everybody else
//
// Both routers answer for whoever is behind them, so no neighbour is ever waited for. Owner: the thread that replays.

import { type FibPort, type FibRoute, type FibSnapshot, NEIGHBOUR, ROUTE } from '../routing/fib.ts'
import type { Addr } from '../wire/address.ts'
import { type Prefix, parseAddress, parseMac } from '../wire/address.ts'
import { HEADER_LEN, TYPE_IPV4 } from '../wire/ethernet.ts'
import { LoopbackDriver, type LoopbackOptions } from './loopback.ts'

const INSIDE = 0
const OUTSIDE = 1

/** By port: the gateway's own address, and that of the router behind which everybody is. Locally administered. */
export const PCAP_MACS = [
  { own: '02:6e:6c:00:00:01', router: '02:6e:6c:00:01:01' },
  { own: '02:6e:6c:00:00:02', router: '02:6e:6c:00:02:01' },
] as const

/** RFC 7600: for a router that has to say something and has no address. */
const OWN_ADDRESS = parseAddress('192.0.0.8')
/** Link-local, so nobody in a capture is routed to them. */
const ROUTERS = [parseAddress('169.254.0.1'), parseAddress('169.254.0.2')] as const
/** Super-packets are captured whole, and go on whole. */
const MTU = 65535

export interface StaticNetwork {
  readonly inside: readonly Prefix[]
  /** The gateway's outside address; 0 for none. */
  readonly outsideAddress: Addr
}

/** What a host would have of routes and neighbours: inside prefixes behind port 0, all else behind port 1. */
export function staticNetwork({ inside, outsideAddress }: StaticNetwork): FibSnapshot {
  const port = (number: 0 | 1, address: Addr): FibPort => ({
    up: true,
    mtu: MTU,
    address,
    mac: parseMac(PCAP_MACS[number].own),
  })
  const route = (destination: Addr, length: number, more: Partial<FibRoute>): FibRoute => ({
    destination,
    length,
    type: ROUTE.unicast,
    port: OUTSIDE,
    gateway: 0,
    source: 0,
    mtu: 0,
    metric: 0,
    ...more,
  })
  const local = { type: ROUTE.local, port: -1, metric: -1 }
  return {
    ports: [port(INSIDE, OWN_ADDRESS), port(OUTSIDE, outsideAddress || OWN_ADDRESS)],
    routes: [
      ...inside.map(({ address, length }) => route(address, length, { port: INSIDE, gateway: ROUTERS[INSIDE] })),
      // Of the same length as one of inside it is the second choice.
      route(0, 0, { gateway: ROUTERS[OUTSIDE], metric: 1 }),
      ...(outsideAddress === 0 ? [] : [route(outsideAddress, 32, local)]),
    ],
    neighbours: ([INSIDE, OUTSIDE] as const).map((number) => ({
      port: number,
      address: ROUTERS[number],
      state: NEIGHBOUR.resolved,
      mac: parseMac(PCAP_MACS[number].router),
    })),
  }
}

export type PcapDriverOptions = Omit<LoopbackOptions, 'keepSent' | 'ports'>

export class PcapDriver extends LoopbackDriver {
  readonly #headers = PCAP_MACS.map(({ own, router }) =>
    Uint8Array.of(...parseMac(own), ...parseMac(router), TYPE_IPV4 >> 8, TYPE_IPV4 & 0xff),
  )

  constructor(options: PcapDriverOptions = {}) {
    super({ ...options, ports: 2 })
  }

  /** An IPv4 packet arrives on a port, as from its router. False if the ring is full. */
  play(port: 0 | 1, packet: Uint8Array): boolean {
    const frame = new Uint8Array(HEADER_LEN + packet.length)
    frame.set(this.#headers[port]!)
    frame.set(packet, HEADER_LEN)
    return this.inject(port, frame)
  }

  /** Calls `each` with every frame that was sent by a port since the last time, oldest first. */
  collect(port: 0 | 1, each: (frame: Uint8Array) => void): void {
    for (const frame of this.takeSent(port)) each(frame)
  }
}
