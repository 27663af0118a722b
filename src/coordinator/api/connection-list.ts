// Every shard's connections as JSON, one a line, with the shard that has each and the owner that the rule names for
// either direction (ownership/ownership-rule.ts): three numbers that are equal, or something is wrong.
//
// The main thread also follows the kernel and watches the shards, so a long list must not keep it: rows are read in
// slices of a bounded number, the event loop has its turn after each, and the next one is made when the reader has
// taken the last. (Measured: a million connections in 5 s, the loop kept for 7 ms at a time, once for 50.)

import { setImmediate } from 'node:timers/promises'
import { ConnectionListing, type ListedConnection, type ListedDirection } from '../../conntrack/listing.ts'
import { otherSide, type Side } from '../../conntrack/terms.ts'
import { connectionsOf } from '../../datapath/attach.ts'
import { type Leases, ownerOf, type StaticRules, staticRules } from '../../ownership/ownership-rule.ts'
import { formatAddress, swap32 } from '../../wire/address.ts'
import type { GatewayMemory } from '../memory.ts'
import { type TupleText, tupleText } from './expectation-list.ts'

export interface ConnectionDirection {
  readonly source: string
  readonly destination: string
  /** TCP and UDP. */
  readonly sourcePort?: number
  readonly destinationPort?: number
  readonly packets: number
  readonly bytes: number
  /** The shard that owns a packet with this tuple that comes by this direction's side. */
  readonly owner: number
}

export interface Connection {
  /** The shard in whose table it is. */
  readonly shard: number
  readonly row: number
  readonly protocol: number
  /** Side by which its first packet came. */
  readonly origin: 'inside' | 'outside'
  /** Of TCP. */
  readonly state?: string
  /** Of ICMP: the query's type and the identifiers on either side. */
  readonly icmp?: { readonly type: number; readonly id: number; readonly replyId: number }
  /** Seconds that it lives without a packet. */
  readonly timeout: number
  /** A packet has come in the reply direction. */
  readonly seenReply: boolean
  readonly assured: boolean
  /** Row of its mapping in the shard's table; null for protocols without ports. */
  readonly mapping: number | null
  /** The helper that reads it. */
  readonly helper?: string
  /** The connection that announced it, and its original tuple; null if that one has ended since. */
  readonly master?: { readonly shard: number; readonly row: number; readonly original: TupleText | null }
  readonly original: ConnectionDirection
  readonly reply: ConnectionDirection
}

/** Connections of a slice, and rows looked at for them: a few milliseconds of work. */
const SLICE_CONNECTIONS = 512
const SLICE_ROWS = 65_536

const ICMP = 1
const TCP = 6
const UDP = 17

/**
 * The text of a JSON array in pieces. `clock` tells the second of the shards' clock, `helperName` the name of the helper
 * with a number.
 */
export async function* connectionList(
  memory: GatewayMemory,
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
  const by: Around = { leases, rules: staticRules(memory.settings[0]!.forwards), listings, helperName }
  let separator = '[\n'
  for (const [shard, listing] of listings.entries()) {
    for (let row = 1; row <= listing.rows; ) {
      const now = clock()
      const end = Math.min(listing.rows, row + SLICE_ROWS - 1)
      const lines: string[] = []
      for (; row <= end && lines.length < SLICE_CONNECTIONS; row++) {
        const listed = listing.at(row, now)
        if (listed) lines.push(JSON.stringify(connection(shard, listed, by)))
      }
      if (lines.length > 0) {
        yield separator + lines.join(',\n')
        separator = ',\n'
      }
      await setImmediate()
    }
  }
  yield separator === ',\n' ? '\n]\n' : '[]\n'
}

/** What a connection is shown with: by which packets are divided among shards, all shards' rows, names. */
interface Around {
  readonly leases: Leases
  readonly rules: StaticRules
  readonly listings: readonly ConnectionListing[]
  helperName(id: number): string | undefined
}

function connection(shard: number, listed: ListedConnection, by: Around): Connection {
  const { row, protocol, origin, tcpState, icmpType, timeout, seenReply, assured, mapping, original, reply } = listed
  const helper = by.helperName(listed.helper)
  const icmp = { type: icmpType, id: original.sourcePort, replyId: reply.sourcePort }
  return {
    shard,
    row,
    protocol,
    origin: origin === 0 ? 'inside' : 'outside',
    ...(protocol === TCP ? { state: tcpState } : {}),
    ...(protocol === ICMP ? { icmp } : {}),
    timeout,
    seenReply,
    assured,
    mapping: mapping === 0 ? null : mapping,
    ...(helper !== undefined && { helper }),
    ...(listed.master.row !== 0 && { master: masterOf(listed.master, by) }),
    original: direction(protocol, original, origin, by),
    reply: direction(protocol, reply, otherSide(origin), by),
  }
}

function masterOf({ shard, row, generation }: ListedConnection['master'], { listings }: Around) {
  const tuple = listings[shard]?.originalOf(row, generation)
  return {
    shard,
    row,
    original: tuple ? tupleText(tuple.protocol, tuple.source, tuple.destination, tuple.ports) : null,
  }
}

function direction(protocol: number, listed: ListedDirection, side: Side, by: Around): ConnectionDirection {
  const { source, destination, sourcePort, destinationPort, packets, bytes } = listed
  const numbers = { protocol, source: swap32(source), destination: swap32(destination), sourcePort, destinationPort }
  return {
    source: formatAddress(source),
    destination: formatAddress(destination),
    ...(protocol === TCP || protocol === UDP ? { sourcePort, destinationPort } : {}),
    packets,
    bytes,
    owner: ownerOf(side, numbers, by.leases, by.rules),
  }
}
