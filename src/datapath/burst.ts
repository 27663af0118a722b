// The burst in hand: up to 64 packets, as columns. A stage fills some columns for all packets before the next stage
// begins, because V8 has no prefetch: the loads of one stage overlap, and the next finds them in cache (measured: 3.3
// times the rate at a million flows, reference in bench/README.md). Owner: this thread; nothing here is shared.

import { BURST } from '../io/driver.ts'

const column = (): Int32Array => new Int32Array(BURST)

/** Ethernet header in the arena, and bytes from there. */
export const AT = column()
export const LENGTH = column()
/** What stage 1 found: one of the kinds below, or a verdict (conntrack/verdict.ts, zero and above a drop reason). */
export const KIND = column()
/** IPv4 header, transport header, and the end of the packet by its own length fields. */
export const IP = column()
export const L4 = column()
export const END = column()
/** The tuple as conntrack/tuple.ts defines it, and its hash. */
export const SRC = column()
export const DST = column()
export const PORTS = column()
export const KEY = column()
export const HASH = column()
/** Row << 1 | direction that the index suggests; 0 if nothing; to be verified. */
export const REF = column()

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

/** The port and the side (conntrack/tuple.ts) that this burst came by. */
export let port = 0
export let side = 0

export function beginBurst(fromPort: number, fromSide: number): void {
  port = fromPort
  side = fromSide
}
