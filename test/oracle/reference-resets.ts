// Which resets end a connection (nf_conntrack_proto_tcp.c, RST in nf_conntrack_tcp_packet; RFC 5961 section 3), written
// once more and for reading, as reference.ts is, which it is a part of.

import type { TcpState } from '../../src/conntrack/tcp-state.ts'
import type { Policy } from './policy.ts'
import { type Entry, endsOf } from './reference-entry.ts'
import { answersNotedSyn, answersSyn } from './reference-syns.ts'
import { compare, type Numbers } from './reference-windows.ts'

type Policies = ReadonlySet<Policy>

const CLOSING: readonly TcpState[] = ['FIN_WAIT', 'CLOSE_WAIT', 'LAST_ACK', 'TIME_WAIT', 'CLOSE']

/**
 * A reset closes at once what is closing anyway; is below what its receiver has acknowledged; isn't exact, so that its
 * receiver may challenge it; has to be within the windows; or nothing is known to hold it against.
 */
type ResetKind = 'close' | 'under' | 'not exact' | 'check' | 'unknown' | 'ignore'

/** RFC 5961 section 3: only a reset with exactly the expected number closes. */
export function judgeReset(entry: Entry, numbers: Numbers, reply: boolean, policies: Policies): ResetKind {
  const { seq, hasAck } = numbers
  const { state, last } = entry
  const { maxAck } = endsOf(entry, reply)[1]
  const mustBeExact = policies.has('exact-resets')
  const isExact = isExactReset(entry, numbers, reply, policies)
  if (state === 'CLOSE' && policies.has('closing-reset')) return 'ignore'
  if (CLOSING.includes(state)) return mustBeExact && !isExact ? 'ignore' : 'close'

  const followsSyn = last.kind === 'syn' && (last.reply !== reply || !mustBeExact)
  const isEstablished = state === 'ESTABLISHED' && (entry.assured || mustBeExact)
  const isNumbered = seq !== 0 || isEstablished
  if (maxAck !== undefined && !followsSyn && isNumbered && compare(seq, maxAck) < 0) return 'under'
  if (policies.has('refusals') && hasAck && refuses(entry, numbers, reply, policies)) return 'close'
  if (maxAck === undefined || followsSyn) return 'unknown'
  if (!isNumbered) return mustBeExact ? 'unknown' : 'check'
  if (!isEstablished || isExact) return 'check'
  const followsLast = last.kind === 'ack' && last.reply === reply && seq === last.end
  return followsLast && !mustBeExact ? 'check' : 'not exact'
}

function isExactReset(entry: Entry, { seq }: Numbers, reply: boolean, policies: Policies): boolean {
  const [sender, receiver] = endsOf(entry, reply)
  return seq === receiver.maxAck || (policies.has('resets-at-end') && sender.maxWin !== 0 && seq === sender.end)
}

/** Nobody has answered the SYN, unless by a SYN of his own. */
const isUnanswered = ({ state }: Entry): boolean => state === 'SYN_SENT' || state === 'SYN_SENT2'

/** It acknowledges what opens the connection, or would open another one. */
function refuses(entry: Entry, numbers: Numbers, reply: boolean, policies: Policies): boolean {
  const isNoted = answersNotedSyn(entry, numbers, reply, policies)
  if (entry.seenReply && isNoted) return true
  return reply && isUnanswered(entry) && (isNoted || answersSyn(entry, numbers))
}

/** What passes the windows and isn't exact changes nothing. */
export function mayClose(
  entry: Entry,
  numbers: Numbers,
  reply: boolean,
  { reset, policies }: { reset: ResetKind; policies: Policies },
): boolean {
  const mustBeExact = policies.has('exact-resets')
  if (reply && isUnanswered(entry) && policies.has('refusals')) return reset === 'close'
  if (reset === 'not exact') return !mustBeExact
  return reset === 'close' || !mustBeExact || isExactReset(entry, numbers, reply, policies)
}

/** A reset that answers something which was let through although the gateway may have been out of sync. */
export function answersOutOfSync(entry: Entry, numbers: Numbers, reply: boolean, policies: Policies): boolean {
  const { last } = entry
  const { seq, rawAck, hasAck } = numbers
  const mustBeExact = policies.has('exact-resets')
  if (mustBeExact && reply && isUnanswered(entry)) return false
  const answersSyn = entry.seenReply && last.kind === 'syn' && last.reply !== reply
  const answersAck = !entry.assured && last.kind === 'ack' && (last.reply !== reply || !mustBeExact)
  const mayAnswer = hasAck || !mustBeExact
  if (mayAnswer && (answersSyn || answersAck) && rawAck === last.end) return true
  return entry.state === 'SYN_SENT' && last.kind === 'ack' && last.reply && seq === last.ack
}
