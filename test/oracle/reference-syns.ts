// What the SYNs of a connection say, and what answers them (nf_conntrack_proto_tcp.c; RFC 9293 3.10.7.3), written once
// more and for reading, as reference.ts is, which it is a part of. Above all of SYNs that the table can't place: both
// ends may know better than the gateway.

import type { Segment as Kind } from '../../src/conntrack/tcp-state.ts'
import type { Policy } from './policy.ts'
import { type Entry, endsOf } from './reference-entry.ts'
import { compare, type Numbers, readOffers, unknownEdges } from './reference-windows.ts'

type Policies = ReadonlySet<Policy>

/** It acknowledges the SYN, or data that came with it. */
export const answersSyn = ({ ends, first }: Entry, { ack }: Numbers): boolean =>
  compare(ack, first) > 0 && compare(ack, ends[0].end) <= 0

/** It acknowledges a SYN of the other end that was noted: exactly, or data that came with it (RFC 7413). */
export function answersNotedSyn({ last }: Entry, { rawAck }: Numbers, reply: boolean, policies: Policies): boolean {
  if (last.kind !== 'syn' || last.reply === reply) return false
  if (!policies.has('syns')) return rawAck === last.end
  return compare(rawAck, last.seq) > 0 && compare(rawAck, last.end) <= 0
}

/**
 * A second SYN with another number than the first one of its end, which nobody has answered: somebody may have made up
 * one of the two. An inside end is believed that it begins anew, if nothing has come in its server's name.
 */
export function isAnotherSyn({ opener, state, ends, first }: Entry, { seq }: Numbers, reply: boolean): boolean {
  if (reply) return state === 'SYN_SENT2'
  return (state === 'SYN_SENT2' || opener === 'outside') && ends[0].maxWin !== 0 && seq !== first
}

/** A SYN/ACK to the second SYN, of two: the connection is that one's. */
export function answersAnotherSyn(entry: Entry, numbers: Numbers, reply: boolean, policies: Policies): boolean {
  const { state, last, ends, first } = entry
  if (state === 'SYN_RECV' || !policies.has('syns') || !answersNotedSyn(entry, numbers, reply, policies)) return false
  return reply ? last.seq !== first : last.end !== ends[1].end
}

/** What the sender is known by begins with this SYN, though something was known of it. */
export function beginsAnew(entry: Entry, numbers: Numbers, reply: boolean, policies: Policies): boolean {
  const { state, first } = entry
  const [sender] = endsOf(entry, reply)
  const isAhead = compare(numbers.end, sender.end) > 0
  if (state === 'SYN_SENT2' && policies.has('syns')) return reply && numbers.hasAck && answersSyn(entry, numbers)
  if (state === 'SYN_SENT' && !reply && policies.has('syns')) return isAhead || numbers.seq !== first
  return isAhead && (state === 'SYN_SENT' || state === 'SYN_RECV')
}

/** A SYN/ACK opens the connection; one that acknowledges something else is passed on for its receiver to reset. */
export function isExactAnswer(entry: Entry, numbers: Numbers, reply: boolean): boolean {
  if (reply) return answersSyn(entry, numbers)
  return entry.state !== 'SYN_RECV' || numbers.end === entry.ends[0].end
}

/** Both ends are told anew by a SYN that was ignored and the SYN/ACK that answers it. */
export function beginAsNoted({ ends, last }: Entry): void {
  const noted = last.reply ? 1 : 0
  const edges = unknownEdges()
  Object.assign(edges, { end: last.end, maxEnd: last.end, maxWin: Math.max(1, last.window) })
  readOffers(edges, last.offers)
  last.mayBeChallenged = false
  const { liberal } = ends[1 - noted]!
  ends[noted] = edges
  ends[1 - noted] = { ...unknownEdges(), liberal }
}

/** An ACK in LAST_ACK from the end that was sent a SYN: it acknowledges no FIN. */
export function isChallenge({ last }: Entry, kind: Kind, reply: boolean): boolean {
  const isOne = kind === 'ack' && last.reply !== reply && last.kind === 'syn' && last.mayBeChallenged
  if (isOne) last.mayBeChallenged = false
  return isOne
}
