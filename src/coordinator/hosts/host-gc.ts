// Garbage collection of the host table (conntrack/host-table.ts): a row whose host has nothing any more is marked at
// one look and given back at a later one, when every shard has ended a turn in between and nobody has counted in it.
// And a word to people: who was refused something, because it has as much as one host may.
//
// Owner: main thread, the only one that ends rows.

import type { Logger } from 'pino'
import { NO_LIMIT } from '../../conntrack/host-quotas.ts'
import { HOST, type HostRow, type HostTable, hostName, refusedAt, refusedLimit } from '../../conntrack/host-table.ts'
import { CELL } from '../../counters/counters.ts'
import { HOST_LIMITS, type HostLimitName } from '../../counters/host-limits.ts'

/** A host is named in the log once in so many seconds. */
const SAY_AGAIN_AFTER = 60
/** Lines at one look: a flood from many hosts makes no flood of lines. */
const MOST_LINES = 4
/** Rows at one look, in some milliseconds. The largest table is gone round in eight looks. */
const ROWS_A_LOOK = 8192

/** What the log says of a host: what it was refused since it was named last. */
export interface LimitedHost {
  /** Its address, or `others`: hosts that share what one host may have. */
  readonly host: string
  /** The limit that it met last. */
  readonly limit: HostLimitName
  readonly refused: number
}

export interface HostGcOptions {
  readonly table: HostTable
  /** Second of the shards' clock. */
  now(): number
  /** How many turns the shard has ended. */
  turns(shard: number): number
  limited(host: LimitedHost): void
}

export class HostGc {
  readonly #options: HostGcOptions
  #look = 0
  /** The row that is looked at next. */
  #next: HostRow = 0
  /** By row: the look that has marked it, and the turns that each shard had ended by then. */
  readonly #marked = new Map<HostRow, { readonly look: number; readonly turns: readonly number[] }>()
  /** By row: refusals that were spoken of, and when they were. */
  readonly #said = new Map<HostRow, { readonly refused: number; readonly at: number }>()

  constructor(options: HostGcOptions) {
    this.#options = options
  }

  /** To be called about once a second. */
  look(): void {
    const { table, now } = this.#options
    // A mark is a positive number of 31 bits.
    this.#look = (this.#look % NO_LIMIT) + 1
    const turns = this.#turns()
    const rows: HostRow[] = []
    for (let looks = Math.min(ROWS_A_LOOK, table.hosts); looks > 0; looks--) {
      if (table.names[this.#next] !== 0) rows.push(this.#next)
      this.#next = (this.#next + 1) % table.hosts
    }
    this.#speak([table.others, ...rows], now())
    for (const row of rows) this.#endIfIdle(row, turns)
  }

  #endIfIdle(row: HostRow, turns: readonly number[]): void {
    const { table } = this.#options
    const marked = this.#marked.get(row)
    if (!table.isIdle(row)) {
      this.#marked.delete(row)
    } else if (marked === undefined || table.marks[row] !== marked.look) {
      table.mark(row, this.#look)
      this.#marked.set(row, { look: this.#look, turns })
    } else if (turns.every((ended, shard) => ended > marked.turns[shard]!)) {
      this.#marked.delete(row)
      if (table.end(row, marked.look)) this.#said.delete(row)
    }
  }

  /**
   * Says which hosts were refused something since they were named last. If they are more than lines, those come first
   * that were never named, or longest ago: so many hosts can't keep one from being named.
   */
  #speak(rows: readonly HostRow[], now: number): void {
    const { table, limited } = this.#options
    const saidAt = (row: HostRow): number => this.#said.get(row)?.at ?? Number.NEGATIVE_INFINITY
    const saidOf = (row: HostRow): number => this.#said.get(row)?.refused ?? 0
    const due = rows.filter((row) => {
      return now - saidAt(row) >= SAY_AGAIN_AFTER && table.sum(row, HOST.refused) !== saidOf(row)
    })
    if (due.length > MOST_LINES) due.sort((a, b) => (saidAt(a) < saidAt(b) ? -1 : saidAt(a) > saidAt(b) ? 1 : 0))
    for (const row of due.slice(0, MOST_LINES)) {
      const refused = table.sum(row, HOST.refused)
      limited({
        host: hostName(table, row),
        limit: HOST_LIMITS[this.#lastLimit(row)]!,
        refused: refused - saidOf(row),
      })
      this.#said.set(row, { refused, at: now })
    }
  }

  #lastLimit(row: HostRow): number {
    const { table } = this.#options
    let last = 0
    for (let shard = 0; shard < table.shards; shard++) {
      const word = table.counts[table.line(row, shard) + HOST.lastRefusal]!
      if (refusedAt(word) >= refusedAt(last)) last = word
    }
    return refusedLimit(last)
  }

  #turns(): readonly number[] {
    const { table, turns } = this.#options
    return Array.from({ length: table.shards }, (_, shard) => turns(shard))
  }
}

/** The part of a gateway's memory (coordinator/memory.ts) that is looked at. */
export interface HostMemory {
  readonly hosts: HostTable
  /** By shard. */
  readonly counters: readonly Float64Array[]
}

/** Of a gateway: the look to be taken about once a second. `now` returns the second of its shards' clock. */
export function lookAtHosts(
  { hosts: table, counters }: HostMemory,
  now: () => number,
  log: Pick<Logger, 'warn'>,
): () => void {
  const hostGc = new HostGc({
    table,
    now,
    turns: (shard) => counters[shard]![CELL.turns]!,
    limited: (host) => log.warn(host, 'a host has met its limit: `natloom hosts` says who has how much of what'),
  })
  return () => hostGc.look()
}
