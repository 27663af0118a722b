// What a shard counts, declared once: the shard adds to a cell, the metrics endpoint reads the cell and names it.
// 64-bit floats in shared memory: exact up to 2^53, no BigInt, no wrap to explain (prom-client wants doubles anyway).
// Owner: the shard is the only writer of its block; everyone may read it at any time.

import type { Region } from '../memory/region.ts'
import type { ProtocolNumber } from '../wire/address.ts'
import { DROP_REASONS } from './drop-reasons.ts'
import { EXPECT_REFUSALS } from './expect-refusals.ts'
import { HOST_LIMITS } from './host-limits.ts'

type Labels = Readonly<Record<string, string>>

export interface Metric {
  readonly name: string
  readonly type: 'counter' | 'gauge'
  readonly help: string
  /** One cell for each set of labels, in this order. The label `shard` is added by the reader. */
  readonly cells: readonly Labels[]
}

const SIDES = [{ side: 'inside' }, { side: 'outside' }]
const PROTOCOLS = [{ protocol: 'tcp' }, { protocol: 'udp' }, { protocol: 'icmp' }, { protocol: 'other' }]

/** What becomes of a SYN from outside that nobody has asked for (datapath/icmp/held-syns.ts), in this order. */
const HELD_SYNS = [
  /** It waits for its connection to be opened, and is answered if it isn't. */
  { outcome: 'held' },
  /** Its connection was opened meanwhile. */
  { outcome: 'opened' },
  { outcome: 'no-room' },
]

/** Why a connection goes on without its helper; a reason's number is its place. */
export const HELPER_CUT_OFFS = [
  /** The helper threw. */
  'threw',
  /** Its calls took longer than their time budget (datapath/helped/call-budget.ts). */
  'slow',
  /** Bytes that it held were neither completed nor let go in time. */
  'held-too-long',
  'held-too-much',
  /** Segments behind a gap, or all streams together, need more than there is. */
  'no-memory',
  /** The helper isn't registered any more. */
  'unregistered',
  /** The helper itself has no more interest. */
  'done',
  /** A fragment came, which no stream takes. */
  'fragment',
  /** The connection's first packet carries data. */
  'data-in-syn',
  /** The shard reads as many connections as it may. */
  'too-many',
  /** Its inside host has as many as it may. */
  'host-limit',
] as const
export type CutOff = (typeof HELPER_CUT_OFFS)[number]

/** Why a connection was ended because of an announcement that could not be rewritten. */
export const HELPER_RESETS = [
  // The helper was cut off, for one of the reasons above: with the announcement, or before.
  'threw',
  'slow',
  'held-too-long',
  'held-too-much',
  'no-memory',
  'unregistered',
  'fragment',
  'data-in-syn',
  /** The expectation was refused: no port, no slot, or one of the other reasons of expectations_refused. */
  'not-expected',
  /** Bytes of the span to be rewritten had gone on before. */
  'not-rewritten',
  /** The sender closed in the middle of it. */
  'sender-closed',
  /** The shard's thread was replaced, and with it what the helper knew is lost. */
  'thread-lost',
  // Cut off for one of two reasons more.
  'too-many',
  'host-limit',
] as const
export type HelperReset = (typeof HELPER_RESETS)[number]

const counter = (name: string, help: string, cells: readonly Labels[] = [{}]): Metric => ({
  name: `natloom_${name}_total`,
  type: 'counter',
  help,
  cells,
})
const gauge = (name: string, help: string, cells: readonly Labels[] = [{}]): Metric => ({
  name: `natloom_${name}`,
  type: 'gauge',
  help,
  cells,
})

/** Order is memory layout: append. */
export const METRICS = {
  receivedPackets: counter('received_packets', 'Packets taken from an interface, by side', SIDES),
  receivedBytes: counter('received_bytes', 'Bytes of them, from the IP header on', SIDES),
  sentPackets: counter('sent_packets', 'Packets given to an interface, by side', SIDES),
  sentBytes: counter('sent_bytes', 'Bytes of them, from the IP header on', SIDES),
  notOurs: counter(
    'not_ours_packets',
    'Packets left to the kernel: for the host itself, not IPv4, not inside to outside or back',
    SIDES,
  ),
  drops: counter(
    'dropped_packets',
    'Packets dropped, by reason',
    DROP_REASONS.map(([reason]) => ({ reason })),
  ),
  sendFailures: counter('send_failures', 'Packets that an interface refused to send', SIDES),
  receiveLosses: counter('receive_losses', 'Packets lost because the receive ring was full', SIDES),
  connections: gauge('connections', 'Connections tracked now', PROTOCOLS),
  connectionsInserted: counter('connections_inserted', 'Connections that began', PROTOCOLS),
  connectionsExpired: counter(
    'connections_expired',
    'Connections that ended: timed out, reset, or replaced by a new one of the same tuple',
    PROTOCOLS,
  ),
  connectionsRecycled: counter('connections_recycled', 'Connections ended early to make room, by what they were', [
    { state: 'closed' },
    { state: 'unreplied' },
    { state: 'unassured' },
    { state: 'half-closed' },
    { state: 'renewable' },
  ]),
  mappings: gauge('mappings', 'Inside endpoints that hold an external endpoint now', PROTOCOLS),
  permissions: gauge('permissions', 'Remote addresses that may send to a mapping now'),
  portsUsed: gauge('ports_used', 'External ports (ICMP: identifiers) in use now', PROTOCOLS.slice(0, 3)),
  portsResting: gauge('ports_resting', 'External ports freed and not yet to be given again', PROTOCOLS.slice(0, 3)),
  portsLeased: gauge('ports_leased', 'External ports in the blocks this shard leases', PROTOCOLS.slice(0, 3)),
  icmpErrorsSent: counter('icmp_errors_sent', 'ICMP errors sent, by kind', [
    { kind: 'time-exceeded' },
    { kind: 'fragmentation-needed' },
    { kind: 'net-unreachable' },
    { kind: 'host-unreachable' },
    { kind: 'administratively-prohibited' },
    { kind: 'port-unreachable' },
  ]),
  icmpErrorsSuppressed: counter(
    'icmp_errors_suppressed',
    'ICMP errors not sent because of the rate limit, by the side of who was to be told',
    SIDES,
  ),
  icmpErrorsTranslated: counter('icmp_errors_translated', 'ICMP errors about a tracked connection, carried through'),
  heldSyns: counter('held_syns', 'SYNs from outside to nobody, by what became of them (RFC 5382 REQ-4)', HELD_SYNS),
  resetsSent: counter('resets_sent', 'TCP resets sent for segments that belong to no connection'),
  fragmented: counter('fragmented_packets', 'Packets cut into fragments here because the next link is smaller'),
  neighbourWaits: counter(
    'neighbour_waits',
    'Packets that waited for the next hop to answer ARP, by the side they came by',
    SIDES,
  ),
  handovers: counter('handovers', 'Packets handed to the shard that owns them, by why', [
    { reason: 'flow' },
    { reason: 'fragment' },
    { reason: 'known-fragment' },
    { reason: 'icmp-error' },
    { reason: 'hairpin' },
    { reason: 'dispatch' },
  ]),
  handoversReceived: counter(
    'handovers_received',
    'Packets taken from the rings of other shards and of the dispatcher',
  ),
  handoversLost: counter('handovers_lost', 'Packets that a worker had taken from a ring when it failed'),
  handoverFullest: gauge('handover_ring_entries_max', 'Most packets that waited in one ring, in the last second'),
  wakes: counter('shard_wakes', 'Sleeping shards woken because of a packet for them'),
  turns: counter('shard_turns', 'Turns of the shard loop'),
  sleeps: counter('shard_sleeps', 'Turns that ended asleep'),
  busySeconds: counter('shard_busy_seconds', 'Seconds in turns that received packets'),
  expectationsCreated: counter('expectations_created', 'Expectations published for connections of this shard'),
  expectationsRefreshed: counter('expectations_refreshed', 'Expectations announced once more while they stood'),
  expectationsMatched: counter('expectations_matched', 'Connections of this shard that had been expected'),
  expectationsRefused: counter(
    'expectations_refused',
    'Expectations refused, by reason',
    EXPECT_REFUSALS.map((reason) => ({ reason })),
  ),
  expectationsRemoved: counter('expectations_removed', 'Expectations removed unmatched by the shard of their master', [
    { cause: 'evicted' },
    { cause: 'withdrawn' },
    { cause: 'master-ended' },
  ]),
  helped: gauge('helped_connections', 'Connections that something is kept of for a helper: those that have sent data'),
  helperCalls: counter('helper_calls', 'Calls of helpers with bytes or datagrams'),
  helperRewrites: counter('helper_rewrites', 'Announcements rewritten by helpers'),
  helperHolds: counter('helper_holds', 'Segments whose bytes were held, whole or in part'),
  helperCutOffs: counter(
    'helper_cut_offs',
    'Connections that went on without their helper, by why',
    HELPER_CUT_OFFS.map((reason) => ({ reason })),
  ),
  announcementsRefused: counter('announcements_refused', 'Announcements of helpers that make no expectation, by why', [
    { reason: 'invalid' },
    { reason: 'not-established' },
    { reason: 'not-allowed' },
  ]),
  helperSlowCalls: counter(
    'helper_slow_calls',
    'Calls of helpers that took longer than 100 ms, whether they computed or the thread was not run',
  ),
  helperResets: counter(
    'helper_resets',
    'Connections ended because an announcement could not be rewritten (onHelperFailure: reset), by why',
    HELPER_RESETS.map((reason) => ({ reason })),
  ),
  fragmentWaits: counter(
    'fragment_waits',
    'Later fragments that waited for the first one of their datagram, by side',
    SIDES,
  ),
  fragmentsWaiting: gauge('fragments_waiting', 'Later fragments that wait now for the first one of their datagram'),
  hostsLimited: counter(
    'hosts_limited',
    'What inside hosts were refused because they had as much of it as one host may, by limit',
    HOST_LIMITS.map((limit) => ({ limit })),
  ),
  recycledOrigins: counter(
    'connections_recycled_origins',
    'Connections ended early to make room, by the side that opened them',
    SIDES,
  ),
  overloads: counter('overloads', 'Times that more came than a thread could carry, by where it waited', [
    { queue: 'receive' },
    { queue: 'handover' },
  ]),
} as const satisfies Record<string, Metric>

export type MetricKey = keyof typeof METRICS

/** Where a metric's first cell lies in a shard's block. */
export const CELL = (() => {
  let next = 0
  const first = {} as Record<MetricKey, number>
  for (const [key, metric] of Object.entries(METRICS)) {
    first[key as MetricKey] = next
    next += metric.cells.length
  }
  return first
})()

const CELLS = Object.values(METRICS).reduce((sum, metric) => sum + metric.cells.length, 0)

/** A shard's block. */
export const counterBlock = (region: Region): Float64Array => region.f64(CELLS)

/** Cell of a protocol in the metrics that are split by protocol. */
export const protocolCell = (protocol: ProtocolNumber): number =>
  protocol === 6 ? 0 : protocol === 17 ? 1 : protocol === 1 ? 2 : 3
