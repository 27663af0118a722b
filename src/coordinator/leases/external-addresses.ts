// The external addresses, and which of their port blocks are leased: all addresses of the pool or, without a pool, the
// outside interface's own address, shared with the host. Authority: RFC 4787 REQ-1..3 (how NAT chooses among the ports:
// nat/ports.shard.ts).
// Owner: the only writer of the addresses in nat/externals.ts, and of what the host hides from the kernel for them;
// writes leases, as block-leases.ts does.
//
// A block of a pool's address that holds a forwarded port is leased to no shard.
//
// On a shared address a block in which the host has a socket is the host's:
//
//   block      leased   hidden   while
//   NAT's      yes      yes      the host has no socket in it
//   draining   partly   yes      the host has a socket in it, and NAT still has ports of TCP or UDP in use
//   host's     no       no       the host has a socket in it, and NAT has no port in use any more
// A block is hidden before it is leased, and unhidden after it was taken back. Never: a leased block that the kernel
// may answer for.

import type { PortRange } from '../../host/port-range.ts'
import {
  type Externals,
  ICMP_SPACE,
  POOL,
  SHARED,
  SPACES,
  spaceOf,
  TCP_SPACE,
  UDP_SPACE,
  wholeBlocks,
} from '../../nat/externals.ts'
import type { PortForward } from '../../nat/port-forward-rules.ts'
import type { Addr } from '../../wire/address.ts'

/** RFC 6335 section 6: ports below 1024 are the system's, which no client sends from. */
const POOL_PORTS: PortRange = { from: 1024, to: 65535 }

export interface ExternalAddressesOptions {
  readonly externals: Externals
  readonly shards: number
  /** Addresses that are NAT's alone. If there are any, no address is shared. */
  readonly pool: readonly Addr[]
  /** NAT's ports on a shared address. */
  readonly ports: PortRange
  /** On a shared address their external ports lie outside of `ports`. */
  readonly portForwards: readonly PortForward[]
  /** The ports within `ports` that the host has sockets on at this address. */
  portsInUse(address: Addr): ReadonlySet<number>
  /** Has the host hide these ports of the shared addresses from the kernel. */
  hide(shared: readonly Addr[], hidden: readonly PortRange[]): void
  /** Called after addresses or leases may have changed. */
  changed(): void
}

export class ExternalAddresses {
  readonly #options: ExternalAddressesOptions
  readonly #blocks: readonly number[]
  /** Entry of the shared address in nat/externals.ts, -1 while there is none. */
  #entry = -1
  /** The arguments of the last call of `hide`, as JSON: at first the host hides nothing for a shared address. */
  #hidden = JSON.stringify([[], []])

  constructor(options: ExternalAddressesOptions) {
    this.#options = options
    this.#blocks = wholeBlocks(options.ports, options.externals.blockSize)
    for (const address of options.pool) {
      const entry = options.externals.add(address, POOL)
      for (const block of wholeBlocks(POOL_PORTS, options.externals.blockSize))
        for (let space = 0; space < SPACES; space++)
          if (!this.#hasPortForward(address, space, block)) this.#lease(entry, space, block)
    }
  }

  /** The address shared with the host, if there is one now. */
  get shared(): Addr | undefined {
    return this.#entry < 0 ? undefined : this.#options.externals.addressOf(this.#entry)
  }

  /** The number of external addresses. */
  get count(): number {
    return this.#options.pool.length + (this.#entry < 0 ? 0 : 1)
  }

  /**
   * Takes the outside interface's present address; undefined if it has none. Connections on the address before it end.
   * `renewed`: the host's rules or routes vanished with an interface and must be made again. True if the address has
   * changed. Throws what `portsInUse` and `hide` throw; the next call goes on from there.
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

  /**
   * Looks at the host's sockets: takes back blocks that have one now, leases blocks that have none. Throws as `follow`.
   */
  refresh(): void {
    const shared = this.shared
    const host = shared === undefined ? new Set<number>() : this.#hostBlocks(shared)
    if (shared !== undefined) for (const block of host) this.#takeBack(block)
    const nat = shared === undefined ? [] : this.#blocks.filter((block) => !host.has(block) || this.#isLeased(block))
    this.#hide(shared === undefined ? [] : [shared], rangesOf(nat, this.#options.externals.blockSize))
    if (shared !== undefined) this.#leaseAll(host)
    this.#options.changed()
  }

  #hasPortForward(address: Addr, space: number, block: number): boolean {
    const { portForwards, externals } = this.#options
    return portForwards.some(
      (portForward) =>
        (portForward.address ?? address) === address &&
        spaceOf(portForward.protocol) === space &&
        Math.floor(portForward.port / externals.blockSize) === block,
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

  /** The host has no sockets in the space of ICMP identifiers: NAT has all of its blocks. */
  #leaseAll(host: ReadonlySet<number>): void {
    for (const block of this.#blocks) {
      this.#lease(this.#entry, ICMP_SPACE, block)
      if (host.has(block)) continue
      this.#lease(this.#entry, TCP_SPACE, block)
      this.#lease(this.#entry, UDP_SPACE, block)
    }
  }

  /** Leases a block to its home shard, unless it is leased already. */
  #lease(entry: number, space: number, block: number): void {
    const { externals, shards } = this.#options
    if (externals.ownerOfBlock(entry, space, block) < 0) externals.lease(entry, space, block, block % shards)
  }
}

/** The ports of these blocks, which are in ascending order, as ranges. */
function rangesOf(blocks: readonly number[], size: number): PortRange[] {
  const ranges: { from: number; to: number }[] = []
  for (const block of blocks) {
    const last = ranges.at(-1)
    if (last?.to === block * size - 1) last.to += size
    else ranges.push({ from: block * size, to: block * size + size - 1 })
  }
  return ranges
}
