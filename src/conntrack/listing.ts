// A shard's connections as anyone may read them while the shard works: a row at a time, by the rules of memory/rows.ts.
// What a listing shows is true of each row at some moment, not of all rows at one (as with /proc/net/nf_conntrack).
// Counts are the sum of a word and its wraps, which the shard stores one after the other: within a packet's time of a
// wrap a count may be 2^32 off.
//
// Owner: a reader of its view and its copy of one row; the table is its shard's.

import type { Generation, HelperId, Row, Seconds, Shard } from '../memory/brand.ts'
import { LIVE } from '../memory/rows.ts'
import type { Addr, PortHost, Ports, ProtocolNumber } from '../wire/address.ts'
import { PROTO_ICMP } from '../wire/ipv4.ts'
import {
  ASSURED,
  baseOf,
  CONN,
  CONN_WORDS,
  type ConnectionView,
  EXPECTED,
  SEEN_REPLY,
  TCP_STATE_MASK,
  TCP_STATE_SHIFT,
  TUPLE_WORDS,
} from './connection-table.ts'
import { TCP_STATES, type TcpState } from './tcp-state.ts'
import type { Direction } from './terms.ts'
import { destinationPort, type Side, sourcePort } from './terms.ts'

/** One direction of a connection. */
export interface ListedDirection {
  readonly source: Addr
  readonly destination: Addr
  /** Of an ICMP query or its answer both are the identifier, of protocols without ports 0. */
  readonly sourcePort: PortHost
  readonly destinationPort: PortHost
  readonly packets: number
  readonly bytes: number
}

export interface ListedConnection {
  readonly row: Row
  readonly protocol: ProtocolNumber
  /** Side by which the first packet came: 0 inside, 1 outside. The reply direction comes by the other. */
  readonly origin: Side
  /** NONE for what is not TCP. */
  readonly tcpState: TcpState
  /** Of the query; 0 for what is not ICMP. */
  readonly icmpType: number
  readonly seenReply: boolean
  readonly assured: boolean
  /** Seconds until it ends if no packet comes. */
  readonly timeout: Seconds
  /** Row of its mapping in the same shard; 0 for protocols without ports. */
  readonly mapping: Row
  /** Number of the helper that reads it (helpers/registry.shard.ts), 0 for none. */
  readonly helper: HelperId
  /** An expectation let it in. */
  readonly expected: boolean
  /** The master of one that was expected: its shard, its row and that row's generation; row 0 for none. */
  readonly master: { readonly shard: Shard; readonly row: Row; readonly generation: Generation }
  readonly original: ListedDirection
  readonly reply: ListedDirection
}

export interface ListedTuple {
  readonly protocol: ProtocolNumber
  readonly source: Addr
  readonly destination: Addr
  readonly ports: Ports
}

/** A row that changes hands so often while it is looked at is passed over. */
const TRIES = 4
const WRAP = 2 ** 32

export class ConnectionListing {
  /** Rows are 1 .. `rows`. */
  readonly rows: number
  readonly #view: ConnectionView
  readonly #copy = new Int32Array(CONN_WORDS)

  constructor(view: ConnectionView) {
    this.#view = view
    this.rows = view.words.length / CONN_WORDS - 1
  }

  /** The connection in this row at this second of the shards' clock; undefined if there is none, or it has expired. */
  at(row: Row, now: Seconds): ListedConnection | undefined {
    for (let tries = 0; tries < TRIES; tries++) {
      const before = this.#generation(row)
      if ((before & 1) !== 0) continue
      const listed = this.#read(row, now)
      if (this.#generation(row) === before) return listed
    }
    return undefined
  }

  /** The original tuple of the connection that had this row in this generation; undefined if it has ended. */
  originalOf(row: Row, generation: Generation): ListedTuple | undefined {
    if (row < 1 || row > this.rows || this.#generation(row) !== generation) return undefined
    const { words } = this.#view
    const base = baseOf(row)
    const tuple = {
      protocol: words[base + CONN.state]! & 0xff,
      source: words[base + CONN.origSrc]!,
      destination: words[base + CONN.origDst]!,
      ports: words[base + CONN.origPorts]!,
    }
    return this.#generation(row) === generation ? tuple : undefined
  }

  #generation(row: Row): Generation {
    return Atomics.load(this.#view.words, baseOf(row) + CONN.generation)
  }

  #read(row: Row, now: Seconds): ListedConnection | undefined {
    const { words, cold } = this.#view
    const base = baseOf(row)
    if ((words[base + CONN.state]! & LIVE) === 0) return undefined
    const copy = this.#copy
    for (let word = 0; word < CONN_WORDS; word++) copy[word] = words[base + word]!
    const timeout = copy[CONN.lastSeen]! + copy[CONN.timeout]! - now
    if (timeout <= 0) return undefined
    const state = copy[CONN.state]!
    const protocol = state & 0xff
    return {
      row,
      protocol,
      origin: ((state >> 8) & 1) as Side,
      tcpState: TCP_STATES[(state & TCP_STATE_MASK) >> TCP_STATE_SHIFT] ?? 'NONE',
      // As loaded: the query's type stands where the receiver's port would (conntrack/terms.ts).
      icmpType: protocol === PROTO_ICMP ? copy[CONN.origPorts]! >>> 16 : 0,
      seenReply: (state & SEEN_REPLY) !== 0,
      assured: (state & ASSURED) !== 0,
      timeout,
      mapping: cold.mapping[row]!,
      helper: cold.helper[row]!,
      expected: (state & EXPECTED) !== 0,
      master: { shard: cold.masterShard[row]!, row: cold.masterRow[row]!, generation: cold.masterGeneration[row]! },
      original: this.#direction(0, protocol, cold.packetWraps[row]!, cold.byteWraps[row]!),
      reply: this.#direction(1, protocol, cold.packetWrapsReply[row]!, cold.byteWrapsReply[row]!),
    }
  }

  /** What the copied row says of one direction. */
  #direction(direction: Direction, protocol: ProtocolNumber, packetWraps: number, byteWraps: number): ListedDirection {
    const copy = this.#copy
    const tuple = direction * TUPLE_WORDS
    const ports = protocol === PROTO_ICMP ? identifiers(copy[tuple + 2]!, direction) : copy[tuple + 2]!
    return {
      source: copy[tuple]!,
      destination: copy[tuple + 1]!,
      sourcePort: sourcePort(ports),
      destinationPort: destinationPort(ports),
      packets: packetWraps * WRAP + (copy[CONN.packets + direction]! >>> 0),
      bytes: byteWraps * WRAP + (copy[CONN.bytes + direction]! >>> 0),
    }
  }
}

/** A ports word with an ICMP identifier in both halves. */
function identifiers(ports: Ports, direction: Direction): Ports {
  const identifier = direction === 0 ? ports & 0xffff : ports >>> 16
  return identifier | (identifier << 16)
}
