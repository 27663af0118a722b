// A helper's call: what it is given, and what becomes of what it asks for. Rewrites count only if the call ends well;
// expectations are in force from the moment they are made, and are withdrawn if it doesn't.
// Owner: this thread.

import { cold } from '../../conntrack/connections.shard.ts'
import { withdraw } from '../../conntrack/expectations.shard.ts'
import { ACCEPT, type Direction, type Verdict } from '../../conntrack/terms.ts'
import { CELL, type CutOff, type HelperReset } from '../../counters/counters.ts'
import { DROP } from '../../counters/drop-reasons.ts'
import { counters } from '../../counters/own-counters.shard.ts'
import { type Call, Context } from '../../helpers/context.shard.ts'
import { Verdict as HelperVerdict } from '../../helpers/helper.ts'
import { ENTRY } from '../../helpers/helper-list.ts'
import { enterHelper, leaveHelper } from '../../helpers/running-helper.shard.ts'
import type { Row } from '../../memory/brand.ts'
import { roomForEdits } from '../../nat/sequence-edits.shard.ts'
import { BLOCK_BYTES, bytesKept } from './byte-pool.ts'
import { beginCall, isOverBudget } from './call-budget.ts'
import { endByReset } from './endings.ts'
import { cutOff, forget, type HelpedConnection, isRead, type Reading } from './helped-connections.ts'
import { blame } from './helper-errors.ts'
import { FAIR_SHARE, MOST_HELD, MOST_KEPT, MOST_KEPT_OF_HOST, MOST_KEPT_OF_ONE } from './limits.ts'
import { mayNameAddress, namesAddress } from './named-address.ts'
import type { Replacement, Stream } from './stream.ts'
import { guardedAddress, isBinary, isGuarded, noteReadsLines, segmentNames, whyUnread } from './watch.ts'

const HELPER_VERDICT = DROP['helper-verdict']
const HELPER_FAILED = DROP['helper-failed']

/** What a helper is given in a call, and what it asked for in the last one. */
export const context = new Context()
/** The last call took too long: endIfSlow() cuts the helper off, once what it asked for is done. */
let isSlow = false

/**
 * Lets the helper, if it was not cut off, read the pending bytes. ACCEPT, or why the packet in hand is to be dropped:
 * the helper said so, or the connection was ended.
 */
export function read(helped: HelpedConnection, direction: Direction): Verdict {
  const stream = helped.streams[direction]
  const { row } = helped
  if (stream.hasPending && isRead(row)) {
    const { text } = stream
    if (!call(helped, direction, text, placeOf(helped, direction))) {
      stream.unread()
      endIfSlow(row, helped)
      return HELPER_VERDICT
    }
    if (isRead(row)) {
      const length = lengthTaken(text)
      const end = endOfHelp(stream, text.length - length)
      const why = failureIn(helped, direction, length, end)
      if (why !== undefined) {
        withdrawMade()
        if (why === end) cutOff(row, end)
        return fail(helped, direction, why)
      }
      take(helped, direction, text, length)
      if (end !== undefined) cutOff(row, end)
    }
    endIfSlow(row, helped)
  }
  return isRead(row) ? ACCEPT : acceptUnread(helped, direction)
}

/** How much of the text goes on, or has gone on and is not read again. */
function lengthTaken(text: string): number {
  const last = context.mangled.at(-1)
  return Math.max(context.heldFrom < 0 ? text.length : context.heldFrom, last === undefined ? 0 : last.at + last.length)
}

/** Why the helper reads no more once what it has asked for is done, and so many characters are held; or undefined. */
function endOfHelp(stream: Stream, held: number): CutOff | undefined {
  const { isDone, mustWait, mangled } = context
  if (isDone && !mustWait) return 'done'
  if (held > MOST_HELD) return 'held-too-much'
  const growth = mangled.reduce((sum, { length, text }) => sum + text.length - length, 0)
  return keepsTooMuch(stream, growth) ? 'no-memory' : undefined
}

/**
 * Why something of the text would go on that was to be rewritten and is not; undefined if nothing would. `length`
 * characters go on by the helper's will, and the others too if it reads no more (`end`). Decided before anything of
 * the call is done: one that ends its connection leaves nothing behind.
 */
function failureIn(
  { row }: HelpedConnection,
  direction: Direction,
  length: number,
  end: CutOff | undefined,
): HelperReset | undefined {
  const address = guardedAddress(row, direction)
  if (address === 0) return undefined
  const { text, isTooLate, isRefused, undecidedFrom, mangled } = context
  if (isTooLate) return 'not-rewritten'
  const goesOn = text.slice(0, length)
  if (isRefused && namesAddress(without(goesOn, mangled), address, isBinary(row))) return 'not-expected'
  if (undecidedFrom >= 0 && mayNameAddress(text.slice(undecidedFrom), address, isBinary(row))) return 'sender-closed'
  const isUnread = end !== undefined && end !== 'done'
  return isUnread && mayNameAddress(text.slice(length), address, isBinary(row)) ? end : undefined
}

/** A text without the spans that are replaced. */
export function without(text: string, replaced: readonly Replacement[]): string {
  let left = ''
  let from = 0
  for (const { at, length } of replaced) {
    left += `${text.slice(from, at)}\0`
    from = at + length
  }
  return left + text.slice(from)
}

/** Does what the helper has asked for about the text, of which so many characters go on. */
function take(helped: HelpedConnection, direction: Direction, text: string, length: number): void {
  const { mangled, mustWait } = context
  helped.waits[direction] = mustWait
  counters[CELL.helperRewrites]! += mangled.length
  if (length === 0) return
  helped.streams[direction].accept(length, mangled)
  helped.midLine[direction] = text[length - 1] !== '\n'
}

/**
 * What is pending goes on as it is, because no helper reads it; unless it names the inside address that the helper was
 * to rewrite, or may be the beginning of that: then the connection is ended.
 */
export function acceptUnread(helped: HelpedConnection, direction: Direction): Verdict {
  const { row } = helped
  const stream = helped.streams[direction]
  if (stream.hasPending && isGuarded(row)) {
    const address = guardedAddress(row, direction)
    const { text } = stream
    // Of the bytes that were held when the helper was cut off nobody knows how they would have gone on.
    const wasHeld = address !== 0 && !helped.isDecided
    const isBegun = wasHeld && mayNameAddress(text, address, isBinary(row))
    if (address !== 0) helped.isDecided = true
    if (isBegun || segmentNames(row, direction, (stream.done - stream.gone) | 0, text))
      return fail(helped, direction, whyUnread(row))
  }
  stream.acceptAll()
  return ACCEPT
}

/** Ends the connection because of what is sent in `direction`. */
function fail(helped: HelpedConnection, direction: Direction, why: HelperReset): Verdict {
  const { row } = helped
  const stream = helped.streams[direction]
  endByReset(row, direction, stream.receiverTo(stream.done), why)
  cold.helper[row] = 0
  forget(helped)
  return HELPER_FAILED
}

/**
 * True if a stream's helper must be cut off: the stream keeps too much itself, or all streams of its inside host or of
 * the shard together do, once so many bytes more are kept.
 */
export function keepsTooMuch(stream: Stream, growth = 0): boolean {
  const kept = stream.kept + growth
  const all = bytesKept() + growth
  const ofHost = stream.share.blocks * BLOCK_BYTES + growth
  if (kept > MOST_KEPT_OF_ONE || ofHost > MOST_KEPT_OF_HOST) return true
  return (all > MOST_KEPT && kept > FAIR_SHARE) || all > 2 * MOST_KEPT
}

/** What the helper has made in this call is taken back: what announces it does not go on. */
export function withdrawMade(): void {
  for (const handle of context.made) withdraw(handle)
  context.made.length = 0
}

/** What a text is to the bytes around it. */
type Place = Pick<Call, 'gone' | 'ended' | 'midLine' | 'mostRewrites'>

/** A datagram: nothing of it has gone on, nothing follows. */
export const WHOLE: Place = { gone: 0, ended: true, midLine: false, mostRewrites: Number.MAX_SAFE_INTEGER }

const placeOf = ({ row, streams, midLine }: HelpedConnection, direction: Direction): Place => ({
  gone: streams[direction].gone,
  ended: streams[direction].ended,
  midLine: midLine[direction],
  mostRewrites: roomForEdits(row, direction),
})

/** Calls the helper with a text; false if the packet is to be dropped. What else it asked for is in the context. */
export function call({ row, helper, state }: Reading, direction: Direction, text: string, place: Place): boolean {
  if (helper === undefined) return true
  const { gone, ended, midLine, mostRewrites } = place
  context.begin({ helper, row, direction, state, text, gone, ended, midLine, mostRewrites })
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
    return giveUp(row, 'threw')
  }
  leaveHelper()
  if (context.isAtWork) throw new Error('a helper has caught what the shard failed of')
  isSlow = isOverBudget(helper)
  if (context.readsLines) noteReadsLines(row)
  if (verdict === HelperVerdict.Drop) withdrawMade()
  else if (context.mustWait) for (const handle of context.retreat()) withdraw(handle)
  return verdict !== HelperVerdict.Drop
}

/**
 * After a call, and after what it asked for is done: cuts off a helper that was slow once too often. Not while the
 * connection holds bytes: they may be an announcement, and would go out as they are. The next call decides anew.
 */
export function endIfSlow(row: Row, helped?: HelpedConnection): void {
  const holds = helped !== undefined && (helped.streams[0].holds || helped.streams[1].holds)
  if (isSlow && !holds) cutOff(row, 'slow')
}

/** The helper failed: takes back all that it did in this call, and cuts it off. */
function giveUp(row: Row, why: CutOff): boolean {
  withdrawMade()
  context.mangled.length = 0
  cutOff(row, why)
  return true
}
