// What the main thread of a replay and its shards tell each other. Lock-step: a shard does nothing but what it is told,
// and has done it when it answers.

import type { ShardMemory, ShardSettings } from '../datapath/shard-contract.ts'
import type { PcapDriverOptions } from '../io/pcap.ts'
import type { Addr } from '../wire/address.ts'

/** What a shard's thread begins with. */
export interface ReplayShard {
  readonly memory: ShardMemory
  readonly settings: ShardSettings
  readonly driver: PcapDriverOptions
}

export type Side = 'inside' | 'outside'

export type Order =
  /** It is so many milliseconds: what time demands is done. */
  | { readonly what: 'time'; readonly milliseconds: number }
  /**
   * An IPv4 packet has come, as the inside sees it; `outside` is the gateway's address, 0 where nothing is translated.
   */
  | {
      readonly what: 'play'
      readonly milliseconds: number
      readonly from: Side
      readonly packet: Uint8Array
      readonly outside: Addr
    }
  /** Something is in a ring for it. */
  | { readonly what: 'turn'; readonly milliseconds: number }

export interface Done {
  /** Of what time demands there is more: the same order once more, when the events are read. */
  readonly more: boolean
  /** What it has sent, Ethernet header first, by side, in order. */
  readonly sent: readonly (readonly [Side, Uint8Array])[]
}
