// Random numbers that a remote party can't guess (RFC 6056 asks it of ports): HalfSipHash under the shard's secret key
// in counter mode. Not for keys: 32 bits at a time, and the key itself comes from the system's generator.

import { hash4 } from './siphash.ts'

/** Keeps these apart from the hashes of tuples, whose last word is below 2^16. */
const DOMAIN = 0x52_4e_44_00
let counter = 0
let life = 0
let lane = 0

/** A shard that starts again must not go through its numbers again: which life of which shard is part of the hash. */
export function attachRandom(shard: number, epoch: number): void {
  lane = shard
  life = epoch
  counter = 0
}

/** 0 .. 2^32 - 1. */
export function random32(): number {
  counter = (counter + 1) | 0
  return hash4(counter, life, lane, DOMAIN) >>> 0
}
