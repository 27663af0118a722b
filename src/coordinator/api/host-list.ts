// Who uses how much of what: the inside hosts of the host table (conntrack/host-table.ts) as JSON, one a line, those
// that have most connections first. A host that has nothing any more is listed until its row is given back. There may
// be tens of thousands, so they are read in slices (json-lines.ts). Owner: nobody; reads what shards count.

import { setImmediate } from 'node:timers/promises'
import { compileQuotas, type HostQuotas, inAll, NO_LIMIT, quotasOf } from '../../conntrack/host-quotas.ts'
import { HOST, type HostRow, type HostTable, hostName } from '../../conntrack/host-table.ts'
import { HOST_LIMIT, HOST_LIMITS, type HostLimitName, LIMIT_KEYS, type LimitKey } from '../../counters/host-limits.ts'
import { jsonLines } from './json-lines.ts'

export interface Usage {
  readonly used: number
  /** null: none. */
  readonly limit: number | null
}

/** By the keys of the configuration's `limits`; of what is limited a second, what the last whole second has seen. */
export interface ListedHost extends Readonly<Record<LimitKey, Usage>> {
  /** Its address; `others` for all hosts that have no row of their own and share what one may have. */
  readonly host: string
  /** Of its ports, how many are in quarantine. */
  readonly resting: number
  /** What it was refused since it is in the list. */
  readonly refused: number
}

/** The part of a gateway's memory (coordinator/memory.ts) that the list is read from. */
export interface HostSources {
  readonly hosts: HostTable
  /** By shard; the same in each. */
  readonly settings: readonly { readonly limits: HostQuotas }[]
}

/** Rows that are looked at at once to be put in order: a millisecond or two. */
const SLICE_ROWS = 8192

/** The text of a JSON array in pieces. `clock` returns the second of the shards' clock. */
export async function* hostList(
  { hosts: table, settings }: HostSources,
  clock: () => number,
): AsyncGenerator<string, void> {
  const words = compileQuotas(settings[0]!.limits)
  const rows = await rowsByConnections(table)
  yield* jsonLines(linesOf(table, rows, words, clock))
}

function* linesOf(
  table: HostTable,
  rows: readonly HostRow[],
  words: Int32Array,
  clock: () => number,
): Generator<string | undefined> {
  // A row may have been given back since it was found.
  for (const row of rows) yield isListed(table, row) ? JSON.stringify(hostOf(table, row, words, clock())) : undefined
}

/** The rows that are listed, those with most connections first. */
async function rowsByConnections(table: HostTable): Promise<HostRow[]> {
  const rows: { readonly row: HostRow; readonly connections: number }[] = []
  for (let row = 0; row <= table.others; row++) {
    if (isListed(table, row)) rows.push({ row, connections: table.sum(row, HOST.connections) })
    if (row % SLICE_ROWS === SLICE_ROWS - 1) await setImmediate()
  }
  return rows.sort((a, b) => b.connections - a.connections).map(({ row }) => row)
}

const isListed = (table: HostTable, row: HostRow): boolean =>
  row === table.others ? !isUnused(table, row) : table.names[row] !== 0

const isUnused = (table: HostTable, row: HostRow): boolean => table.isIdle(row) && table.sum(row, HOST.refused) === 0

/** How much of each limit is used. */
const USED: Readonly<Record<HostLimitName, (table: HostTable, row: HostRow, second: number) => number>> = {
  connections: (table, row) => table.sum(row, HOST.connections),
  ports: (table, row) => table.sum(row, HOST.ports) + table.sum(row, HOST.resting),
  'new-connections': (table, row, second) => table.sumIn(row, HOST.begunEven, second - 1),
  expectations: (table, row) => table.sum(row, HOST.expectations),
  'icmp-errors': (table, row, second) => table.sumIn(row, HOST.errorsEven, second - 1),
  'waiting-packets': (table, row) => table.sum(row, HOST.waiting),
  'sequence-edits': (table, row) => table.sum(row, HOST.edits),
  'helped-connections': (table, row) => table.sum(row, HOST.helped),
  'fragment-records': (table, row) => table.sum(row, HOST.fragments),
}

/** What a row says; `words` are the compiled quotas. */
export function hostOf(table: HostTable, row: HostRow, words: Int32Array, second: number): ListedHost {
  const quotas = row === table.others ? 0 : quotasOf(words, table.names[row]!)
  const usages = HOST_LIMITS.map((name): readonly [LimitKey, Usage] => {
    const most = inAll(words, quotas, HOST_LIMIT[name])
    return [LIMIT_KEYS[name], { used: USED[name](table, row, second), limit: most === NO_LIMIT ? null : most }]
  })
  return {
    host: hostName(table, row),
    ...(Object.fromEntries(usages) as Record<LimitKey, Usage>),
    resting: table.sum(row, HOST.resting),
    refused: table.sum(row, HOST.refused),
  }
}
