// Why an expectation may be refused: one list of reasons that makes the counter and the metric. The
// expectation table refuses (conntrack/expectations.shard.ts) for all but `no-port`, which nat/expected.shard.ts finds.

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
  /** As many of its inside host stand as one host may have (`limits`). */
  'host-limit',
] as const

export type ExpectRefusal = (typeof EXPECT_REFUSALS)[number]

/** The number of each reason: its place in the list, and among the metric's cells. */
export const EXPECT_REFUSED = Object.fromEntries(EXPECT_REFUSALS.map((reason, number) => [reason, number])) as Readonly<
  Record<ExpectRefusal, number>
>
