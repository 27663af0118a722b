// A loopback driver that watches over the memory around each received frame: the shard may write to the frame and to
// its virtio-net header, and to nothing else of the ring.

import { VIRTIO_NET_HEADER } from '../../src/io/driver.ts'
import { LoopbackDriver, type LoopbackOptions } from '../../src/io/loopback.ts'

/** The slot's length; the word before it says whose the slot is. */
const BEFORE = 4
const AFTER = 256
const CANARY = 0xa5

interface Watched {
  readonly at: number
  readonly end: number
  readonly before: Uint8Array
}

export class WatchedDriver extends LoopbackDriver {
  /** Writes outside frames, in words; empty as it should be. */
  readonly violations: string[] = []
  /** How long the shard wanted to sleep, when it did last; it never does. */
  wanted = 0
  readonly #memory: Uint8Array
  readonly #watched: Watched[][]

  constructor(options: LoopbackOptions) {
    super(options)
    this.#memory = new Uint8Array(this.packetMemory)
    this.#watched = Array.from({ length: this.ports }, () => [])
  }

  override wait(timeoutMs: number): void {
    this.wanted = timeoutMs
    super.wait(0)
  }

  override receive(port: number, at: Int32Array, length: Int32Array): number {
    const count = super.receive(port, at, length)
    for (let i = 0; i < count; i++) {
      const begin = at[i]! - VIRTIO_NET_HEADER
      const end = at[i]! + length[i]!
      this.#memory.fill(CANARY, end, end + AFTER)
      this.#watched[port]!.push({ at: at[i]!, end, before: this.#memory.slice(begin - BEFORE, begin) })
    }
    return count
  }

  override release(port: number): void {
    for (const { at, end, before } of this.#watched[port]!.splice(0)) {
      const begin = at - VIRTIO_NET_HEADER
      const first = this.#memory.subarray(begin - BEFORE, begin)
      if (first.some((byte, i) => byte !== before[i])) this.violations.push(`before the frame at ${at}`)
      const behind = this.#memory.subarray(end, end + AFTER).findIndex((byte) => byte !== CANARY)
      if (behind >= 0) this.violations.push(`${behind} bytes behind the frame at ${at}`)
    }
    super.release(port)
  }
}
