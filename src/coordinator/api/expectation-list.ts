// The expectations in force as JSON: an array, one expectation a line. Each slot is a snapshot
// (conntrack/expectation-table.ts, copy()).
// Owner: nobody; reads the expectation table.

import {
  ANY_SOURCE,
  EXPECTATION,
  type ExpectationTable,
  generationOf,
  handleOf,
  INACTIVE,
  PERMANENT,
  secondsLeft,
  WIDTH,
} from '../../conntrack/expectation-table.ts'
import { OUTSIDE } from '../../conntrack/terms.ts'
import { type Externals, spaceOf } from '../../nat/externals.ts'
import { formatAddress, formatPrefix, swap16, swap32 } from '../../wire/address.ts'
import { PROTO_TCP, PROTO_UDP } from '../../wire/ipv4.ts'
import type { LoadedHelper } from '../helpers/helper-manager.ts'
import { jsonLines } from './json-lines.ts'

export interface TupleText {
  readonly source: string
  readonly destination: string
  /** TCP and UDP only. */
  readonly sourcePort?: number
  readonly destinationPort?: number
}

export interface Expectation {
  /** TCP or UDP by number. */
  readonly protocol: number
  /** The side by which the expected connection's first packet arrives. */
  readonly origin: 'inside' | 'outside'
  /** Seconds until it expires. */
  readonly timeout: number
  /** An address or a prefix; 0.0.0.0/0 is any source. */
  readonly source: string
  /** 0: any. */
  readonly sourcePort: number
  /** The destination of the packet as it arrives, before translation. */
  readonly destination: string
  readonly destinationPort: number
  /** The endpoint as the master's payload named it, before translation. */
  readonly announced: { readonly address: string; readonly port: number }
  /** The shard that will own the first packet, if that follows from the destination alone. */
  readonly owner: number | null
  readonly helper: string
  /** The expectation's class, if its helper has several. */
  readonly class?: string
  /** The name of the helper that will read the expected connection. */
  readonly childHelper?: string
  readonly permanent: boolean
  readonly inactive: boolean
  /** Whether an external port is reserved for it. */
  readonly reserved: boolean
  /** The connection that announced it: where it is, and its original tuple. */
  readonly master: { readonly shard: number; readonly row: number; readonly original: TupleText }
}

export interface ExpectationSources {
  readonly memory: { readonly expectations: ExpectationTable; readonly externals: Externals }
  readonly helpers: readonly LoadedHelper[]
  /** The second of the shards' clock. */
  clock(): number
}

/** The text of a JSON array in pieces. */
export const expectationList = (sources: ExpectationSources): AsyncGenerator<string> => jsonLines(linesOf(sources))

function* linesOf(sources: ExpectationSources): Generator<string | undefined> {
  const { expectations: table } = sources.memory
  const copy = new Int32Array(WIDTH)
  for (let slot = 0; slot < table.slots; slot++) {
    const word = table.word(slot)
    const found = table.copy(slot, copy) ? expectation(copy, sources) : undefined
    const isInForce = found !== undefined && found.timeout > 0
    yield isInForce ? JSON.stringify({ handle: handleOf(slot, generationOf(word)), ...found }) : undefined
  }
}

function expectation(slot: Int32Array, { memory, helpers, clock }: ExpectationSources): Expectation {
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
    timeout: secondsLeft(at('deadline'), clock()),
    source: sourceText(at('src'), (at('flags') & ANY_SOURCE) !== 0 ? 0 : at('srcMask')),
    sourcePort: port('srcPort'),
    destination: formatAddress(at('dst')),
    destinationPort,
    announced: { address: formatAddress(at('savedAddress')), port: port('savedPort') },
    owner: isOutside ? lesseeOf(memory.externals, protocol, at('dst'), destinationPort) : null,
    // Unknown if the helper was unloaded just now.
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

/** Address and mask as loaded. */
const sourceText = (address: number, mask: number): string =>
  mask === -1 ? formatAddress(address) : formatPrefix({ address: address & mask, mask, length: 32 - zerosBelow(mask) })

/** How many bits at the end of a netmask are not set. */
const zerosBelow = (mask: number): number => (mask === 0 ? 32 : 31 - Math.clz32(swap32(mask) & -swap32(mask)))

/** The lessee of the destination's port block; null for endpoints whose owner depends on the sender (rule 2). */
function lesseeOf(externals: Externals, protocol: number, address: number, port: number) {
  const entry = externals.find(address)
  if (entry < 0) return null
  const lessee = externals.ownerOfBlock(entry, spaceOf(protocol), Math.floor(port / externals.blockSize))
  return lessee < 0 ? null : lessee
}

/** Addresses and the ports word as loaded. */
export const tupleText = (protocol: number, src: number, dst: number, ports: number): TupleText => ({
  source: formatAddress(src),
  destination: formatAddress(dst),
  ...(protocol === PROTO_TCP || protocol === PROTO_UDP
    ? { sourcePort: swap16(ports & 0xffff), destinationPort: swap16(ports >>> 16) }
    : {}),
})
