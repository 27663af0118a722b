// The shard's idea of time. Nothing below workers/ reads a clock: the loop stores the time once a turn, tests and
// replay store whatever they want. Monotonic, and it never runs backwards.

/** Seconds since the gateway's start: what rows store (i32, good for 68 years). */
export let now = 0
/** Milliseconds since the gateway's start, for what is finer than a second. */
export let nowMs = 0

export function setClock(milliseconds: number): void {
  nowMs = milliseconds
  now = Math.floor(milliseconds / 1000)
}
