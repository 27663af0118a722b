// All that natloom changes on its host, in one object: prepare, apply, update while running, undo. Control plane, main
// thread, synchronous. Owner of the state file.
//
//   step         changes of the host                     may be called
//   prepare      none                                    first
//   apply        port range, rules, pool routes          once after prepare; takes over what a killed natloom left
//   update       rules, pool routes                      after apply, whenever addresses or interfaces change
//   contest      rules                                   after apply, whenever the host's sockets change
//   lookAt...    what somebody else has changed          after apply, every few seconds
//   undo         takes back all of them, also what a     any time after prepare, also twice
//                killed natloom left
//   end          as undo; none if nothing was applied    instead of undo, at the end of a gateway
// Never: a change is made before the state file says how to undo it.

import { type Addr, formatAddress } from '../wire/address.ts'
import { HostError, reasonOf } from './errors.ts'
import { indexesOf } from './host-tables.ts'
import { claim, inTurn, otherInstances, register, unregister } from './instances.ts'
import type { Lock } from './locks.ts'
import { NETLINK_ROUTE, NetlinkSocket } from './netlink-socket.ts'
import { applyPool, FIRST_ROUTE_PROTOCOL, LAST_ROUTE_PROTOCOL } from './pool.ts'
import {
  claimRange,
  overlap,
  type PortRange,
  type RangeClaims,
  readPortRange,
  releaseRange,
  sameRange,
  writePortRange,
} from './port-range.ts'
import { type RulesLook, RuleTables, tableNames, type WayOfOwning } from './rule-tables.ts'
import type { ContestedPort, ForwardedPort, Interfaces } from './rules.ts'
import { DEFAULT_NAME, type HostState, leftBehind, newState, removeState, stateExists, writeState } from './state.ts'

export interface HostPlan {
  /** Names the nft tables, and is no other gateway's in this network namespace; default `natloom`. */
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
  readonly statePath: string
  /** How the nft tables may be owned, best first; by default the kernel says. For tests of what older ones offer. */
  readonly waysOfOwning?: readonly WayOfOwning[] | undefined
}

/** What may change while natloom runs. A property that is left out stays as it is. */
export interface HostUpdate {
  readonly shared?: readonly Addr[]
  readonly pool?: readonly Addr[]
}

/** Something that natloom has set, that somebody else has changed, and that was set again. */
export interface Restored {
  readonly what: 'port-range' | 'pool-route' | 'state-file'
  /** What it was before natloom set it again. */
  readonly was: string
}

export class Host {
  readonly #statePath: string
  #plan: HostPlan
  readonly #name: string
  #contested: readonly ContestedPort[] = []
  /** By name: the index of the interface that has it, or had it last and is still there. */
  #indexes: ReadonlyMap<string, number> = new Map()
  #rules: RuleTables | undefined
  /** The name and the interfaces, from `prepare` to `undo`. */
  #claimed: Lock | undefined
  #isApplied = false
  /** The content of the state file: a killed natloom's before `apply`, ours after. Undefined: nothing to undo. */
  #state: HostState | undefined

  constructor(plan: HostPlan) {
    this.#plan = plan
    this.#name = plan.name ?? DEFAULT_NAME
    this.#statePath = plan.statePath
  }

  /**
   * True if a killed natloom left changes behind. Throws HostError: HOST_IN_USE, HOST_STATE.
   */
  prepare(): boolean {
    this.#claimed ??= claim(this.#name, this.#interfaces)
    try {
      const before = leftBehind(this.#statePath)
      this.#ruleTables().refuseForeign()
      this.#state = before
    } catch (error) {
      this.#release()
      throw error
    }
    return this.#state !== undefined
  }

  /** The netlink port by which this gateway's rules are changed, from `prepare` to `undo`. */
  get rulesPort(): number {
    return this.#ruleTables().port
  }

  /** Throws HostError; `undo` takes back what was changed until then. */
  apply(): void {
    this.#isApplied = true
    inTurn(() => this.#applyShared(this.#state))
    this.#applyRulesAndPool()
  }

  /**
   * To be called after a change of addresses, and when an interface is gone, renamed or back. Does nothing after undo:
   * a late notification must not make the rules again. Throws HostError.
   */
  update(changes: HostUpdate = {}): void {
    if (!this.#state || !this.#isApplied) return
    this.#plan = { ...this.#plan, ...changes }
    const pool = union(this.#state.pool, this.#plan.pool)
    if (pool.length !== this.#state.pool.length) this.#write({ ...this.#state, pool })
    this.#applyRulesAndPool()
  }

  /** The ports that NAT has given out and on which the host has a socket are these: changes rules only, as `update`. */
  contest(ports: readonly ContestedPort[]): void {
    if (!this.#isApplied) return
    this.#contested = ports
    this.#applyRules()
  }

  /**
   * Whether the rules are in force; makes them again where somebody has changed them. To be called when the ruleset was
   * changed, and every few seconds. Undefined before `apply` and after `undo`. Throws NetlinkError.
   */
  lookAtRules(): RulesLook | undefined {
    return this.#isApplied ? this.#rules?.look() : undefined
  }

  /**
   * Sets again what somebody else has changed of the port range, the pool's routes and the state file; returns what. To
   * be called every few seconds after `apply`. Throws HostError, NetlinkError.
   */
  lookAtSettings(): Restored[] {
    const state = this.#state
    if (!state || !this.#isApplied) return []
    const restored: Restored[] = []
    if (!stateExists(this.#statePath)) {
      this.#write(state)
      inTurn(() => register(this.#name, this.#statePath))
      restored.push({ what: 'state-file', was: 'removed' })
    }
    // A range beside NAT's ports does no harm: it is somebody's wish, and stays when natloom stops.
    if (this.#plan.hostPortRange && overlap(readPortRange(), this.#plan.natPorts)) restored.push(this.#movePortRange())
    for (const address of this.#applyPool(this.#plan.pool, state))
      restored.push({ what: 'pool-route', was: `of ${formatAddress(address)} removed` })
    return restored
  }

  /** Moves the port range that somebody has set out of NAT's ports; theirs is set when the gateway stops. */
  #movePortRange(): Restored {
    return inTurn(() => {
      const current = readPortRange()
      const own = { original: current, set: this.#plan.hostPortRange! }
      const { range } = claimRange(current, own.set, { ...this.#rangeClaims(undefined), own })
      this.#write({ ...this.#state!, portRange: own })
      writePortRange(range)
      return { what: 'port-range', was: `${current.from}-${current.to}` }
    })
  }

  /**
   * To be called at the end: as `undo`, but what a killed natloom left stays where `apply` was never called. A start
   * that fails must not open a host that failed closed.
   */
  end(): string[] {
    if (this.#isApplied) return this.undo()
    this.#release()
    return []
  }

  /** Undoes what it can and returns what failed. The state file stays until nothing is left to undo. */
  undo(): string[] {
    const state = this.#state
    if (!state) {
      this.#release()
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
    this.#isApplied = false
    // Rules go last and come first: an address of the pool is never the host's without them.
    attempt(() => this.#applyPool([], state))
    for (const table of state.nftTables) attempt(() => this.#ruleTables().remove(table))
    attempt(() =>
      inTurn(() => {
        const current = readPortRange()
        const range = releaseRange(current, this.#rangeClaims(state))
        if (range && !sameRange(current, range)) writePortRange(range)
        if (problems.length > 0) return
        unregister(this.#name)
        removeState(this.#statePath)
      }),
    )
    if (problems.length === 0) this.#state = undefined
    this.#release()
    return problems
  }

  #release(): void {
    this.#rules?.close()
    this.#rules = undefined
    this.#claimed?.release()
    this.#claimed = undefined
  }

  get #interfaces(): string[] {
    return [...this.#plan.inside, ...this.#plan.outside]
  }

  /** What gateways of one namespace share: the registry, the port range, the marks of routes. To be called in turn. */
  #applyShared(before: HostState | undefined): void {
    const others = otherInstances(this.#name)
    for (const { state, running } of others) if (running) refuseSharedPool(this.#plan.pool, state)
    const current = readPortRange()
    const { claim, range } = claimRange(current, this.#plan.hostPortRange, this.#rangeClaims(before))
    const taken = others.map(({ state }) => state.routeProtocol)
    this.#write({
      ...newState(this.#name, this.#interfaces),
      portRange: claim,
      nftTables: [...new Set([...(before?.nftTables ?? []), ...tableNames(this.#name)])],
      pool: union(before?.pool ?? [], this.#plan.pool),
      routeProtocol: before?.routeProtocol ?? freeRouteProtocol(taken),
    })
    register(this.#name, this.#statePath)
    if (!sameRange(current, range)) writePortRange(range)
  }

  #rangeClaims(own: HostState | undefined): RangeClaims {
    const others = otherInstances(this.#name)
    const claims = (which: boolean) =>
      others.flatMap(({ state, running }) => (running === which && state.portRange ? [state.portRange] : []))
    return { own: own?.portRange, running: claims(true), killed: claims(false) }
  }

  #applyPool(addresses: readonly Addr[], { pool, routeProtocol }: HostState): Addr[] {
    return applyPool({ addresses, outside: this.#plan.outside, protocol: routeProtocol }, pool)
  }

  #applyRulesAndPool(): void {
    this.#followIndexes()
    this.#applyRules()
    if (this.#state) this.#applyPool(this.#plan.pool, this.#state)
  }

  #applyRules(): void {
    const { inside, outside, shared, pool, natPorts, protocols, forwarded } = this.#plan
    this.#ruleTables().apply({
      inside: this.#withIndexes(inside),
      outside: this.#withIndexes(outside),
      shared,
      pool,
      natPorts,
      contested: this.#contested,
      protocols,
      forwarded,
    })
  }

  #followIndexes(): void {
    const socket = new NetlinkSocket(NETLINK_ROUTE)
    try {
      this.#indexes = indexesOf(socket, this.#interfaces, this.#indexes)
    } finally {
      socket.close()
    }
  }

  #withIndexes = (names: readonly string[]): Interfaces => ({
    names,
    indexes: names.flatMap((name) => this.#indexes.get(name) ?? []),
  })

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

/** An address that two gateways translate to would be whose? */
function refuseSharedPool(pool: readonly Addr[], { name, pool: others, owner }: HostState): void {
  const shared = pool.find((address) => others.includes(address))
  if (shared === undefined) return
  throw new HostError(
    'HOST_IN_USE',
    `${formatAddress(shared)} in nat.pool belongs to the natloom ${name} (process ${owner.pid}): give each its own`,
  )
}

/** Throws HostError HOST_STATE if there is none, which takes more natlooms than a host can run. */
function freeRouteProtocol(taken: readonly number[]): number {
  for (let protocol = FIRST_ROUTE_PROTOCOL; protocol <= LAST_ROUTE_PROTOCOL; protocol++)
    if (!taken.includes(protocol)) return protocol
  throw new HostError('HOST_STATE', 'too many natlooms in this network namespace: no number is left to mark routes')
}
