// Segments of helped connections that go on: the segment in hand with its numbers adjusted; or new ones after its
// headers where the payload is not what came: rewritten, completed by held bytes, or more than one segment can carry.
//
// A new segment has a checksum of its own, unless the link will compute it (virtio-net's NEEDS_CHECKSUM stays, with the
// sum of the new pseudo-header); a super-packet stays one if it still is more than a segment. Owner: this thread.

import { isBelieved } from '../../conntrack/tcp.shard.ts'
import type { Verdict } from '../../conntrack/terms.ts'
import { ACCEPT, directionOf, HANDED_OVER, opposite, rowOf } from '../../conntrack/terms.ts'
import { DROP } from '../../counters/drop-reasons.ts'
import { toReceiver, toSender, UP } from '../../nat/sequence-edits.shard.ts'
import * as checksum from '../../wire/checksum.ts'
import * as ethernet from '../../wire/ethernet.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import * as tcp from '../../wire/tcp.ts'
import * as virtio from '../../wire/virtio-net.ts'
import { leave } from '../egress/leave.ts'
import { ROUTE_MTU, routeCache } from '../egress/route-cache.ts'
import { NOT_LENT } from '../handover/handover-rings.ts'
import { AT, END, FLOW, HAIRPIN_LINE, IP, KIND, L4, LENGTH, LINE, REF, TOKEN } from '../packet/burst.ts'
import { bytes, copyBytes, mem, scratchFrame } from '../packet/packet-memory.ts'
import type { ByteQueue } from './byte-queue.ts'
import { noteAcknowledged, noteSent } from './receiver-next.ts'
import type { Stream } from './stream.ts'

const OUT_OF_SCRATCH = DROP['out-of-scratch']
const MOST_IP = 65535
/**
 * Bytes of a segment where the receiver has announced fewer: every host takes as many (RFC 9293 3.7.1, RFC 1122
 * 4.2.2.6), and what announces less only wants its sender to work (Linux: net.ipv4.tcp_min_snd_mss). Options count.
 */
const SMALLEST_MSS = 536
/** Segments that one packet becomes, at most: if the link takes too little, they are longer, and leave in fragments. */
const MOST_SEGMENTS = 64

/**
 * Adjusts what packet i acknowledges of the other direction: the number, and the SACK blocks (RFC 2018). Notes what its
 * sender has, in its own numbering, if that can be believed.
 */
export function adjustAcknowledgement(i: number): void {
  const row = rowOf(REF[i]!)
  const acknowledged = opposite(directionOf(REF[i]!))
  const at = L4[i]!
  const partial = virtio.needsChecksum(mem, AT[i]!)
  const ack = tcp.ack(mem, at)
  if (isBelieved()) noteAcknowledged(row, acknowledged, ack)
  const adjusted = toSender(row, acknowledged, ack)
  if (adjusted !== ack) tcp.changeAck(mem, at, adjusted, partial)
  if (tcp.headerLen(mem, at) === tcp.MIN_HEADER_LEN) return
  const option = tcp.findOption(mem, at, tcp.OPTION_SACK)
  if (option === 0) return
  const blocks = tcp.sackBlocks(mem, option)
  for (let b = 0; b < blocks; b++) {
    const block = tcp.sackBlock(option, b)
    const left = tcp.sackLeft(mem, block)
    const right = tcp.sackRight(mem, block)
    const from = toSender(row, acknowledged, left, UP)
    const to = toSender(row, acknowledged, right)
    // A block within a replacement says nothing about the sender's bytes: it becomes an empty block, which says
    // nothing.
    const empty = ((to - from) | 0) < 0
    if (from === left && to === right) continue
    tcp.changeSackLeft(mem, at, block, empty ? to : from, partial)
    tcp.changeSackRight(mem, at, block, to, partial)
  }
}

/** Lets packet i go on as it is, its sequence number adjusted. */
export function passOn(i: number): Verdict {
  const at = L4[i]!
  const row = rowOf(REF[i]!)
  const direction = directionOf(REF[i]!)
  const seq = tcp.seq(mem, at)
  const adjusted = toReceiver(row, direction, seq)
  if (adjusted !== seq) tcp.changeSeq(mem, at, adjusted, virtio.needsChecksum(mem, AT[i]!))
  const flags = tcp.flags(mem, at)
  const length = END[i]! - at - tcp.headerLen(mem, at)
  const verdict = leave(i)
  if (hasGone(verdict) && isBelieved() && (flags & (tcp.RST | tcp.SYN)) === 0)
    noteSent(row, direction, adjusted, (adjusted + length + ((flags & tcp.FIN) === 0 ? 0 : 1)) | 0)
  return verdict
}

const hasGone = (verdict: Verdict): boolean => verdict === ACCEPT || verdict === HANDED_OVER

type Sent = Pick<Stream, 'mss' | 'copyAccepted'>
const NOTHING: Sent = { mss: SMALLEST_MSS, copyAccepted: () => {} }

/** Sends packet i's headers with this number, and no payload. */
export const sendWithoutBytes = (i: number, number: number): Verdict => sendAccepted(i, NOTHING, number, number, false)

/**
 * Sends the stream's accepted bytes [from, to), in the receiver's numbering, after packet i's headers: in as many
 * segments as it takes, or in one without payload if `from` equals `to`. `fin`: the last of them ends the stream.
 */
export function sendAccepted(i: number, stream: Sent, from: number, to: number, fin: boolean): Verdict {
  const template = AT[i]!
  const ref = REF[i]!
  const ip = IP[i]! - template
  const transport = L4[i]! - template
  const headers = transport + tcp.headerLen(mem, L4[i]!)
  const flags = tcp.flags(mem, L4[i]!) & ~(tcp.FIN | tcp.PSH | tcp.URG)
  const push = tcp.flags(mem, L4[i]!) & tcp.PSH
  const fewest = Math.ceil(((to - from) | 0) / MOST_SEGMENTS)
  const room = Math.max(1, fewest, segmentRoom(i, headers, transport, stream.mss))
  let verdict: Verdict = ACCEPT
  let sent = from
  let number = 0
  do {
    const length = Math.min(room, (to - sent) | 0)
    const frame = scratchFrame(headers + length)
    if (frame < 0) return OUT_OF_SCRATCH
    const isLast = sent + length === to || length === ((to - sent) | 0)
    copyBytes(template - virtio.HEADER_LEN, frame - virtio.HEADER_LEN, virtio.HEADER_LEN + headers)
    stream.copyAccepted(bytes, frame + headers, sent, length)
    const segment = frame + transport
    ipv4.setTotalLength(mem, frame + ip, headers - ip + length)
    ipv4.setId(mem, frame + ip, (ipv4.id(mem, frame + ip) + number) & 0xffff)
    ipv4.writeChecksum(mem, frame + ip)
    tcp.setSeq(mem, segment, sent)
    tcp.setUrgent(mem, segment, 0)
    tcp.setFlags(mem, segment, flags | (isLast ? push | (fin ? tcp.FIN : 0) : 0))
    finish(frame, ip, transport, length)
    describe(i, frame, ip, transport, headers + length)
    verdict = leave(i)
    if (!hasGone(verdict)) return verdict
    noteSent(rowOf(ref), directionOf(ref), sent, (sent + length + (isLast && fin ? 1 : 0)) | 0)
    sent = (sent + length) | 0
    number++
  } while (sent !== to)
  return verdict
}

/** Payload that one frame may have: of a super-packet all that IPv4 allows, else what receiver and link take. */
function segmentRoom(i: number, headers: number, transport: number, mss: number): number {
  const line = LINE[i]!
  const isSuper = (virtio.gsoType(mem, AT[i]!) & ~virtio.GSO_ECN) === virtio.GSO_TCPV4
  if (isSuper && line !== HAIRPIN_LINE) return MOST_IP - (headers - ethernet.HEADER_LEN)
  const options = headers - transport - tcp.MIN_HEADER_LEN
  const receiver = Math.max(SMALLEST_MSS, mss) - options
  const link = routeCache[line + ROUTE_MTU]! - (headers - ethernet.HEADER_LEN)
  return line === HAIRPIN_LINE ? receiver : Math.min(receiver, link)
}

/** Writes a new segment's checksum, and what its virtio-net header says of it. */
function finish(frame: number, ip: number, transport: number, payload: number): void {
  const partial = virtio.needsChecksum(mem, frame)
  if (virtio.gsoType(mem, frame) !== virtio.GSO_NONE) {
    const size = segmentSize(virtio.gsoSize(mem, frame), payload, tcp.headerLen(mem, frame + transport))
    if (payload <= size) virtio.setGsoType(mem, frame, virtio.GSO_NONE)
    virtio.setGsoSize(mem, frame, payload <= size ? 0 : size)
  }
  if (!partial) {
    virtio.clear(mem, frame)
    checksum.writeTransportChecksum(mem, frame + ip)
    return
  }
  const length = ipv4.totalLength(mem, frame + ip) - (transport - ip)
  const [src, dst] = [ipv4.src(mem, frame + ip), ipv4.dst(mem, frame + ip)]
  tcp.setChecksum(mem, frame + transport, checksum.pseudoHeader(src, dst, ipv4.PROTO_TCP, length))
}

/**
 * Bytes of a super-packet's segments: as many as those had that it was merged of. If they were small, a text that has
 * grown is not cut into as small ones.
 */
function segmentSize(merged: number, payload: number, headerLength: number): number {
  const smallest = SMALLEST_MSS - (headerLength - tcp.MIN_HEADER_LEN)
  return merged >= smallest ? merged : Math.max(smallest, Math.ceil(payload / MOST_SEGMENTS))
}

/** Packet i of the burst is this frame from now on. */
function describe(i: number, frame: number, ip: number, transport: number, length: number): void {
  AT[i] = frame
  LENGTH[i] = length
  IP[i] = frame + ip
  L4[i] = frame + transport
  END[i] = frame + length
  KIND[i] = FLOW
}

/** Makes packet `i` out of a kept frame's bytes, virtio-net header first; false without room. */
export function unpack(i: number, kept: ByteQueue, transport: number): boolean {
  const frame = scratchFrame(kept.length - virtio.HEADER_LEN)
  if (frame < 0) return false
  kept.copyTo(bytes, frame - virtio.HEADER_LEN, 0, kept.length)
  describe(i, frame, ethernet.HEADER_LEN, transport, kept.length - virtio.HEADER_LEN)
  TOKEN[i] = NOT_LENT
  return true
}

const NO_OFFLOADS = new Uint8Array(virtio.HEADER_LEN)

/** Adds packet i's headers, as unpack() takes them, without offloads in its virtio-net header. */
export function pack(i: number, kept: ByteQueue): void {
  const at = AT[i]!
  kept.add(NO_OFFLOADS, 0, NO_OFFLOADS.length)
  kept.add(bytes, at, L4[i]! + tcp.headerLen(mem, L4[i]!) - at)
}
