// The limits of helped connections; memory-bound.ts has what they mean in bytes. What an operator sees when one is met
// is said in ../../helpers/README.md, whose table is held to these numbers by test/helpers/limits.test.ts.

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

/** Connections of a shard that a helper reads and that have sent data, at a time. */
export const MOST_HELPED = 16384
/** Entries in the lists of all streams of a shard: pieces behind gaps, and arrivals of held bytes. */
export const MOST_PIECES = 65536
export const MOST_PIECES_OF_HOST = MOST_PIECES / 4
/** Gaps in what watched connections have been sent that a shard remembers (receiver-next.ts). */
export const MOST_GAPS = 1024

/**
 * Bytes that one stream may keep, for its receiver's acknowledgement or because they are held; and those of all
 * streams of the shard together: of the blocks that they lie in (byte-pool.ts). When these keep more than MOST_KEPT,
 * helpers are cut off from streams that keep more than a control connection needs (FAIR_SHARE); when they keep twice as
 * much, from every stream that gets more.
 */
export const MOST_KEPT_OF_ONE = 1 << 20
export const MOST_KEPT = 16 << 20
/** Of all streams of one inside host. */
export const MOST_KEPT_OF_HOST = (2 * MOST_KEPT) / 4
export const FAIR_SHARE = 16 << 10

/** Milliseconds that one call may take: far above what any needs, and above a pause of the garbage collector. */
export const LONGEST_CALL = 100
/** Milliseconds that a helper is under suspicion after a call that took longer. */
export const SUSPICION = 60_000
