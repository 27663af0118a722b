// A shard as the fuzzer loads it, by itself or as one bundle (bench/fuzz.ts): the shard, and what it still keeps. Like
// all of the datapath it is imported after its memory has been attached, once for each shard.

import { cold, connections } from '../../src/conntrack/connections.shard.ts'
import { mappings } from '../../src/conntrack/mappings.shard.ts'
import { permissions } from '../../src/conntrack/permissions.shard.ts'
import { pagesFree } from '../../src/datapath/egress/kept-pages.ts'
import { neighboursAwaited } from '../../src/datapath/egress/pending-packets.ts'
import { heapOfHelped, holding } from '../../src/datapath/helped/helped-connections.ts'
import { held } from '../../src/datapath/icmp/held-syns.ts'
import { recordsUsed } from '../../src/datapath/packet/fragment-table.ts'
import { pagesUsed } from '../../src/datapath/packet/waiting-fragments.ts'
import * as shard from '../../src/datapath/shard.ts'
import { BUILTIN } from '../../src/helpers/builtin.ts'
import { registerHelper } from '../../src/helpers/registry.shard.ts'

export const attachShard = shard.attachShard
export const turn = shard.turn

/** Connections to a server's port 21 are read by the FTP helper from now on. */
export function helpFtp(): void {
  const ftp = BUILTIN.ftp!()
  registerHelper(ftp, { onFailure: 'reset', bindings: [{ tuple: ftp.tuple }] })
}

/** The expiry sweep looks at so many rows. */
export const rows = (): number => connections.highest

/** How much the shard has of everything that packets make it keep. */
export const kept = (): Record<string, number> => ({
  connections: connections.used,
  mappings: mappings.used,
  permissions: permissions.used,
  'sequence edits': named(cold.sequences),
  'last bytes of guarded connections': named(cold.gone),
  'fragment records': recordsUsed(),
  'pages of waiting fragments': pagesUsed(),
  'held SYNs': held,
  'neighbours waited for': neighboursAwaited(),
  'pages of packets that wait for a neighbour': mostPagesFree - pagesFree,
  'bytes of helped connections': heapOfHelped(),
  'connections that hold bytes': holding.size,
})

const mostPagesFree = pagesFree

/** Rows of a side table that a column names. */
function named(column: { readonly length: number; readonly [row: number]: number }): number {
  let count = 0
  for (let row = 1; row <= connections.highest; row++) if (column[row]! > 0) count++
  return count
}
