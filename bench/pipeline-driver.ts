// A driver without a link: what the benches of the pipeline write into its slots is received, and what is sent is only
// counted.

import { handoverFrameBytes } from '../src/datapath/handover/handover-rings.ts'
import { BURST, type Driver } from '../src/io/driver.ts'
import { sharedMemory } from '../src/memory/region.ts'

const LAN = 0
const STRIDE = 2112

/** Lists frames that the bench has written, and remembers the last frame that was sent. */
export class BenchDriver implements Driver {
  readonly ports = 2
  /** As many as a ring of the real driver has, so that a full burst asks whether more waits. */
  readonly receiveSlots = 2016
  readonly scratchAt = BURST * STRIDE + 64
  readonly scratchLength = 8 << 20
  readonly sharedAt = this.scratchAt + this.scratchLength
  readonly sharedLength: number
  readonly packetMemory: SharedArrayBuffer
  readonly mem: DataView
  readonly frameAt = Int32Array.from({ length: BURST }, (_, i) => i * STRIDE + 18)
  /** Of each frame. */
  frameBytes = 64
  ready = 0
  readyPort = LAN
  sent = 0
  lastSent = 0

  constructor(shards: number) {
    this.sharedLength = handoverFrameBytes(shards)
    this.packetMemory = sharedMemory(this.sharedAt + this.sharedLength)
    this.mem = new DataView(this.packetMemory)
  }

  receive(port: number, at: Int32Array, length: Int32Array): number {
    if (port !== this.readyPort || this.ready === 0) return 0
    const count = this.ready
    for (let i = 0; i < count; i++) {
      at[i] = this.frameAt[i]!
      length[i] = this.frameBytes
    }
    this.ready = 0
    return count
  }
  holds(_port: number, frames: number): boolean {
    return frames <= this.ready
  }
  release(): void {}
  lend(): number {
    return -1
  }
  giveBack(): void {}
  reclaim(): void {}
  send(_port: number, at: number): void {
    this.sent++
    this.lastSent = at
  }
  flush(): void {}
  wait(): void {}
  sendFailures(): number {
    return 0
  }
  receiveLosses(): number {
    return 0
  }
  close(): void {}
}
