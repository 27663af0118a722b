// The packet sockets and receive rings of all shards: opened in shard order, so that each socket's place in its fanout
// group is its shard's number, kept for the process's life, lent to worker threads by file descriptor, and bound again
// to an interface that vanished and came back.
// Owner: the coordinator opens, binds and closes them; the shard that rings are lent to reads and writes them.

import type { Side } from '../../conntrack/terms.ts'
import type { LinkReport } from '../../host/host-tables.ts'
import { configuredQdiscs } from '../../host/qdisc.ts'
import type { AfPacketRings } from '../../io/af-packet-layout.ts'
import { type AfPacketPorts, openAfPacket } from '../../io/af-packet-open.ts'
import { AfPacketError } from '../../io/errors.ts'
import { ringBytesOf } from '../memory-plan.ts'

/** The part of the gateway's configuration (coordinator/config.ts) that says how packets are received and sent. */
interface PortsConfig {
  readonly io: { readonly ringMegabytes: number; readonly qdisc: 'auto' | 'honour' | 'bypass' }
  readonly dispatch: 'kernel' | 'thread'
}

export interface PacketPortsOptions {
  /** By shard: the eventfd that wakes it. */
  readonly wakeFds: readonly number[]
  /** The eventfd that wakes the dispatcher, if a thread dispatches. */
  readonly dispatcherWakeFd: number | undefined
  /** Bytes of packet memory that all shards share, for frames that are handed over. */
  readonly sharedBytes: number
}

export class PacketPorts {
  readonly #opened: AfPacketPorts
  /** By port number: inside or outside. */
  readonly #sides: readonly Side[]
  /** By port number: the index of the interface that the sockets are bound to. */
  readonly #bound: number[]

  /** Throws AfPacketError, NetlinkError, SystemCallError, and leaves nothing open then. */
  constructor(config: PortsConfig, sides: readonly Side[], links: readonly LinkReport[], options: PacketPortsOptions) {
    const { io, dispatch } = config
    const { wakeFds, dispatcherWakeFd, sharedBytes } = options
    this.#sides = sides
    this.#bound = links.map(({ index }) => index)
    this.#opened = openAfPacket({
      interfaces: links,
      shards: wakeFds.length,
      ringBytes: ringBytesOf({ io, dispatch, workers: wakeFds.length }),
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

  /** Binds the ports whose interface was made anew. True if there are any. Throws SystemCallError, AfPacketError. */
  follow(links: readonly LinkReport[]): boolean {
    const isBack = links.filter(({ index }, port) => this.#rebind(port, index)).length > 0
    for (const [port, { name, up }] of links.entries()) {
      if (!this.#opened.settle(port) && up)
        throw new Error(`the kernel takes no sockets on ${name} into a fanout group, though the link is up`)
    }
    return isBack
  }

  /**
   * Sets the kernel's dispatch programs; `programOf` compiles the one for packets from a side. Throws SystemCallError.
   */
  setDispatch(programOf: (side: Side) => Uint8Array): void {
    const programs = new Map([...new Set(this.#sides)].map((side) => [side, programOf(side)]))
    for (const [port, side] of this.#sides.entries()) this.#opened.setDispatch(port, programs.get(side)!)
  }

  /** To be called after the last worker's end, since a view of unmapped packet memory crashes the process. */
  close(): void {
    this.#opened.close()
  }

  #rebind(port: number, index: number): boolean {
    if (index === 0 || index === this.#bound[port]) return false
    try {
      this.#opened.rebind(port, index)
    } catch (error) {
      // The interface is gone again; the next report brings its next index.
      if (error instanceof AfPacketError && error.code === 'interface-missing') return false
      throw error
    }
    this.#bound[port] = index
    return true
  }
}

function bypasses(qdisc: PortsConfig['io']['qdisc']): (link: LinkReport) => boolean {
  if (qdisc !== 'auto') return () => qdisc === 'bypass'
  const configured = configuredQdiscs()
  return ({ index }) => !configured.has(index)
}
