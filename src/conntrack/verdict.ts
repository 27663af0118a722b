// What becomes of a packet: a verdict is an integer, so that no stage allocates or throws. Zero and above is the
// number of a drop reason (counters/drop-reasons.ts); the names below are netfilter's where it has one.

/** Goes on to the next stage. */
export const ACCEPT = -1
/** Somebody else's: the kernel sees every frame too, and does with this one what it would without us. */
export const NOT_OURS = -2
/** Kept, copied out: it goes on later (NF_QUEUE, NF_STOLEN). */
export const QUEUED = -3
/** The connection it belonged to is over: look it up once more, as the first packet of a new one (NF_REPEAT). */
export const REPEAT = -4
/** Goes on, and its connection ends with it. */
export const ACCEPT_AND_END = -5
/** Another shard's: it is in a ring to it. */
export const HANDED_OVER = -6
