// The drop table: of what the counter of drops adds up by reason alone, by which interface the packets came, and which
// sources have had most of them lately, each with the last packet of it. An attack and a fault that share a reason are
// told apart by it. It is memory that all workers share: a class for each worker, interface and reason.
//
//   of a class                            words
//   packets, since the gateway's start    one, 64-bit float
//   16 sources                            columns of address, count, second and numbers of its last packet
// And of each interface what was lost at it: packets that it refused to send, and those that its receive ring had no
// room for.
//
// Which sources are kept is decided by chance (randomized admission: R. Ben Basat and others, "Randomized admission
// policy for efficient top-k and frequency estimation", 2017): a source without an entry takes that of the smallest
// count c with the chance of one in c + 1, and counts c + 1 from then on. So a flood from ever new, forged sources
// costs a look at two cache lines a packet, and doesn't push out a source that keeps coming. Counts are estimates,
// then; what the class has dropped in all is exact. Counts are halved each minute, so that they say what happens now.
//
// Each reason and interface has sources of its own: no flood that is dropped for one reason, or comes by one interface,
// hides what comes by another or is dropped for another reason.
//
// Owner: the worker its own classes; everyone may read at any time. A reader may see an entry that is just being given
// to another source: it looks at the address twice, and leaves out one that has changed. A crash leaves one packet
// uncounted, or an entry with another's numbers. Decision 0047.

import type { Brand, Seconds } from '../memory/brand.ts'
import { layout } from '../memory/layout.ts'
import { CACHE_LINE, type Region } from '../memory/region.ts'
import type { Addr, Ports, ProtocolNumber } from '../wire/address.ts'
import { DROP_REASONS, type DropReason } from './drop-reasons.ts'

/** What one worker has dropped for one reason of what came by one interface. */
export type DropClass = Brand<'DropClass'>

/** Sources of a class: their addresses are one cache line. */
export const SOURCES = 16
const CACHE_LINE_FLOATS = CACHE_LINE / 8
/** Seconds in which a count is halved. */
export const HALF_LIFE = 60

/** Words of a class's sources: columns, but for the last two. */
export const SOURCE_WORDS = 112
export const SOURCE = layout(SOURCE_WORDS, {
  /** 0: nobody's. */
  address: 0,
  count: 16,
  /** Of its last packet: the second; the destination; the ports, 0 if they are not known; the protocol. */
  second: 32,
  destination: 48,
  ports: 64,
  protocol: 80,
  /** Of the class: the second up to which counts are halved; what none of them is below. */
  halved: 96,
  least: 97,
})

export interface DropTableOptions {
  /** Interfaces. */
  readonly ports: number
  /** The shards and, behind them, the dispatcher. */
  readonly workers: number
}

/** A source of dropped packets, and the last one of them. */
export interface DropSource {
  readonly address: Addr
  /** About how many lately: each counts half as much a minute later. */
  readonly count: number
  readonly second: Seconds
  readonly destination: Addr
  readonly ports: Ports
  readonly protocol: ProtocolNumber
}

export class DropTable {
  readonly ports: number
  readonly workers: number
  /** By class. */
  readonly packets: Float64Array
  readonly sources: Int32Array
  /** Of each worker and interface two (linkOf). */
  readonly links: Float64Array
  /** Of each worker. */
  readonly #classes: number
  readonly #links: number

  constructor(region: Region, { ports, workers }: DropTableOptions) {
    this.ports = ports
    this.workers = workers
    // So that no two workers write to one cache line.
    this.#classes = Math.ceil((ports * DROP_REASONS.length) / CACHE_LINE_FLOATS) * CACHE_LINE_FLOATS
    const classes = workers * this.#classes
    this.packets = region.f64(classes)
    this.sources = region.i32(classes * SOURCE_WORDS)
    this.#links = Math.ceil((2 * ports) / CACHE_LINE_FLOATS) * CACHE_LINE_FLOATS
    this.links = region.f64(workers * this.#links)
  }

  classOf(worker: number, port: number, reason: DropReason): DropClass {
    return worker * this.#classes + port * DROP_REASONS.length + reason
  }

  /** Where what an interface has refused to send stands; behind it, what its receive ring has lost. */
  linkOf(worker: number, port: number): number {
    return worker * this.#links + 2 * port
  }

  /** The sources of a class as they count at this second, those with a count below one left out. */
  sourcesOf(of: DropClass, second: Seconds): DropSource[] {
    const base = of * SOURCE_WORDS
    const word = (column: number, entry: number): number => this.sources[base + column + entry]!
    const halvings = halvingsUntil(word(SOURCE.halved, 0), second)
    const found: DropSource[] = []
    for (let entry = 0; entry < SOURCES; entry++) {
      const address = word(SOURCE.address, entry)
      const source = {
        address,
        count: word(SOURCE.count, entry) >> halvings,
        second: word(SOURCE.second, entry),
        destination: word(SOURCE.destination, entry),
        ports: word(SOURCE.ports, entry),
        protocol: word(SOURCE.protocol, entry),
      }
      if (address !== 0 && source.count > 0 && word(SOURCE.address, entry) === address) found.push(source)
    }
    return found
  }
}

/** How often counts that are halved up to one second are to be halved at another. */
export const halvingsUntil = (halved: Seconds, second: Seconds): number =>
  Math.max(0, Math.min(31, Math.floor((second - halved) / HALF_LIFE)))
