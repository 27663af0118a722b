// Why an expectation may be refused: one list of reasons that makes the counter and the metric. Those below `no-port`
// are the expectation table's (conntrack/expectations.shard.ts), the others are said by who announces.

/** Order is memory layout: append. */
export const EXPECT_REFUSALS = [
  /** The slots of this destination, or of this inside endpoint, are all taken. */
  'bucket-full',
  /** Another master expects the same. */
  'overlap',
  /** As many stand as the gateway holds. */
  'global-limit',
  /** The master has as many of this class, and all of them are just being matched. */
  'class-limit',
  /** There is no external port to be reserved for the inside endpoint. */
  'no-port',
] as const

export type ExpectRefusal = (typeof EXPECT_REFUSALS)[number]

/** Number of each reason: what expect() returns the complement of. */
export const EXPECT_REFUSED = Object.fromEntries(EXPECT_REFUSALS.map((reason, number) => [reason, number])) as Readonly<
  Record<ExpectRefusal, number>
>
