// A small NAT in the caller's thread, as a test kit would want it: a few hundred connections, a driver without a
// kernel. Each has memory of its own and, by a URL of its own, an instance of every module of the datapath.

import { attachMemory, bundle } from '../../src/datapath/attach.ts'
import { handoverFrameBytes } from '../../src/datapath/handover/handover-rings.ts'
import type { Dataplane } from '../../src/datapath/shard-contract.ts'
import { BURST } from '../../src/io/driver.ts'
import { LoopbackDriver } from '../../src/io/loopback.ts'
import { frame } from '../../src/testing/builder.ts'
import { type BenchMemory, MACS, makeMemory, settingsOf } from '../pipeline-memory.ts'

const CONNECTIONS = 256
const LAN = 0
const WAN = 1
/** A frame of an Ethernet's usual size, and what the driver keeps before it. */
const SLOT_BYTES = 2112
/** Shared memory costs what is touched of it: this is address space. */
const SCRATCH_BYTES = 8 << 20

/** From inside, by a flow that its first packet opens. */
const DATAGRAM = frame({
  eth: { src: MACS.host, dst: MACS.lan },
  ip: { src: '10.0.0.5', dst: '192.0.2.1' },
  udp: { sport: 40000, dport: 80 },
  payload: new Uint8Array(22),
})

export type SmallMemory = BenchMemory

export const makeSmallMemory = (): SmallMemory => makeMemory(CONNECTIONS, 1)

export class SmallNat {
  readonly #datapath: Dataplane
  readonly #driver: LoopbackDriver
  #time = 1000

  private constructor(datapath: Dataplane, driver: LoopbackDriver) {
    this.#datapath = datapath
    this.#driver = driver
  }

  /** `instance` makes the URL another one: the same again gives the modules that are there already. */
  static async start({ tables, ...common }: SmallMemory, instance: number): Promise<SmallNat> {
    const driver = new LoopbackDriver({
      slots: BURST,
      slotBytes: SLOT_BYTES,
      scratchBytes: SCRATCH_BYTES,
      sharedBytes: handoverFrameBytes(1),
      keepSent: false,
    })
    const memory = { tables: tables[0] as SharedArrayBuffer, ...common }
    const settings = settingsOf(CONNECTIONS, 0, 1)
    attachMemory(memory, settings, driver)
    const shard = (await import(
      `${bundle('shard')}?instance=${instance}`
    )) as typeof import('../../src/datapath/shard.ts')
    shard.attachShard(memory, settings, driver, { watcher() {}, shard() {}, coordinator() {} })
    return new SmallNat(shard, driver)
  }

  /** Sends a burst of so many datagrams through it; how many came out on the other side. */
  carry(count: number): number {
    const before = this.sent
    for (let i = 0; i < count; i++) this.#driver.inject(LAN, DATAGRAM)
    this.#datapath.turn(this.#time)
    this.#time += 0.01
    return this.sent - before
  }

  get sent(): number {
    return this.#driver.sentFrames(WAN)
  }
}
