// natloom's nft tables: made, replaced, kept in force while somebody else changes the ruleset, removed. Authority:
// net/netfilter/nf_tables_api.c (nft_table_is_orphan, nft_rcv_nl_event). Owner: the main thread of the one gateway that
// has the name; with the object lives the socket that owns a table.
//
// `nft flush ruleset` must not let an untranslated packet out, and a crash must leave the rules behind. Which way that
// is held, the kernel decides when it is asked:
//
//   way          Linux   tables              another's flush or delete    after SIGKILL, until the next start
//   persistent   6.9     NAME, ours          refused, no effect           stays without owner; a flush removes it
//   pair         5.12    NAME-owned, ours    refused, no effect           gone
//                        NAME                made again at once           stays; a flush removes it
//   plain        older   NAME                made again at once: a gap    stays; a flush removes it
//
// Tables of the same name that a killed gateway or another version left are replaced within one transaction: their
// chains stay, since a packet that is on its way through the hooks may meet a new chain too early and a removed one too
// late. Where a table can't stay (it would need an owner, or has other chains), one under another name has the rules
// meanwhile. Never: a moment in which no table has them.

import { HostError, reasonOf } from './errors.ts'
import { NETLINK_NETFILTER, NetlinkError, NetlinkSocket } from './netlink-socket.ts'
import {
  FAMILY,
  generation,
  listRules,
  listTables,
  TABLE_DORMANT,
  TABLE_OWNER,
  TABLE_PERSIST,
  type Table,
  type TableName,
  Transaction,
  tableText,
} from './nf-tables.ts'
import { type Chain, chainsOf, type RuleSet } from './rules.ts'

const WAYS_OF_OWNING = ['persistent', 'pair', 'plain'] as const
export type WayOfOwning = (typeof WAYS_OF_OWNING)[number]

/** Which ways are tried, best first, if this is the best of them; for tests of what older kernels offer. */
export const waysOfOwning = (best: string = WAYS_OF_OWNING[0]): readonly WayOfOwning[] =>
  WAYS_OF_OWNING.slice(Math.max(WAYS_OF_OWNING.indexOf(best as WayOfOwning), 0))

interface OwnTable extends TableName {
  readonly flags: number
}

/** What a look at the tables has found. */
export interface RulesLook {
  /** At least one table has all of the rules. */
  readonly inForce: boolean
  /** Tables that somebody had changed and that were made again. */
  readonly restored: readonly string[]
  /** Why a changed table could not be made again. */
  readonly failure?: string
}

const flagsOf: Readonly<Record<WayOfOwning, number>> = {
  persistent: TABLE_OWNER | TABLE_PERSIST,
  pair: TABLE_OWNER,
  plain: 0,
}

/** The kernel doesn't know a flag; a table or chain that is there already is of another kind. */
const UNKNOWN_FLAG = ['EINVAL', 'EOPNOTSUPP', 'ENOTSUP', 'ERANGE']
const ANOTHER_KIND = ['EEXIST', 'EOPNOTSUPP', 'ENOTSUP', 'EBUSY']

const isOneOf = (errors: readonly string[], error: unknown): boolean =>
  error instanceof NetlinkError && errors.includes(error.errno)

/** The tables that a gateway of this name may have, in any way and in versions which hid at netdev ingress. */
export const tableNames = (name: string): string[] => [
  `ip ${name}`,
  `ip ${name}-owned`,
  `ip ${name}-meanwhile`,
  `netdev ${name}`,
]

/** The tables that there are of a gateway's names. Throws NetlinkError. */
function existingTables(socket: NetlinkSocket, gateway: string): Table[] {
  const names = new Set(tableNames(gateway))
  return listTables(socket).filter((table) => names.has(tableText(table)))
}

/** Why a start is refused where one of its tables has another owner than this socket; undefined if none has. */
function refusalOf(tables: readonly Table[], socket: NetlinkSocket): string | undefined {
  const foreign = tables.find(({ flags, owner }) => flags & TABLE_OWNER && owner !== socket.port)
  return (
    foreign &&
    `the nft table ${tableText(foreign)} belongs to a running process (${foreign.owner}): another natloom of this ` +
      'name? Stop it first'
  )
}

/** What RuleTables.refuseForeign would throw now; undefined if nothing. Changes nothing. Throws NetlinkError. */
export function foreignTableRefusal(gateway: string): string | undefined {
  const socket = new NetlinkSocket(NETLINK_NETFILTER)
  try {
    return refusalOf(existingTables(socket, gateway), socket)
  } finally {
    socket.close()
  }
}

export class RuleTables {
  readonly way: WayOfOwning
  readonly #socket = new NetlinkSocket(NETLINK_NETFILTER)
  readonly #name: string
  readonly #tables: readonly OwnTable[]
  #chains: readonly Chain[] = []
  /** By table: its rules as the kernel listed them after they were made. */
  #made = new Map<string, string>()
  /** The ruleset's generation in which all was well. */
  #generation = -1

  /** Changes nothing yet. `ways` are tried in this order. Throws NetlinkError. */
  constructor(name: string, ways: readonly WayOfOwning[] = WAYS_OF_OWNING) {
    this.#name = name
    try {
      this.way = ways.find((way) => this.#isPossible(way)) ?? 'plain'
    } catch (error) {
      this.close()
      throw error
    }
    const flags = flagsOf[this.way]
    const plain = { family: 'ip', name, flags: 0 } as const
    if (this.way === 'persistent') this.#tables = [{ ...plain, flags }]
    else this.#tables = this.way === 'plain' ? [plain] : [plain, { ...plain, name: `${name}-owned`, flags }]
  }

  /** The netlink port of the socket that changes the tables. */
  get port(): number {
    return this.#socket.port
  }

  /** Throws HostError HOST_IN_USE if another process owns a table of this name. */
  refuseForeign(): void {
    this.#existing()
  }

  /** Puts these rules in force in place of those before. Throws HostError; then those before stay. */
  apply(rules: RuleSet): void {
    this.#chains = chainsOf(rules)
    this.#replace()
  }

  /** Whether the rules are still in force; makes again what somebody has changed. Throws NetlinkError. */
  look(): RulesLook {
    const current = generation(this.#socket)
    if (current === this.#generation) return { inForce: true, restored: [] }
    const changed = this.#changed()
    if (changed.length === 0) {
      this.#generation = current
      return { inForce: true, restored: [] }
    }
    try {
      this.#replace()
      return { inForce: true, restored: changed }
    } catch (error) {
      return { inForce: changed.length < this.#tables.length, restored: [], failure: reasonOf(error) }
    }
  }

  /** Removes a table, given with its family. No error if there is none. Throws HostError. */
  remove(text: string): void {
    const [family, name] = text.split(' ')
    if (!family || !name || !(family in FAMILY))
      throw new HostError('HOST_STATE', `the state file names a table ${text}, which is none of natloom's`)
    const table = listTables(this.#socket).find((each) => tableText(each) === text)
    if (table) new Transaction().deleteTable(table).commit(this.#socket)
    this.#made.delete(text)
  }

  /** The kernel removes what this socket owns, unless it is persistent. */
  close(): void {
    this.#socket.close()
  }

  /** Makes a table with these flags, and removes it, in one transaction: nobody sees it. */
  #isPossible(way: WayOfOwning): boolean {
    const table = { family: 'ip', name: `${this.#name}-trial` } as const
    try {
      new Transaction().addTable(table, flagsOf[way]).deleteTable(table).commit(this.#socket)
      return true
    } catch (error) {
      if (isOneOf(UNKNOWN_FLAG, error)) return false
      throw error
    }
  }

  #replace(): void {
    const existing = this.#existing()
    if (this.#tables.every((table) => canStay(table, existing.get(tableText(table))))) {
      try {
        this.#commit(existing)
        return
      } catch (error) {
        if (!isOneOf(ANOTHER_KIND, error)) throw error
      }
    }
    const meanwhile = { family: 'ip', name: `${this.#name}-meanwhile`, flags: 0 } as const
    const bridge = new Transaction()
    if (existing.delete(tableText(meanwhile))) bridge.deleteTable(meanwhile)
    this.#write(bridge, meanwhile).commit(this.#socket)
    this.#commit(existing, true)
    new Transaction().deleteTable(meanwhile).commit(this.#socket)
  }

  /** The tables of this gateway's names, by name. Throws HostError HOST_IN_USE if another process owns one. */
  #existing(): Map<string, Table> {
    const found = existingTables(this.#socket, this.#name)
    const refusal = refusalOf(found, this.#socket)
    if (refusal !== undefined) throw new HostError('HOST_IN_USE', refusal)
    return new Map(found.map((table) => [tableText(table), table]))
  }

  #commit(existing: ReadonlyMap<string, Table>, anew = false): void {
    const transaction = new Transaction()
    for (const table of this.#tables) {
      if (anew && existing.has(tableText(table))) transaction.deleteTable(table)
      this.#write(transaction, table)
    }
    const wanted = new Set(this.#tables.map(tableText))
    for (const [text, table] of existing) if (!wanted.has(text)) transaction.deleteTable(table)
    transaction.commit(this.#socket)
    this.#remember()
  }

  #write(transaction: Transaction, table: OwnTable): Transaction {
    transaction.addTable(table, table.flags)
    for (const chain of this.#chains) transaction.addChain(table, chain)
    transaction.deleteRules(table)
    for (const { name, rules } of this.#chains) for (const rule of rules) transaction.addRule(table, name, rule)
    return transaction
  }

  #remember(): void {
    const expected = this.#chains.reduce((sum, { rules }) => sum + rules.length, 0)
    this.#made = new Map()
    for (const table of this.#tables) {
      const rules = listRules(this.#socket, table)
      // Another number: somebody was faster than this listing, which the next look finds.
      if (rules.length === expected) this.#made.set(tableText(table), rules.join(' '))
    }
    this.#generation = -1
  }

  /** Our tables that don't have our rules. */
  #changed(): string[] {
    const awake = listTables(this.#socket).filter(({ flags }) => (flags & TABLE_DORMANT) === 0)
    const there = new Set(awake.map(tableText))
    return this.#tables.flatMap((table) => {
      const text = tableText(table)
      const made = this.#made.get(text)
      return there.has(text) && made !== undefined && listRules(this.#socket, table).join(' ') === made ? [] : [text]
    })
  }
}

/** Whether the table can be filled anew as it is: there is none, or one that may have these flags. */
function canStay({ flags }: OwnTable, existing: Table | undefined): boolean {
  if (!existing) return true
  // Only a persistent table can be given an owner afterwards, and none can become persistent.
  const mayBeOwned = (existing.flags & (TABLE_OWNER | TABLE_PERSIST)) !== 0
  return (flags & TABLE_PERSIST) === (existing.flags & TABLE_PERSIST) && ((flags & TABLE_OWNER) === 0 || mayBeOwned)
}
