// Pieces of datagrams that pass through (RFC 4787 REQ-14). The first shows the ports: it goes on as a packet of its
// flow. The others follow it, by the datagram's record; those that come before it wait, copied out, and go on after it
// in the order they came. They all leave with one identification, which is natloom's (packet/identification.ts).
//
// The shard where a datagram's fragments come together keeps the record, also if another one has the flow: what it
// hands over then brings ports and identification along, and is not asked about here again. Owner: this thread.

import { findConnection } from '../conntrack/connections.shard.ts'
import { packetsWanted } from '../conntrack/events.shard.ts'
import type { Verdict } from '../conntrack/terms.ts'
import { ACCEPT, HANDED_OVER, hashTuple, keyWord, NOT_OURS, protocolIn, QUEUED, rowOf } from '../conntrack/terms.ts'
import { hasExpired } from '../conntrack/track.shard.ts'
import { DROP } from '../counters/drop-reasons.ts'
import type { Row } from '../memory/brand.ts'
import type { Ports } from '../wire/address.ts'
import * as ethernet from '../wire/ethernet.ts'
import * as ipv4 from '../wire/ipv4.ts'
import * as tcp from '../wire/tcp.ts'
import { verdictOnAddresses, verdictOnStrayFragment } from './admit.ts'
import { isMartian } from './egress/source-validation.ts'
import { forward } from './forward.ts'
import { BY_FRAGMENT, BY_KNOWN_FRAGMENT, handOver } from './handover/handover.ts'
import { NOT_LENT } from './handover/handover-rings.ts'
import { otherFragmentOwner, otherOwner } from './handover/packet-owner.ts'
import {
  AT,
  DST,
  END,
  FIRST_FRAGMENT,
  FLOW,
  FRAGMENT,
  HAIRPIN,
  HASH,
  ICMP_ERROR,
  IDENTIFICATION,
  IP,
  ingress,
  KEY,
  KIND,
  L4,
  LATER_FRAGMENT,
  LENGTH,
  PORTS,
  PORTS_KNOWN,
  REF,
  RELEASED,
  SRC,
  side,
  TOKEN,
  UNCHOSEN,
} from './packet/burst.ts'
import { countVerdict } from './packet/counting.ts'
import { addPiece, examinePiece, isComplete, readPiece } from './packet/fragment-coverage.ts'
import { COMPLETE, DROPPED, KERNELS, UNKNOWN } from './packet/fragment-fates.ts'
import * as fragments from './packet/fragment-table.ts'
import { identificationOf } from './packet/identification.ts'
import { mem } from './packet/packet-memory.ts'
import { parseTransport } from './packet/parse.ts'
import { NO_PIECE, pieceAfter, pieceAt, pieceLength } from './packet/waiting-fragments.ts'
import { notePacket, reportPacket } from './packet-events.ts'

const DUPLICATE = DROP['fragment-duplicate']
const ORPHAN = DROP['fragment-orphan']
const OVERLAP = DROP['fragment-overlap']
const TABLE_FULL = DROP['fragment-table-full']
const ICMP_EMBEDDED = DROP['icmp-embedded']

/** The record whose first fragment has just gone on, and whose later ones have waited for that; 0 if there is none. */
export let toRelease: Row = 0

/** Packet i, a fragment as it has come; `flow` settles a first fragment as a packet of its flow. */
export function settleFragment(i: number, flow: (i: number) => Verdict): Verdict {
  const elsewhere = otherFragmentOwner(i)
  if (elsewhere >= 0) return handOver(i, elsewhere, side, ingress & HAIRPIN, BY_FRAGMENT)
  const begin = readPiece(i)
  // Only a forger begins a fragment inside the transport header (RFC 3128), which the first one had to hold whole.
  if (begin > 0 && begin << 3 < tcp.MIN_HEADER_LEN && protocolIn(KEY[i]!) === ipv4.PROTO_TCP) return OVERLAP
  const record = fragments.findRecord(i)
  if (record === 0) return begin === 0 ? firstFragment(i, 0, flow) : withoutFirst(i)
  if (begin === 0 && fragments.isStale(record)) {
    fragments.endRecord(record, ORPHAN)
    return firstFragment(i, 0, flow)
  }
  const fault = fragments.hasEnded(record) ? OVERLAP : examinePiece(record)
  if (fault === OVERLAP && !fragments.hasEnded(record)) fragments.giveUpRecord(record, OVERLAP)
  if (fault !== ACCEPT) return fault
  if (begin === 0) return firstFragment(i, record, flow)
  if (fragments.isWaiting(record)) return fragments.waitForFirst(record, i) ? QUEUED : TABLE_FULL
  const verdict = follow(i, record)
  if (verdict < 0) addPiece(record)
  endIfComplete(record)
  return verdict
}

/** The first fragment shows the ports. `record`: of those that wait for it, 0 if none do. */
function firstFragment(i: number, record: Row, flow: (i: number) => Verdict): Verdict {
  const kind = parseTransport(i, protocolIn(KEY[i]!), false)
  if (kind !== FLOW) return refuse(record, kind === ICMP_ERROR ? ICMP_EMBEDDED : (kind as Verdict))
  const ports = PORTS[i]!
  KIND[i] = FIRST_FRAGMENT
  HASH[i] = hashTuple(KEY[i]!, SRC[i]!, DST[i]!, ports)
  IDENTIFICATION[i] = UNCHOSEN
  // Asked before flow(), which hands a hairpin's second half over with other ports: the first half, and with it the
  // later fragments, stays this shard's.
  const owner = otherOwner(i)
  const verdict = flow(i)
  if (verdict >= 0 || verdict === NOT_OURS) return refuse(record, verdict)
  // Before its source is looked at, it has gone to the shard of its flow: no forged one counts for a host here.
  const isHosts = record !== 0 || verdict !== HANDED_OVER || !isMartian(i)
  const its = record !== 0 ? record : isHosts ? fragments.beginRecord() : 0
  if (its === 0) {
    fragments.setFate(DROPPED)
    return verdict
  }
  addPiece(its)
  fragments.passRecord(its, ports, verdict === HANDED_OVER ? owner : -1, identificationOf(i))
  if (fragments.firstPieceOf(its) !== NO_PIECE) toRelease = its
  return verdict
}

/** The first fragment doesn't go on: nor do the others, and nothing is kept of the datagram but this. */
function refuse(record: Row, verdict: Verdict): Verdict {
  fragments.setFate(verdict === NOT_OURS ? KERNELS : DROPPED)
  if (record !== 0) fragments.endRecord(record, verdict === NOT_OURS ? NOT_OURS : ORPHAN)
  return verdict
}

/** A later fragment of a datagram that has no record: it waits, if its first fragment may still come. */
function withoutFirst(i: number): Verdict {
  const fate = fragments.fate()
  if (fate !== UNKNOWN) return fate === KERNELS ? NOT_OURS : fate === COMPLETE ? DUPLICATE : ORPHAN
  const verdict = verdictOnAddresses(i)
  if (verdict !== ACCEPT) return verdict
  const record = fragments.beginRecord()
  if (record === 0) return TABLE_FULL
  if (fragments.waitForFirst(record, i)) return QUEUED
  fragments.endRecord(record, TABLE_FULL)
  return TABLE_FULL
}

/** A later fragment goes where the first one went. */
function follow(i: number, record: Row): Verdict {
  const ports: Ports = fragments.portsOf(record)
  const owner = fragments.ownerOfRecord(record)
  PORTS[i] = ports
  IDENTIFICATION[i] = fragments.identificationOfRecord(record)
  KIND[i] = LATER_FRAGMENT
  if (owner >= 0) return handOver(i, owner, side, (ingress & HAIRPIN) | PORTS_KNOWN, BY_KNOWN_FRAGMENT)
  HASH[i] = hashTuple(KEY[i]!, SRC[i]!, DST[i]!, ports)
  return laterFragment(i)
}

/**
 * A first fragment that was handed over to the owner of its flow. If it doesn't go on, the later ones that are handed
 * over don't either: the shard that has handed them over can't know.
 */
export function firstHandedOver(i: number, flow: (i: number) => Verdict): Verdict {
  // Before its identification is changed.
  fragments.nameDatagram(i)
  const verdict = flow(i)
  fragments.setFate(verdict === NOT_OURS ? KERNELS : verdict >= 0 ? DROPPED : UNKNOWN)
  return verdict
}

/** A later fragment that was handed over to the owner of its flow. */
export function laterHandedOver(i: number): Verdict {
  fragments.nameDatagram(i)
  const fate = fragments.fate()
  return fate === KERNELS ? NOT_OURS : fate === DROPPED ? ORPHAN : laterFragment(i)
}

/** A later fragment belongs to the connection that the first one has found or made; it can't make one. */
function laterFragment(i: number): Verdict {
  const ref = findConnection(KEY[i]!, SRC[i]!, DST[i]!, PORTS[i]!, HASH[i]!)
  if (ref === 0 || hasExpired(rowOf(ref))) return verdictOnStrayFragment(i)
  REF[i] = ref
  return forward(i)
}

function endIfComplete(record: Row): void {
  if (!isComplete(record)) return
  fragments.setFate(COMPLETE)
  fragments.endRecord(record, ORPHAN)
}

/**
 * What has waited for the first fragment that was settled last goes on, in the order it came; nothing of the burst in
 * hand comes in between.
 */
export function releaseWaiting(): void {
  const record = toRelease
  toRelease = 0
  const reportsPackets = packetsWanted()
  for (let piece = fragments.firstPieceOf(record); piece !== NO_PIECE; piece = pieceAfter(piece)) {
    layOut(piece)
    if (reportsPackets) notePacket(RELEASED)
    const verdict = follow(RELEASED, record)
    countVerdict(RELEASED, verdict)
    if (reportsPackets) reportPacket(RELEASED, verdict)
  }
  fragments.releasePieces(record)
  endIfComplete(record)
}

/** Makes a piece that has waited the packet in hand beside the burst. */
function layOut(piece: number): void {
  const at = pieceAt(piece)
  const ip = at + ethernet.HEADER_LEN
  AT[RELEASED] = at
  LENGTH[RELEASED] = pieceLength(piece)
  TOKEN[RELEASED] = NOT_LENT
  IP[RELEASED] = ip
  L4[RELEASED] = ip + ipv4.headerLen(mem, ip)
  END[RELEASED] = ip + ipv4.totalLength(mem, ip)
  SRC[RELEASED] = ipv4.src(mem, ip)
  DST[RELEASED] = ipv4.dst(mem, ip)
  KEY[RELEASED] = keyWord(ipv4.protocol(mem, ip), side)
  KIND[RELEASED] = FRAGMENT
}
