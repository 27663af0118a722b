// What the reference tracker remembers of a connection, as netfilter does (nf_conntrack_tcp.h, struct ip_ct_tcp).

import type { Segment as Kind, TcpState } from '../../src/conntrack/tcp-state.ts'
import { type Edges, type Numbers, unknownEdges } from './reference-windows.ts'
import type { Side } from './script.ts'

/** What is remembered of the segment before. */
export interface Last {
  kind: Kind | undefined
  reply: boolean
  seq: number
  end: number
  ack: number
  window: number
  offers: Numbers['offers']
  /** It was a SYN in LAST_ACK, which its receiver may challenge (RFC 5961 section 4). */
  mayBeChallenged: boolean
}

export interface Entry {
  readonly opener: Side
  state: TcpState
  /** By direction. */
  readonly ends: [Edges, Edges]
  seenReply: boolean
  assured: boolean
  simultaneous: boolean
  last: Last
  /** The number of the opener's SYN. */
  first: number
}

export const beginEntry = (opener: Side): Entry => ({
  opener,
  state: 'NONE',
  ends: [unknownEdges(), unknownEdges()],
  seenReply: false,
  assured: false,
  simultaneous: false,
  last: {
    kind: undefined,
    reply: false,
    seq: 0,
    end: 0,
    ack: 0,
    window: 0,
    offers: undefined,
    mayBeChallenged: false,
  },
  first: 0,
})

/** Who sends, who receives. */
export const endsOf = ({ ends }: Entry, reply: boolean): readonly [Edges, Edges] => (reply ? [ends[1], ends[0]] : ends)

/** A copy that later segments don't change. What a SYN has offered is replaced, never written to. */
export const copyOf = (entry: Entry): Entry => ({
  ...entry,
  ends: [{ ...entry.ends[0] }, { ...entry.ends[1] }],
  last: { ...entry.last },
})
