// All that natloom changes on its host, in one object: prepare, apply, update while running, take back. Control plane,
// main thread, synchronous. Owner of the state file.
//
//   step         changes the host                        may be called
//   prepare      no                                      first
//   apply        yes, after the state file says how      once after prepare; takes over what a killed one left
//   update       rules and pool routes                   after apply, as often as addresses or interfaces change
//   undo         undoes all, and what a killed one left  any time after prepare, also twice
// Never: a change that the state file doesn't know of yet.

import type { Addr } from '../wire/address.ts'
import { reasonOf } from './errors.ts'
import { type KernelNatRule, kernelNat } from './kernel-nat.ts'
import { applyRules, type ForwardedPort, NFT_TABLES, removeTable } from './nft.ts'
import { applyPool } from './pool.ts'
import { type PortRange, readPortRange, sameRange, writePortRange } from './port-range.ts'
import { checkRights } from './rights.ts'
import { DEFAULT_STATE_PATH, type HostState, leftBehind, newState, removeState, writeState } from './state.ts'
import { readHost } from './watcher.ts'

export interface HostPlan {
  /** Interface names; none on both sides. */
  readonly inside: readonly string[]
  readonly outside: readonly string[]
  /** Addresses that NAT shares with the host: those of the outside interface, where there is no pool. */
  readonly shared: readonly Addr[]
  /** Addresses that are NAT's alone. Those that no interface has are made local. */
  readonly pool: readonly Addr[]
  /** NAT's TCP and UDP ports on shared addresses. */
  readonly natPorts: PortRange
  /** Protocols without ports that NAT translates on shared addresses. */
  readonly protocols: readonly number[]
  /** Ports of shared addresses that are a server's behind the gateway. */
  readonly forwarded: readonly ForwardedPort[]
  /** Where the host's own ports go meanwhile; null leaves them where they are (nothing is shared). */
  readonly hostPortRange: PortRange | null
  readonly statePath?: string
}

/** What may change while natloom runs. What is left out stays as it is. */
export interface HostUpdate {
  readonly shared?: readonly Addr[]
  readonly pool?: readonly Addr[]
  /** The parts of `natPorts` that the host has no sockets in; at first all of it. */
  readonly hidden?: readonly PortRange[]
}

export class Host {
  readonly #statePath: string
  #plan: HostPlan
  #hidden: readonly PortRange[]
  /** As the file has it: a predecessor's before `apply`, ours after. Undefined: nothing to take back. */
  #state: HostState | undefined

  constructor(plan: HostPlan) {
    this.#plan = plan
    this.#hidden = [plan.natPorts]
    this.#statePath = plan.statePath ?? DEFAULT_STATE_PATH
  }

  /** Throws HostError: HOST_RIGHTS, HOST_TOOL, HOST_IN_USE, HOST_STATE. True if a killed natloom left things behind. */
  prepare(): boolean {
    checkRights()
    this.#state = leftBehind(this.#statePath)
    return this.#state !== undefined
  }

  /** Rules of the kernel's own NAT that would give out natloom's ports. Throws HostError HOST_NFT. */
  kernelNat(): KernelNatRule[] {
    return kernelNat(this.#plan.outside, this.#plan.natPorts)
  }

  /** Throws HostError; what was done until then is undone by `undo`. */
  apply(): void {
    const before = this.#state
    const current = readPortRange()
    // Somebody may have set another range after a predecessor was killed: then that one is the host's own.
    const original = before?.portRange && sameRange(current, before.portRange.set) ? before.portRange.original : current
    const wanted = this.#plan.hostPortRange ?? original
    this.#write({
      ...newState(),
      portRange: sameRange(original, wanted) ? null : { original, set: wanted },
      nftTables: NFT_TABLES,
      pool: union(before?.pool ?? [], this.#plan.pool),
    })
    if (!sameRange(current, wanted)) writePortRange(wanted)
    this.#applyPoolAndRules()
  }

  /**
   * After a change of addresses or of the host's sockets, or when an interface is back. Nothing after undo: a late
   * notification must not bring the rules back. Throws HostError.
   */
  update(changes: HostUpdate = {}): void {
    if (!this.#state) return
    const { hidden = this.#hidden, ...plan } = changes
    this.#plan = { ...this.#plan, ...plan }
    this.#hidden = hidden
    this.#write({ ...this.#state, pool: union(this.#state.pool, this.#plan.pool) })
    this.#applyPoolAndRules()
  }

  /** Undoes what it can and returns what it could not; the state file stays until nothing is left to undo. */
  undo(): string[] {
    const state = this.#state
    if (!state) return []
    const problems: string[] = []
    const attempt = (step: () => void) => {
      try {
        step()
      } catch (error) {
        problems.push(reasonOf(error))
      }
    }
    for (const table of state.nftTables) attempt(() => removeTable(table))
    attempt(() => applyPool([], this.#plan.outside, state.pool))
    const { portRange } = state
    if (portRange)
      attempt(() => {
        // Another range than ours was set by somebody else since, and is kept.
        if (sameRange(readPortRange(), portRange.set)) writePortRange(portRange.original)
      })
    if (problems.length > 0) return problems
    attempt(() => removeState(this.#statePath))
    this.#state = undefined
    return problems
  }

  #applyPoolAndRules(): void {
    const { inside, outside, shared, pool, protocols, forwarded } = this.#plan
    applyPool(pool, outside, this.#state?.pool ?? [])
    const links = readHost([...inside, ...outside])
    const present = new Set(links.filter((link) => link.present).map(({ name }) => name))
    applyRules({ inside, outside, present, shared, pool, hidden: this.#hidden, protocols, forwarded })
  }

  #write(state: HostState): void {
    writeState(this.#statePath, state)
    this.#state = state
  }
}

const union = (a: readonly Addr[], b: readonly Addr[]): Addr[] => [...new Set([...a, ...b])]
