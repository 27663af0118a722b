// How long the lab waits for what must happen. These limits only end what hangs: on a busy machine all is slow, and
// that is no fault of the gateway.

/** For one answer, one connection, one file, or the start or end of a server or gateway. */
export const PATIENCE_MS = 120_000

/** For all traffic together. */
export const TRAFFIC_LIMIT_MS = 300_000
