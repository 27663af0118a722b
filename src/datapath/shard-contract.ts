// What a shard is told, what memory it works on, and what its thread's loop asks of it: the contract between the
// datapath and all above it (coordinator, replay, workers). Types alone: they can be imported without attached memory.

import type { HostQuotas } from '../conntrack/host-quotas.ts'
import type { HostTableOptions } from '../conntrack/host-table.ts'
import type { Side } from '../conntrack/terms.ts'
import type { Timeouts } from '../conntrack/timeouts.ts'
import type { Driver } from '../io/driver.ts'
import type { Milliseconds } from '../memory/brand.ts'
import type { FilterRule } from '../nat/filter-rules.ts'
import type { PortForward } from '../nat/port-forward-rules.ts'
import type { NatSettings } from '../nat/settings.ts'
import type { FibOptions } from '../routing/fib.ts'
import type { CallClocks } from './helped/call-budget.ts'

/** What a shard must know; plain data, posted to its worker. */
export interface ShardSettings {
  /** The shard's number; the dispatcher's is the number of shards. */
  readonly shard: number
  /** How many shards there are. */
  readonly shards: number
  /** The memory is a dead shard's: what is derived from its rows is made again. */
  readonly restarted: boolean
  /** Which life of the shard this is, from 1 on (memory/control-words.ts). */
  readonly epoch: number
  /** Key of the ownership rule's hash (ownership-rule.ts): a random 32-bit word, the same for all. */
  readonly ownerKey: number
  /** Side of each port: 0 inside, 1 outside. */
  readonly sides: readonly Side[]
  /** The secret key of this start (memory/siphash.ts): two random 32-bit words. */
  readonly hashKey: readonly [number, number]
  /** Connections and mappings that its tables hold: those of any shard. */
  readonly connections: number
  readonly mappings: number
  readonly externals: { readonly capacity: number; readonly blockSize: number }
  readonly fib: FibOptions
  /** Expectations at a time, of all shards. */
  readonly expectations: number
  /** Inside hosts with a row of their own in the table of what each has. */
  readonly hosts: HostTableOptions['hosts']
  /** How much an inside host may have. */
  readonly limits: HostQuotas
  readonly timeouts: Timeouts
  /**
   * A segment in mid-stream from inside makes a connection; segments outside of the windows pass; a SYN that nobody has
   * asked for is held, and answered.
   */
  readonly tcp: { readonly pickup: boolean; readonly liberal: boolean; readonly answerUnsolicited: boolean }
  readonly nat: NatSettings
  /** In the order of the configuration; none share an external endpoint. */
  readonly portForwards: readonly PortForward[]
  /** In the order of the configuration: the first that matches a new flow decides. */
  readonly filter: readonly FilterRule[]
  /** Queues are shared under overload (overload/): not yet unless said, see docs/decisions/0048. */
  readonly sharesQueues?: boolean
  readonly icmpErrorsPerSecond: number
}

/** The buffers a shard works on. */
export interface ShardMemory {
  /** Its own tables and counters. */
  readonly tables: SharedArrayBuffer
  /** By shard: all shards' tables, of which it reads the mappings. */
  readonly peers: readonly SharedArrayBuffer[]
  /** External addresses, leases, port words: all shards'. */
  readonly externals: SharedArrayBuffer
  /** Routes and neighbours: all shards'. */
  readonly fib: SharedArrayBuffer
  /** Rings from shard to shard: all shards'. */
  readonly handover: SharedArrayBuffer
  /** What helpers have announced: all shards'. */
  readonly expectations: SharedArrayBuffer
  /** What each inside host has: all shards'. */
  readonly hosts: SharedArrayBuffer
  /** What was dropped of whom, by interface and reason: all workers'. */
  readonly drops: SharedArrayBuffer
  /** Which helpers are in force: all shards'. */
  readonly helperList: SharedArrayBuffer
}

/** What a thread says to people: an entry of the gateway's log. Plain data. */
export interface Report {
  readonly level: 'info' | 'warn' | 'error'
  readonly text: string
  readonly detail: Readonly<Record<string, unknown>>
}

/** How a shard wakes other threads. Each may be called at any time, and wakes a thread that sleeps once. */
export interface Wakers {
  /** Wakes the netlink watcher: a neighbour is asked for. */
  watcher(): void
  /** Wakes another shard: something is in a ring for it. */
  shard(shard: number): void
  /** Wakes the coordinator: a port block is asked for. */
  coordinator(): void
  /** The clocks that calls of helpers are measured by; without them calls are not measured. */
  readonly callClocks?: CallClocks
  /** Bytes of this thread's heap that are in use; without it helpers may keep what they like. */
  readonly heapUsed?: () => number
  /** Reports to people what is wrong with a helper. */
  readonly report?: (report: Report) => void
}

/** How a fresh shard is warmed up before its first turn (warm-up/warm-up.ts). */
export interface WarmUp {
  /** Over the shard's packet memory; sends to nobody. */
  readonly driver: Driver
  /** A frame arrives on a port of that driver. */
  inject(port: number, frame: Uint8Array): void
  /** Asked after each round, whether another one may be gone through. */
  mayGoOn(warmed: Warmed): boolean
}

/** What has become of the packets of a warm-up so far: it warms what it passes, and nothing else. */
export interface Warmed {
  readonly rounds: number
  readonly sent: number
  readonly dropped: number
  /** Announcements that a helper has rewritten, and connections that were let in by them. */
  readonly rewritten: number
  readonly expected: number
}

/** The datapath of this thread. */
export interface Dataplane {
  /** One turn of the loop at this time (milliseconds since the gateway's start); packets received. */
  turn(milliseconds: Milliseconds): number
  /** Sleeps until there is something to do, at most this long. */
  sleep(timeoutMs: Milliseconds): void
  /** Once before the first turn, then after each: what must be awaited before the next, if anything. Never rejects. */
  followHelpers(): Promise<void> | undefined
}
