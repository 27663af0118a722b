// Sends a capture through the datapath of a gateway in virtual time (`natloom replay`). The capture was taken inside,
// so a packet from outside is first turned into the one that its peer would have sent to the gateway (datapath/un-nat).
// Time is the capture's: it begins with the first frame and ends with the last.
//
//   frame -> [a new second: what is over ends] -> IPv4 packet -> side -> checksums completed
//         -> the owner's shard, then other shards until all rings are empty -> events and sent frames into files
// Runs are repeatable: the keys are the same each time, and so are the ports that are chosen by them.
// Owner: main thread.

import { DEFAULT_TIMEOUTS } from '../conntrack/timeouts.ts'
import { ExpectationGc } from '../coordinator/expectations/expectation-gc.ts'
import type { FilterRuleConfig } from '../coordinator/filter.ts'
import { WITHOUT_LIMITS } from '../coordinator/host-limits.ts'
import { allocateMemory, type GatewayMemory } from '../coordinator/memory.ts'
import { CELL } from '../counters/counters.ts'
import { DROP_REASONS } from '../counters/drop-reasons.ts'
import { connectionsOf, eventsOf } from '../datapath/shard-tables.ts'
import { bindingsOf, type HelperEntry, loadHelper } from '../helpers/load.ts'
import type { Capture, Captured } from '../io/capture.ts'
import { PcapError } from '../io/errors.ts'
import { staticNetwork } from '../io/pcap.ts'
import { CaptureWriter, openCapture } from '../io/pcap-file.ts'
import { ipv4In, isSupported, LINKS_IN_WORDS, type PassedOver } from '../io/pcap-link.ts'
import { ALL_BUT_PACKETS, EVENT, EventReader } from '../memory/event-ring.ts'
import { POOL, SPACES } from '../nat/externals.ts'
import { type Leases, NO_RULES, ownerOf, type StaticRules, UNTRANSLATED } from '../ownership/ownership-rule.ts'
import { type Addr, formatAddress, type Prefix, parsePrefix } from '../wire/address.ts'
import { completeChecksums, isReadable, numbersFromInside, sideOf, sourceOf } from './captured-packets.ts'
import { EventLines } from './event-lines.ts'
import type { Done, SideName } from './messages.ts'
import { ReplayShards } from './replay-shards.ts'

export interface ReplayHelper {
  /** The name of a built-in helper, or an absolute path. */
  readonly module: string
  /** The server's ports; without any, the one that the helper names. */
  readonly ports: readonly number[]
}

export interface ReplayOptions {
  readonly file: string
  /** The prefixes inside; undefined: those of RFC 1918, and the sender of the first packet. */
  readonly inside?: readonly Prefix[] | undefined
  readonly outsideAddress: Addr
  /** False: connections are tracked, nothing is translated. */
  readonly translate: boolean
  readonly helpers: readonly ReplayHelper[]
  /** Which flows may be opened. */
  readonly filter: readonly FilterRuleConfig[]
  readonly workers: number
  /** Whether checksums that were left to a network card are completed. */
  readonly completeChecksums: boolean
  readonly outInside?: string | undefined
  readonly outOutside?: string | undefined
  /** Called with a line of JSON for each event. */
  event?(line: string): void
  /** Whether there are events of packets, too. */
  readonly packetEvents: boolean
}

export interface Summary {
  readonly frames: number
  /** Frames that were given to no shard, by cause: those of io/pcap-link.ts, or `one-side`: both ends on one side. */
  readonly passedOver: ReadonlyMap<PassedOver | 'one-side', number>
  readonly completed: number
  readonly toInside: number
  readonly toOutside: number
  readonly drops: ReadonlyMap<string, number>
  readonly notOurs: number
  readonly connections: number
  readonly expected: number
  readonly matched: number
  /** Events that were lost because a shard's ring was full. */
  readonly lostEvents: number
}

const RFC1918 = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16'].map(parsePrefix)
/** Milliseconds of the shards' clock at the first frame: nothing has a time before the gateway's start. */
const BEGIN_MS = 1000
/** All shards are told the time at least so often: they look then at held bytes and at what is over. */
const TELL_EVERY_MS = 100
const CONNECTIONS = 65_536
const EXPECTATIONS = 4096
const BLOCK = 64
/** RFC 6335 section 6: ports below are the system's, which NAT gives to no client. */
const FIRST_PORT = 1024
const PORTS = 65_536

/** A helper can't be loaded; the message says why. */
class ReplayError extends Error {
  override readonly name = 'ReplayError'
  readonly code = 'REPLAY_HELPER'
  readonly exitCode = 2
}

/** Throws PcapError about a file, ReplayError about a helper, or about both. */
export async function replay(options: ReplayOptions): Promise<Summary> {
  const capture = await openedWith(options)
  try {
    const entries = await entriesOf(options.helpers)
    const run = new Replay(options, entries)
    return await run.all(capture)
  } finally {
    capture.close()
  }
}

/** The capture. If it can't be opened, the helpers are tried all the same, so that all faults are told at once. */
async function openedWith({ file, helpers }: ReplayOptions): Promise<Capture> {
  try {
    return openCapture(file)
  } catch (error) {
    if (!(error instanceof PcapError)) throw error
    const fault = await entriesOf(helpers).then(
      () => undefined,
      (other: Error) => other.message,
    )
    throw fault === undefined ? error : new ReplayError(`${error.message}\nnatloom: ${fault}`)
  }
}

/** Imported here first, so that a helper's faults are reported before anything begins. */
async function entriesOf(helpers: readonly ReplayHelper[]): Promise<HelperEntry[]> {
  const entries: HelperEntry[] = []
  for (const { module, ports } of helpers) {
    const load = entries.length + 1
    const helper = await loadHelper({ module, options: {}, load }).catch((error: Error) => {
      throw new ReplayError(`helper ${module}: ${error.message}`)
    })
    const bindings = bindingsOf(helper, ports)
    entries.push({ id: load, load, name: helper.name, module, options: {}, bindings, onFailure: 'reset' })
  }
  return entries
}

class Replay {
  readonly #options: ReplayOptions
  readonly #memory: GatewayMemory
  readonly #leases: Leases
  readonly #rules: StaticRules
  readonly #readers: readonly EventReader[]
  readonly #lines: EventLines
  readonly #expectationGc: ExpectationGc
  readonly #passedOver = new Map<PassedOver | 'one-side', number>()
  #inside: readonly Prefix[]
  #shards!: ReplayShards
  #writers: Partial<Record<SideName, CaptureWriter>> = {}
  #frame = 0
  #began: { readonly seconds: number; readonly nanoseconds: number } | undefined
  #now = BEGIN_MS
  /** The time that all shards were told last. */
  #told = 0
  #completed = 0
  #lost = 0
  readonly #sent = { inside: 0, outside: 0 }

  constructor(options: ReplayOptions, entries: readonly HelperEntry[]) {
    this.#options = options
    this.#inside = options.inside ?? RFC1918
    const memory = allocateMemory(
      {
        inside: ['inside'],
        outside: ['outside'],
        workers: options.workers,
        dispatch: 'kernel',
        forward: [],
        filter: options.filter,
        // It shows what was sent, and from whom.
        limits: WITHOUT_LIMITS,
        // A capture begins in the middle of connections. Translated, their external ports would be guessed.
        // Nobody is there to be answered.
        tcp: { pickup: !options.translate, liberal: false, answerUnsolicited: false },
        timeouts: { ...DEFAULT_TIMEOUTS, tcp: { ...DEFAULT_TIMEOUTS.tcp, NONE: 0 } },
        capacity: { connections: CONNECTIONS, expectations: EXPECTATIONS },
        icmp: { errorsPerSecond: 1000 },
        nat: {
          translate: options.translate,
          pool: [],
          blockSize: BLOCK,
          ports: { from: FIRST_PORT, to: PORTS - 1 },
          mapping: 'endpoint-independent',
          filtering: 'address-dependent',
          // People compare the capture with its translation, so ports stay the same where they can.
          preservePorts: true,
          parity: true,
          protocols: [],
          sharedWithKernelNat: false,
        },
      },
      (words) => words.fill(0x6e61746c),
    )
    this.#memory = memory
    this.#leases = { shards: options.workers, key: memory.settings[0]!.ownerKey, externals: memory.externals }
    this.#rules = options.translate ? NO_RULES : UNTRANSLATED
    if (options.translate) this.#lease()
    memory.helperList.publish(JSON.stringify(entries))
    this.#readers = memory.shards.map(({ tables }, shard) => new EventReader(eventsOf(tables, memory.settings[shard]!)))
    const connections = memory.shards.map(({ tables }, shard) => connectionsOf(tables, memory.settings[shard]!))
    this.#lines = new EventLines({ connections, helpers: new Map(entries.map(({ id, name }) => [id, name])) })
    this.#expectationGc = new ExpectationGc({
      table: memory.expectations,
      externals: memory.externals,
      hosts: memory.hosts,
      connections,
      now: () => Math.floor(this.#now / 1000),
      turns: (shard) => memory.counters[shard]![CELL.turns]!,
      expired: (slot) => options.event?.(this.#lines.expired(this.#frame, slot)),
    })
  }

  /** Leases all ports of the outside address from FIRST_PORT on, a block to each shard in turn. */
  #lease(): void {
    const { externals } = this.#memory
    const entry = externals.add(this.#options.outsideAddress, POOL)
    for (let space = 0; space < SPACES; space++)
      for (let block = FIRST_PORT / BLOCK; block < PORTS / BLOCK; block++)
        externals.lease(entry, space, block, block % this.#options.workers)
  }

  async all(capture: Capture): Promise<Summary> {
    const { event, packetEvents } = this.#options
    const kinds = event === undefined ? 0 : packetEvents ? ALL_BUT_PACKETS | EVENT.packet : ALL_BUT_PACKETS
    for (const reader of this.#readers) reader.want(kinds)
    this.#publishNetwork()
    this.#shards = await ReplayShards.start(this.#memory, () => this.#readEvents())
    try {
      for (let captured = capture.next(); captured; captured = capture.next()) {
        if (this.#writers.inside === undefined && this.#writers.outside === undefined) this.#openWriters(capture)
        await this.#frameCame(captured)
      }
      if (this.#frame === 0) this.#openWriters(capture)
    } finally {
      await this.#shards.end()
      for (const writer of Object.values(this.#writers)) writer.close()
    }
    return this.#summary()
  }

  #openWriters({ hasNanoseconds: nanoseconds }: Capture): void {
    const { outInside, outOutside } = this.#options
    if (outInside !== undefined) this.#writers.inside = new CaptureWriter(outInside, { nanoseconds })
    if (outOutside !== undefined) this.#writers.outside = new CaptureWriter(outOutside, { nanoseconds })
  }

  #publishNetwork(): void {
    const { outsideAddress, translate } = this.#options
    const network = { inside: this.#inside, outsideAddress: translate ? outsideAddress : 0 }
    this.#memory.fib.view.publish(staticNetwork(network))
  }

  async #frameCame(captured: Captured): Promise<void> {
    this.#frame = captured.number
    if (!isSupported(captured.link))
      throw new PcapError(
        'PCAP_LINK',
        `${this.#options.file}: frame ${captured.number} is of link type ${captured.link}, which is not read; ` +
          `read are ${LINKS_IN_WORDS}`,
      )
    for (const reader of this.#readers) reader.setFrame(captured.number)
    await this.#tellTime(captured)
    const at = ipv4In(captured.link, captured.bytes)
    if (typeof at !== 'number') return this.#passOver(at)
    const packet = Uint8Array.from(captured.bytes.subarray(at))
    if (!isReadable(packet)) return this.#passOver('short')
    this.#takeFirstSenderInside(packet)
    const side = sideOf(packet, this.#inside)
    if (side === undefined) return this.#passOver('one-side')
    if (this.#options.completeChecksums && completeChecksums(packet)) this.#completed++
    const owner = ownerOf(0, numbersFromInside(packet, side), this.#leases, this.#rules)
    const outside = this.#options.translate ? this.#options.outsideAddress : 0
    this.#take(
      captured,
      await this.#shards.order(owner, { what: 'play', milliseconds: this.#now, from: side, packet, outside }),
    )
  }

  /** The sender of the first packet is inside, unless an option names the prefixes inside. */
  #takeFirstSenderInside(packet: Uint8Array): void {
    if (this.#options.inside !== undefined || this.#inside !== RFC1918) return
    this.#inside = [...RFC1918, parsePrefix(`${formatAddress(sourceOf(packet))}/32`)]
    this.#publishNetwork()
  }

  /** Tells all shards the time of a frame. A frame that is out of order doesn't set the time back. */
  async #tellTime(captured: Captured): Promise<void> {
    const { seconds, nanoseconds } = captured
    this.#began ??= { seconds, nanoseconds }
    const since = (seconds - this.#began.seconds) * 1000 + (nanoseconds - this.#began.nanoseconds) / 1e6
    const before = this.#told
    this.#now = Math.max(this.#now, BEGIN_MS + since)
    // A shard ends what is over with the next order that it gets, so all get one at the same frame.
    const isNewSecond = Math.floor(this.#now / 1000) !== Math.floor(before / 1000)
    if (!isNewSecond && this.#now - before < TELL_EVERY_MS) return
    this.#told = this.#now
    // Before connections end: an expectation whose time is over has expired, even if its master ends in this second.
    if (isNewSecond) this.#expectationGc.look()
    this.#take(captured, await this.#shards.orderAll({ what: 'time', milliseconds: this.#now }))
  }

  #passOver(why: PassedOver | 'one-side'): void {
    this.#passedOver.set(why, (this.#passedOver.get(why) ?? 0) + 1)
  }

  #take({ seconds, nanoseconds }: Captured, sent: Done['sent']): void {
    for (const [side, frame] of sent) {
      this.#sent[side]++
      this.#writers[side]?.write(seconds, nanoseconds, frame)
    }
  }

  #readEvents(): void {
    for (const [shard, reader] of this.#readers.entries())
      reader.drain(
        (records, at) => this.#options.event?.(this.#lines.of(shard, records, at)),
        (lost) => {
          this.#lost += lost
        },
      )
  }

  #summary(): Summary {
    const sum = (cell: number, cells = 1): number =>
      this.#memory.counters.reduce((total, counters) => {
        for (let i = 0; i < cells; i++) total += counters[cell + i]!
        return total
      }, 0)
    const drops = new Map<string, number>()
    for (const [number, [reason]] of DROP_REASONS.entries()) {
      const count = sum(CELL.drops + number)
      if (count > 0) drops.set(reason, count)
    }
    return {
      frames: this.#frame,
      passedOver: this.#passedOver,
      completed: this.#completed,
      toInside: this.#sent.inside,
      toOutside: this.#sent.outside,
      drops,
      notOurs: sum(CELL.notOurs, 2),
      connections: sum(CELL.connectionsInserted, 4),
      expected: sum(CELL.expectationsCreated),
      matched: sum(CELL.expectationsMatched),
      lostEvents: this.#lost,
    }
  }
}
