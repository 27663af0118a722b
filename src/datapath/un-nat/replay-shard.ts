// A shard of a replay: the gateway's shard (shard.ts), with what only a replay asks of it. Time is told in jumps, so
// what time demands is done when the replay says so; and packets of a capture are first made what their senders have
// sent. A bundle entry of its own: the gateway's shard has nothing of it. Owner: this thread.

import { connections } from '../../conntrack/connections.shard.ts'
import type { Driver } from '../../io/driver.ts'
import type { Milliseconds } from '../../memory/brand.ts'
import { setClock } from '../../memory/clock.ts'
import { Region } from '../../memory/region.ts'
import { followExternals, sweep } from '../../nat/bindings.shard.ts'
import { Externals } from '../../nat/externals.ts'
import { endQuarantine } from '../../nat/ports.shard.ts'
import type { Addr } from '../../wire/address.ts'
import { expireFragments } from '../packet/fragment-table.ts'
import { attachShard, endHousekeeping, followHelpers, sleep, turn } from '../shard.ts'
import type { Dataplane, ShardMemory, ShardSettings, Wakers } from '../shard-contract.ts'
import { asSentInside, asSentOutside, attachUnNat } from './un-nat.ts'

/** A shard, and what only a replay asks of it. */
export interface ReplayDataplane extends Dataplane {
  /**
   * Ends what has timed out in this shard by now, which turn() doesn't do here. To be called in every shard whenever
   * time is told. True if there is more to do: the call is to be repeated once the events are read, since their ring
   * would not hold the end of every connection.
   */
  catchUp(milliseconds: Milliseconds): boolean
  /** Makes of a packet from inside what its sender has sent (un-nat.ts); its IPv4 header begins at `ip`. */
  asSentInside(mem: DataView, ip: number, end: number): void
  /** Makes of a packet from outside what its peer has sent to `outside`, the gateway's address; 0: untranslated. */
  asSentOutside(mem: DataView, ip: number, end: number, outside: Addr): void
}

/** Rows that catchUp() looks at in one call. */
const ROWS_AT_ONCE = 1024

/** Rows that catchUp() has not looked at yet. */
let toSweep = 0

/** Makes this thread a shard of a replay. */
export function attachReplayShard(
  memory: ShardMemory,
  settings: ShardSettings,
  driver: Driver,
  wakers: Wakers,
): ReplayDataplane {
  attachShard(memory, settings, driver, wakers)
  attachUnNat(new Externals(new Region(memory.externals), settings.externals), settings.nat)
  endHousekeeping()
  toSweep = 0
  return { turn, sleep, followHelpers, catchUp, asSentInside, asSentOutside }
}

function catchUp(milliseconds: Milliseconds): boolean {
  if (toSweep === 0) {
    setClock(milliseconds)
    followExternals()
    toSweep = connections.highest
  }
  const rows = Math.min(toSweep, ROWS_AT_ONCE)
  sweep(rows)
  toSweep -= rows
  if (toSweep > 0) return true
  endQuarantine()
  expireFragments()
  return false
}
