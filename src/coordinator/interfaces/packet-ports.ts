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

const NO_QDISCS: ReadonlyMap<number, string> = new Map()

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

/** From now on what an interface sends goes past its queueing discipline, or through it. */
export interface QdiscChange {
  readonly name: string
  /** Of the discipline, where there is one. */
  readonly kind: string | undefined
  readonly bypass: boolean
}

export class PacketPorts {
  readonly #opened: AfPacketPorts
  /** By port number: inside or outside. */
  readonly #sides: readonly Side[]
  /** By port number: the index of the interface that the sockets are bound to, 0 for none. */
  readonly #bound: number[]
  readonly #qdisc: PortsConfig['io']['qdisc']
  /** By port number: whether what it sends goes past the queueing discipline. */
  #bypass: readonly boolean[]

  /** Throws AfPacketError, NetlinkError, SystemCallError, and leaves nothing open then. */
  constructor(config: PortsConfig, sides: readonly Side[], links: readonly LinkReport[], options: PacketPortsOptions) {
    const { io, dispatch } = config
    const { wakeFds, dispatcherWakeFd, sharedBytes } = options
    this.#sides = sides
    this.#bound = links.map(({ index }) => index)
    this.#qdisc = io.qdisc
    this.#bypass = links.map(bypasses(io.qdisc, io.qdisc === 'auto' ? configuredQdiscs() : NO_QDISCS))
    this.#opened = openAfPacket({
      interfaces: links,
      shards: wakeFds.length,
      ringBytes: ringBytesOf({ io, dispatch, workers: wakeFds.length }),
      qdiscBypass: this.#bypass,
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

  /** Binds a port whose interface was made anew. Throws SystemCallError, AfPacketError. */
  follow(port: number, { name, index, present, renamedTo, up }: LinkReport): void {
    // With its interface a socket loses its binding, also where the interface comes back under the same index: out of
    // another namespace, for one. A renamed interface keeps its sockets.
    if (!present && renamedTo === undefined) this.#bound[port] = 0
    this.#rebind(port, index)
    if (!this.#opened.settle(port) && up)
      throw new Error(`the kernel takes no sockets on ${name} into a fanout group, though the link is up`)
  }

  /**
   * Sets the kernel's dispatch programs; `programOf` compiles the one for packets from a side. Throws SystemCallError.
   */
  setDispatch(programOf: (side: Side) => Uint8Array): void {
    const programs = new Map([...new Set(this.#sides)].map((side) => [side, programOf(side)]))
    for (const [port, side] of this.#sides.entries()) this.#opened.setDispatch(port, programs.get(side)!)
  }

  /**
   * Has each port honour the queueing discipline that somebody has configured since, or bypass it again, if `io.qdisc`
   * leaves that to natloom. Returns what has changed. Throws NetlinkError, SystemCallError.
   */
  followQdiscs(links: readonly LinkReport[]): QdiscChange[] {
    if (this.#qdisc !== 'auto') return []
    const configured = configuredQdiscs()
    const isBypassed = bypasses(this.#qdisc, configured)
    const changes = links.flatMap((link, port) => {
      const { name, index, present } = link
      const bypass = isBypassed(link)
      return !present || bypass === this.#bypass[port] ? [] : [{ port, name, kind: configured.get(index), bypass }]
    })
    for (const { port, bypass } of changes) {
      this.#opened.setQdiscBypass(port, bypass)
      this.#bypass = this.#bypass.with(port, bypass)
    }
    return changes
  }

  /** To be called after the last worker's end, since a view of unmapped packet memory crashes the process. */
  close(): void {
    this.#opened.close()
  }

  #rebind(port: number, index: number): void {
    if (index === 0 || index === this.#bound[port]) return
    try {
      this.#opened.rebind(port, index)
    } catch (error) {
      // The interface is gone again; the next report brings its next index.
      if (error instanceof AfPacketError && error.code === 'interface-missing') return
      throw error
    }
    this.#bound[port] = index
  }
}

function bypasses(
  qdisc: PortsConfig['io']['qdisc'],
  configured: ReadonlyMap<number, string>,
): (link: LinkReport) => boolean {
  if (qdisc !== 'auto') return () => qdisc === 'bypass'
  return ({ index }) => !configured.has(index)
}
