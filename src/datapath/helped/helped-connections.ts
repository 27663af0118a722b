// The helped connections of this thread: what is kept of each beside its row, how help begins and how it ends
// (nf_conntrack_helper.c: __nf_ct_try_assign_helper, nf_ct_helper_destroy).
//
//   the connection is        the row                       beside it
//   made                     HELPED, number of its helper  nothing: a SYN costs no more than any other
//   opened by both its ends  the same                      nothing
//   sending data             the same                      state of its helper, two streams: MOST_HELPED of them
//   cut off                  HELPED as long as it is       the streams, until no edit waits for its acknowledgement
//                            guarded or edited
// A datagram needs no stream, so of a helper without a state nothing is kept of its connections.
// Owner: this thread; lost if it dies.

import {
  baseOf,
  CONN,
  CONN_SHIFT,
  ENDED_BY_RESET,
  GUARDED,
  HELPED,
  READS_LINES,
  UNREAD_MASK,
} from '../../conntrack/connection-table.ts'
import { cold, connections, hot, insideHostOf, protocolOf } from '../../conntrack/connections.shard.ts'
import { endMaster } from '../../conntrack/expectations.shard.ts'
import { HOST, type HostRow } from '../../conntrack/host-table.ts'
import { countIn, countUp, mayHave } from '../../conntrack/hosts.shard.ts'
import { acknowledgedBy, sentBy } from '../../conntrack/tcp-window.shard.ts'
import { type Direction, invertPorts, opposite } from '../../conntrack/terms.ts'
import { CELL, type CutOff, HELPER_CUT_OFFS } from '../../counters/counters.ts'
import { HOST_LIMIT } from '../../counters/host-limits.ts'
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
import type { HelperId, Row } from '../../memory/brand.ts'
import { onHelpedBegin, onHelpedEnd } from '../../nat/bindings.shard.ts'
import { editsInForce, forgetEdits, isEdited } from '../../nat/sequence-edits.shard.ts'
import { PROTO_TCP } from '../../wire/ipv4.ts'
import { fault } from '../fault-points.ts'
import type { Ingress } from '../packet/burst.ts'
import { attachBytePool } from './byte-pool.ts'
import type { ByteQueue } from './byte-queue.ts'
import { beginGoneAnew, forgetGone, segmentSizeOf } from './gone-bytes.shard.ts'
import { blame } from './helper-errors.ts'
import { attachHostShares, HostShare, piecesListed } from './host-share.ts'
import { MOST_HELPED } from './limits.ts'
import { GAP_BYTES, HELPED_BYTES, PIECE_BYTES } from './memory-bound.ts'
import { attachReceiverNext, forgetReceiverNext, gapsKept } from './receiver-next.ts'
import { Stream } from './stream.ts'
import { isGuarded, noteUnread, unguard } from './watch.ts'

const { state: STATE } = CONN
const HELPED_CONNECTIONS = HOST_LIMIT['helped-connections']

/** A connection that a helper reads, or that one has read. */
export interface Reading {
  readonly row: Row
  /** The helper that reads the connection; undefined once it was cut off. */
  helper: Registered | undefined
  readonly state: unknown
}

/** One of TCP, from its first data on; one that was cut off as long as sequence edits are not acknowledged. */
export interface HelpedConnection extends Reading {
  /** Of its inside host. */
  readonly share: HostShare
  /** By direction, as all pairs below. */
  readonly streams: readonly [Stream, Stream]
  /** The last accepted byte did not end a line. */
  readonly midLine: [boolean, boolean]
  /** The helper waits for a port, or for acknowledgements, before it reads the pending bytes again. */
  readonly waits: [boolean, boolean]
  /** The headers that held bytes go on after. */
  readonly headers: [KeptHeaders | undefined, KeptHeaders | undefined]
  /** What was held when the helper was cut off has been decided about. */
  isDecided: boolean
}

/** A packet's headers, as segments.ts packs them, and how it came. */
interface KeptHeaders {
  readonly packed: ByteQueue
  /** Where the TCP header begins, from the Ethernet header on. */
  readonly transport: number
  readonly ingress: Ingress
  readonly isHairpin: boolean
}

/** One of another protocol, whose helper has a state, and the row in which its inside host counts it. */
interface DatagramReading extends Reading {
  readonly host: HostRow
}

const helpedConnections = new Map<Row, HelpedConnection>()
const datagramReadings = new Map<Row, DatagramReading>()
/** The helped connections that hold bytes, or have bytes to let go. */
export const holding = new Set<HelpedConnection>()
/** A connection that holds bytes was cut off: they go on in this turn. */
export let mustRelease = false

export const released = (): void => {
  mustRelease = false
}

export function attachHelpedConnections(): void {
  helpedConnections.clear()
  datagramReadings.clear()
  holding.clear()
  mustRelease = false
  attachBytePool()
  attachHostShares()
  attachReceiverNext()
  onHelpedBegin(helpBits)
  onHelpedEnd(endHelp)
}

/**
 * Bytes of the thread's heap that natloom itself takes for connections that are helped or watched: twice what is in
 * use, because what has ended stays until the garbage collector runs.
 */
export const heapOfHelped = (): number =>
  2 * (readingsKept() * HELPED_BYTES + piecesListed() * PIECE_BYTES + gapsKept() * GAP_BYTES)

const readingsKept = (): number => helpedConnections.size + datagramReadings.size

export const helpedConnectionOf = (row: Row): HelpedConnection | undefined => helpedConnections.get(row)

/** A helper reads the connection, or will as soon as there is something to read. */
export const isRead = (row: Row): boolean => cold.helper[row] !== 0

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

/** A connection has begun, and its packets take the slow way if a helper is to read it: which one stands in its row. */
export function beginHelp(row: Row): void {
  if ((hot[(row << CONN_SHIFT) + STATE]! & HELPED) === 0) return
  const id = helperOf(row)
  if (helperById(id) === undefined) {
    noteUnread(row, 'unregistered')
    return
  }
  fault('help begun')
  cold.helper[row] = id
}

/**
 * A connection of TCP, opened by both its ends, sends its first data, which tracking has not noted yet: its helper
 * begins to read it. Undefined if that can't be; then it was cut off.
 */
export function beginReading(row: Row): HelpedConnection | undefined {
  const reading = newReading(row)
  if (reading === undefined) return undefined
  const share = new HostShare(countUp(insideHostOf(row), HOST.helped))
  const helped: HelpedConnection = {
    ...reading,
    share,
    streams: [streamOf(row, 0, share), streamOf(row, 1, share)],
    midLine: [false, false],
    waits: [false, false],
    headers: [undefined, undefined],
    isDecided: false,
  }
  helpedConnections.set(row, helped)
  counters[CELL.helped] = readingsKept()
  return helped
}

/** The stream of a direction in which nothing but a SYN was sent. */
function streamOf(row: Row, direction: Direction, share: HostShare): Stream {
  const base = baseOf(row)
  const other = opposite(direction)
  const first = sentBy(base, direction) ?? 0
  // Without any acknowledgement so far that of the other end's SYN is news.
  const acknowledged = acknowledgedBy(base, direction) ?? ((sentBy(base, other) ?? 0) - 1) | 0
  return new Stream(row, direction, { first, acknowledged, mss: segmentSizeOf(row, direction), share })
}

/** What a helper knows of a connection that is not of TCP; undefined if none reads it. */
export function datagramReadingOf(row: Row): Reading | undefined {
  const known = datagramReadings.get(row)
  if (known !== undefined || !isRead(row)) return known
  const hasState = helperById(cold.helper[row]!)?.helper.state !== undefined
  if (!hasState) return { row, helper: helperById(cold.helper[row]!), state: undefined }
  const reading = newReading(row)
  if (reading === undefined) return undefined
  datagramReadings.set(row, { ...reading, host: countUp(insideHostOf(row), HOST.helped) })
  counters[CELL.helped] = readingsKept()
  return reading
}

/** The helper's state of a connection is made, if there is room for one more; undefined if it was cut off. */
function newReading(row: Row): Reading | undefined {
  const helper = helperById(cold.helper[row]!)
  const refused = refusalOf(row, helper)
  if (helper === undefined || refused !== undefined) {
    cutOff(row, refused ?? 'unregistered')
    return undefined
  }
  enterHelper(helper.id, ENTRY.state)
  let state: unknown
  try {
    state = helper.helper.state?.()
  } catch (error) {
    blame(helper, 'state()', error)
    cutOff(row, 'threw')
    return undefined
  } finally {
    leaveHelper()
  }
  return { row, helper, state }
}

function refusalOf(row: Row, helper: Registered | undefined): CutOff | undefined {
  if (helper === undefined) return 'unregistered'
  if (readingsKept() >= MOST_HELPED) return 'too-many'
  return mayHave(insideHostOf(row), HELPED_CONNECTIONS, HOST.helped) ? undefined : 'host-limit'
}

function endHelp(row: Row): void {
  endMaster(row, hot[(row << CONN_SHIFT) + CONN.generation]!)
  forgetEdits(row)
  forgetGone(row)
  forgetReceiverNext(row)
  const helped = helpedConnections.get(row)
  if (helped) forget(helped)
  forgetDatagrams(row)
}

function forgetDatagrams(row: Row): void {
  const reading = datagramReadings.get(row)
  if (reading === undefined) return
  datagramReadings.delete(row)
  countIn(reading.host, HOST.helped, -1)
  counters[CELL.helped] = readingsKept()
}

/** A new connection has taken the row over: help begins as with any other. */
export function restartHelp(row: Row): void {
  named = cold.helper[row]!
  endHelp(row)
  beginGoneAnew(row)
  cold.helper[row] = 0
  const base = row << CONN_SHIFT
  const ofTheOld = HELPED | GUARDED | READS_LINES | ENDED_BY_RESET | UNREAD_MASK
  hot[base + STATE] = (hot[base + STATE]! & ~ofTheOld) | helpBits(row)
  beginHelp(row)
  named = 0
}

/** Nothing is held in this direction any more. */
export function dropHeaders({ headers }: HelpedConnection, direction: Direction): void {
  headers[direction]?.packed.clear()
  headers[direction] = undefined
}

/** What is kept of it beside its row. A watch goes on, and sequence numbers are adjusted as long as there are edits. */
export function forget(helped: HelpedConnection): void {
  for (const direction of [0, 1] as const) {
    helped.streams[direction].clear()
    dropHeaders(helped, direction)
  }
  if (helpedConnections.get(helped.row) === helped) {
    helpedConnections.delete(helped.row)
    countIn(helped.share.row, HOST.helped, -1)
  }
  holding.delete(helped)
  counters[CELL.helped] = readingsKept()
}

/** Connections that this helper reads go on without it, and it is gone. */
export function detachHelper(id: HelperId): void {
  for (let row = 1; row <= connections.highest; row++)
    if (connections.isLive(row) && cold.helper[row] === id) cutOff(row, 'unregistered')
  unregisterHelper(id)
}

/**
 * The connection goes on without its helper. What becomes of the bytes that it holds, and of all that its inside end
 * sends from now on, is decided where they would go on (helper-call.ts: acceptUnread; watch.ts).
 */
export function cutOff(row: Row, why: CutOff): void {
  if (!isRead(row)) return
  cold.helper[row] = 0
  countCutOff(why)
  if (why === 'done') {
    unguard(row)
    forgetReceiverNext(row)
  } else if (isGuarded(row)) noteUnread(row, why)
  if (protocolOf(row) === PROTO_TCP) endReading(row)
  else forgetDatagrams(row)
}

/** The helper of a connection of TCP was cut off: what it holds is let go by releaseHeld(), after the burst. */
function endReading(row: Row): void {
  const helped = helpedConnections.get(row)
  if (helped === undefined) return
  helped.helper = undefined
  // So that no packet in hand is disturbed.
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
