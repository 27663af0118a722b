// Every shard's connections as JSON, one a line. Beside the shard that has the connection stands the owner that the
// ownership rule (ownership/ownership-rule.ts) names for either direction: unless the three numbers are equal,
// something is wrong.
// Owner: nobody; reads the shards' tables.

import { ConnectionListing, type ListedConnection, type ListedDirection } from '../../conntrack/listing.ts'
import { otherSide, type Side } from '../../conntrack/terms.ts'
import type { ShardMemory, ShardSettings } from '../../datapath/shard-contract.ts'
import { connectionsOf } from '../../datapath/shard-tables.ts'
import type { Externals } from '../../nat/externals.ts'
import { type Leases, ownerOf, type StaticRules, staticRules } from '../../ownership/ownership-rule.ts'
import { formatAddress, swap32 } from '../../wire/address.ts'
import { PROTO_ICMP, PROTO_TCP, PROTO_UDP } from '../../wire/ipv4.ts'
import { type TupleText, tupleText } from './expectation-list.ts'
import { jsonLines } from './json-lines.ts'

export interface ConnectionDirection {
  readonly source: string
  readonly destination: string
  /** TCP and UDP only. */
  readonly sourcePort?: number
  readonly destinationPort?: number
  readonly packets: number
  readonly bytes: number
  /** The shard that owns a packet with this tuple that comes by the side that this direction comes from. */
  readonly owner: number
}

export interface Connection {
  /** The shard in whose table it is. */
  readonly shard: number
  readonly row: number
  readonly protocol: number
  /** The side by which its first packet came. */
  readonly origin: 'inside' | 'outside'
  /** TCP only. */
  readonly state?: string
  /** ICMP only: the query's type and the identifiers on either side. */
  readonly icmp?: { readonly type: number; readonly id: number; readonly replyId: number }
  /** Seconds after which it ends if no packet comes. */
  readonly timeout: number
  /** A packet has come in the reply direction. */
  readonly seenReply: boolean
  readonly assured: boolean
  /** The row of its mapping in the shard's table; null for protocols without ports. */
  readonly mapping: number | null
  /** The name of the helper that reads it. */
  readonly helper?: string
  /** The connection that announced this one, and its original tuple: null if it has ended since. */
  readonly master?: { readonly shard: number; readonly row: number; readonly original: TupleText | null }
  readonly original: ConnectionDirection
  readonly reply: ConnectionDirection
}

/** Rows between two looks at the clock. */
const CLOCK_EVERY = 512

/** The part of a gateway's memory (coordinator/memory.ts) that the list is read from. */
export interface ConnectionSources {
  /** By shard. */
  readonly settings: readonly ShardSettings[]
  /** By shard. */
  readonly shards: readonly ShardMemory[]
  readonly externals: Externals
}

/**
 * The text of a JSON array in pieces. `clock` returns the second of the shards' clock, `helperName` the name of the
 * helper with this number.
 */
export function connectionList(
  memory: ConnectionSources,
  clock: () => number,
  helperName: (id: number) => string | undefined = () => undefined,
): AsyncGenerator<string> {
  const leases: Leases = {
    shards: memory.shards.length,
    key: memory.settings[0]!.ownerKey,
    externals: memory.externals,
  }
  const listings = memory.shards.map(
    ({ tables }, shard) => new ConnectionListing(connectionsOf(tables, memory.settings[shard]!)),
  )
  const sources: Sources = { leases, rules: staticRules(memory.settings[0]!.portForwards), listings, helperName }
  return jsonLines(linesOf(sources, clock))
}

function* linesOf(sources: Sources, clock: () => number): Generator<string | undefined> {
  let now = clock()
  for (const [shard, listing] of sources.listings.entries())
    for (let row = 1; row <= listing.rows; row++) {
      if (row % CLOCK_EVERY === 0) now = clock()
      const listed = listing.at(row, now)
      yield listed && JSON.stringify(connection(shard, listed, sources))
    }
}

/** What a connection's owners, master and helper are found by. */
interface Sources {
  readonly leases: Leases
  readonly rules: StaticRules
  readonly listings: readonly ConnectionListing[]
  helperName(id: number): string | undefined
}

function connection(shard: number, listed: ListedConnection, sources: Sources): Connection {
  const { row, protocol, origin, tcpState, icmpType, timeout, seenReply, assured, mapping, original, reply } = listed
  const helper = sources.helperName(listed.helper)
  const icmp = { type: icmpType, id: original.sourcePort, replyId: reply.sourcePort }
  return {
    shard,
    row,
    protocol,
    origin: origin === 0 ? 'inside' : 'outside',
    ...(protocol === PROTO_TCP ? { state: tcpState } : {}),
    ...(protocol === PROTO_ICMP ? { icmp } : {}),
    timeout,
    seenReply,
    assured,
    mapping: mapping === 0 ? null : mapping,
    ...(helper !== undefined && { helper }),
    ...(listed.master.row !== 0 && { master: masterOf(listed.master, sources) }),
    original: direction(protocol, original, origin, sources),
    reply: direction(protocol, reply, otherSide(origin), sources),
  }
}

function masterOf({ shard, row, generation }: ListedConnection['master'], { listings }: Sources) {
  const tuple = listings[shard]?.originalOf(row, generation)
  return {
    shard,
    row,
    original: tuple ? tupleText(tuple.protocol, tuple.source, tuple.destination, tuple.ports) : null,
  }
}

function direction(protocol: number, listed: ListedDirection, side: Side, sources: Sources): ConnectionDirection {
  const { source, destination, sourcePort, destinationPort, packets, bytes } = listed
  const numbers = { protocol, source: swap32(source), destination: swap32(destination), sourcePort, destinationPort }
  return {
    source: formatAddress(source),
    destination: formatAddress(destination),
    ...(protocol === PROTO_TCP || protocol === PROTO_UDP ? { sourcePort, destinationPort } : {}),
    packets,
    bytes,
    owner: ownerOf(side, numbers, sources.leases, sources.rules),
  }
}
