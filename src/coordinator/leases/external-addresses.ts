// Which external addresses there are and which of their port blocks are leased: the pool's, or the outside interface's
// own address, shared with the host. Authority: RFC 4787 REQ-1..3 (what NAT does with them: nat/ports.shard.ts).
// Owner: this is the only writer of addresses and leases in nat/externals.ts, and of what the host hides for them.
//
// A block of a pool's address with a port that a forward dictates is leased to nobody: the forward has it.
//
// On a shared address a block in which the host has a socket is the host's:
//
//   block      leased   hidden   because
//   NAT's      yes      yes      the host has no socket in it
//   draining   partly   yes      the host has one since, NAT still has ports in use: what was free is taken back
//   host's     no       no       NAT has none in use any more
// Hidden comes before leased, and unhidden after taken back. Never: a leased block that the kernel may answer for.

import type { PortRange } from '../../host/port-range.ts'
import { type Externals, ICMP_SPACE, POOL, SHARED, SPACES, spaceOf, TCP_SPACE, UDP_SPACE } from '../../nat/externals.ts'
import type { PortForward } from '../../nat/port-forwards.shard.ts'
import type { Addr } from '../../wire/address.ts'

/** RFC 6335: below are the system's ports, which no client sends from. */
const POOL_PORTS: PortRange = { from: 1024, to: 65535 }

export interface ExternalAddressesOptions {
  readonly externals: Externals
  readonly shards: number
  /** Addresses that are NAT's alone; if there are any, none is shared. */
  readonly pool: readonly Addr[]
  /** NAT's ports of a shared address. */
  readonly ports: PortRange
  /** On a shared address their ports lie outside of `ports`. */
  readonly forwards: readonly PortForward[]
  /** Local ports in `ports` that the host has sockets on, for an address. */
  portsInUse(address: Addr): ReadonlySet<number>
  /** Brings the host in line: shared addresses and the ports of them that the kernel must not see. */
  hide(shared: readonly Addr[], hidden: readonly PortRange[]): void
  /** Addresses or leases have changed. */
  changed(): void
}

export class ExternalAddresses {
  readonly #options: ExternalAddressesOptions
  readonly #blocks: readonly number[]
  /** The entry of the shared address, -1 while there is none. */
  #entry = -1
  /** What the host was last brought in line with: without a shared address it is so already. */
  #hidden = JSON.stringify([[], []])

  constructor(options: ExternalAddressesOptions) {
    this.#options = options
    this.#blocks = wholeBlocks(options.ports, options.externals.blockSize)
    for (const address of options.pool) {
      const entry = options.externals.add(address, POOL)
      for (const block of wholeBlocks(POOL_PORTS, options.externals.blockSize))
        for (let space = 0; space < SPACES; space++)
          if (!this.#isForwarded(address, space, block)) this.#lease(entry, space, block)
    }
  }

  /** The address shared with the host, if there is one now. */
  get shared(): Addr | undefined {
    return this.#entry < 0 ? undefined : this.#options.externals.addressOf(this.#entry)
  }

  /** How many addresses NAT has to give ports of. */
  get count(): number {
    return this.#options.pool.length + (this.#entry < 0 ? 0 : 1)
  }

  /**
   * The outside interface's address is this one now (none: it has lost it); connections on another one end. `renewed`:
   * the host's rules or routes went with an interface, and are made again. True if the address is news.
   * Throws what `portsInUse` and `hide` throw; the next call goes on from there.
   */
  follow(address: Addr | undefined, renewed = false): boolean {
    const { externals, pool } = this.#options
    const wanted = pool.length > 0 ? undefined : address
    const isNews = wanted !== this.shared
    if (isNews && this.#entry >= 0) externals.remove(this.#entry)
    if (isNews) this.#entry = wanted === undefined ? -1 : externals.add(wanted, SHARED)
    if (renewed) this.#hidden = ''
    if (isNews || renewed) this.refresh()
    return isNews
  }

  /** Looks at the host's sockets: takes back what became the host's, leases what is no longer. Throws as `follow`. */
  refresh(): void {
    const shared = this.shared
    const host = shared === undefined ? new Set<number>() : this.#hostBlocks(shared)
    if (shared !== undefined) for (const block of host) this.#takeBack(block)
    const nat = shared === undefined ? [] : this.#blocks.filter((block) => !host.has(block) || this.#isLeased(block))
    this.#hide(shared === undefined ? [] : [shared], rangesOf(nat, this.#options.externals.blockSize))
    if (shared !== undefined) this.#leaseAll(host)
    this.#options.changed()
  }

  #isForwarded(address: Addr, space: number, block: number): boolean {
    const { forwards, externals } = this.#options
    return forwards.some(
      (forward) =>
        (forward.address ?? address) === address &&
        spaceOf(forward.protocol) === space &&
        Math.floor(forward.port / externals.blockSize) === block,
    )
  }

  #hostBlocks(address: Addr): Set<number> {
    const { externals, portsInUse } = this.#options
    return new Set([...portsInUse(address)].map((port) => Math.floor(port / externals.blockSize)))
  }

  #takeBack(block: number): void {
    for (const space of [TCP_SPACE, UDP_SPACE]) this.#options.externals.takeBack(this.#entry, space, block)
  }

  #isLeased(block: number): boolean {
    const { externals } = this.#options
    return [TCP_SPACE, UDP_SPACE].some((space) => externals.ownerOfBlock(this.#entry, space, block) >= 0)
  }

  #hide(shared: readonly Addr[], hidden: readonly PortRange[]): void {
    const wanted = JSON.stringify([shared, hidden])
    if (wanted === this.#hidden) return
    this.#options.hide(shared, hidden)
    this.#hidden = wanted
  }

  /** ICMP identifiers are no sockets: all of them are NAT's. */
  #leaseAll(host: ReadonlySet<number>): void {
    for (const block of this.#blocks) {
      this.#lease(this.#entry, ICMP_SPACE, block)
      if (host.has(block)) continue
      this.#lease(this.#entry, TCP_SPACE, block)
      this.#lease(this.#entry, UDP_SPACE, block)
    }
  }

  /** A block's home is the shard of its number. */
  #lease(entry: number, space: number, block: number): void {
    const { externals, shards } = this.#options
    if (externals.ownerOfBlock(entry, space, block) < 0) externals.lease(entry, space, block, block % shards)
  }
}

/** Blocks that lie within the range as a whole. */
function wholeBlocks({ from, to }: PortRange, size: number): number[] {
  const first = Math.ceil(from / size)
  const end = Math.floor((to + 1) / size)
  return Array.from({ length: Math.max(0, end - first) }, (_, i) => first + i)
}

/** Ports of these blocks, which are in order. */
function rangesOf(blocks: readonly number[], size: number): PortRange[] {
  const ranges: { from: number; to: number }[] = []
  for (const block of blocks) {
    const last = ranges.at(-1)
    if (last?.to === block * size - 1) last.to += size
    else ranges.push({ from: block * size, to: block * size + size - 1 })
  }
  return ranges
}
