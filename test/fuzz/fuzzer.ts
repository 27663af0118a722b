// Plays stories through a world and holds what leaves against the reference NAT; and in the end, when so much time has
// passed that nothing may be left, the world's counts against nothing.

import type { Dependence } from '../../src/nat/settings.ts'
import { print } from '../../src/testing/printer.ts'
import { ReferenceNat } from '../datapath/reference-nat.ts'
import { Story } from './story.ts'
import { type Load, World } from './world.ts'

const LAN = 0
const WAN = 1

export interface Failure {
  readonly seed: number
  readonly fault: string
  /** The story, a line a packet. */
  readonly lines: readonly string[]
}

export interface FuzzOptions {
  readonly shards: number
  readonly filtering: Dependence
  readonly load: Load
}

export class Fuzzer {
  packets = 0
  delivered = 0
  readonly #world: World
  readonly #options: FuzzOptions

  static async start(options: FuzzOptions): Promise<Fuzzer> {
    return new Fuzzer(await World.start(options), options)
  }

  private constructor(world: World, options: FuzzOptions) {
    this.#world = world
    this.#options = options
  }

  /** How often the stories so far have got to what is hard to get to. */
  get reached(): Record<string, number> {
    const world = this.#world
    return {
      'connections begun': world.count('connectionsInserted', 4),
      'kinds of drops': Object.keys(world.drops()).length,
      'packets left to the kernel': world.count('notOurs', 2),
      'fragments that waited': world.count('fragmentWaits', 2),
      'ICMP errors carried': world.count('icmpErrorsTranslated'),
      'ICMP errors sent': world.count('icmpErrorsSent', 6),
      'resets sent': world.count('resetsSent'),
      'SYNs held': world.count('heldSyns'),
      'packets that waited for a neighbour': world.count('neighbourWaits', 2),
      'announcements rewritten': world.count('helperRewrites'),
      'connections that were expected': world.count('expectationsMatched'),
      ...(world.shards > 1 && { 'packets handed over': world.count('handovers', 6) }),
    }
  }

  /** Drops by reason so far. */
  drops(): Record<string, number> {
    return this.#world.drops()
  }

  /** Plays the story of a seed: what is wrong with what came of it, or undefined. */
  play(seed: number, tell?: (line: string) => void): Failure | undefined {
    const fault = this.#play(seed, tell)
    if (fault === undefined) return undefined
    // What is left of it is not the next one's.
    this.#world.settle()
    this.#world.left(LAN)
    this.#world.left(WAN)
    return { seed, fault, lines: [] }
  }

  /** The same, and tells every packet; in a world of its own, which no other story has been played in. */
  static async tell(seed: number, options: FuzzOptions): Promise<Failure | undefined> {
    const lines: string[] = []
    const fuzzer = await Fuzzer.start(options)
    const fault = fuzzer.#play(seed, (line) => lines.push(line))
    return fault === undefined ? undefined : { seed, fault, lines }
  }

  #play(seed: number, tell?: (line: string) => void): string | undefined {
    const world = this.#world
    const reference = new ReferenceNat(this.#options.filtering)
    const story = new Story(seed)
    // With a second of the clock, or it would not be told again alone: natloom counts whole ones.
    world.now = Math.ceil(world.now / 1000) * 1000
    const began = world.now
    try {
      for (let step = story.next(); step; step = story.next()) {
        const { pass, side, frame, at } = step
        if (pass > 0) {
          world.pass(pass)
          const fault = this.#judge(reference, story, undefined, tell)
          if (fault) return fault
        }
        this.packets++
        const came = `by the ${side === LAN ? 'LAN' : 'outside'}${at < 0 ? '' : `, to shard ${at % world.shards}`}`
        tell?.(`${world.now - began} ms, ${came}: ${printed(frame)}`)
        const drops = tell && world.drops()
        world.arrive(side, frame, at)
        if (drops) tell(`    ${difference(drops, world.drops())}`)
        const fault = this.#judge(reference, story, step, tell)
        if (fault) return fault
      }
      const left = world.settle()
      return this.#judge(reference, story, undefined, tell) ?? left[0]
    } catch (error) {
      return `thrown: ${error instanceof Error ? error.stack : error}`
    }
  }

  #judge(
    reference: ReferenceNat,
    story: Story,
    step: { readonly side: 0 | 1; readonly frame: Uint8Array } | undefined,
    tell?: (line: string) => void,
  ): string | undefined {
    const world = this.#world
    const toLan = world.left(LAN)
    const toWan = world.left(WAN)
    if (tell) for (const sent of toLan) tell(`    to the LAN: ${printed(sent)}`)
    if (tell) for (const sent of toWan) tell(`    to the outside: ${printed(sent)}`)
    if (tell && step) tell(`    the reference has: ${reference.describe(world.now)}`)
    this.delivered += toLan.length + toWan.length
    story.learn(toLan, toWan)
    return step
      ? reference.arrived(world.now, step.side, step.frame, toLan, toWan)
      : reference.left(world.now, toLan, toWan)
  }
}

function printed(frame: Uint8Array): string {
  const mem = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
  const line = print(mem, 0, frame.length)
  // An acknowledgement's number, which tcpdump doesn't print, matters here.
  return line.includes('Flags [') && !line.includes('seq ') && frame.length >= 42
    ? `${line}, at ${mem.getUint32(38)}`
    : line
}

const difference = (before: Record<string, number>, after: Record<string, number>): string =>
  Object.keys(after)
    .filter((reason) => after[reason] !== before[reason])
    .join(', ')
