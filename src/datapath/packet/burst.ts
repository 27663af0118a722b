// The burst in hand: up to 64 packets, as columns. A stage fills some columns for all packets before the next stage
// begins, because V8 has no prefetch: the loads of one stage overlap, and the next finds them in cache (measured: 3.3
// times the rate at a million flows, bench/README.md). Owner: this thread; nothing here is shared.

import type { KeyWord, Ref, Side } from '../../conntrack/terms.ts'
import { BURST } from '../../io/driver.ts'
import type { Brand, Column } from '../../memory/brand.ts'
import type { Addr, Ports } from '../../wire/address.ts'

/** An offset in the packet memory (packet-memory.ts). */
export type At = Brand<'At'>
/** A port of the driver: a network interface. A transport protocol's port is a `Port`. */
export type LinkPort = Brand<'LinkPort'>
/** Where a line of the route cache begins (egress/route-cache.ts), or HAIRPIN_LINE. */
export type RouteLine = Brand<'RouteLine'>
/** How a burst came, in one word; its parts are below. */
export type Ingress = Brand<'Ingress'>
/** What a packet is: one of the kinds below, or a verdict. */
export type Kind = Brand<'Kind' | 'Verdict' | 'DropReason'>

/** A place behind the burst's: for a packet that this thread makes while a burst is in hand. */
export const SPARE = BURST
/** Another one, for a fragment that has waited and goes on meanwhile. */
export const RELEASED = BURST + 1

const column = <T extends number = number>(): Column<T> => new Int32Array(BURST + 2) as Column<T>

/** Where the Ethernet header begins, and the frame's length in bytes. */
export const AT = column<At>()
export const LENGTH = column()
export const KIND = column<Kind>()
/** Where the IPv4 header and the transport header begin, and where the packet ends by its own length fields. */
export const IP = column<At>()
export const L4 = column<At>()
export const END = column<At>()
/** The tuple as conntrack/terms.ts defines it, and its hash. */
export const SRC = column<Addr>()
export const DST = column<Addr>()
export const PORTS = column<Ports>()
export const KEY = column<KeyWord>()
export const HASH = column()
/** At first what the index suggests, not verified yet, or 0; from forward() on, the packet's connection. */
export const REF = column<Ref>()
/** From forward() on, where more is to be done than to translate and send (egress/leave.ts): the packet's route. */
export const LINE = column<RouteLine>()
/** In LINE, instead of a line: to an external endpoint of our own. */
export const HAIRPIN_LINE = -1

// Kinds are below the verdicts (conntrack/terms.ts), so that one column has both.
/** The packet has a tuple, which is to be looked up. */
export const FLOW = -16
/** A fragment whose tuple must be recorded, or is found, in the fragment table. */
export const FRAGMENT = -17
/** Belongs to the connection of the packet embedded in it. */
export const ICMP_ERROR = -18
// The two lowest are fragments whose tuple is filled in: what is at most LATER_FRAGMENT is one of them.
/** A later fragment, its tuple filled in: there is no transport header to read or to change. */
export const LATER_FRAGMENT = -19
/** A first fragment, its tuple filled in: its transport header is here, its payload is not whole. */
export const FIRST_FRAGMENT = -20

/** Of a frame that another thread has lent: what Driver.giveBack() takes; else NOT_LENT. */
export const TOKEN = column()
/** Of a fragment that came with PORTS_KNOWN: its ports. */
export const KNOWN_PORTS = column<Ports>()

/** Of a fragment whose tuple is filled in: the identification that it leaves with (identification.ts), or UNCHOSEN. */
export const IDENTIFICATION = column()
export const UNCHOSEN = -1

// The ingress word: port in bits 0-7, side in bit 8, the number of hand-overs so far in bits 9-10, then flags.
/** A hairpin's second half: it came from inside (by `port`), its source is translated, its side is outside. */
export const HAIRPIN = 1 << 11
/** Fragments whose datagram's record was asked already: their ports and their identification are known. */
export const PORTS_KNOWN = 1 << 12
const HANDOVER = 1 << 9
const HANDOVERS_MASK = 3 << 9

export const ingressOf = (by: LinkPort, from: Side): Ingress => by | (from << 8)
export const portIn = (word: Ingress): LinkPort => word & 0xff
export const sideIn = (word: Ingress): Side => ((word >> 8) & 1) as Side

/** False if the burst in hand was handed over as often as it may be. */
export const mayHandOver = (): boolean => (ingress & HANDOVERS_MASK) !== HANDOVERS_MASK

/** The ingress of what is handed over from the burst in hand, with these flags and as if it had come by this side. */
export const onward = (asFrom: Side, flags: number): Ingress =>
  ingressOf(port, asFrom) | ((ingress & HANDOVERS_MASK) + HANDOVER) | flags

/** The same for a packet that this shard has made: it was not handed over before. */
export const onwardBuilt = (asFrom: Side, flags: number): Ingress => ingressOf(port, asFrom) | HANDOVER | flags

/** How the burst in hand came, and of that the port and the side. */
export let ingress: Ingress = 0
export let port: LinkPort = 0
export let side: Side = 0
/** True if the frames of the burst in hand lie in a driver's ring: only such frames can be lent. */
export let fromRing = false

export function beginBurst(cameBy: Ingress, isFromRing: boolean): void {
  ingress = cameBy
  port = portIn(cameBy)
  side = sideIn(cameBy)
  fromRing = isFromRing
}
