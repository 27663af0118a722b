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
import { applyPool } from './pool.ts'
import { type PortRange, readPortRange, sameRange, writePortRange } from './port-range.ts'
import { checkRights } from './rights.ts'
import { type RulesLook, RuleTables, tableNames, type WayOfOwning } from './rule-tables.ts'
import type { ContestedPort, ForwardedPort } from './rules.ts'
import { DEFAULT_STATE_PATH, type HostState, leftBehind, newState, removeState, writeState } from './state.ts'

/** Names the nft tables where nothing else is said. */
const DEFAULT_NAME = 'natloom'

export interface HostPlan {
  /** Names the nft tables; default `natloom`. */
  readonly name?: string
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
  /** How the nft tables may be owned, best first; by default the kernel says. For tests of what older ones offer. */
  readonly waysOfOwning?: readonly WayOfOwning[] | undefined
}

/** What may change while natloom runs. A property that is left out stays as it is. */
export interface HostUpdate {
  readonly shared?: readonly Addr[]
  readonly pool?: readonly Addr[]
  /** Ports that NAT has given out and on which the host has a socket; at first none. */
  readonly contested?: readonly ContestedPort[]
}

export class Host {
  readonly #statePath: string
  #plan: HostPlan
  readonly #name: string
  #contested: readonly ContestedPort[] = []
  #rules: RuleTables | undefined
  /** The content of the state file: a killed natloom's before `apply`, ours after. Undefined: nothing to undo. */
  #state: HostState | undefined

  constructor(plan: HostPlan) {
    this.#plan = plan
    this.#name = plan.name ?? DEFAULT_NAME
    this.#statePath = plan.statePath ?? DEFAULT_STATE_PATH
  }

  /**
   * True if a killed natloom left changes behind. Throws HostError: HOST_RIGHTS, HOST_TOOL, HOST_IN_USE, HOST_STATE.
   */
  prepare(): boolean {
    checkRights()
    const before = leftBehind(this.#statePath)
    this.#ruleTables().refuseForeign()
    this.#state = before
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
      nftTables: [...new Set([...(before?.nftTables ?? []), ...tableNames(this.#name)])],
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
    const { contested = this.#contested, ...plan } = changes
    this.#plan = { ...this.#plan, ...plan }
    this.#contested = contested
    this.#write({ ...this.#state, pool: union(this.#state.pool, this.#plan.pool) })
    this.#applyPoolAndRules()
  }

  /**
   * Whether the rules are in force; makes them again where somebody has changed them. To be called when the ruleset was
   * changed, and every few seconds. Undefined before `apply` and after `undo`. Throws NetlinkError.
   */
  lookAtRules(): RulesLook | undefined {
    return this.#state && this.#rules?.look()
  }

  /** Undoes what it can and returns what failed. The state file stays until nothing is left to undo. */
  undo(): string[] {
    const state = this.#state
    if (!state) {
      this.#closeRules()
      return []
    }
    const problems: string[] = []
    const attempt = (step: () => void) => {
      try {
        step()
      } catch (error) {
        problems.push(reasonOf(error))
      }
    }
    for (const table of state.nftTables) attempt(() => this.#ruleTables().remove(table))
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
    this.#closeRules()
    return problems
  }

  #closeRules(): void {
    this.#rules?.close()
    this.#rules = undefined
  }

  #applyPoolAndRules(): void {
    const { inside, outside, shared, pool, natPorts, protocols, forwarded } = this.#plan
    applyPool(pool, outside, this.#state?.pool ?? [])
    this.#ruleTables().apply({
      inside,
      outside,
      shared,
      pool,
      natPorts,
      contested: this.#contested,
      protocols,
      forwarded,
    })
  }

  #ruleTables(): RuleTables {
    this.#rules ??= new RuleTables(this.#name, this.#plan.waysOfOwning)
    return this.#rules
  }

  #write(state: HostState): void {
    writeState(this.#statePath, state)
    this.#state = state
  }
}

const union = (a: readonly Addr[], b: readonly Addr[]): Addr[] => [...new Set([...a, ...b])]
