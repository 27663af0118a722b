// The packet sockets and receive rings of all shards: opened in shard order, kept for the process's life, lent to
// workers by number, and bound again to an interface that vanished and came back.
// Owner: the coordinator; the shard that a seat is lent to reads and writes its arena.

import type { Leases } from '../datapath/owner.ts'
import { HostError } from '../host/errors.ts'
import type { LinkReport } from '../host/host-tables.ts'
import { configuredQdiscs } from '../host/qdisc.ts'
import type { AfPacketSeat } from '../io/af-packet-layout.ts'
import { MIN_RING_BYTES } from '../io/af-packet-layout.ts'
import { AfPacketError, closeSeat, openAfPacket, rebind } from '../io/af-packet-open.ts'
import type { GatewayConfig } from './config.ts'

/** Throws HostError HOST_INTERFACE unless each is there and has an Ethernet header. */
export function checkInterfaces(links: readonly LinkReport[]): void {
  for (const { name, present, ethernet } of links) {
    if (!present)
      throw new HostError(
        'HOST_INTERFACE',
        `there is no interface ${name} here: name one that \`ip link\` lists under inside or outside ` +
          '(NATLOOM_INSIDE, NATLOOM_OUTSIDE), or start natloom when it is there',
      )
    if (!ethernet)
      throw new HostError(
        'HOST_INTERFACE',
        `interface ${name} has no Ethernet header, as tunnels, PPP and the loopback: allowed are Ethernet-like ` +
          'interfaces (cards, bridges, VLANs, veth, bonds)',
      )
  }
}

export class PacketPorts {
  /** By shard. */
  readonly seats: readonly AfPacketSeat[]
  readonly dispatcherSeat: AfPacketSeat | undefined
  /** By port: the interface that the sockets are bound to. */
  readonly #bound: number[]

  /** `wakeFds` by shard. Throws AfPacketError, NetlinkError, SystemCallError, and leaves nothing open then. */
  constructor(io: GatewayConfig['io'], links: readonly LinkReport[], wakeFds: readonly number[]) {
    const qdiscBypass = links.map(bypasses(io.qdisc))
    this.#bound = links.map(({ index }) => index)
    const ringBytes = Math.max(MIN_RING_BYTES, Math.floor((io.ringMegabytes << 20) / wakeFds.length))
    const seats: AfPacketSeat[] = []
    this.seats = seats
    try {
      for (const wakeFd of wakeFds) seats.push(openAfPacket({ interfaces: links, ringBytes, qdiscBypass, wakeFd }))
    } catch (error) {
      this.close()
      throw error
    }
  }

  /** Binds the ports whose interface was made anew; true if there are any. Throws SystemCallError, AfPacketError. */
  follow(links: readonly LinkReport[]): boolean {
    return links.filter(({ index }, port) => this.#rebind(port, index)).length > 0
  }

  setDispatch(_leases: Leases): void {}

  /** After the last worker's end: a view of an arena must not be touched any more. */
  close(): void {
    for (const seat of this.seats) closeSeat(seat)
  }

  #rebind(port: number, index: number): boolean {
    if (index === 0 || index === this.#bound[port]) return false
    try {
      for (const seat of this.seats) rebind(seat, port, index)
    } catch (error) {
      // Gone again meanwhile: the next report has its next index.
      if (error instanceof AfPacketError && error.code === 'interface-missing') return false
      throw error
    }
    this.#bound[port] = index
    return true
  }
}

function bypasses(qdisc: GatewayConfig['io']['qdisc']): (link: LinkReport) => boolean {
  if (qdisc !== 'auto') return () => qdisc === 'bypass'
  const configured = configuredQdiscs()
  return ({ index }) => !configured.has(index)
}
