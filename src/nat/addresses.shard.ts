// The external addresses as this shard knows them: a copy of what the coordinator has decided (externals.ts), and which
// of them an inside address goes by (paired pooling, RFC 4787 REQ-2; RFC 6888 REQ-2).
//
// The pair is found by rendezvous hashing: each external address has a weight for the inside address, and the heaviest
// is taken, so that a change of the pool moves only those that go to an address that is new or came from one that is
// gone. With 1024 addresses that is 1024 weights, so each address' part of the hash is computed once, and pairs are
// kept by inside address as long as the addresses are the same.
//
// Owner: this thread. Pairs are the same in every shard that knows the same addresses.

import type { Entry } from '../memory/brand.ts'
import { hash4 } from '../memory/siphash.ts'
import type { Addr } from '../wire/address.ts'
import { type Externals, VACANT } from './externals.ts'

/** Keeps the pairing of inside and external addresses apart from other uses of the hash. */
const PAIRING = 0x500
/** Pairs that are kept, each in the one place that its inside address may have; a power of two. */
const KEPT_PAIRS = 4096

let externals: Externals
let version = -1
/** Entries in use. */
let active: readonly Entry[] = []
let entryOf: ReadonlyMap<Addr, Entry> = new Map()
/** By place in `active`: its address' part of the weights. */
let salts = new Int32Array(0)
/** Inside addresses, and the entry + 1 of each, 0 for none. */
const insides = new Int32Array(KEPT_PAIRS)
const pairs = new Int32Array(KEPT_PAIRS)

export function attachAddresses(shared: Externals): void {
  externals = shared
  version = -1
  active = []
  entryOf = new Map()
  salts = new Int32Array(0)
  pairs.fill(0)
}

/** Looks at the addresses again if they have changed; true if one is lost that was known, or none was known before. */
export function followAddresses(): boolean {
  if (externals.addressesVersion() === version) return false
  version = externals.addressesVersion()
  const before = entryOf
  active = Array.from({ length: externals.capacity }, (_, entry) => entry).filter(
    (entry) => externals.kindOf(entry) !== VACANT,
  )
  entryOf = new Map(active.map((entry) => [externals.addressOf(entry), entry]))
  salts = Int32Array.from(active, (entry) => hash4(externals.addressOf(entry), 0, 0, PAIRING))
  pairs.fill(0)
  return before.size === 0 || [...before].some(([address, entry]) => entryOf.get(address) !== entry)
}

/** The entry of one of NAT's addresses, -1 for any other. */
export const externalEntry = (address: Addr): Entry => entryOf.get(address) ?? -1

/** The entry of the external address that an inside address goes by, -1 if there is none. */
export function pairedEntry(inside: Addr): Entry {
  const hash = hash4(inside, 0, 0, PAIRING)
  const place = hash & (KEPT_PAIRS - 1)
  if (pairs[place] !== 0 && insides[place] === inside) return pairs[place]! - 1
  let best = -1
  let bestWeight = -1
  for (let i = 0; i < salts.length; i++) {
    const weight = mix(hash ^ salts[i]!)
    if (weight <= bestWeight) continue
    bestWeight = weight
    best = i
  }
  if (best < 0) return -1
  insides[place] = inside
  pairs[place] = active[best]! + 1
  return active[best]!
}

/** MurmurHash3's 32-bit finaliser: each bit of its argument changes about half of the result's. Unsigned. */
function mix(word: number): number {
  let mixed = Math.imul(word ^ (word >>> 16), 0x85ebca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
  return (mixed ^ (mixed >>> 16)) >>> 0
}
