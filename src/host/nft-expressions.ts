// The expressions that rules are made of, as the kernel's nf_tables takes them: a load puts something of the packet
// into a register, a condition compares the register or ends the rule, a verdict ends the packet's way through the
// chain. Authority: linux/netfilter/nf_tables.h, libnftnl's src/expr; nft(8) for the words. Nothing here is kept.
//
//   match(INPUT_NAME, names(['lan0']))   is nft's   iifname "lan0"
// One value is compared, several are looked up in an anonymous set that belongs to the rule.

import type { Addr } from '../wire/address.ts'
import { type Attribute, be32, int32, NLA_F_NESTED, nested, stringZ } from './netlink.ts'
import type { PortRange } from './port-range.ts'

/** The elements of an anonymous set, in the form in which the register has them. */
export interface AnonymousSet {
  readonly type: KeyType
  readonly elements: readonly Uint8Array[]
}

/** An expression; a lookup gets its set's number when the rule is added to a transaction. */
export interface Expression {
  readonly name: string
  readonly attributes: readonly Attribute[]
  readonly set?: AnonymousSet
}

/** What a register holds: nft's number of the type, by which it lists a set's elements; length and byte order. */
interface KeyType {
  readonly number: number
  readonly length: number
  readonly isBigEndian: boolean
}

export interface Load {
  readonly expression: Expression
  readonly type: KeyType
}

/** A register's content to compare with, of the type that the function which made it says. */
interface Values {
  readonly elements: readonly Uint8Array[]
}

/** NFT_REG_1: 16 bytes. */
const REGISTER = be32(1)
const VERDICT_REGISTER = be32(0)

const CMP_EQ = 0
const CMP_NEQ = 1
const RANGE_EQ = 0
const LOOKUP_INVERTED = 1

const BYTE = { number: 4, length: 1, isBigEndian: false } as const // integer
const NUMBER = { number: 38, length: 4, isBigEndian: false } as const // fib_addrtype
const PACKET_TYPE = { number: 32, length: 1, isBigEndian: false } as const // pkt_type
const ADDRESS = { number: 7, length: 4, isBigEndian: true } as const // ipv4_addr
const PROTOCOL_NUMBER = { number: 12, length: 1, isBigEndian: false } as const // inet_proto
const PORT = { number: 13, length: 2, isBigEndian: true } as const // inet_service
const INDEX = { number: 20, length: 4, isBigEndian: false } as const // iface_index
const FLAGS = { number: 14, length: 1, isBigEndian: false } as const // tcp_flag
const NAME = { number: 41, length: 16, isBigEndian: false } as const // ifname

// --- loads ---

const meta = (key: number, type: KeyType): Load => ({
  type,
  expression: {
    name: 'meta',
    attributes: [
      [1, REGISTER],
      [2, be32(key)],
    ],
  },
})

const NETWORK_HEADER = 1
const TRANSPORT_HEADER = 2
/** A later fragment has no transport header: the rule ends there. */
const payload = (base: number, offset: number, type: KeyType): Load => ({
  type,
  expression: {
    name: 'payload',
    attributes: [
      [1, REGISTER],
      [2, be32(base)],
      [3, be32(offset)],
      [4, be32(type.length)],
    ],
  },
})

const FIB_DADDR = 2
const FIB_PRESENT = 0x20
/** What the route to the packet's destination says. */
const fib = (result: number, flags: number, type: KeyType): Load => ({
  type,
  expression: {
    name: 'fib',
    attributes: [
      [1, REGISTER],
      [2, be32(result)],
      [3, be32(FIB_DADDR | flags)],
    ],
  },
})

/** `iif`, `oif`: the same interface, whatever its name is. */
export const INPUT_INDEX = meta(4, INDEX)
export const OUTPUT_INDEX = meta(5, INDEX)
/** `iifname`, `oifname`: of an interface that is there or not. */
export const INPUT_NAME = meta(6, NAME)
export const OUTPUT_NAME = meta(7, NAME)
/** `meta l4proto` */
export const L4_PROTOCOL = meta(16, PROTOCOL_NUMBER)
/** `meta pkttype` */
export const LINK_PACKET_TYPE = meta(19, PACKET_TYPE)
/** `ip protocol`, `ip saddr`, `ip daddr`, `th sport`, `th dport`, `tcp flags` */
export const IP_PROTOCOL = payload(NETWORK_HEADER, 9, PROTOCOL_NUMBER)
export const SOURCE = payload(NETWORK_HEADER, 12, ADDRESS)
export const DESTINATION = payload(NETWORK_HEADER, 16, ADDRESS)
export const SOURCE_PORT = payload(TRANSPORT_HEADER, 0, PORT)
export const DESTINATION_PORT = payload(TRANSPORT_HEADER, 2, PORT)
export const TCP_FLAGS = payload(TRANSPORT_HEADER, 13, FLAGS)
/** `fib daddr oif` as a yes or no and as it is, `fib daddr oifname`, `fib daddr type` */
export const ROUTE_EXISTS = fib(1, FIB_PRESENT, NUMBER)
export const ROUTE_OUTPUT_INDEX = fib(1, 0, INDEX)
export const ROUTE_OUTPUT_NAME = fib(2, 0, NAME)
export const ADDRESS_TYPE = fib(3, 0, NUMBER)
/**
 * `socket transparent`: 0 or 1 for a socket of this host that would get the packet, in whatever state it is. Without
 * one the rule ends. (`socket wildcard` ends the rule also for a connection that is being opened or has just ended.)
 */
export const SOCKET_TRANSPARENT: Load = {
  type: BYTE,
  expression: {
    name: 'socket',
    attributes: [
      [1, be32(0)],
      [2, REGISTER],
    ],
  },
}

// --- values ---

export const addresses = (list: readonly Addr[]): Values => ({ elements: list.map(int32) })
export const ports = (list: readonly number[]): Values => ({ elements: list.map(portBytes) })
export const bytes = (list: readonly number[]): Values => ({ elements: list.map((byte) => Uint8Array.of(byte)) })
export const numbers = (list: readonly number[]): Values => ({ elements: list.map(int32) })
/** Names are compared whole: what nft would take for a wildcard is none here. */
export const names = (list: readonly string[]): Values => ({
  elements: list.map((name) => {
    const padded = new Uint8Array(NAME.length)
    padded.set(Buffer.from(name).subarray(0, NAME.length - 1))
    return padded
  }),
})

const portBytes = (port: number): Uint8Array => Uint8Array.of(port >> 8, port & 255)

// --- conditions ---

const data = (bytes: Uint8Array): Uint8Array => nested([[1, bytes]])

const compare = (operator: number, bytes: Uint8Array): Expression => ({
  name: 'cmp',
  attributes: [
    [1, REGISTER],
    [2, be32(operator)],
    [3 | NLA_F_NESTED, data(bytes)],
  ],
})

/** The register is one of these values, none of them twice. `values` must not be empty. */
export const match = (load: Load, values: Values): Expression[] => condition(load, values, false)

/** It is none of them. */
export const matchNot = (load: Load, values: Values): Expression[] => condition(load, values, true)

function condition({ expression, type }: Load, { elements }: Values, isInverted: boolean): Expression[] {
  const [first, second] = elements
  if (!first) throw new RangeError('a rule that asks for no value')
  if (!second) return [expression, compare(isInverted ? CMP_NEQ : CMP_EQ, first)]
  const attributes: Attribute[] = [
    [2, REGISTER],
    [5, be32(isInverted ? LOOKUP_INVERTED : 0)],
  ]
  return [expression, { name: 'lookup', attributes, set: { type, elements } }]
}

/** The register is a port within the range. */
export const matchPorts = ({ expression }: Load, { from, to }: PortRange): Expression[] => [
  expression,
  {
    name: 'range',
    attributes: [
      [1, REGISTER],
      [2, be32(RANGE_EQ)],
      [3 | NLA_F_NESTED, data(portBytes(from))],
      [4 | NLA_F_NESTED, data(portBytes(to))],
    ],
  },
]

// --- verdicts ---

const verdict = (code: number): Expression => ({
  name: 'immediate',
  attributes: [
    [1, VERDICT_REGISTER],
    [2 | NLA_F_NESTED, nested([[2 | NLA_F_NESTED, nested([[1, be32(code)]])]])],
  ],
})
export const DROP = verdict(0)
export const ACCEPT = verdict(1)

/** The attribute's value for one expression; `setName` and `setId` name a lookup's set. */
export function encodeExpression({ name, attributes }: Expression, setName = '', setId = 0): Uint8Array {
  const lookup: Attribute[] = [
    [1, stringZ(setName)],
    [4, be32(setId)],
  ]
  return nested([
    [1, stringZ(name)],
    [2 | NLA_F_NESTED, nested(setId === 0 ? attributes : [...attributes, ...lookup])],
  ])
}
