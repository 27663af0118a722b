// Threads that begin and end flows in one map of the kernel, as shards do, for slots-threads.host.test.ts: what they
// are given, and which flows are whose. Every tuple has one translation, which it must never be seen without.

import { portsWord } from '../../src/conntrack/terms.ts'
import type { MappedValue } from '../../src/offload/bpf.ts'
import { parseAddress } from '../../src/wire/address.ts'

export interface SlotsThread {
  readonly map: MappedValue
  readonly shard: number
  readonly lives: number
  /** BigInt64Array: packets and bytes that all have taken; lives that were refused a slot; who has each slot. */
  readonly totals: SharedArrayBuffer
}

export const PACKETS = 0
export const BYTES = 1
export const REFUSED = 2
/** Slots that two have had at once. */
export const SHARED = 3
export const HOLDERS = 4

export const FLOWS = 12
export const SRC = '10.0.0.5'
export const DST = '192.0.2.7'
const NEW_SRC = '203.0.113.1'
export const NEW_WORDS = [parseAddress(NEW_SRC), parseAddress(DST)] as const
export const SPORT = 20_000
export const DPORT = 80
/** Of flow i of a shard: the port that it comes from, and the one that it leaves by. */
export const sportOf = (shard: number, flow: number): number => SPORT + shard * FLOWS + flow
export const newSportOf = (sport: number): number => sport ^ 0x5a5a
export const portsOf = (sport: number): number => portsWord(sport, DPORT)
