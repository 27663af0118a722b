// The helped connections of this thread: what is kept of each beside its row, how help begins and how it ends
// (nf_conntrack_helper.c: __nf_ct_try_assign_helper, nf_ct_helper_destroy). Owner: this thread; lost if it dies.

import { CONN, CONN_SHIFT, GUARDED, HELPED } from '../../conntrack/connection-table.ts'
import { cold, connections, hot, protocolOf } from '../../conntrack/connections.shard.ts'
import { endMaster } from '../../conntrack/expectations.shard.ts'
import { invertPorts } from '../../conntrack/terms.ts'
import { CELL, type CutOff, HELPER_CUT_OFFS } from '../../counters/counters.ts'
import { counters } from '../../counters/own-counters.shard.ts'
import { ENTRY } from '../../helpers/helper-list.ts'
import {
  findHelper,
  helperById,
  isUnavailable,
  type Registered,
  unregisterHelper,
} from '../../helpers/registry.shard.ts'
import { enterHelper, leaveHelper } from '../../helpers/running-helper.shard.ts'
import type { Row } from '../../memory/brand.ts'
import { onHelpedBegin, onHelpedEnd } from '../../nat/bindings.shard.ts'
import { editsInForce, forgetEdits, isEdited } from '../../nat/sequence-edits.shard.ts'
import { fault } from '../fault-points.ts'
import type { Ingress } from '../packet/burst.ts'
import { beginGoneAnew, forgetGone } from './gone-bytes.shard.ts'
import { blame } from './helper-errors.ts'
import { attachReceiverNext, forgetReceiverNext, heapOfReceiverNext } from './receiver-next.ts'
import { Stream } from './stream.ts'
import { attachWatches, beginWatch, endWatch, heapOfWatches, isGuarded, unguard } from './watch.ts'

const { state: STATE } = CONN

/** What one takes of the heap when each of its queues has been used (test/datapath/helped/heap.test.ts measures it). */
const CONNECTION_BYTES = 3072

/** A connection that a helper reads, or that one has read, as long as sequence edits are not acknowledged. */
export interface HelpedConnection {
  readonly row: Row
  /** The helper that reads the connection; undefined once it was cut off. */
  helper: Registered | undefined
  readonly state: unknown
  /** By direction, as all pairs below. */
  readonly streams: readonly [Stream, Stream]
  /** The last accepted byte did not end a line. */
  readonly midLine: [boolean, boolean]
  /** The helper waits for a port, or for acknowledgements, before it reads the pending bytes again. */
  readonly waits: [boolean, boolean]
  /** The headers that held bytes go on after. */
  readonly headers: [KeptHeaders | undefined, KeptHeaders | undefined]
}

/** A packet's headers, as segments.ts packs them, and how it came. */
export interface KeptHeaders {
  readonly packed: Uint8Array
  /** Where the TCP header begins, from the Ethernet header on. */
  readonly transport: number
  readonly ingress: Ingress
  readonly isHairpin: boolean
}

const helpedConnections = new Map<number, HelpedConnection>()
/** The helped connections that hold bytes, or have bytes to let go. */
export const holding = new Set<HelpedConnection>()
/** A connection that holds bytes was cut off: they go on in this turn. */
export let mustRelease = false

export const released = (): void => {
  mustRelease = false
}

export function attachHelpedConnections(): void {
  helpedConnections.clear()
  holding.clear()
  mustRelease = false
  attachWatches()
  attachReceiverNext()
  onHelpedBegin(helpBits)
  onHelpedEnd(endHelp)
}

/**
 * Bytes of the thread's heap that natloom itself takes for connections that are helped or watched: twice what is in
 * use, because what has ended stays until the garbage collector runs. It costs a loop over all of them.
 */
export function heapOfHelped(): number {
  let bytes = helpedConnections.size * CONNECTION_BYTES + heapOfWatches() + heapOfReceiverNext()
  for (const { streams } of helpedConnections.values()) bytes += streams[0].heapBytes + streams[1].heapBytes
  return 2 * bytes
}

export const helpedConnectionOf = (row: Row): HelpedConnection | undefined => helpedConnections.get(row)

/** The helper that the expectation of the connection which is being made names; 0 for none. */
let named = 0

/** Makes the row of a connection whose expectation names this helper; 0 as `make` returns it. */
export function makeNamed(helper: number, make: () => Row): Row {
  named = helper
  const row = make()
  if (row !== 0) beginHelp(row)
  named = 0
  return row
}

/** Its number: the one that its expectation names, else the one that its tuple is bound to; or 0. */
function helperOf(row: Row): number {
  if (named !== 0) return named
  const base = row << CONN_SHIFT
  const ports = invertPorts(hot[base + CONN.replyPorts]!)
  return findHelper(protocolOf(row), hot[base + CONN.replyDst]!, hot[base + CONN.replySrc]!, ports)
}

/** Bits that a row is confirmed with. If the thread ends in the helper's code, it is never offered to one again. */
function helpBits(row: Row): number {
  const id = helperOf(row)
  if (id === 0) return 0
  const helper = helperById(id)
  if (helper === undefined) return isUnavailable(id) ? HELPED | GUARDED : 0
  return helper.onFailure === 'pass' ? HELPED : HELPED | GUARDED
}

/** A connection has begun, and its packets take the slow way if a helper should read it: that helper reads it. */
export function beginHelp(row: Row): void {
  if ((hot[(row << CONN_SHIFT) + STATE]! & HELPED) === 0) return
  const id = helperOf(row)
  const helper = helperById(id)
  if (helper === undefined) {
    beginWatch(row, 'unregistered')
    return
  }
  fault('help begun')
  let state: unknown
  enterHelper(id, ENTRY.state)
  try {
    state = helper.helper.state?.()
  } catch (error) {
    blame(helper, 'state()', error)
    leaveHelper()
    countCutOff('threw')
    if (helper.onFailure === 'pass') hot[(row << CONN_SHIFT) + STATE]! &= ~HELPED
    else beginWatch(row, 'threw')
    return
  }
  leaveHelper()
  cold.helper[row] = id
  helpedConnections.set(row, {
    row,
    helper,
    state,
    streams: [new Stream(row, 0), new Stream(row, 1)],
    midLine: [false, false],
    waits: [false, false],
    headers: [undefined, undefined],
  })
  counters[CELL.helped] = helpedConnections.size
}

function endHelp(row: Row): void {
  endMaster(row, hot[(row << CONN_SHIFT) + CONN.generation]!)
  forgetEdits(row)
  endWatch(row)
  forgetGone(row)
  forgetReceiverNext(row)
  const helped = helpedConnections.get(row)
  if (helped) forget(helped)
}

/** A new connection has taken the row over: help begins as with any other. */
export function restartHelp(row: Row): void {
  named = cold.helper[row]!
  endHelp(row)
  beginGoneAnew(row)
  cold.helper[row] = 0
  const base = row << CONN_SHIFT
  hot[base + STATE] = (hot[base + STATE]! & ~(HELPED | GUARDED)) | helpBits(row)
  beginHelp(row)
  named = 0
}

/** What is kept of it beside its row. A watch goes on, and sequence numbers are adjusted as long as there are edits. */
export function forget(helped: HelpedConnection): void {
  for (const stream of helped.streams) stream.clear()
  if (helpedConnections.get(helped.row) === helped) helpedConnections.delete(helped.row)
  holding.delete(helped)
  counters[CELL.helped] = helpedConnections.size
}

/** Connections that this helper reads go on without it, and it is gone. */
export function detachHelper(id: number): void {
  for (const helped of helpedConnections.values()) if (helped.helper?.id === id) cutOff(helped, 'unregistered')
  for (let row = 1; row <= connections.highest; row++)
    if (connections.isLive(row) && cold.helper[row] === id) cold.helper[row] = 0
  unregisterHelper(id)
}

/**
 * The connection goes on without its helper. What becomes of the bytes that it holds, and of all that its inside end
 * sends from now on, is decided where they would go on (helper-call.ts: acceptUnread; watch.ts).
 */
export function cutOff(helped: HelpedConnection, why: CutOff): void {
  if (helped.helper === undefined) return
  helped.helper = undefined
  cold.helper[helped.row] = 0
  countCutOff(why)
  if (why === 'done') {
    unguard(helped.row)
    forgetReceiverNext(helped.row)
  } else if (isGuarded(helped.row)) beginWatch(helped.row, why)
  // Sent by releaseHeld(): after the burst, so that no packet in hand is disturbed.
  if (helped.streams[0].holds || helped.streams[1].holds) {
    holding.add(helped)
    mustRelease = true
  }
}

export function countCutOff(why: CutOff): void {
  counters[CELL.helperCutOffs + HELPER_CUT_OFFS.indexOf(why)]! += 1
}

/** For a connection that was cut off and holds nothing: forgets its streams, if all edits are acknowledged. */
export function endHelpIfDone(helped: HelpedConnection): void {
  if (editsInForce(helped.row, 0) > 0 || editsInForce(helped.row, 1) > 0) return
  forget(helped)
  if (!isEdited(helped.row) && !isGuarded(helped.row)) hot[(helped.row << CONN_SHIFT) + STATE]! &= ~HELPED
}
