// Which packets of a burst are kept where a queue is shared (shares.ts). Decided by a few words of each frame, before
// anything else is read of it: dropping must cost far less than carrying does, or there is no time left to carry.
//
//   it came    its sender is                                                     counted as
//   inside     its source address                                                that host, if it is known
//   outside    the external address and port that it goes to; of what shows no   the inside host of the connection,
//              port, its two addresses                                           if it is known
// All that is not known is strangers' (known-hosts.ts). The dispatcher, which has no connections, knows which external
// ports are taken: these count each for itself, as every inside address does. Sources outside are no senders: they are
// as many as somebody likes to make up, and one server may be everybody's. What is dropped here may be the kernel's
// packet, too: it has it by another way. Owner: this thread.

import { INSIDE, type Side } from '../../conntrack/terms.ts'
import { BURST } from '../../io/driver.ts'
import type { Addr, PortHost, ProtocolNumber } from '../../wire/address.ts'
import { HEADER_LEN as ETHERNET } from '../../wire/ethernet.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import { AT, type At, type Ingress, portIn, sideIn } from '../packet/burst.ts'
import { countShed } from '../packet/counting.ts'
import { mem } from '../packet/packet-memory.ts'
import { forgetHosts, hostOf } from './known-hosts.ts'
import { noteShed } from './notice.ts'
import type { Shares } from './shares.ts'

const DST_PORT = 2

/** Of each packet that is kept, its place in the burst as it was listed, and its sender. */
export const KEPT = new Int32Array(BURST)
export const SENDER = new Int32Array(BURST)
/** How many packets of the burst in hand have their sender in SENDER; 0 where nothing was chosen. */
export let chosen = 0

/** Whether somebody inside has an external endpoint. */
export type IsTaken = (protocol: ProtocolNumber, address: Addr, port: PortHost) => boolean

let isTaken: IsTaken | undefined
/** Whether queues are shared at all. */
export let sharesQueues = false

/** A thread that has no connections, and so learns of no hosts, is told which external endpoints are taken. */
export function attachShedding(shared: boolean, takenEndpoints?: IsTaken): void {
  sharesQueues = shared
  isTaken = takenEndpoints
  chosen = 0
  forgetHosts()
}

export function forgetSenders(): void {
  chosen = 0
}

/** Fills KEPT from the burst that is listed in AT, and counts the others as dropped. Returns how many. */
export function choose(shares: Shares, cameBy: Ingress, listed: number): number {
  const side = sideIn(cameBy)
  const by = portIn(cameBy)
  let kept = 0
  for (let i = 0; i < listed; i++) {
    const at = AT[i]!
    const sender = senderOf(side, at)
    const host = hostOf(side, sender)
    const isStranger = host === 0 && isStrange(side, at)
    const counted = isStranger ? shares.strangersBucketOf(sender) : shares.bucketOf(host || sender)
    if (!shares.keeps(counted)) {
      countShed(by, at)
      continue
    }
    KEPT[kept] = i
    SENDER[kept] = sender
    kept++
  }
  noteShed(side, listed - kept)
  chosen = kept
  return kept
}

/** Of a frame whose sender belongs to no known host. */
function isStrange(side: Side, at: At): boolean {
  if (isTaken === undefined) return true
  const ip = at + ETHERNET
  if (side === INSIDE) return false
  return !showsPort(at) || !isTaken(ipv4.protocol(mem, ip), ipv4.dst(mem, ip), portOf(at))
}

function senderOf(side: Side, at: At): number {
  const ip = at + ETHERNET
  if (side === INSIDE) return ipv4.src(mem, ip)
  const protocol = ipv4.protocol(mem, ip)
  if (showsPort(at)) return ipv4.dst(mem, ip) ^ Math.imul((protocol << 16) | portOf(at), 0x9e3779b1)
  return ipv4.src(mem, ip) ^ Math.imul(ipv4.dst(mem, ip) ^ protocol, 0x85ebca6b)
}

/** What lies behind a frame that is too short is read like a packet: there is memory, and no harm in what it says. */
function showsPort(at: At): boolean {
  const ip = at + ETHERNET
  const protocol = ipv4.protocol(mem, ip)
  if (protocol !== ipv4.PROTO_TCP && protocol !== ipv4.PROTO_UDP) return false
  return (ipv4.fragmentWord(mem, ip) & ipv4.OFFSET_MASK) === 0
}

const portOf = (at: At): PortHost => mem.getUint16(at + ETHERNET + ipv4.headerLen(mem, at + ETHERNET) + DST_PORT)
