// The host's own sockets on the ports of the address that it shares with NAT: looked at about once a second, said to
// the shards in the port words (nat/port-words.ts), and compared with what NAT has given out. Authority: RFC 4787 REQ-3
// (a port is one endpoint's at a time). Main thread. Owner: the only writer of the host's bit of the port words.
//
//   the host has a socket   NAT has the port   what is sent to it                 here
//   yes                     no                 goes to the socket (host/rules)    marked: NAT gives it to nobody
//   yes                     yes                goes to NAT: contested             marked, hidden, logged, counted
//   no                      yes                goes to NAT
// A port is NAT's if a mapping has it, an expectation has announced it, or a port forward dictates it. On a contested
// port the host's socket gets nothing until either is gone: its answers would end NAT's flows. Until a look finds the
// port, it gets what is sent to NAT as well; the kernel's resets of the flow's segments don't leave (host/rules).

import type { Logger } from 'pino'
import type { Host } from '../../host/host.ts'
import type { PortRange } from '../../host/port-range.ts'
import type { ContestedPort } from '../../host/rules.ts'
import { portsInUse } from '../../host/sockets.ts'
import type { HostPortsState } from '../../metrics/host-ports.ts'
import { type Externals, spaceOf } from '../../nat/externals.ts'
import type { PortForward } from '../../nat/port-forward-rules.ts'
import { isTaken } from '../../nat/port-words.ts'
import type { Addr } from '../../wire/address.ts'
import { PROTO_TCP, PROTO_UDP } from '../../wire/ipv4.ts'

const PROTOCOLS = [PROTO_TCP, PROTO_UDP] as const
/** A look may take one part in so many of this thread's time: on a host with many sockets it comes less often. */
const SHARE = 50
/** Forwarded ports lie outside of NAT's range and need a listing of their own: one look in so many has it. */
const LOOKS_PER_FORWARDS = 10
/** Contested ports that are logged one by one in the life of a gateway; the others are only counted. */
const LOGGED_PORTS = 50

/** Which ports are NAT's. */
export interface NatPorts {
  readonly externals: Externals
  /** NAT's ports on a shared address. */
  readonly ports: PortRange
  /** On a shared address their external ports lie outside of `ports`. */
  readonly portForwards: readonly PortForward[]
}

export interface HostSocketsOptions extends NatPorts {
  /** Is told which ports to hide from the kernel although it has sockets there. */
  readonly host: Pick<Host, 'contest'>
  readonly log: Pick<Logger, 'warn'>
  /** For tests: the ports within a range that a host has sockets on. */
  readonly list?: typeof portsInUse
  /** Milliseconds of a monotonic clock. */
  readonly now?: () => number
}

export class HostSockets implements HostPortsState {
  readonly #options: HostSocketsOptions
  readonly #list: typeof portsInUse
  readonly #now: () => number
  /** Entry of the shared address in nat/externals.ts, -1 while there is none. */
  #entry = -1
  /** By protocol: the ports of this entry whose words say that the host has a socket. */
  readonly #bound = new Map<number, ReadonlySet<number>>(PROTOCOLS.map((protocol) => [protocol, new Set<number>()]))
  #contested: readonly ContestedPort[] = []
  /** Forwarded ports on which the host has a socket, as they were found last. */
  #served: readonly ContestedPort[] = []
  /** What the host was told last, as JSON. */
  #hidden = '[]'
  #looks = 0
  #isSeen = true
  #nextLookAt = Number.NEGATIVE_INFINITY
  /** `protocol port` of those that were logged. */
  readonly #logged = new Set<string>()

  constructor(options: HostSocketsOptions) {
    this.#options = options
    this.#list = options.list ?? portsInUse
    this.#now = options.now ?? (() => performance.now())
  }

  bound(protocol: number): number | undefined {
    return this.#isSeen ? (this.#bound.get(protocol)?.size ?? 0) : undefined
  }

  contested(protocol: number): number | undefined {
    if (!this.#isSeen) return undefined
    return this.#contested.filter((each) => each.protocol === protocol).length
  }

  /**
   * The shared address has this entry now, -1 if there is none; the words of the one before say nothing any more. Looks
   * at once: to be called before ports of the entry are leased. Throws NetlinkError, HostError.
   */
  follow(entry: number): void {
    if (entry !== this.#entry) {
      for (const protocol of PROTOCOLS) this.#mark(protocol, new Set())
      this.#entry = entry
      this.#served = []
      this.#looks = 0
    }
    this.#look()
  }

  /** To be called about once a second. Throws as `follow`. */
  look(): void {
    if (this.#now() >= this.#nextLookAt) this.#look()
  }

  #look(): void {
    const { externals, ports } = this.#options
    const began = this.#now()
    this.#isSeen = false
    if (this.#entry >= 0) {
      const address = externals.addressOf(this.#entry)
      for (const protocol of PROTOCOLS) this.#mark(protocol, this.#list([address], ports, [protocol]))
      if (this.#looks++ % LOOKS_PER_FORWARDS === 0) this.#served = this.#servedForwards(address)
    }
    this.#contested = [...PROTOCOLS.flatMap((protocol) => this.#taken(protocol)), ...this.#served]
    this.#isSeen = true
    this.#hide()
    this.#log()
    this.#nextLookAt = this.#now() + (this.#now() - began) * SHARE
  }

  /** Has the port words of the entry say that the host has sockets on these ports of a protocol, and on no others. */
  #mark(protocol: number, ports: ReadonlySet<number>): void {
    if (this.#entry < 0) return
    const { externals } = this.#options
    const before = this.#bound.get(protocol)!
    const space = spaceOf(protocol)
    // Kept before the words change: if that ends half-way, the next look knows of all that may have been marked.
    this.#bound.set(protocol, new Set([...before, ...ports]))
    for (const port of ports) if (!before.has(port)) externals.setHostBound(this.#entry, space, port, true)
    for (const port of before) if (!ports.has(port)) externals.setHostBound(this.#entry, space, port, false)
    this.#bound.set(protocol, ports)
  }

  /** The ports of a protocol that the host has a socket on, and that NAT has given out. */
  #taken(protocol: number): ContestedPort[] {
    const { externals } = this.#options
    if (this.#entry < 0) return []
    const first = externals.portIndex(this.#entry, spaceOf(protocol), 0)
    return [...this.#bound.get(protocol)!]
      .filter((port) => isTaken(Atomics.load(externals.portWords, first + port)))
      .map((port) => ({ protocol, port }))
  }

  #servedForwards(address: Addr): ContestedPort[] {
    const forwards = this.#options.portForwards.filter((each) => (each.address ?? address) === address)
    return PROTOCOLS.flatMap((protocol) => {
      const ports = forwards.filter((each) => each.protocol === protocol).map(({ port }) => port)
      if (ports.length === 0) return []
      const range = { from: Math.min(...ports), to: Math.max(...ports) }
      const used = this.#list([address], range, [protocol])
      return ports.filter((port) => used.has(port)).map((port) => ({ protocol, port }))
    })
  }

  #log(): void {
    for (const { protocol, port } of this.#contested) {
      const key = `${protocol} ${port}`
      if (this.#logged.size > LOGGED_PORTS || this.#logged.has(key)) continue
      this.#logged.add(key)
      if (this.#logged.size <= LOGGED_PORTS)
        this.#options.log.warn(
          { protocol, port },
          'the host has opened a socket on a port that NAT has given out: what is sent there goes to NAT',
        )
      else this.#options.log.warn({}, 'more such ports are not logged: natloom_host_ports_contested counts them')
    }
  }

  #hide(): void {
    const wanted = JSON.stringify(this.#contested)
    if (wanted === this.#hidden) return
    this.#options.host.contest(this.#contested)
    this.#hidden = wanted
  }
}
