// The external addresses, and which of their port blocks are leased: all addresses of the pool or, without a pool, the
// outside interface's own address, shared with the host. Authority: RFC 4787 REQ-1..3 (how NAT chooses among the ports:
// nat/ports.shard.ts).
// Owner: the only writer of the addresses in nat/externals.ts; writes leases, as block-leases.ts does.
//
// A block of a pool's address that holds a forwarded port is leased to no shard.
//
// A shared address comes into force in this order, and what fails is done when `follow` is called again:
//
//   step                                        by                  before it
//   its ports with sockets of the host marked   host-sockets.ts     NAT might give them to somebody
//   NAT's ports hidden from the kernel          host/host.ts        the kernel might answer NAT's flows
//   all of its blocks leased                    here                nothing is translated to it

import type { PortRange } from '../../host/port-range.ts'
import type { Entry } from '../../memory/brand.ts'
import { type Block, POOL, SHARED, SPACES, type Space, spaceOf, wholeBlocks } from '../../nat/externals.ts'
import type { Addr } from '../../wire/address.ts'
import type { NatPorts } from './host-sockets.ts'

/** RFC 6335 section 6: ports below 1024 are the system's, which no client sends from. */
export const POOL_PORTS: PortRange = { from: 1024, to: 65535 }

export interface ExternalAddressesOptions extends NatPorts {
  readonly shards: number
  /** Addresses that are NAT's alone. If there are any, no address is shared. */
  readonly pool: readonly Addr[]
  /** Follows the host's sockets on the shared address, whose entry this is; -1 if there is none. */
  followSockets(entry: number): void
  /** Has the host hide NAT's ports of the shared addresses from the kernel. */
  hide(shared: readonly Addr[]): void
  /** Called after addresses or leases may have changed. */
  changed(): void
  /** Called when another address is shared than was said before: it is in force, or undefined. Not with a pool. */
  announce(shared: Addr | undefined): void
}

export class ExternalAddresses {
  readonly #options: ExternalAddressesOptions
  readonly #blocks: readonly number[]
  /** Entry of the shared address in nat/externals.ts, -1 while there is none. */
  #entry = -1
  /** What is in force: at first nothing is hidden for a shared address. */
  #isInForce = true
  /** What was announced last; null: nothing yet. */
  #announced: Addr | undefined | null = null

  constructor(options: ExternalAddressesOptions) {
    this.#options = options
    this.#blocks = wholeBlocks(options.ports, options.externals.blockSize)
    const pool = wholeBlocks(POOL_PORTS, options.externals.blockSize)
    for (const address of options.pool) {
      const entry = options.externals.add(address, POOL)
      for (let space = 0; space < SPACES; space++)
        this.#lease(entry, space, this.#withoutForwards(pool, address, space))
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
   * `renewed`: the host's rules or routes vanished with an interface and must be made again. Throws what
   * `followSockets` and `hide` throw; the next call goes on from there.
   */
  follow(address: Addr | undefined, renewed = false): void {
    const { externals, pool } = this.#options
    const wanted = pool.length > 0 ? undefined : address
    const isNews = wanted !== this.shared
    if (isNews && this.#entry >= 0) externals.remove(this.#entry)
    if (isNews) this.#entry = wanted === undefined ? -1 : externals.add(wanted, SHARED)
    if (isNews || renewed) this.#isInForce = false
    if (wanted === undefined) this.#announce()
    if (!this.#isInForce) this.#bringIntoForce()
    this.#announce()
  }

  #bringIntoForce(): void {
    const { followSockets, hide, changed } = this.#options
    const shared = this.shared
    followSockets(this.#entry)
    hide(shared === undefined ? [] : [shared])
    if (shared !== undefined) for (let space = 0; space < SPACES; space++) this.#lease(this.#entry, space, this.#blocks)
    this.#isInForce = true
    changed()
  }

  #announce(): void {
    if (this.#options.pool.length > 0 || this.#announced === this.shared) return
    this.#announced = this.shared
    this.#options.announce(this.shared)
  }

  /** The blocks that hold no forwarded port of the address. */
  #withoutForwards(blocks: readonly Block[], address: Addr, space: Space): readonly Block[] {
    const { portForwards, externals } = this.#options
    const forwarded = portForwards
      .filter((each) => (each.address ?? address) === address && spaceOf(each.protocol) === space)
      .map(({ port }) => Math.floor(port / externals.blockSize))
    if (forwarded.length === 0) return blocks
    const holding = new Set(forwarded)
    return blocks.filter((block) => !holding.has(block))
  }

  /** Leases blocks to their home shards, those that are not leased already. */
  #lease(entry: Entry, space: Space, blocks: readonly Block[]): void {
    const { externals, shards } = this.#options
    externals.leaseAll(entry, space, blocks, (block) => block % shards)
  }
}
