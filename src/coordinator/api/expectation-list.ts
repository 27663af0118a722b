// What stands expected, as JSON: one array with a line each. The table is small and read in one go; each slot is as it was
// at a moment (conntrack/expectation-table.ts, copy()).

import {
  ANY_SOURCE,
  EXPECTATION,
  generationOf,
  handleOf,
  INACTIVE,
  PERMANENT,
  secondsLeft,
  WIDTH,
} from '../../conntrack/expectation-table.ts'
import { spaceOf } from '../../nat/externals.ts'
import { formatAddress, formatPrefix, swap16, swap32 } from '../../wire/address.ts'
import type { LoadedHelper } from '../helpers/helper-manager.ts'
import type { GatewayMemory } from '../memory.ts'

export interface TupleText {
  readonly source: string
  readonly destination: string
  /** TCP and UDP. */
  readonly sourcePort?: number
  readonly destinationPort?: number
}

export interface Expectation {
  /** 6 or 17. */
  readonly protocol: number
  /** The side by which the expected connection's first packet arrives. */
  readonly origin: 'inside' | 'outside'
  /** Seconds that it still waits. */
  readonly timeout: number
  /** An address, or a prefix; 0.0.0.0/0 is anyone. */
  readonly source: string
  /** 0: any. */
  readonly sourcePort: number
  /** As the packet arrives. */
  readonly destination: string
  readonly destinationPort: number
  /** As it was announced, before translation. */
  readonly announced: { readonly address: string; readonly port: number }
  /** The shard that the first packet will come to, if that follows from the destination. */
  readonly owner: number | null
  readonly helper: string
  /** Of a helper with several classes. */
  readonly class?: string
  /** Reads the expected connection. */
  readonly childHelper?: string
  readonly permanent: boolean
  readonly inactive: boolean
  /** A port is kept free for it. */
  readonly reserved: boolean
  /** Where the connection is that announced it, and its original tuple. */
  readonly master: { readonly shard: number; readonly row: number; readonly original: TupleText }
}

export interface ExpectationSources {
  readonly memory: Pick<GatewayMemory, 'expectations' | 'externals'>
  readonly helpers: readonly LoadedHelper[]
  /** Of the shards' clock. */
  readonly second: number
}

const OUTSIDE = 1

/** The text of a JSON array. */
export function expectationList(sources: ExpectationSources): string {
  const { expectations: table } = sources.memory
  const copy = new Int32Array(WIDTH)
  const lines: string[] = []
  for (let slot = 0; slot < table.slots; slot++) {
    const word = table.word(slot)
    if (!table.copy(slot, copy)) continue
    const found = expectation(copy, sources)
    if (found.timeout > 0) lines.push(JSON.stringify({ handle: handleOf(slot, generationOf(word)), ...found }))
  }
  return lines.length === 0 ? '[]\n' : `[\n${lines.join(',\n')}\n]\n`
}

function expectation(slot: Int32Array, { memory, helpers, second }: ExpectationSources): Expectation {
  const at = (field: keyof typeof EXPECTATION): number => slot[EXPECTATION[field]]!
  const port = (field: keyof typeof EXPECTATION): number => swap16(at(field))
  const protocol = at('key') & 0xff
  const isOutside = ((at('key') >> 8) & 1) === OUTSIDE
  const helper = helpers.find(({ id }) => id === at('helper'))
  const child = helpers.find(({ id }) => id === at('childHelper'))
  const destinationPort = port('dstPort')
  return {
    protocol,
    origin: isOutside ? 'outside' : 'inside',
    timeout: secondsLeft(at('deadline'), second),
    source: sourceText(at('src'), (at('flags') & ANY_SOURCE) !== 0 ? 0 : at('srcMask')),
    sourcePort: port('srcPort'),
    destination: formatAddress(at('dst')),
    destinationPort,
    announced: { address: formatAddress(at('savedAddress')), port: port('savedPort') },
    owner: isOutside ? lesseeOf(memory.externals, protocol, at('dst'), destinationPort) : null,
    // It has been unloaded just now.
    helper: helper?.name ?? `helper-${at('helper')}`,
    ...(helper && helper.classes.length > 1 && { class: helper.classes[at('class')]?.name ?? String(at('class')) }),
    ...(child && { childHelper: child.name }),
    permanent: (at('flags') & PERMANENT) !== 0,
    inactive: (at('flags') & INACTIVE) !== 0,
    reserved: at('reservation') !== 0,
    master: {
      shard: at('masterShard'),
      row: at('masterRow'),
      original: tupleText(at('masterKey') & 0xff, at('masterSrc'), at('masterDst'), at('masterPorts')),
    },
  }
}

/** As loaded. */
const sourceText = (address: number, mask: number): string =>
  mask === -1 ? formatAddress(address) : formatPrefix({ address: address & mask, mask, length: 32 - zerosBelow(mask) })

/** A netmask's bits from its end that are not set. */
const zerosBelow = (mask: number): number => (mask === 0 ? 32 : 31 - Math.clz32(swap32(mask) & -swap32(mask)))

/** Of a dictated or an inside endpoint the owner depends on who sends. */
function lesseeOf(externals: GatewayMemory['externals'], protocol: number, address: number, port: number) {
  const entry = externals.find(address)
  if (entry < 0) return null
  const lessee = externals.ownerOfBlock(entry, spaceOf(protocol), Math.floor(port / externals.blockSize))
  return lessee < 0 ? null : lessee
}

/** Addresses and ports word as loaded. */
export const tupleText = (protocol: number, src: number, dst: number, ports: number): TupleText => ({
  source: formatAddress(src),
  destination: formatAddress(dst),
  ...(protocol === 6 || protocol === 17
    ? { sourcePort: swap16(ports & 0xffff), destinationPort: swap16(ports >>> 16) }
    : {}),
})
