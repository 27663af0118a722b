// What one inside host may have or do at most (RFC 6888 REQ-4, REQ-5): one list that makes the words of a host's row
// (conntrack/host-table.ts), the label of the metric, the keys of the configuration's `limits` and of the API's hosts.

import type { Brand } from '../memory/brand.ts'

/** Order is memory layout: append. */
export const HOST_LIMITS = [
  /** Connections at a time. */
  'connections',
  /** External ports at a time: of mappings, and those in quarantine after a mapping of the host. */
  'ports',
  /** Connections that begin in a second. */
  'new-connections',
  /** Expectations at a time, of all its connections that helpers read. */
  'expectations',
  /** ICMP errors and TCP resets that it is told in a second. */
  'icmp-errors',
  /** Packets of full size that wait for neighbours; smaller ones share. */
  'waiting-packets',
  /** Connections whose sequence numbers are adjusted. */
  'sequence-edits',
  /** Connections that a helper reads and that something is kept of. */
  'helped-connections',
  /** Fragmented packets at a time whose fragments have not all come. */
  'fragment-records',
] as const

export type HostLimitName = (typeof HOST_LIMITS)[number]

/** A limit's number: its place in the list, and among the metric's cells. */
export type HostLimit = Brand<'HostLimit'>

export const HOST_LIMIT = Object.fromEntries(HOST_LIMITS.map((name, number) => [name, number])) as Readonly<
  Record<HostLimitName, HostLimit>
>

/** The key of each limit, in the configuration and in what the API lists. */
export const LIMIT_KEYS = {
  connections: 'connections',
  ports: 'ports',
  'new-connections': 'newConnections',
  expectations: 'expectations',
  'icmp-errors': 'icmpErrors',
  'waiting-packets': 'waitingPackets',
  'sequence-edits': 'sequenceEdits',
  'helped-connections': 'helpedConnections',
  'fragment-records': 'fragmentRecords',
} as const satisfies Record<HostLimitName, string>

export type LimitKey = (typeof LIMIT_KEYS)[HostLimitName]
