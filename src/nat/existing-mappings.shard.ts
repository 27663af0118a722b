// The external port that an inside endpoint has already: what it announces is announced there, whichever shard it
// announces through (RFC 4787 REQ-1: one external endpoint for an inside one). The mapping is its owner's, in another
// thread, so it is read by the rules of memory/rows.ts, and read again when its port has been named by a reservation:
// from then on the port is nobody else's, even if the mapping ends. One that is missed because its index is just being
// changed costs a second port, no more.
//
// Owner: none; only port words are written, by compare-and-swap.

import {
  ENDED,
  MAPPING,
  MAPPING_REMOTE_PORT_SHIFT,
  MAPPING_WORDS,
  type MappingView,
  SECOND,
} from '../conntrack/mapping-table.ts'
import { insideHash } from '../conntrack/mappings.shard.ts'
import type { Entry, PortIndex, Shard } from '../memory/brand.ts'
import { LIVE } from '../memory/rows.ts'
import type { Addr, Port, ProtocolNumber } from '../wire/address.ts'
import { ntohs } from '../wire/address.ts'
import { type Externals, spaceOf } from './externals.ts'
import { reserveTaken } from './reservations.ts'

/** Candidates looked at: an index that is being changed under our hands must not lead round in circles. */
const MOST_CANDIDATES = 32

let externals: Externals
/** The mapping tables of all shards, by shard. */
let views: readonly MappingView[] = []

export function attachExistingMappings(shared: Externals, mappings: readonly MappingView[]): void {
  externals = shared
  views = mappings
}

/**
 * Reserves the external port of an inside endpoint's mapping, which is in its owner's table, on the address of an
 * entry: its port index, or -1 if there is none.
 */
export function reserveExisting(
  protocol: ProtocolNumber,
  inside: Addr,
  port: Port,
  owner: Shard,
  entry: Entry,
): PortIndex {
  const view = views[owner]
  if (view === undefined) return -1
  const { words, index } = view
  const hash = insideHash(protocol, inside, port, 0, 0)
  let cell = index.first(hash)
  for (let seen = 0; cell >= 0 && seen < MOST_CANDIDATES; cell = index.next(hash, cell), seen++) {
    const base = (index.refAt(cell) >> 1) * MAPPING_WORDS
    const generation = Atomics.load(words, base + MAPPING.generation)
    const isOf =
      (generation & 1) === 0 &&
      isInsideEndpoint(words, base, protocol, inside, port) &&
      words[base + MAPPING.external] === entry
    if (!isOf) continue
    const at = externals.portIndex(entry, spaceOf(protocol), ntohs(words[base + MAPPING.ports]! >>> 16))
    const isStill = (): boolean =>
      Atomics.load(words, base + MAPPING.generation) === generation && (words[base + MAPPING.flags]! & ENDED) === 0
    if (isStill() && reserveTaken(externals, at, isStill)) return at
  }
  return -1
}

/** The row is a mapping of this inside endpoint that its flows find, whomever they go to. */
function isInsideEndpoint(
  words: Int32Array,
  base: number,
  protocol: ProtocolNumber,
  inside: Addr,
  port: Port,
): boolean {
  const flags = words[base + MAPPING.flags]!
  return (
    (flags & (LIVE | ENDED | SECOND)) === LIVE &&
    (flags & 0xff) === protocol &&
    words[base + MAPPING.insideAddress] === inside &&
    (words[base + MAPPING.ports]! & 0xffff) === port &&
    words[base + MAPPING.remoteAddress] === 0 &&
    flags >>> MAPPING_REMOTE_PORT_SHIFT === 0
  )
}
