// Turns the events of a replay into lines of JSON: an object each, addresses dotted, ports as numbers, in the order in
// which they happened. Owner: main thread, the only reader of the shards' event rings.

import {
  CONN,
  CONN_SHIFT,
  type ConnectionView,
  TCP_STATE_MASK,
  TCP_STATE_SHIFT,
} from '../conntrack/connection-table.ts'
import { EXPECT_ENDS, EXPECT_EVENT, FLOW_EVENT, PACKET_EVENT } from '../conntrack/event-table.ts'
import { EXPECTATION } from '../conntrack/expectation-table.ts'
import { TCP_STATES } from '../conntrack/tcp-state.ts'
import {
  ACCEPT,
  ACCEPT_AND_END,
  CT_ESTABLISHED,
  CT_IS_REPLY,
  CT_NEW,
  CT_RELATED,
  destinationPort,
  invertPorts,
  NOT_OURS,
  QUEUED,
  sourcePort,
} from '../conntrack/terms.ts'
import { DROP_REASONS } from '../counters/drop-reasons.ts'
import { EVENT, FRAME, KIND } from '../memory/event-ring.ts'
import { LIVE } from '../memory/rows.ts'
import { formatAddress, swap16 } from '../wire/address.ts'
import { PROTO_ICMP, PROTO_TCP, PROTO_UDP } from '../wire/ipv4.ts'

const NAMES: Readonly<Record<number, string>> = {
  [PROTO_ICMP]: 'icmp',
  [PROTO_TCP]: 'tcp',
  [PROTO_UDP]: 'udp',
  47: 'gre',
  50: 'esp',
}
const VERDICTS: Readonly<Record<number, string>> = {
  [ACCEPT]: 'accept',
  [ACCEPT_AND_END]: 'accept',
  [NOT_OURS]: 'not-ours',
  [QUEUED]: 'queued',
}
const CTINFO: Readonly<Record<number, string>> = {
  [CT_NEW]: 'NEW',
  [CT_RELATED]: 'RELATED',
  [CT_ESTABLISHED]: 'ESTABLISHED',
  [CT_RELATED + CT_IS_REPLY]: 'RELATED_REPLY',
  [CT_ESTABLISHED + CT_IS_REPLY]: 'ESTABLISHED_REPLY',
}

export interface Ends {
  readonly src: string
  readonly sport: number
  readonly dst: string
  readonly dport: number
}

const protocolName = (key: number): string => NAMES[key & 0xff] ?? String(key & 0xff)
const ends = (src: number, dst: number, ports: number): Ends => ({
  src: formatAddress(src),
  sport: sourcePort(ports),
  dst: formatAddress(dst),
  dport: destinationPort(ports),
})

/**
 * In the ports word of an ICMP query, the identifier takes the place of the sender's port, and the query's type that of
 * the receiver's.
 */
const query = (src: number, dst: number, ports: number) => ({
  src: formatAddress(src),
  dst: formatAddress(dst),
  type: ports >>> 16,
  id: sourcePort(ports),
})
const queryAnswer = (src: number, dst: number, ports: number) => query(src, dst, invertPorts(ports))

export interface EventLinesOptions {
  /** By shard. */
  readonly connections: readonly ConnectionView[]
  /** Names of helpers by number. */
  readonly helpers: ReadonlyMap<number, string>
}

export class EventLines {
  readonly #options: EventLinesOptions
  /** The masters of connections in force, by shard, row and generation: a master may end before its connection. */
  readonly #masters = new Map<string, Ends | null>()

  constructor(options: EventLinesOptions) {
    this.#options = options
  }

  /** The line for the record that begins at `at` in a shard's ring. */
  of(shard: number, records: Int32Array, at: number): string {
    const word = (name: number): number => records[at + name]!
    const kind = word(KIND)
    const frame = word(FRAME)
    if (kind === EVENT.packet) return this.#packet(frame, word)
    if (kind === EVENT.flowNew || kind === EVENT.flowEnd)
      return this.#flow(kind === EVENT.flowNew ? 'flow-new' : 'flow-end', frame, shard, word)
    const name = kind === EVENT.expectNew ? 'expect-new' : kind === EVENT.expectMatch ? 'expect-match' : 'expect-expire'
    const cause = kind === EVENT.expectEnd ? { cause: EXPECT_ENDS[word(EXPECT_EVENT.cause)] } : {}
    return JSON.stringify({
      event: name,
      frame,
      helper: this.#options.helpers.get(word(EXPECT_EVENT.helper)) ?? null,
      proto: protocolName(word(EXPECT_EVENT.key)),
      src: formatAddress(word(EXPECT_EVENT.src) & word(EXPECT_EVENT.srcMask)),
      sport: swap16(word(EXPECT_EVENT.srcPort)),
      dst: formatAddress(word(EXPECT_EVENT.savedAddress)),
      dport: swap16(word(EXPECT_EVENT.savedPort)),
      master: ends(word(EXPECT_EVENT.masterSrc), word(EXPECT_EVENT.masterDst), word(EXPECT_EVENT.masterPorts)),
      ...cause,
    })
  }

  /** The line for an expectation that the coordinator found expired; `slot` holds the words of its slot. */
  expired(frame: number, slot: Int32Array): string {
    const word = (name: number): number => slot[name]!
    return JSON.stringify({
      event: 'expect-expire',
      frame,
      helper: this.#options.helpers.get(word(EXPECTATION.helper)) ?? null,
      proto: protocolName(word(EXPECTATION.key)),
      src: formatAddress(word(EXPECTATION.src) & word(EXPECTATION.srcMask)),
      sport: swap16(word(EXPECTATION.srcPort)),
      dst: formatAddress(word(EXPECTATION.savedAddress)),
      dport: swap16(word(EXPECTATION.savedPort)),
      master: ends(word(EXPECTATION.masterSrc), word(EXPECTATION.masterDst), word(EXPECTATION.masterPorts)),
      cause: 'timeout',
    })
  }

  #flow(event: string, frame: number, shard: number, word: (name: number) => number): string {
    const isIcmp = (word(FLOW_EVENT.state) & 0xff) === PROTO_ICMP
    return JSON.stringify({
      event,
      frame,
      shard,
      proto: protocolName(word(FLOW_EVENT.state)),
      ...(isIcmp ? query : ends)(word(FLOW_EVENT.origSrc), word(FLOW_EVENT.origDst), word(FLOW_EVENT.origPorts)),
      reply: (isIcmp ? queryAnswer : ends)(
        word(FLOW_EVENT.replySrc),
        word(FLOW_EVENT.replyDst),
        word(FLOW_EVENT.replyPorts),
      ),
      ...this.#master(event === 'flow-new', shard, word),
    })
  }

  #master(isNew: boolean, shard: number, word: (name: number) => number): { readonly master?: Ends | null } {
    if (word(FLOW_EVENT.masterRow) === 0) return {}
    const name = `${shard} ${word(FLOW_EVENT.row)} ${word(FLOW_EVENT.generation)}`
    const master = isNew
      ? this.#tupleOf(word(FLOW_EVENT.masterShard), word(FLOW_EVENT.masterRow), word(FLOW_EVENT.masterGeneration))
      : (this.#masters.get(name) ?? null)
    if (isNew) this.#masters.set(name, master)
    else this.#masters.delete(name)
    return { master }
  }

  /** The original tuple of a connection; null if it has ended. */
  #tupleOf(shard: number, row: number, generation: number): Ends | null {
    const { words } = this.#options.connections[shard]!
    const base = row << CONN_SHIFT
    if (words[base + CONN.generation] !== generation || (words[base + CONN.state]! & LIVE) === 0) return null
    return ends(words[base + CONN.origSrc]!, words[base + CONN.origDst]!, words[base + CONN.origPorts]!)
  }

  #packet(frame: number, word: (name: number) => number): string {
    const verdict = word(PACKET_EVENT.verdict)
    const direction = word(PACKET_EVENT.direction)
    const state = word(PACKET_EVENT.state)
    const isTcp = (state & 0xff) === PROTO_TCP
    return JSON.stringify({
      event: 'packet',
      frame,
      direction: direction < 0 ? null : direction === 0 ? 'original' : 'reply',
      verdict: verdict >= 0 ? 'drop' : (VERDICTS[verdict] ?? String(verdict)),
      reason: verdict >= 0 ? DROP_REASONS[verdict]![0] : null,
      ctinfo: CTINFO[word(PACKET_EVENT.ctinfo)] ?? null,
      state: isTcp ? TCP_STATES[(state & TCP_STATE_MASK) >> TCP_STATE_SHIFT]! : null,
    })
  }
}
