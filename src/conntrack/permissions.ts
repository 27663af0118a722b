// The permission table: which remote addresses a mapping's inside end has sent to, hence may be answered by under
// address-dependent filtering (RFC 4787 section 5). A row counts the connections of one mapping with one remote address
// whose inside end has sent, so that neither asking nor forgetting walks a mapping's connections, whose number an
// attacker could choose. With address-and-port-dependent filtering the remote port is part of the key, else zero.
// Owner: the shard that owns the mapping.

import { HashIndex } from '../memory/hash-index.ts'
import { layout } from '../memory/layout.ts'
import type { Region } from '../memory/region.ts'
import { Rows } from '../memory/rows.ts'
import { hash4 } from '../memory/siphash.ts'

const WORDS = 8
const SHIFT = 3
const PERMISSION = layout(WORDS, {
  mapping: 0,
  remoteAddress: 1,
  /** As on the wire. */
  remotePort: 2,
  flags: 3,
  /** Connections that stand behind it. */
  count: 4,
  generation: 7,
})
/** Keeps its hashes apart from those of tuples and mappings. */
const DOMAIN = 0x400

export let permissions: Rows
let words: Int32Array = new Int32Array(0)
let index: HashIndex

export function seatPermissions(region: Region, capacity: number): void {
  permissions = new Rows(region, {
    capacity,
    width: WORDS,
    flagsWord: PERMISSION.flags,
    generationWord: PERMISSION.generation,
  })
  words = permissions.words
  index = new HashIndex(region, capacity)
}

/** 0 if the remote endpoint may not send to the mapping. */
export function findPermission(mapping: number, remoteAddress: number, remotePort: number): number {
  const hash = hash4(mapping, remoteAddress, remotePort, DOMAIN)
  for (let at = index.first(hash); at >= 0; at = index.next(hash, at)) {
    const row = index.refAt(at) >> 1
    const base = row << SHIFT
    if (
      words[base + PERMISSION.mapping] === mapping &&
      words[base + PERMISSION.remoteAddress] === remoteAddress &&
      words[base + PERMISSION.remotePort] === remotePort
    )
      return row
  }
  return 0
}

/** Counts one connection more behind the permission, which it makes if need be; 0 if the table is full. */
export function permit(mapping: number, remoteAddress: number, remotePort: number): number {
  let row = findPermission(mapping, remoteAddress, remotePort)
  if (row === 0) {
    row = permissions.begin()
    if (row === 0) return 0
    const base = row << SHIFT
    words[base + PERMISSION.mapping] = mapping
    words[base + PERMISSION.remoteAddress] = remoteAddress
    words[base + PERMISSION.remotePort] = remotePort
    words[base + PERMISSION.count] = 0
    permissions.commit(row)
    index.insert(hash4(mapping, remoteAddress, remotePort, DOMAIN), row << 1)
  }
  words[(row << SHIFT) + PERMISSION.count]! += 1
  return row
}

/** One connection fewer; the last takes the permission with it. */
export function withdraw(row: number): void {
  const base = row << SHIFT
  const left = words[base + PERMISSION.count]! - 1
  words[base + PERMISSION.count] = left
  if (left > 0) return
  const hash = hash4(
    words[base + PERMISSION.mapping]!,
    words[base + PERMISSION.remoteAddress]!,
    words[base + PERMISSION.remotePort]!,
    DOMAIN,
  )
  index.remove(hash, row << 1)
  permissions.retire(row)
}
