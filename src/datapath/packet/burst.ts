// The burst in hand: up to 64 packets, as columns. A stage fills some columns for all packets before the next stage
// begins, because V8 has no prefetch: the loads of one stage overlap, and the next finds them in cache (measured: 3.3
// times the rate at a million flows; decision 0003). Owner: this thread; nothing here is shared.

import type { KeyWord, Ref, Side } from '../../conntrack/terms.ts'
import { BURST } from '../../io/driver.ts'
import type { Column } from '../../memory/brand.ts'
import type { Addr, Ports } from '../../wire/address.ts'

/** A packet's place behind the burst's: for one that this thread makes itself while a burst is in hand. */
export const SPARE = BURST

const column = <T extends number = number>(): Column<T> => new Int32Array(BURST + 1) as Column<T>

/** Ethernet header in the packet memory, and bytes from there. */
export const AT = column()
export const LENGTH = column()
/** What stage 1 found: one of the kinds below, or a verdict (conntrack/terms.ts, zero and above a drop reason). */
export const KIND = column()
/** IPv4 header, transport header, and the end of the packet by its own length fields. */
export const IP = column()
export const L4 = column()
export const END = column()
/** The tuple as conntrack/terms.ts defines it, and its hash. */
export const SRC = column<Addr>()
export const DST = column<Addr>()
export const PORTS = column<Ports>()
export const KEY = column<KeyWord>()
export const HASH = column()
/** Row << 1 | direction that the index suggests; 0 if nothing; to be verified. */
export const REF = column<Ref>()

// Kinds are below the verdicts.
/** Has a tuple: to be looked up. */
export const FLOW = -16
/** Its tuple is known to the fragment records only, or must be recorded there. */
export const FRAGMENT = -17
/** Belongs to the connection of the packet it quotes. */
export const ICMP_ERROR = -18
/** A later fragment, its tuple filled in: there is no transport header to read or to change. */
export const LATER_FRAGMENT = -19
/** A first fragment, its tuple filled in: its transport header is here, its payload is not whole. */
export const FIRST_FRAGMENT = -20

/** Of a frame that another thread has lent us what Driver.giveBack() takes; else NOT_LENT. */
export const TOKEN = column()
/** Of a fragment that was handed over (PORTS_KNOWN) its ports. */
export const KNOWN_PORTS = column<Ports>()

// How a burst came, in one word: port in bits 0-7, side in bit 8, hand-overs behind it in bits 9-10, then:
/** A hairpin's second half: it came from inside (by `port`), its source is translated, its side is outside. */
export const HAIRPIN = 1 << 11
/** Fragments whose datagram's record was asked already: their ports are known. */
export const PORTS_KNOWN = 1 << 12
const HOP = 1 << 9
const HOPS_MASK = 3 << 9

export const ingressOf = (fromPort: number, fromSide: Side): number => fromPort | (fromSide << 8)
const portOf = (ingress: number): number => ingress & 0xff
export const mayHop = (): boolean => (ingress & HOPS_MASK) !== HOPS_MASK
/** The way of what is handed over from the burst in hand, with these flags and by this side. */
export const onward = (toSide: Side, flags: number): number =>
  ingressOf(port, toSide) | ((ingress & HOPS_MASK) + HOP) | flags

/** The same of a packet that was made here. */
export const firstHop = (toSide: Side, flags: number): number => ingressOf(port, toSide) | HOP | flags

/** The burst in hand: how it came, and of that the port and the side (conntrack/terms.ts). */
export let ingress = 0
export let port = 0
export let side: Side = 0
/** Whence its frames: a driver's ring, or elsewhere; only a ring's can be lent. */
export let fromRing = false

export function beginBurst(itsIngress: number, isFromRing: boolean): void {
  ingress = itsIngress
  port = portOf(itsIngress)
  side = ((itsIngress >> 8) & 1) as Side
  fromRing = isFromRing
}
