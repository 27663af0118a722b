// Frames that are under way for a while, as faulty.ts delays them: copies outside of the packet memory, because a
// driver's frame may not be kept (driver.ts), in the order in which they are due. Owner: the shard that has the driver.

import type { Milliseconds } from '../memory/brand.ts'

/** Bytes that are under way at a time; what comes beyond is lost, as where a queue is full. */
const MOST_BYTES = 64 << 20

interface UnderWay {
  readonly due: Milliseconds
  readonly bytes: Uint8Array
}

export class DelayLine {
  readonly #frames: UnderWay[] = []
  #bytes = 0

  /** A copy of these bytes is due at this time, behind those that are due then already. False if there is no room. */
  add(bytes: Uint8Array, due: Milliseconds): boolean {
    if (this.#bytes + bytes.length > MOST_BYTES) return false
    let at = this.#frames.length
    while (at > 0 && this.#frames[at - 1]!.due > due) at--
    this.#frames.splice(at, 0, { due, bytes: bytes.slice() })
    this.#bytes += bytes.length
    return true
  }

  /** When the next one is due; infinite if none is under way. */
  get nextDue(): Milliseconds {
    return this.#frames[0]?.due ?? Number.POSITIVE_INFINITY
  }

  /** The next one that is due by this time. */
  take(now: Milliseconds): Uint8Array | undefined {
    if (this.nextDue > now) return undefined
    const { bytes } = this.#frames.shift()!
    this.#bytes -= bytes.length
    return bytes
  }
}
