// nf_tables over nfnetlink: tables, chains and rules, put together into transactions that the kernel carries out as a
// whole, and listed. Authority: linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h, and
// net/netfilter/nf_tables_api.c.
// Numbers have the network's byte order. Owner: the thread that has the socket; a table with an owner belongs to the
// socket itself, so the socket must live as long as the table is to be nobody else's.

import { AF_INET } from '../io/syscalls.ts'
import {
  type Attribute,
  attributes,
  be32,
  bytesOf,
  type Message,
  NLA_F_NESTED,
  NLM_F_APPEND,
  NLM_F_CREATE,
  nested,
  stringZ,
  textOf,
} from './netlink.ts'
import type { NetlinkSocket, Request } from './netlink-socket.ts'
import { type AnonymousSet, type Expression, encodeExpression } from './nft-expressions.ts'

const SUBSYSTEM = 10 << 8
const BATCH_BEGIN = 0x10
const BATCH_END = 0x11
const NEW_TABLE = SUBSYSTEM | 0
const GET_TABLE = SUBSYSTEM | 1
const DELETE_TABLE = SUBSYSTEM | 2
const NEW_CHAIN = SUBSYSTEM | 3
const NEW_RULE = SUBSYSTEM | 6
const GET_RULE = SUBSYSTEM | 7
const DELETE_RULE = SUBSYSTEM | 8
const NEW_SET = SUBSYSTEM | 9
const NEW_SET_ELEMENTS = SUBSYSTEM | 12
export const NEW_GENERATION = SUBSYSTEM | 15
const GET_GENERATION = SUBSYSTEM | 16

/** NFNLGRP_NFTABLES, as a bit mask of groups. */
export const RULESET_GROUP = 1 << (7 - 1)

/** Families, by the words that nft has for them. */
export const FAMILY = { ip: AF_INET, netdev: 5 } as const
type Family = keyof typeof FAMILY

/** Flags of a table: dormant ones are not in force. */
export const TABLE_DORMANT = 0x1
/** Only the socket that made or adopted it may change it; with the socket it goes, unless it is persistent. */
export const TABLE_OWNER = 0x2
/** Stays without an owner when its owner's socket is closed. Linux 6.9. */
export const TABLE_PERSIST = 0x4

const SET_FLAGS = 0x1 | 0x2 // anonymous, constant
const SET_NAME = '__set%d'
const KEY_BYTE_ORDER = 0 // of the data that libnftnl keeps with a set
const HOST_ORDER = 1
const BIG_ENDIAN = 2
/** Elements in a message: an attribute is shorter than 64 KB. */
const ELEMENTS_A_MESSAGE = 1000

export interface TableName {
  readonly family: Family
  readonly name: string
}

export interface Table extends TableName {
  readonly flags: number
  /** The netlink port of the socket that owns it, usually its process's id; 0: nobody's. */
  readonly owner: number
}

export interface BaseChain {
  readonly name: string
  /** NF_INET_*: 0 prerouting, 2 forward, 3 output. */
  readonly hook: number
  readonly priority: number
}

export const tableText = ({ family, name }: TableName): string => `${family} ${name}`

/** struct nfgenmsg: family u8, version u8, resource u16 in the network's order. */
const header = (family: number, resource = 0): Uint8Array => Uint8Array.of(family, 0, resource >> 8, resource & 255)

/** Messages that are carried out together. */
export class Transaction {
  readonly #requests: Request[] = []
  #sets = 0

  /** Makes the table, or takes over a persistent one that has no owner if flags say OWNER. */
  addTable(table: TableName, flags: number): this {
    return this.#add(NEW_TABLE, table, `making the table ${tableText(table)}`, [
      [1, stringZ(table.name)],
      [2, be32(flags)],
    ])
  }

  /** Fails with ENOENT if there is none. */
  deleteTable(table: TableName): this {
    return this.#add(DELETE_TABLE, table, `removing the table ${tableText(table)}`, [[1, stringZ(table.name)]], 0)
  }

  /** A filter chain that accepts what no rule decides. One that is there already stays; another hook is an error. */
  addChain(table: TableName, { name, hook, priority }: BaseChain): this {
    return this.#add(NEW_CHAIN, table, `making the chain ${name} of ${tableText(table)}`, [
      [1, stringZ(table.name)],
      [3, stringZ(name)],
      [
        4 | NLA_F_NESTED,
        nested([
          [1, be32(hook)],
          [2, be32(priority)],
        ]),
      ],
      [5, be32(1)], // policy: accept
      [7, stringZ('filter')],
    ])
  }

  /** All rules of all chains. */
  deleteRules(table: TableName): this {
    return this.#add(DELETE_RULE, table, `removing the rules of ${tableText(table)}`, [[1, stringZ(table.name)]], 0)
  }

  /** Appends a rule to a chain, with the sets in which it looks up. */
  addRule(table: TableName, chain: string, rule: readonly Expression[]): this {
    const expressions = rule.map((expression) => {
      const id = expression.set ? this.#addSet(table, expression.set) : 0
      return [1 | NLA_F_NESTED, encodeExpression(expression, SET_NAME, id)] as const
    })
    const what = `adding a rule to ${tableText(table)} ${chain}`
    const flags = NLM_F_CREATE | NLM_F_APPEND
    const body: Attribute[] = [
      [1, stringZ(table.name)],
      [2, stringZ(chain)],
      [4 | NLA_F_NESTED, nested(expressions)],
    ]
    return this.#add(NEW_RULE, table, what, body, flags)
  }

  /** Throws NetlinkError; then nothing of it was done. */
  commit(socket: NetlinkSocket): void {
    const frame = { what: 'changing the nft rules', fixed: header(0, SUBSYSTEM >> 8) }
    socket.batch({ ...frame, type: BATCH_BEGIN }, this.#requests, { ...frame, type: BATCH_END })
  }

  /** Returns the set's number within this transaction. */
  #addSet(table: TableName, { type, elements }: AnonymousSet): number {
    const id = ++this.#sets
    const what = `adding a set to ${tableText(table)}`
    const order = Uint8Array.of(KEY_BYTE_ORDER, 4, type.isBigEndian ? BIG_ENDIAN : HOST_ORDER, 0, 0, 0)
    const named: Attribute[] = [
      [1, stringZ(table.name)],
      [2, stringZ(SET_NAME)],
    ]
    this.#add(NEW_SET, table, what, [
      ...named,
      [3, be32(SET_FLAGS)],
      [4, be32(type.number)],
      [5, be32(type.length)],
      [9 | NLA_F_NESTED, nested([[1, be32(elements.length)]])],
      [10, be32(id)],
      [13, order],
    ])
    for (let first = 0; first < elements.length; first += ELEMENTS_A_MESSAGE) {
      const list = elements.slice(first, first + ELEMENTS_A_MESSAGE).map((element): Attribute => {
        const key = nested([[1, element]])
        return [1 | NLA_F_NESTED, nested([[1 | NLA_F_NESTED, key]])]
      })
      this.#add(NEW_SET_ELEMENTS, table, what, [...named, [3 | NLA_F_NESTED, nested(list)], [4, be32(id)]])
    }
    return id
  }

  #add(type: number, { family }: TableName, what: string, attributes: Attribute[], flags = NLM_F_CREATE): this {
    this.#requests.push({ what, type, flags, fixed: header(FAMILY[family]), attributes })
    return this
  }
}

/** The tables of the families that natloom uses. Throws NetlinkError. */
export const listTables = (socket: NetlinkSocket): Table[] =>
  (Object.keys(FAMILY) as Family[]).flatMap((family) =>
    socket.dump({ what: 'listing nft tables', type: GET_TABLE, fixed: header(FAMILY[family]) }, ({ body }) => {
      const found = attributes(body, 4)
      const name = found.get(1)
      return name && { family, name: textOf(name), flags: number(found.get(2)), owner: number(found.get(7)) }
    }),
  )

/**
 * What the kernel says of a table's rules, each as hexadecimal digits: equal as long as nobody has changed them, since
 * each has its own handle.
 */
export function listRules(socket: NetlinkSocket, { family, name }: TableName): string[] {
  const request = { what: 'listing nft rules', type: GET_RULE, fixed: header(FAMILY[family]) }
  return socket.dump({ ...request, attributes: [[1, stringZ(name)]] }, ({ body }) => {
    const table = attributes(body, 4).get(1)
    // Kernels that don't filter list the rules of all tables.
    return table && textOf(table) === name ? Buffer.from(bytesOf(body)).toString('hex', 4) : undefined
  })
}

/** Another number after each change of any rule of this namespace. */
export function generation(socket: NetlinkSocket): number {
  let current = 0
  socket.ask({ what: 'asking for the nft generation', type: GET_GENERATION, fixed: header(0) }, (message) => {
    current = generationOf(message).number
  })
  return current
}

/** The content of NEW_GENERATION, which ends the notifications of each transaction: who made it. */
export function generationOf({ body }: Message): { number: number; thread: number; program: string } {
  const found = attributes(body, 4)
  const program = found.get(3)
  return { number: number(found.get(1)), thread: number(found.get(2)), program: program ? textOf(program) : '' }
}

const number = (value: DataView | undefined): number => value?.getUint32(0) ?? 0
