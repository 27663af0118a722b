// A helper's call: what it is given, and what becomes of what it asks for. Rewrites count only if the call ends well;
// expectations are in force from the moment they are made, and are withdrawn if it doesn't.
// Owner: this thread.

import { protocolOf } from '../../conntrack/connections.shard.ts'
import { withdraw } from '../../conntrack/expectations.shard.ts'
import type { Direction } from '../../conntrack/terms.ts'
import { CELL, type CutOff } from '../../counters/counters.ts'
import { counters } from '../../counters/own-counters.shard.ts'
import { Context } from '../../helpers/context.shard.ts'
import { Verdict } from '../../helpers/helper.ts'
import { ENTRY } from '../../helpers/helper-list.ts'
import { enterHelper, leaveHelper } from '../../helpers/running-helper.shard.ts'
import { roomForEdits } from '../../nat/sequence-edits.shard.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import { bytesKept } from './byte-queue.ts'
import { beginCall, isOverBudget } from './call-budget.ts'
import { cutOff, type HelpedConnection } from './helped-connections.ts'
import { blame } from './helper-errors.ts'
import type { Stream } from './stream.ts'

/** Bytes of one stream that may be held for more to come. */
const MOST_HELD = 8192
/**
 * Bytes that one stream may keep, for its receiver's acknowledgement or because they are held; and those of all streams
 * of the shard together. When these keep more than MOST_KEPT, helpers are cut off from streams that keep more than a
 * control connection needs (FAIR_SHARE); when they keep twice as much, from every stream that gets more.
 */
const MOST_KEPT_OF_ONE = 1 << 20
const MOST_KEPT = 32 << 20
const FAIR_SHARE = 16 << 10

/** What a helper is given in a call, and what it asked for in the last one. */
export const context = new Context()
/** The last call took too long: endIfSlow() cuts the helper off, once what it asked for is done. */
let isSlow = false

/**
 * Lets the helper, if it was not cut off, read the pending bytes; false if it says that the packet is to be dropped.
 */
export function read(helped: HelpedConnection, direction: Direction): boolean {
  const stream = helped.streams[direction]
  const text = stream.pendingText
  if (text !== '' && helped.helper !== undefined) {
    if (!call(helped, direction, text, stream.ended)) {
      stream.unread()
      endIfSlow(helped)
      return false
    }
    if (helped.helper !== undefined) take(helped, direction, text)
    endIfSlow(helped)
  }
  if (helped.helper === undefined) stream.acceptAll()
  return true
}

/** Does what the helper has asked for about the pending text. */
function take(helped: HelpedConnection, direction: Direction, text: string): void {
  const stream = helped.streams[direction]
  const { mangled, heldFrom, mustWait } = context
  helped.waits[direction] = mustWait
  const last = mangled.at(-1)
  const length = Math.max(heldFrom < 0 ? text.length : heldFrom, last === undefined ? 0 : last.at + last.length)
  counters[CELL.helperRewrites]! += mangled.length
  if (length > 0) {
    stream.accept(length, mangled)
    helped.midLine[direction] = text[length - 1] !== '\n'
  }
  if (context.isDone && !mustWait) cutOff(helped, 'done')
  else if (text.length - length > MOST_HELD) cutOff(helped, 'held-too-much')
  else if (keepsTooMuch(stream)) cutOff(helped, 'no-memory')
}

/** True if a stream's helper must be cut off: the stream keeps too much itself, or all streams together do. */
export const keepsTooMuch = ({ kept }: Stream): boolean =>
  kept > MOST_KEPT_OF_ONE || (bytesKept > MOST_KEPT && kept > FAIR_SHARE) || bytesKept > 2 * MOST_KEPT

/** Calls the helper with a text; false if the packet is to be dropped. What else it asked for is in the context. */
export function call(helped: HelpedConnection, direction: Direction, text: string, ended: boolean): boolean {
  const helper = helped.helper!
  const { row, state } = helped
  const isTcp = protocolOf(row) === ipv4.PROTO_TCP
  const room = isTcp ? roomForEdits(row, direction) : Number.MAX_SAFE_INTEGER
  context.begin({
    helper,
    row,
    direction,
    state,
    text,
    midLine: isTcp && helped.midLine[direction],
    ended,
    mostRewrites: room,
  })
  counters[CELL.helperCalls]! += 1
  isSlow = false
  beginCall(helper)
  let verdict: unknown
  enterHelper(helper.id, ENTRY.help)
  try {
    verdict = helper.helper.help(context)
  } catch (error) {
    if (!context.isAtWork) blame(helper, 'help()', error)
    leaveHelper()
    if (context.isAtWork) throw error
    return giveUp(helped, 'threw')
  }
  leaveHelper()
  if (context.isAtWork) throw new Error('a helper has caught what the shard failed of')
  isSlow = isOverBudget(helper)
  if (verdict === Verdict.Drop) for (const handle of context.made) withdraw(handle)
  else if (context.mustWait) for (const handle of context.retreat()) withdraw(handle)
  return verdict !== Verdict.Drop
}

/**
 * After a call, and after what it asked for is done: cuts off a helper that was slow once too often. Not while the
 * connection holds bytes: they may be an announcement, and would go out as they are. The next call decides anew.
 */
export function endIfSlow(helped: HelpedConnection): void {
  if (isSlow && !helped.streams[0].holds && !helped.streams[1].holds) cutOff(helped, 'slow')
}

/** The helper failed: takes back all that it did in this call, and cuts it off. */
function giveUp(helped: HelpedConnection, why: CutOff): boolean {
  for (const handle of context.made) withdraw(handle)
  context.mangled.length = 0
  cutOff(helped, why)
  return true
}
