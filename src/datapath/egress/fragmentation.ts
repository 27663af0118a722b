// Packets larger than the next link takes (RFC 791 3.2, RFC 1191, RFC 4787 REQ-13): cut into fragments where that is
// allowed; a super-packet, which the link will cut into segments anyway, is measured by its segments and gets smaller
// ones. Owner: this thread.

import { OUTSIDE } from '../../conntrack/terms.ts'
import { CELL } from '../../counters/counters.ts'
import { counters } from '../../counters/own-counters.shard.ts'
import * as ethernet from '../../wire/ethernet.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import * as tcp from '../../wire/tcp.ts'
import * as udp from '../../wire/udp.ts'
import * as virtio from '../../wire/virtio-net.ts'
import { AT, END, FLOW, IP, KIND, L4, REF, type RouteLine } from '../packet/burst.ts'
import { identificationOfCut } from '../packet/identification.ts'
import { copyBytes, mem, scratchFrame } from '../packet/packet-memory.ts'
import { rememberIdentification } from './original-identifications.ts'
import { routePort } from './route-cache.ts'
import { sendTo, sideOf } from './transmit.ts'

/** The IP length that the link will see: of packet i, or of each of its segments. */
export function lengthOnLink(i: number): number {
  const whole = END[i]! - IP[i]!
  const type = virtio.gsoType(mem, AT[i]!) & ~virtio.GSO_ECN
  return type === virtio.GSO_NONE ? whole : Math.min(whole, headersOf(i) + virtio.gsoSize(mem, AT[i]!))
}

/** IP and transport header of a super-packet's segments. */
function headersOf(i: number): number {
  const ip = IP[i]!
  const transport = L4[i]!
  const isTcp = ipv4.protocol(mem, ip) === ipv4.PROTO_TCP
  return transport - ip + (isTcp ? tcp.headerLen(mem, transport) : udp.HEADER_LEN)
}

/**
 * Sends packet i, translated, in pieces of at most `mtu` bytes by a route. False if it can't be cut: a UDP super-packet
 * is one datagram a segment, whose number must stay; and headers alone may be longer than the MTU.
 */
export function sendSmaller(i: number, line: RouteLine, mtu: number): boolean {
  const at = AT[i]!
  const type = virtio.gsoType(mem, at) & ~virtio.GSO_ECN
  if (type === virtio.GSO_TCPV4) {
    const segment = mtu - headersOf(i)
    if (segment <= 0) return false
    virtio.setGsoSize(mem, at, segment)
    sendTo(line, at, END[i]! - at)
    return true
  }
  if (type !== virtio.GSO_NONE || !virtio.completeChecksum(mem, at, END[i]! - at)) return false
  return sendFragments(i, line, mtu)
}

function sendFragments(i: number, line: RouteLine, mtu: number): boolean {
  const from = AT[i]!
  const ip = IP[i]!
  const headerLength = L4[i]! - ip
  const word = ipv4.fragmentWord(mem, ip)
  const payload = END[i]! - L4[i]!
  const identification = KIND[i] === FLOW ? identify(i, line) : ipv4.id(mem, ip)
  let done = 0
  while (done < payload) {
    const frame = scratchFrame(ethernet.HEADER_LEN + mtu)
    if (frame < 0) return false
    const header = frame + ethernet.HEADER_LEN
    copyBytes(from, frame, ethernet.HEADER_LEN + headerLength)
    // Options without the copied bit stay with the first fragment of the datagram, which need not be our first.
    const length = done === 0 ? headerLength : ipv4.copiedOptions(mem, ip, header)
    const room = mtu - length
    const last = payload - done <= room
    const piece = last ? payload - done : room & ~7
    if (piece <= 0) return false
    ipv4.setHeaderLen(mem, header, length)
    ipv4.setTotalLength(mem, header, length + piece)
    ipv4.setId(mem, header, identification)
    const more = last ? word & ipv4.MORE_FRAGMENTS : ipv4.MORE_FRAGMENTS
    ipv4.setFragmentWord(mem, header, more | ((word & ipv4.OFFSET_MASK) + (done >> 3)))
    ipv4.writeChecksum(mem, header)
    copyBytes(L4[i]! + done, header + length, piece)
    sendTo(line, frame, ethernet.HEADER_LEN + length + piece)
    done += piece
  }
  counters[CELL.fragmented]! += 1
  return true
}

/** The identification of packet i's fragments. A packet that came as a fragment has one that was chosen for it. */
function identify(i: number, line: RouteLine): number {
  const ip = IP[i]!
  const own = ipv4.id(mem, ip)
  const remote = sideOf[routePort(line)] === OUTSIDE ? ipv4.dst(mem, ip) : ipv4.src(mem, ip)
  const chosen = identificationOfCut(remote, ipv4.protocol(mem, ip), own)
  if (chosen !== own) rememberIdentification(REF[i]!, chosen, own)
  return chosen
}
