// The limits of helped connections. What an operator sees when one is met is said in ../../helpers/README.md, whose
// table is held to these numbers by test/helpers/limits.test.ts.

/** Milliseconds that a byte waits, at most, for the rest of what may become an announcement. */
export const LONGEST_HOLD = 1000
/** The same for a gap to be filled: a sender sends a segment again within a minute at most (RFC 6298 2.5). */
export const LONGEST_GAP = 60_000
/** Bytes of one stream that a helper reads again with what follows: those held, and those that have gone on since. */
export const MOST_HELD = 8192

/** How far beyond the next byte bytes are taken: the receiver's window is not tracked. */
export const WINDOW = 65536
/** Pieces behind gaps that one stream keeps. */
export const MOST_EARLY = 64

/**
 * Bytes that one stream may keep, for its receiver's acknowledgement or because they are held; and those of all streams
 * of the shard together. When these keep more than MOST_KEPT, helpers are cut off from streams that keep more than a
 * control connection needs (FAIR_SHARE); when they keep twice as much, from every stream that gets more.
 */
export const MOST_KEPT_OF_ONE = 1 << 20
export const MOST_KEPT = 32 << 20
export const FAIR_SHARE = 16 << 10

/** Milliseconds that one call may take: far above what any needs, and above a pause of the garbage collector. */
export const LONGEST_CALL = 100
/** Milliseconds that a helper is under suspicion after a call that took longer. */
export const SUSPICION = 60_000
