// Random packets through the offload's program in the kernel (BPF_PROG_TEST_RUN), held against the datapath: what the
// program sends must be what a shard sends, byte for byte; what it doesn't is as it came; and it sends exactly what is
// plain, by a second description of that (plain-packet.ts). Counters and TCP's numbers of each slot are held against
// what a model has counted. `npm run prove:offload-program` and test/offload/program.host.test.ts play.

import { portsWord } from '../../src/conntrack/terms.ts'
import { close } from '../../src/io/syscalls.ts'
import { createSharedValue, loadProgram, testRun, viewOfValue } from '../../src/offload/bpf.ts'
import { Hops } from '../../src/offload/hops.ts'
import { bucketsFor, valueBytes } from '../../src/offload/layout.ts'
import { NEXT, offloadProgram, REDIRECT } from '../../src/offload/program.ts'
import { NO_SLOT, prepareValue, REST_MS, Slots } from '../../src/offload/slots.ts'
import { parseAddress, parseMac } from '../../src/wire/address.ts'
import { applyDelta, complement, delta16 } from '../../src/wire/checksum.ts'
import { MAC } from '../datapath/network.ts'
import { writeTransportChecksum } from '../fuzz/frames.ts'
import { mutate } from '../fuzz/mutations.ts'
import { type Random, randomOf } from '../helpers/mutations.ts'
import { isPlain, type Numbers, numbersOf } from './plain-packet.ts'
import { type Flow, MTU, specified, TranslatingShard } from './translating-shard.ts'

const FLOWS = 16
const SHARD = 3
const INTERFACE = 1
/** As long as a test run takes. */
const LONGEST = 3400
/** One packet in so many changes what the program may follow. */
const CHANGES = 50
const HEADERS = 54
const TCP_CHECKSUM = 50

type State = 'active' | 'pending' | 'old version' | 'old hop' | 'free'
const STATES: readonly State[] = ['active', 'active', 'active', 'active', 'pending', 'old version', 'old hop', 'free']

/** One direction of a flow: its slot, and what must be in it. */
interface Direction {
  readonly flow: Flow
  readonly side: number
  slot: number
  state: State
  packets: number
  bytes: number
  pending: number
  numbers: Numbers
}

export class Player {
  readonly #slots: Slots
  readonly #hops: Hops
  readonly #shard: TranslatingShard
  readonly #programs: readonly number[]
  readonly #directions: Direction[] = []
  #now = 0
  #wrong: string | undefined
  sent = 0
  refused = 0
  /** Of those sent, segments with a wrong sum and beyond a gap. */
  repaired = 0
  readonly #map: number

  static async start(): Promise<Player> {
    return new Player(await TranslatingShard.start())
  }

  private constructor(shard: TranslatingShard) {
    this.#shard = shard
    const options = { seed: 0xdecade5, buckets: bucketsFor((5 * FLOWS) >> 1) }
    const map = createSharedValue('natloom_test', valueBytes(options.buckets))
    this.#map = map.fd
    const value = viewOfValue(map)
    prepareValue(value, options)
    this.#slots = new Slots(value, SHARD)
    this.#hops = new Hops(value)
    this.#setHop(0)
    this.#setHop(1)
    this.#programs = [0, 1].map((side) =>
      loadProgram('natloom_test', offloadProgram({ map: map.fd, side, ...options }).code),
    )
    for (let i = 0; i < FLOWS; i++) {
      const flow = shard.open(i % 2 === 0 ? 'tcp' : 'udp', 20000 + i, i % 3 === 0 ? 80 : 4000 + i)
      for (const side of [0, 1]) {
        const numbers = { end: 1, ack: 1, window: 64240, maxWindow: 64240, flags: 0 }
        this.#directions.push({ flow, side, slot: NO_SLOT, state: 'free', packets: 0, bytes: 0, pending: 0, numbers })
      }
    }
    for (const direction of this.#directions) this.#become(direction, 'active')
  }

  close(): void {
    for (const program of this.#programs) close(program)
    close(this.#map)
  }

  /** The hop for packets that come by a side. */
  #setHop(side: number): void {
    const [own, neighbour] = side === 0 ? [MAC.wan, MAC.server] : [MAC.lan, MAC.host]
    this.#hops.set(side, {
      interfaceIndex: INTERFACE,
      mtu: MTU[1 - side]!,
      own: parseMac(own),
      neighbour: parseMac(neighbour),
    })
  }

  #renew({ slot, side }: Direction): void {
    this.#slots.renew(slot, this.#slots.version(), side, this.#hops.generation(side))
  }

  /** A direction's slot gets into this state; into a new life, where a slot would go back. */
  #become(direction: Direction, state: State): void {
    const { side } = direction
    if (direction.slot !== NO_SLOT && (state === 'free' || state === 'pending')) this.#free(direction)
    direction.state = state
    if (state === 'free') return
    if (direction.slot === NO_SLOT && !this.#begin(direction)) {
      direction.state = 'free'
      return
    }
    if (state !== 'pending') this.#slots.activate(direction.slot)
    const generation = this.#hops.generation(side)
    const [version, hopGeneration] = [state === 'old version' ? -1 : 0, state === 'old hop' ? -2 : 0]
    this.#slots.renew(direction.slot, this.#slots.version() + version, side, generation + hopGeneration)
  }

  /** False if the bucket is full. */
  #begin(direction: Direction): boolean {
    const { flow, side } = direction
    const { src, dst, sport, dport } = flow.comesIn[side]!
    const protocol = flow.protocol === 'tcp' ? 6 : 17
    const slot = this.#slots.claim(parseAddress(src), parseAddress(dst), portsWord(sport, dport), protocol, side)
    if (slot === NO_SLOT) return false
    const leaves = flow.leaves[side]!
    const ports = portsWord(leaves.sport, leaves.dport)
    this.#slots.translate(slot, parseAddress(leaves.src), parseAddress(leaves.dst), ports)
    const { end, ack, window } = direction.numbers
    this.#slots.setWindow(slot, end, ack, window)
    Object.assign(direction, { slot, packets: 0, bytes: 0, pending: 0 })
    direction.numbers = { end, ack, window, maxWindow: window, flags: 0 }
    this.#renew(direction)
    this.#slots.publish(slot, protocol, side, this.#directions.indexOf(direction))
    return true
  }

  #free(direction: Direction): void {
    this.#slots.free(direction.slot, this.#now)
    if (this.#slots.rested(this.#now + REST_MS - 1) !== NO_SLOT) throw new Error('a slot rests too short')
    this.#now += REST_MS
    const rested = this.#slots.rested(this.#now)
    if (rested !== direction.slot) throw new Error(`slot ${rested} has rested instead of ${direction.slot}`)
    this.#wrong ??= this.#faultOf(direction)
    this.#slots.release(rested)
    direction.slot = NO_SLOT
  }

  /** What was wrong with a slot that has ended. */
  #forgetWrong(): string | undefined {
    const wrong = this.#wrong
    this.#wrong = undefined
    return wrong
  }

  /** What of the slot's counts and numbers isn't as it must be. */
  #faultOf(direction: Direction): string | undefined {
    const { slot, packets, bytes, pending, numbers, flow } = direction
    const slots = this.#slots
    slots.take(slot)
    const found = {
      ...{ packets: slots.packets, bytes: slots.bytes, pending: slots.pendingPackets(slot) },
      ...{ end: slots.end(slot), ack: slots.ack(slot), window: slots.window(slot) },
      ...{ maxWindow: slots.maxWindow(slot), flags: slots.flags(slot) },
    }
    const wanted = { packets, bytes, pending, ...numbers }
    Object.assign(direction, { packets: 0, bytes: 0 })
    const [is, must] = [JSON.stringify(found), JSON.stringify(wanted)]
    return is === must ? undefined : `a slot of ${flow.protocol} has ${is} instead of ${must}`
  }

  /** Plays the packet of a seed; what is wrong with what came of it, if anything is. */
  play(seed: number): string | undefined {
    const random = randomOf(seed)
    // The generator's first numbers of neighbouring seeds are alike.
    for (let i = 0; i < 8; i++) random(2)
    const direction = this.#directions[random(this.#directions.length)]!
    if (random(CHANGES) === 0) this.#change(random, direction)
    if (this.#wrong) return this.#forgetWrong()
    const gsoSize = random(16) === 0 ? 600 + random(1200) : 0
    const original = randomFrame(random, direction, gsoSize !== 0)
    const frame = random(3) === 0 ? mutate(original, random) : original
    if (frame.length < HEADERS - 12 || frame.length > LONGEST) return undefined
    return this.#judge(frame, gsoSize, direction.side)
  }

  #change(random: Random, direction: Direction): void {
    const kind = random(20)
    if (kind === 0) this.#slots.raiseVersion()
    if (kind === 1) this.#setHop(direction.side)
    if (kind <= 1) {
      for (const each of this.#directions) {
        if (each.slot === NO_SLOT || (kind === 1 && each.side !== direction.side)) continue
        this.#renew(each)
        if (each.state !== 'pending') each.state = 'active'
      }
      return
    }
    this.#slots.setSeconds(seedSeconds(random))
    this.#become(direction, STATES[random(STATES.length)]!)
  }

  #judge(frame: Uint8Array, gsoSize: number, side: number): string | undefined {
    // A test run's packets come by the loopback interface, whose address is zeros.
    const played = frame.slice()
    const isOurs = isTo(frame, side === 0 ? MAC.lan : MAC.wan)
    if (isOurs) played.fill(0, 0, 6)
    const { verdict, frame: left } = testRun(this.#programs[side]!, played, gsoSize)
    const direction = this.#directions.find((each) => each.side === side && isOf(frame, each.flow, side))
    const plain = direction !== undefined && isOurs && isPlain(frame, gsoSize, MTU[1 - side]!)
    const looked = direction !== undefined && isOurs && isPlain(frame, gsoSize, Number.POSITIVE_INFINITY)
    if (looked && direction.state === 'pending') direction.pending++
    if (verdict !== REDIRECT) {
      this.refused++
      if (verdict !== NEXT >>> 0) return `the program says ${verdict}`
      if (!same(left, played, played.length)) return 'a packet that stays is not as it came'
      return plain && direction.state === 'active' ? 'a plain packet is not sent' : undefined
    }
    this.sent++
    if (!plain) return 'a packet is sent that is not plain'
    if (direction.state !== 'active') return `a packet is sent by a slot that is ${direction.state}`
    const [translated, ...more] = this.#translated(frame, direction, gsoSize)
    if (!translated || more.length > 0) return `the shard does not send ${hex(frame)} but drops: ${this.#shard.drops()}`
    if (!same(left, translated, translated.length))
      return `the shard sends ${hex(translated)}, the program ${hex(left)}`
    direction.packets++
    direction.bytes += translated.length - 14
    direction.numbers = numbersOf(frame, direction.numbers)
    return undefined
  }

  /**
   * What the shard sends. Beyond a gap it wants a segment intact, which is part of its judgement of windows: then what
   * it makes of an intact one says what becomes of this one, the sum wrong by as much.
   */
  #translated(frame: Uint8Array, { side, flow }: Direction, gsoSize: number): Uint8Array[] {
    const virtio = virtioOf(flow, gsoSize)
    const sent = this.#shard.send(side, frame, virtio)
    if (sent.length > 0 || flow.protocol === 'udp') return sent
    const view = (of: Uint8Array): DataView => new DataView(of.buffer, of.byteOffset, of.length)
    const intact = frame.slice(0, 14 + view(frame).getUint16(16))
    writeTransportChecksum(intact)
    const [field, right] = [frame, intact].map((each) => view(each).getUint16(TCP_CHECKSUM, true)) as [number, number]
    if (field === right) return sent
    this.repaired++
    return this.#shard.send(side, intact, virtio).map((translated) => {
      const error = delta16(complement(right), complement(field))
      const wrong = applyDelta(view(translated).getUint16(TCP_CHECKSUM, true), error)
      view(translated).setUint16(TCP_CHECKSUM, wrong, true)
      return translated
    })
  }

  /** What of the counts of all slots isn't as it must be, in the end. */
  faults(): string[] {
    return this.#directions.flatMap((direction) => (direction.slot === NO_SLOT ? [] : (this.#faultOf(direction) ?? [])))
  }
}

const seedSeconds = (random: Random): number => 1 + random(1000)
const hex = (bytes: Uint8Array): string => Buffer.from(bytes.subarray(0, 80)).toString('hex')

function same(a: Uint8Array, b: Uint8Array, length: number): boolean {
  return Buffer.compare(a.subarray(0, length), b.subarray(0, length)) === 0
}

const isTo = (frame: Uint8Array, mac: string): boolean => same(frame, parseMac(mac), 6)

/** Whether the addresses, ports and protocol are those of a flow, where a plain packet has them. */
function isOf(frame: Uint8Array, flow: Flow, side: number): boolean {
  const { src, dst, sport, dport } = flow.comesIn[side]!
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length)
  return (
    view.getInt32(26, true) === parseAddress(src) &&
    view.getInt32(30, true) === parseAddress(dst) &&
    view.getUint16(34) === sport &&
    view.getUint16(36) === dport &&
    view.getUint8(23) === (flow.protocol === 'tcp' ? 6 : 17)
  )
}

/** The virtio-net header with which the same super-packet comes to a shard. */
function virtioOf({ protocol }: Flow, gsoSize: number): Uint8Array | undefined {
  if (gsoSize === 0) return undefined
  const header = new Uint8Array(10)
  header[1] = protocol === 'tcp' ? 1 : 5
  new DataView(header.buffer).setUint16(4, gsoSize, true)
  return header
}

// --- packets ---

const FLAGS = ['A', 'A', 'A', 'PA', 'PA', 'UA', 'EA', 'WA', 'FA', 'SA', 'S', 'R', 'RA', 'F', 'P']
const TIMESTAMP = [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]
const sack = (blocks: number): number[] => [1, 1, 5, 2 + 8 * blocks, ...Array.from({ length: 8 * blocks }, (_, i) => i)]
const OPTIONS = [
  ...[[], [], [], TIMESTAMP, TIMESTAMP, TIMESTAMP, sack(1), sack(2), sack(4)],
  ...[
    [...TIMESTAMP, ...sack(1)],
    [...TIMESTAMP, ...sack(3)],
  ],
  ...[
    [0, 0, 0, 0],
    [1, 1, 1, 1],
    [2, 4, 5, 180],
    [8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1],
    [1, 1, 8, 11, 0, 0, 0, 0],
  ],
  ...[
    [1, 1, 5, 2],
    [1, 1, 5, 10],
    [1, 1, 5, 40, 0, 0, 0, 0],
    [...TIMESTAMP, 1, 1, 5, 2],
    [...TIMESTAMP, 1, 1, 1, 0],
  ],
  ...[
    [1, 1, 8, 10],
    [1, 1, 8, 10, 0, 0, 0, 0],
    [...TIMESTAMP, ...TIMESTAMP],
  ],
]

function randomFrame(random: Random, { flow, side, numbers }: Direction, isSuper: boolean): Uint8Array {
  const pick = <T>(list: readonly T[]): T => list[random(list.length)]!
  const length = pick([0, 0, 1, 5, 18, 100, 536, 1332, 1347, 1348, 1372, 1448, 1460, 1472, 1473, 1 + random(1500)])
  const payload = Uint8Array.from({ length: isSuper ? 1500 + random(1500) : length }, () => random(256))
  // Sometimes a payload of zeros, for sums at the edge.
  if (random(16) === 0) payload.fill(pick([0, 255]))
  return specified({
    protocol: flow.protocol,
    tuple: flow.comesIn[side]!,
    side,
    flags: pick(FLAGS),
    payload,
    ip: { ttl: pick([64, 64, 64, 255, 2, 1, 128]), tos: random(256), id: random(65536), dontFragment: random(2) === 0 },
    tcp: {
      seq: (numbers.end + pick([0, 0, 0, 1, 1000, -1000, 0x7fffffff, random(0x7fffffff)])) >>> 0,
      ack: (numbers.ack + pick([0, 0, 1, 1000, -1000, 0x40000000])) >>> 0,
      window: random(65536),
      options: Uint8Array.from(pick(OPTIONS)),
    },
    udp: random(4) === 0 ? { checksum: 'none' } : {},
  })
}
