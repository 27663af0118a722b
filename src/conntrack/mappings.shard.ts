// This shard's mappings: finding, making and ending rows of its table (mapping-table.ts). Owner: the shard.

import { attached } from '../memory/attached.ts'
import type { Row } from '../memory/brand.ts'
import { hash4 } from '../memory/siphash.ts'
import type { Addr, ProtocolNumber } from '../wire/address.ts'
import { fault } from './fault-points.ts'
import { cutMappings, ENDED, MAPPING, SECOND } from './mapping-table.ts'

const table = cutMappings(attached().mappings, attached().capacity)
export const { rows: mappings } = table
const { index } = table
/** The rows' words: row r begins at mappingBase(r). */
export const mapping = mappings.words
const SHIFT = 4

export const mappingBase = (row: Row): number => row << SHIFT

// Two kinds of key share the index; the domain in the last word keeps their hashes apart from each other's.
const BY_INSIDE = 0x200
const BY_EXTERNAL = 0x300

/** Of an inside endpoint, the same in every shard. */
export const insideHash = (
  address: Addr,
  port: number,
  remote: Addr,
  remotePort: number,
  protocol: ProtocolNumber,
): number => hash4(address, remote, port | (remotePort << 16), protocol | BY_INSIDE)
const externalHash = (address: Addr, port: number, protocol: ProtocolNumber): number =>
  hash4(address, 0, port, protocol | BY_EXTERNAL)

/** Ports as on the wire. 0 if there is none. */
export function findByInside(
  protocol: ProtocolNumber,
  address: Addr,
  port: number,
  remote: Addr,
  remotePort: number,
): number {
  const hash = insideHash(address, port, remote, remotePort, protocol)
  for (let at = index.first(hash); at >= 0; at = index.next(hash, at)) {
    const row = index.refAt(at) >> 1
    const base = row << SHIFT
    if (
      (index.refAt(at) & 1) === 0 &&
      mapping[base + MAPPING.insideAddress] === address &&
      (mapping[base + MAPPING.ports]! & 0xffff) === port &&
      mapping[base + MAPPING.remoteAddress] === remote &&
      mapping[base + MAPPING.remotePort] === remotePort &&
      (mapping[base + MAPPING.flags]! & 0xff) === protocol
    )
      return row
  }
  return 0
}

export function findByExternal(protocol: ProtocolNumber, address: Addr, port: number): number {
  const hash = externalHash(address, port, protocol)
  for (let at = index.first(hash); at >= 0; at = index.next(hash, at)) {
    const row = index.refAt(at) >> 1
    const base = row << SHIFT
    if (
      (index.refAt(at) & 1) === 1 &&
      mapping[base + MAPPING.externalAddress] === address &&
      mapping[base + MAPPING.ports]! >>> 16 === port &&
      (mapping[base + MAPPING.flags]! & 0xff) === protocol
    )
      return row
  }
  return 0
}

/** The external port is the caller's already. 0 if the table is full. */
export function insertMapping(
  protocol: ProtocolNumber,
  insideAddress: Addr,
  insidePort: number,
  remoteAddress: Addr,
  remotePort: number,
  externalAddress: number,
  externalPort: number,
  external: number,
  second = false,
): number {
  const row = mappings.begin()
  if (row === 0) return 0
  const base = row << SHIFT
  mapping[base + MAPPING.insideAddress] = insideAddress
  mapping[base + MAPPING.externalAddress] = externalAddress
  mapping[base + MAPPING.ports] = insidePort | (externalPort << 16)
  mapping[base + MAPPING.remoteAddress] = remoteAddress
  mapping[base + MAPPING.remotePort] = remotePort
  mapping[base + MAPPING.flags] = second ? protocol | SECOND : protocol
  mapping[base + MAPPING.external] = external
  mapping[base + MAPPING.holders] = 0
  mapping[base + MAPPING.rows] = 0
  mappings.commit(row)
  list(row)
  return row
}

/** The hashes by which a row is found, from its fields. */
const hashByInside = (base: number): number =>
  insideHash(
    mapping[base + MAPPING.insideAddress]!,
    mapping[base + MAPPING.ports]! & 0xffff,
    mapping[base + MAPPING.remoteAddress]!,
    mapping[base + MAPPING.remotePort]!,
    mapping[base + MAPPING.flags]! & 0xff,
  )
const hashByExternal = (base: number): number =>
  externalHash(
    mapping[base + MAPPING.externalAddress]!,
    mapping[base + MAPPING.ports]! >>> 16,
    mapping[base + MAPPING.flags]! & 0xff,
  )

function list(row: Row): void {
  if (!isSecond(row)) index.insert(hashByInside(row << SHIFT), row << 1)
  fault('mapping found by its inside end only')
  index.insert(hashByExternal(row << SHIFT), (row << 1) | 1)
}

/** Nothing new finds it from now on; its row and its port stay until the last connection is gone. */
export function endMapping(row: Row): void {
  const base = row << SHIFT
  if (hasEnded(row)) return
  if (!isSecond(row)) index.remove(hashByInside(base), row << 1)
  fault('mapping lost by its inside end only')
  index.remove(hashByExternal(base), (row << 1) | 1)
  mapping[base + MAPPING.flags]! |= ENDED
  fault('mapping ended')
}

/** On a dead shard's memory, first: the rows as they are, in no index, held by nobody yet. */
export function recoverMappingRows(): void {
  mappings.recover()
  index.clear()
  for (let row = 1; row <= mappings.highest; row++) {
    mapping[(row << SHIFT) + MAPPING.rows] = 0
    mapping[(row << SHIFT) + MAPPING.holders] = 0
  }
}

/** Then, when connections have been counted: one without any goes, one without a holder has ended. */
export function recoverMapping(row: Row): void {
  const base = row << SHIFT
  if (mapping[base + MAPPING.rows] === 0) mappings.retire(row)
  else if (mapping[base + MAPPING.holders] === 0) mapping[base + MAPPING.flags]! |= ENDED
  else if (!hasEnded(row)) list(row)
}

export function removeMapping(row: Row): void {
  endMapping(row)
  mappings.retire(row)
}

export const isSecond = (row: Row): boolean => (mapping[(row << SHIFT) + MAPPING.flags]! & SECOND) !== 0
export const mappingProtocol = (row: Row): number => mapping[(row << SHIFT) + MAPPING.flags]! & 0xff
export const hasEnded = (row: Row): boolean => (mapping[(row << SHIFT) + MAPPING.flags]! & ENDED) !== 0
