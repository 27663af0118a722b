// All that natloom changes on its host, in one object: prepare, apply, update while running, undo. Control plane, main
// thread, synchronous. Owner of the state file.
//
//   step         changes of the host                     may be called
//   prepare      none                                    first
//   apply        port range, rules, pool routes          once after prepare; takes over what a killed natloom left
//   update       rules, pool routes                      after apply, whenever addresses, sockets or interfaces change
//   undo         takes back all of them, also what a     any time after prepare, also twice
//                killed natloom left
// Never: a change is made before the state file says how to undo it.

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
  /** Addresses that are NAT's alone. Those that no interface has get a local route (pool.ts). */
  readonly pool: readonly Addr[]
  /** NAT's TCP and UDP ports on shared addresses. */
  readonly natPorts: PortRange
  /** Protocols without ports that NAT translates on shared addresses. */
  readonly protocols: readonly number[]
  /** Ports of shared addresses that are forwarded to a server inside. */
  readonly forwarded: readonly ForwardedPort[]
  /** The host's own ephemeral ports while natloom runs; null if no address is shared: they stay what they are. */
  readonly hostPortRange: PortRange | null
  readonly statePath?: string
}

/** What may change while natloom runs. A property that is left out stays as it is. */
export interface HostUpdate {
  readonly shared?: readonly Addr[]
  readonly pool?: readonly Addr[]
  /** The parts of `natPorts` in which the host has no sockets; at first all of it. */
  readonly hidden?: readonly PortRange[]
}

export class Host {
  readonly #statePath: string
  #plan: HostPlan
  #hidden: readonly PortRange[]
  /** The content of the state file: a killed natloom's before `apply`, ours after. Undefined: nothing to undo. */
  #state: HostState | undefined

  constructor(plan: HostPlan) {
    this.#plan = plan
    this.#hidden = [plan.natPorts]
    this.#statePath = plan.statePath ?? DEFAULT_STATE_PATH
  }

  /**
   * True if a killed natloom left changes behind. Throws HostError: HOST_RIGHTS, HOST_TOOL, HOST_IN_USE, HOST_STATE.
   */
  prepare(): boolean {
    checkRights()
    this.#state = leftBehind(this.#statePath)
    return this.#state !== undefined
  }

  /** Rules of the kernel's own NAT that may give out natloom's ports. Throws HostError HOST_NFT. */
  kernelNat(): KernelNatRule[] {
    return kernelNat(this.#plan.outside, this.#plan.natPorts)
  }

  /** Throws HostError; `undo` takes back what was changed until then. */
  apply(): void {
    const before = this.#state
    const current = readPortRange()
    // If the range is not the one that a killed natloom set, an administrator has changed it since: it is the original.
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
   * To be called after a change of addresses or of the host's sockets, and when an interface is back. Does nothing
   * after undo: a late notification must not make the rules again. Throws HostError.
   */
  update(changes: HostUpdate = {}): void {
    if (!this.#state) return
    const { hidden = this.#hidden, ...plan } = changes
    this.#plan = { ...this.#plan, ...plan }
    this.#hidden = hidden
    this.#write({ ...this.#state, pool: union(this.#state.pool, this.#plan.pool) })
    this.#applyPoolAndRules()
  }

  /** Undoes what it can and returns what failed. The state file stays until nothing is left to undo. */
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
        // If the range is not ours, an administrator has changed it since: it stays.
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
