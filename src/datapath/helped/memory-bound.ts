// What helped connections take of a shard thread's own memory at the most, whatever they send: the limits of limits.ts
// times what each thing takes, which test/datapath/helped/memory.test.ts measures. The state that a helper keeps of a
// connection is the helper's, and is limited otherwise (helpers/running-helper.shard.ts).

import { MOST_GAPS, MOST_HELPED, MOST_KEPT, MOST_PIECES } from './limits.ts'

/** A helped connection on the heap: its streams and queues, the headers that held bytes go on after, its entry. */
export const HELPED_BYTES = 2560
/** An entry in a list of a stream. */
export const PIECE_BYTES = 48
/** A remembered gap with as many pieces beyond as are remembered. */
export const GAP_BYTES = 640
/** Bytes of a block of kept bytes, with its word, a byte of it. */
const POOLED = 260 / 256
/** What one packet, or one call, may bring beyond the limit, and the rest of a chunk. */
const BEYOND = 4 << 20

/** Of a shard with room for so many connections. */
export const helpedBytes = (connections: number): number =>
  Math.min(connections, MOST_HELPED) * HELPED_BYTES +
  MOST_PIECES * PIECE_BYTES +
  MOST_GAPS * GAP_BYTES +
  Math.ceil(2 * MOST_KEPT * POOLED) +
  BEYOND
