// How much of fragmented packets a shard follows at a time (fragment-table.ts), and what of it one source has. Of
// records an inside host has what `limits` says (conntrack/hosts.shard.ts).

export const FRAGMENT_RECORDS = 8192
/** Of one source outside, with the few others whose hash is the same. */
export const RECORDS_OF_OUTSIDER = FRAGMENT_RECORDS / 8
/** Pages for what waits of one source, on either side, which hold a datagram of any length at an Ethernet's MTU. */
export const PAGES_OF_SOURCE = 64
/** Hashes of sources outside. */
export const OUTSIDERS = 1024

/** Numbers that the order of age takes for each source. */
const WORDS_A_SOURCE = 6

/** Bytes that a shard's thread takes to tell so many inside hosts apart, and sources outside. */
export const sourceBytes = (hosts: number): number => 4 * WORDS_A_SOURCE * (hosts + 1 + OUTSIDERS)
