// The packet sockets and receive rings of all shards: opened in shard order, kept for the process's life, lent to
// workers by number, and bound again to an interface that vanished and came back.
// Owner: the coordinator; the shard that rings are lent to reads and writes its packet memory.

import type { Side } from '../../conntrack/terms.ts'
import { HostError } from '../../host/errors.ts'
import type { LinkReport } from '../../host/host-tables.ts'
import { configuredQdiscs } from '../../host/qdisc.ts'
import { type AfPacketRings, MIN_RING_BYTES } from '../../io/af-packet-layout.ts'
import { type AfPacketPorts, openAfPacket } from '../../io/af-packet-open.ts'
import { AfPacketError } from '../../io/errors.ts'
import type { GatewayConfig } from '../config.ts'

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

const MEGABYTE = 2 ** 20

type PortsConfig = Pick<GatewayConfig, 'io' | 'dispatch'>

/** For the workers: where they are woken, and what of the packet memory is all shards'. */
export interface PacketPortsOptions {
  /** By shard. */
  readonly wakeFds: readonly number[]
  /** Where a thread dispatches. */
  readonly dispatcherWakeFd: number | undefined
  readonly sharedBytes: number
}

export class PacketPorts {
  readonly #opened: AfPacketPorts
  /** By port: inside or outside. */
  readonly #sides: readonly Side[]
  /** By port: the interface that the sockets are bound to. */
  readonly #bound: number[]

  /** Throws AfPacketError, NetlinkError, SystemCallError, and leaves nothing open then. */
  constructor(config: PortsConfig, sides: readonly Side[], links: readonly LinkReport[], options: PacketPortsOptions) {
    const { io, dispatch } = config
    const { wakeFds, dispatcherWakeFd, sharedBytes } = options
    // A budget for each interface: with a dispatcher's thread it is one ring's.
    const ringBytes = (io.ringMegabytes * MEGABYTE) / (dispatch === 'thread' ? 1 : wakeFds.length)
    this.#sides = sides
    this.#bound = links.map(({ index }) => index)
    this.#opened = openAfPacket({
      interfaces: links,
      shards: wakeFds.length,
      ringBytes: Math.max(MIN_RING_BYTES, Math.floor(ringBytes)),
      qdiscBypass: links.map(bypasses(io.qdisc)),
      wakeFds,
      sharedBytes,
      dispatch,
      ...(dispatcherWakeFd !== undefined && { dispatcherWakeFd }),
    })
  }

  /** By shard. */
  get rings(): readonly AfPacketRings[] {
    return this.#opened.rings
  }

  get dispatcherRings(): AfPacketRings | undefined {
    return this.#opened.dispatcherRings
  }

  /** Binds the ports whose interface was made anew; true if there are any. Throws SystemCallError, AfPacketError. */
  follow(links: readonly LinkReport[]): boolean {
    const isBack = links.filter(({ index }, port) => this.#rebind(port, index)).length > 0
    for (const [port, { name, up }] of links.entries()) {
      if (!this.#opened.settle(port) && up)
        throw new Error(`the kernel takes no sockets on ${name} into a fanout group, though the link is up`)
    }
    return isBack
  }

  /** Sets the programs by which the kernel dispatches: the owner of what comes by a side. Throws SystemCallError. */
  setDispatch(programOf: (side: Side) => Uint8Array): void {
    const programs = new Map([...new Set(this.#sides)].map((side) => [side, programOf(side)]))
    for (const [port, side] of this.#sides.entries()) this.#opened.setDispatch(port, programs.get(side)!)
  }

  /** After the last worker's end: a view of packet memory must not be touched any more. */
  close(): void {
    this.#opened.close()
  }

  #rebind(port: number, index: number): boolean {
    if (index === 0 || index === this.#bound[port]) return false
    try {
      this.#opened.rebind(port, index)
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
