// A helper's call: what it is given, what it may have done, and what becomes of it if it fails. What it did in a call
// counts when the call has ended well; expectations stand from the moment they are made, and are withdrawn otherwise.
// Owner: this thread.

import { protocolOf } from '../../conntrack/connections.shard.ts'
import { withdraw } from '../../conntrack/expectations.shard.ts'
import type { Direction } from '../../conntrack/terms.ts'
import { CELL, type CutOff } from '../../counters/counters.ts'
import { counters } from '../../counters/own-counters.shard.ts'
import { Context } from '../../helpers/context.shard.ts'
import { Verdict } from '../../helpers/helper.ts'
import { roomForEdits } from '../../nat/sequence-edits.shard.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import { bytesKept } from './byte-queue.ts'
import { beginCall, isOverBudget } from './call-budget.ts'
import { blame, cutOff, type HelpedConnection } from './helped-connections.ts'
import type { Stream } from './stream.ts'

/** Bytes of one stream that may be held for more to come. */
const MOST_HELD = 8192
/**
 * What one stream keeps for its receiver's acknowledgement at most; and all of the shard for whatever reason. With more
 * than that, those go that keep more than a control connection needs, so that nobody crowds out the others; with twice as
 * much, whoever comes.
 */
const MOST_KEPT_OF_ONE = 1 << 20
const MOST_KEPT = 32 << 20
const FAIR_SHARE = 16 << 10

/** What the helper asked for in its last call. */
export const context = new Context()
/** The last call was its helper's last one for the connection, once what it asked for is done: endIfSlow(). */
let isSlow = false

/** Lets the helper read what is pending, if there still is one; false if it says that the packet is to be dropped. */
export function read(helped: HelpedConnection, direction: Direction): boolean {
  const stream = helped.streams[direction as 0 | 1]
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

/** What the helper has decided of a text that is pending. */
function take(helped: HelpedConnection, direction: Direction, text: string): void {
  const stream = helped.streams[direction as 0 | 1]
  const { mangled, heldFrom, mustWait } = context
  helped.waits[direction as 0 | 1] = mustWait
  const last = mangled.at(-1)
  const length = Math.max(heldFrom < 0 ? text.length : heldFrom, last === undefined ? 0 : last.at + last.length)
  counters[CELL.helperRewrites]! += mangled.length
  if (length > 0) {
    stream.accept(length, mangled)
    helped.midLine[direction as 0 | 1] = text[length - 1] !== '\n'
  }
  if (context.isDone && !mustWait) cutOff(helped, 'done')
  else if (text.length - length > MOST_HELD) cutOff(helped, 'held-too-much')
  else if (keepsTooMuch(stream)) cutOff(helped, 'no-memory')
}

/** It has to go: for what it keeps itself, or because all together keep too much. */
export const keepsTooMuch = ({ kept }: Stream): boolean =>
  kept > MOST_KEPT_OF_ONE || (bytesKept > MOST_KEPT && kept > FAIR_SHARE) || bytesKept > 2 * MOST_KEPT

/** Calls the helper with a text; false: the packet is to be dropped. What else it asked for is in the context. */
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
    midLine: isTcp && helped.midLine[direction as 0 | 1],
    ended,
    mostRewrites: room,
  })
  counters[CELL.helperCalls]! += 1
  isSlow = false
  beginCall(helper)
  let verdict: unknown
  try {
    verdict = helper.helper.help(context)
  } catch (error) {
    if (context.isAtWork) throw error
    blame(helper, 'help()', error)
    return giveUp(helped, 'threw')
  }
  if (context.isAtWork) throw new Error('a helper has caught what the shard failed of')
  isSlow = isOverBudget(helper)
  if (verdict === Verdict.Drop) for (const handle of context.made) withdraw(handle)
  else if (context.mustWait) for (const handle of context.retreat()) withdraw(handle)
  return verdict !== Verdict.Drop
}

/**
 * After a call and what it asked for: a helper that was slow once too often is cut off. Not while the
 * connection holds anything: that may be an announcement, and would go out as it is. Its next call decides anew.
 */
export function endIfSlow(helped: HelpedConnection): void {
  if (isSlow && !helped.streams[0].holds && !helped.streams[1].holds) cutOff(helped, 'slow')
}

/** The helper failed: nothing that it did in this call stands. */
function giveUp(helped: HelpedConnection, why: CutOff): boolean {
  for (const handle of context.made) withdraw(handle)
  context.mangled.length = 0
  cutOff(helped, why)
  return true
}
