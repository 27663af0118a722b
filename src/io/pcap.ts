// The driver of a replay: frames come from a capture and go into captures. It is a loopback (with the ring rules of a
// real link), and adds what a capture lacks: an Ethernet header for each packet, whatever link it was captured on, and
// the routes and neighbours of a network that never changes, in place of what netlink tells on a real host.
//
//   inside hosts -- ROUTERS[0] -- port 0, INSIDE -- gateway -- OUTSIDE, port 1 -- ROUTERS[1] -- everybody else
//
// All hosts are behind one of the two routers, whose MAC addresses are known (PCAP_MACS), so no packet waits for a
// neighbour.
// Owner: the thread that replays.

import { type FibPort, type FibRoute, type FibSnapshot, NEIGHBOUR, ROUTE } from '../routing/fib.ts'
import type { Addr } from '../wire/address.ts'
import { type Prefix, parseAddress, parseMac } from '../wire/address.ts'
import { HEADER_LEN, TYPE_IPV4 } from '../wire/ethernet.ts'
import { LoopbackDriver, type LoopbackOptions } from './loopback.ts'

const INSIDE = 0
const OUTSIDE = 1

/** By port: the MAC address of the gateway, and that of the router on this link. Locally administered. */
export const PCAP_MACS = [
  { own: '02:6e:6c:00:00:01', router: '02:6e:6c:00:01:01' },
  { own: '02:6e:6c:00:00:02', router: '02:6e:6c:00:02:01' },
] as const

/** The source of ICMP errors from a router without an address (RFC 7600). */
const OWN_ADDRESS = parseAddress('192.0.0.8')
/** Link-local addresses, which no packet in a capture is routed to. */
const ROUTERS = [parseAddress('169.254.0.1'), parseAddress('169.254.0.2')] as const
/** A capture may have super-packets, which are not cut. */
const MTU = 65535

export interface StaticNetwork {
  readonly inside: readonly Prefix[]
  /** The gateway's outside address; 0 for none. */
  readonly outsideAddress: Addr
}

/** Ports, routes and neighbours of this network: inside prefixes behind port 0, all other addresses behind port 1. */
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
      // Where 0.0.0.0/0 is an inside prefix, the metric makes this route the second choice.
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
