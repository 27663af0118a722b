// How long the lab waits for what must happen. These limits only end what hangs: a machine that does many other things
// is slow, and nothing is wrong with the gateway for that.

/** Of one answer, one connection, one file, a server's or a gateway's start or end. */
export const PATIENCE_MS = 120_000

/** Of all traffic together. */
export const TRAFFIC_LIMIT_MS = 300_000
