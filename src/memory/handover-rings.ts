// Rings from shard to shard.

import type { Region } from './region.ts'

export class HandoverRings {
  constructor(region: Region, shards: number) {
    region.i32(shards)
  }
}

/** Bytes of the arena's shared range. */
export const handoverFrameBytes = (shards: number): number => (shards > 1 ? 4096 : 0)
