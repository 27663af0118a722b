// The messages between a replay's main thread and its shards' threads, in lock-step: a shard acts on an order only, and
// is done with it when it answers.

import type { ShardMemory, ShardSettings } from '../datapath/shard-contract.ts'
import type { PcapDriverOptions } from '../io/pcap.ts'
import type { Addr } from '../wire/address.ts'

/** What a shard's thread (workers/replay.ts) is given at its start. */
export interface ReplayShard {
  readonly memory: ShardMemory
  readonly settings: ShardSettings
  readonly driver: PcapDriverOptions
}

export type SideName = 'inside' | 'outside'

export type Order =
  /** Time has come to this millisecond of the shards' clock: what is over by then ends. */
  | { readonly what: 'time'; readonly milliseconds: number }
  /**
   * An IPv4 packet as it was captured inside. `outside` is the gateway's outside address, 0 if nothing is translated.
   */
  | {
      readonly what: 'play'
      readonly milliseconds: number
      readonly from: SideName
      readonly packet: Uint8Array
      readonly outside: Addr
    }
  /** Another shard has handed something over to this one. */
  | { readonly what: 'turn'; readonly milliseconds: number }

export interface Done {
  /** More is over by this time than fits into the event ring: the order is to be repeated once the events are read. */
  readonly more: boolean
  /** The frames that were sent, in order, each with the side that it was sent to; with Ethernet header. */
  readonly sent: readonly (readonly [SideName, Uint8Array])[]
}
