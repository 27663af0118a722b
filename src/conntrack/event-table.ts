// The records of the event ring (memory/event-ring.ts), by what they tell: their words by name, for the shard that
// writes them (events.shard.ts) and for readers. Addresses and ports are as loaded (terms.ts).

import type { Brand } from '../memory/brand.ts'
import { BODY, EVENT_WORDS } from '../memory/event-ring.ts'
import { layout } from '../memory/layout.ts'

/** A connection's record: it begins, or ends. `state` is its state word; master as in its row. */
export const FLOW_EVENT = layout(EVENT_WORDS, {
  state: BODY,
  origSrc: BODY + 1,
  origDst: BODY + 2,
  origPorts: BODY + 3,
  replySrc: BODY + 4,
  replyDst: BODY + 5,
  replyPorts: BODY + 6,
  row: BODY + 7,
  generation: BODY + 8,
  masterShard: BODY + 9,
  /** 0 for none. */
  masterRow: BODY + 10,
  masterGeneration: BODY + 11,
})

/** An expectation's record: as announced, and its master's original tuple. */
export const EXPECT_EVENT = layout(EVENT_WORDS, {
  key: BODY,
  src: BODY + 1,
  srcMask: BODY + 2,
  srcPort: BODY + 3,
  savedAddress: BODY + 4,
  savedPort: BODY + 5,
  helper: BODY + 6,
  class: BODY + 7,
  masterSrc: BODY + 8,
  masterDst: BODY + 9,
  masterPorts: BODY + 10,
  masterKey: BODY + 11,
  ticket: BODY + 12,
  /** Of an end: the number of one of EXPECT_ENDS. */
  cause: BODY + 13,
})

/** Why an expectation is over that nothing has matched; a cause's number is its place. */
export const EXPECT_ENDS = ['evicted', 'withdrawn', 'master-ended', 'timeout'] as const
export type ExpectEnd = Brand<'ExpectEnd'>

/** A packet's record: its tuple as it came, and what became of it. */
export const PACKET_EVENT = layout(EVENT_WORDS, {
  key: BODY,
  src: BODY + 1,
  dst: BODY + 2,
  ports: BODY + 3,
  /** terms.ts */
  verdict: BODY + 4,
  /** 0 original, 1 reply, -1: it belongs to no connection. */
  direction: BODY + 5,
  /** track.shard.ts; -1 without a connection. */
  ctinfo: BODY + 6,
  /** The connection's state word after it, 0 without one. */
  state: BODY + 7,
})
