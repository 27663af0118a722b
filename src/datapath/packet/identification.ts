// Identifications of datagrams that leave in fragments. Translated, hosts that have chosen theirs alone share one
// source address, and a receiver puts together what has the same source, destination, protocol and identification. So
// natloom chooses (RFC 6864 5.3; net/ipv4/route.c, __ip_select_ident): a datagram that came in fragments, or that is
// cut here, gets a number that no other one towards the same remote end had for as long as 16 bits allow. A whole
// datagram keeps its own, as does everything where nothing is translated.
//
// Shard s of N counts s, s + N, s + 2N ... for each remote end and protocol, beginning anywhere; a permutation of the
// 16-bit numbers, which is the same in every shard and another for each remote end, makes an identification of it. So
// shards never choose the same, and nobody learns from one number which is next, or how many others there were (RFC
// 7739). Counts are shared by remote ends whose hash is the same, and lost with the thread.
//
// Owner: this thread.

import { INSIDE, protocolIn } from '../../conntrack/terms.ts'
import type { Shard } from '../../memory/brand.ts'
import { random32 } from '../../memory/random.ts'
import { hash4 } from '../../memory/siphash.ts'
import type { Addr, ProtocolNumber } from '../../wire/address.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import { DST, IDENTIFICATION, IP, KEY, SRC, side, UNCHOSEN } from './burst.ts'
import { mem } from './packet-memory.ts'

const NUMBERS = 1 << 16
const COUNTS = 4096
/** Of the Feistel network below; four make it a pseudorandom permutation (Luby and Rackoff). */
const ROUNDS = 4
/** Keep these hashes apart from those of other tables. */
const REMOTE_DOMAIN = 0x602
const ROUND_DOMAIN = 0x603

let shard: Shard = 0
let shards = 1
let translates = true
const counts = new Int32Array(COUNTS)
let start = 0

export function attachIdentification(number: Shard, of: number, isTranslated: boolean): void {
  shard = number
  shards = of
  translates = isTranslated
  counts.fill(0)
  start = random32()
}

/** An identification for a datagram towards a remote end, or from it. */
export function chooseIdentification(remote: Addr, protocol: ProtocolNumber): number {
  const key = hash4(remote, protocol, 0, REMOTE_DOMAIN)
  const cell = key & (COUNTS - 1)
  const count = counts[cell]!
  const own = Math.floor((NUMBERS - 1 - shard) / shards) + 1
  counts[cell] = count + 1 === own ? 0 : count + 1
  const from = ((start ^ key) >>> 0) % own
  return permuted(shard + shards * ((from + count) % own), key)
}

/** A permutation of the 16-bit numbers: a Feistel network over two bytes, keyed by the thread's hash key and `key`. */
function permuted(number: number, key: number): number {
  let left = number >>> 8
  let right = number & 0xff
  for (let round = 0; round < ROUNDS; round++) {
    const next = left ^ (hash4(right, key, round, ROUND_DOMAIN) & 0xff)
    left = right
    right = next
  }
  return (left << 8) | right
}

/** The identification that packet i, a fragment, has from here on: its datagram's, which is chosen by now. */
export function identificationOf(i: number): number {
  if (!translates) return ipv4.id(mem, IP[i]!)
  if (IDENTIFICATION[i] === UNCHOSEN) {
    const remote = side === INSIDE ? DST[i]! : SRC[i]!
    IDENTIFICATION[i] = chooseIdentification(remote, protocolIn(KEY[i]!))
  }
  return IDENTIFICATION[i]!
}

/** The same for a packet that is cut here; its own where nothing is translated. */
export const identificationOfCut = (remote: Addr, protocol: ProtocolNumber, own: number): number =>
  translates ? chooseIdentification(remote, protocol) : own
