// A shard that the program is held against: the datapath as it is, over a driver without a kernel, with flows of UDP
// and TCP opened from inside. What it sends for a frame is what the program has to make of it.
//
// It is liberal about TCP's windows: that data outside of them passes while a flow is offloaded is intended.

import { ExpectationTable } from '../../src/conntrack/expectation-table.ts'
import { HostTable } from '../../src/conntrack/host-table.ts'
import { CELL } from '../../src/counters/counters.ts'
import { DROP, DROP_REASONS } from '../../src/counters/drop-reasons.ts'
import { DropTable } from '../../src/counters/drop-table.ts'
import { attachShard } from '../../src/datapath/attach.ts'
import { HandoverRings, handoverFrameBytes } from '../../src/datapath/handover/handover-rings.ts'
import type { Dataplane, ShardSettings } from '../../src/datapath/shard-contract.ts'
import { countersOf, dropTable, tableBytes } from '../../src/datapath/shard-tables.ts'
import { HelperList } from '../../src/helpers/helper-list.ts'
import { LoopbackDriver } from '../../src/io/loopback.ts'
import { allocate, sharedMemory } from '../../src/memory/region.ts'
import { Externals, SHARED, SPACES } from '../../src/nat/externals.ts'
import { Fib } from '../../src/routing/fib.ts'
import { type FrameSpec, frame } from '../../src/testing/builder.ts'
import { parseAddress } from '../../src/wire/address.ts'
import { EXTERNAL, HOST, LAN, MAC, SERVER, snapshotOf, WAN } from '../datapath/network.ts'
import { SOLE_SHARD } from '../datapath/sole-shard.ts'

const VIRTIO = 10
const NOW = 1000
export const MTU = [1400, 1500] as const
const DRIVER = { ports: 2, slots: 16, slotBytes: 4096, scratchBytes: 8 << 20 }

const settings: ShardSettings = {
  ...SOLE_SHARD,
  connections: 256,
  mappings: 256,
  externals: { capacity: 1, blockSize: SOLE_SHARD.externals.blockSize },
  tcp: { ...SOLE_SHARD.tcp, liberal: true },
}

/** An endpoint pair, as the packets of one direction have it. */
export interface Tuple {
  readonly src: string
  readonly dst: string
  readonly sport: number
  readonly dport: number
}

export interface Flow {
  readonly protocol: 'tcp' | 'udp'
  /** As it comes in, by side: from inside, from outside. */
  readonly comesIn: readonly [Tuple, Tuple]
  /** As it leaves, by the side that it has come by. */
  readonly leaves: readonly [Tuple, Tuple]
}

const turned = ({ src, dst, sport, dport }: Tuple): Tuple => ({ src: dst, dst: src, sport: dport, dport: sport })

export class TranslatingShard {
  readonly #driver = new LoopbackDriver({ ...DRIVER, sharedBytes: handoverFrameBytes(1) })
  #shard!: Dataplane
  #counters!: Float64Array

  /** Once a process: a shard's tables are module-level state. */
  static async start(): Promise<TranslatingShard> {
    const made = new TranslatingShard()
    const fib = allocate((region) => new Fib(region, settings.fib))
    fib.view.publish(snapshotOf({ lanMtu: MTU[0], wanMtu: MTU[1] }))
    const externals = allocate((region) => new Externals(region, settings.externals))
    const entry = externals.view.add(parseAddress(EXTERNAL), SHARED)
    for (let space = 0; space < SPACES; space++)
      for (let block = 256; block < 1024; block++) externals.view.lease(entry, space, block, 0)
    const tables = sharedMemory(tableBytes(settings))
    made.#counters = countersOf(tables)
    const memory = {
      tables,
      peers: [tables],
      fib: fib.buffer,
      externals: externals.buffer,
      handover: allocate((region) => new HandoverRings(region, 1)).buffer,
      expectations: allocate((region) => new ExpectationTable(region, { capacity: 64, shards: 1 })).buffer,
      hosts: allocate((region) => new HostTable(region, settings)).buffer,
      drops: allocate((region) => new DropTable(region, dropTable(settings))).buffer,
      helperList: allocate((region) => new HelperList(region, 1)).buffer,
    }
    const nobody = (): void => {}
    const wakers = { watcher: nobody, shard: nobody, coordinator: nobody }
    made.#shard = await attachShard(memory, settings, made.#driver, wakers)
    made.#shard.turn(NOW)
    return made
  }

  /** What leaves by the other port for a frame that comes in on a side. */
  send(side: number, bytes: Uint8Array, virtio?: Uint8Array): Uint8Array[] {
    if (!this.#driver.inject(side === LAN ? LAN : WAN, bytes, virtio)) throw new Error('the loopback ring is full')
    this.#shard.turn(NOW)
    // Taken on both sides, so that an answer to the sender isn't found later.
    const left = [LAN, WAN].map((port) => this.#driver.takeSent(port, true).map((sent) => sent.subarray(VIRTIO)))
    return left[1 - side]!
  }

  /** Why packets have been dropped so far. */
  drops(): string {
    const counted = DROP_REASONS.map(([reason]) => [reason, this.#counters[CELL.drops + DROP[reason]]!] as const)
    return counted.flatMap(([reason, count]) => (count > 0 ? [`${reason} ${count}`] : [])).join(', ')
  }

  /** Opens a flow from inside and uses it both ways, until it is assured. */
  open(protocol: 'tcp' | 'udp', sport: number, dport: number): Flow {
    const inward: Tuple = { src: HOST, dst: SERVER, sport, dport }
    const first = protocol === 'tcp' ? 'S' : ''
    const [sent] = this.send(0, specified({ protocol, tuple: inward, side: 0, flags: first }))
    if (!sent) throw new Error(`the shard opens no flow of ${protocol} from port ${sport}`)
    const external = new DataView(sent.buffer, sent.byteOffset).getUint16(34)
    const outward: Tuple = { src: EXTERNAL, dst: SERVER, sport: external, dport }
    const flow: Flow = {
      protocol,
      comesIn: [inward, turned(outward)],
      leaves: [outward, turned(inward)],
    }
    for (const [side, flags] of [
      [1, 'SA'],
      [0, 'A'],
      [1, 'A'],
      [0, 'A'],
    ] as const)
      if (this.send(side, specified({ protocol, tuple: flow.comesIn[side], side, flags })).length !== 1)
        throw new Error(`a flow of ${protocol} from port ${sport} goes no further than ${flags}`)
    return flow
  }
}

const ethernetOf = (side: number): { src: string; dst: string } =>
  side === 0 ? { src: MAC.host, dst: MAC.lan } : { src: MAC.server, dst: MAC.wan }

interface Specified {
  readonly protocol: 'tcp' | 'udp'
  readonly tuple: Tuple
  readonly side: number
  readonly flags?: string
  readonly ip?: Partial<FrameSpec['ip']>
  readonly tcp?: Partial<FrameSpec['tcp']>
  readonly udp?: Partial<FrameSpec['udp']>
  readonly payload?: Uint8Array
}

export function specified({ protocol, tuple, side, flags = 'A', ip, tcp, udp, payload }: Specified): Uint8Array {
  const { src, dst, sport, dport } = tuple
  const transport = protocol === 'tcp' ? { tcp: { sport, dport, flags, ...tcp } } : { udp: { sport, dport, ...udp } }
  const rest = payload ? { payload } : {}
  return frame({ eth: ethernetOf(side), ip: { src, dst, ...ip }, ...transport, ...rest })
}
