// This shard's mappings: finding, making and ending rows of its table (mapping-table.ts). Owner: the shard.

import { attached } from '../memory/attached.ts'
import type { Entry, Row } from '../memory/brand.ts'
import { hash4 } from '../memory/siphash.ts'
import type { Addr, Port, ProtocolNumber } from '../wire/address.ts'
import { fault } from './fault-points.ts'
import { HOST, type HostRow } from './host-table.ts'
import { countDown, countUp, isOthers } from './hosts.shard.ts'
import {
  cutMappings,
  ENDED,
  MAPPING,
  MAPPING_AS_OTHERS,
  MAPPING_REMOTE_PORT_SHIFT,
  MAPPING_WORDS,
  SECOND,
} from './mapping-table.ts'

const table = cutMappings(attached().mappings, attached().mappingCapacity)
export const { rows: mappings } = table
const { index } = table
/** The rows' words: row r begins at mappingBase(r). */
export const mapping = mappings.words

export const mappingBase = (row: Row): number => row * MAPPING_WORDS

// Two kinds of key share the index; the domain in the last word keeps their hashes apart from each other's.
const BY_INSIDE = 0x200
const BY_EXTERNAL = 0x300

/** Of an inside endpoint, the same in every shard. */
export const insideHash = (
  protocol: ProtocolNumber,
  address: Addr,
  port: Port,
  remote: Addr,
  remotePort: Port,
): number => hash4(address, remote, port | (remotePort << 16), protocol | BY_INSIDE)
const externalHash = (protocol: ProtocolNumber, address: Addr, port: Port): number =>
  hash4(address, 0, port, protocol | BY_EXTERNAL)

/**
 * The mapping of an inside endpoint; 0 if there is none. The remote endpoint is 0 where mapping does not depend on it.
 */
export function findByInside(protocol: ProtocolNumber, address: Addr, port: Port, remote: Addr, remotePort: Port): Row {
  const hash = insideHash(protocol, address, port, remote, remotePort)
  for (let at = index.first(hash); at >= 0; at = index.next(hash, at)) {
    const row: Row = index.refAt(at) >> 1
    const base = mappingBase(row)
    if (
      (index.refAt(at) & 1) === 0 &&
      mapping[base + MAPPING.insideAddress] === address &&
      (mapping[base + MAPPING.ports]! & 0xffff) === port &&
      mapping[base + MAPPING.remoteAddress] === remote &&
      mapping[base + MAPPING.flags]! >>> MAPPING_REMOTE_PORT_SHIFT === remotePort &&
      (mapping[base + MAPPING.flags]! & 0xff) === protocol
    )
      return row
  }
  return 0
}

/** The mapping of an external endpoint; 0 if there is none. */
export function findByExternal(protocol: ProtocolNumber, address: Addr, port: Port): Row {
  const hash = externalHash(protocol, address, port)
  for (let at = index.first(hash); at >= 0; at = index.next(hash, at)) {
    const row: Row = index.refAt(at) >> 1
    const base = mappingBase(row)
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

/** What a new mapping says. */
export interface NewMapping {
  readonly protocol: ProtocolNumber
  readonly insideAddress: Addr
  readonly insidePort: Port
  /** Where mapping depends on the remote endpoint, else 0. */
  readonly remoteAddress: Addr
  readonly remotePort: Port
  readonly externalAddress: Addr
  readonly externalPort: Port
  readonly external: Entry
  /** The inside endpoint has another mapping already, which its new flows go on to find. */
  readonly isSecond: boolean
}

/** The external port is the caller's already. 0 if the table is full. */
export function insertMapping(made: NewMapping): Row {
  const row = mappings.begin()
  if (row === 0) return 0
  const base = mappingBase(row)
  mapping[base + MAPPING.insideAddress] = made.insideAddress
  mapping[base + MAPPING.externalAddress] = made.externalAddress
  mapping[base + MAPPING.ports] = made.insidePort | (made.externalPort << 16)
  mapping[base + MAPPING.remoteAddress] = made.remoteAddress
  mapping[base + MAPPING.flags] =
    made.protocol | (made.isSecond ? SECOND : 0) | (made.remotePort << MAPPING_REMOTE_PORT_SHIFT)
  mapping[base + MAPPING.external] = made.external
  mapping[base + MAPPING.holders] = 0
  mapping[base + MAPPING.rows] = 0
  if (isOthers(countUp(made.insideAddress, HOST.ports))) mapping[base + MAPPING.flags]! |= MAPPING_AS_OTHERS
  fault('host counted, no mapping')
  mappings.commit(row)
  list(row)
  return row
}

/** The hashes by which a row is found, from its fields. */
const hashByInside = (row: Row): number =>
  insideHash(
    mappingProtocol(row),
    insideAddressOf(row),
    insidePortOf(row),
    mapping[mappingBase(row) + MAPPING.remoteAddress]!,
    mapping[mappingBase(row) + MAPPING.flags]! >>> MAPPING_REMOTE_PORT_SHIFT,
  )
const hashByExternal = (row: Row): number =>
  externalHash(mappingProtocol(row), externalAddressOf(row), externalPortOf(row))

function list(row: Row): void {
  if (!isSecond(row)) index.insert(hashByInside(row), row << 1)
  fault('mapping found by its inside end only')
  index.insert(hashByExternal(row), (row << 1) | 1)
}

/** Nothing new finds it from now on; its row and its port stay until the last connection is gone. */
export function endMapping(row: Row): void {
  const base = mappingBase(row)
  if (hasEnded(row)) return
  if (!isSecond(row)) index.remove(hashByInside(row), row << 1)
  fault('mapping lost by its inside end only')
  index.remove(hashByExternal(row), (row << 1) | 1)
  mapping[base + MAPPING.flags]! |= ENDED
  fault('mapping ended')
}

/** On a dead shard's memory, first: the rows as they are, in no index, held by nobody yet. */
export function recoverMappingRows(): void {
  mappings.recover()
  index.clear()
  for (let row = 1; row <= mappings.highest; row++) {
    mapping[mappingBase(row) + MAPPING.rows] = 0
    mapping[mappingBase(row) + MAPPING.holders] = 0
  }
}

/** Then, when connections have been counted: one without any goes, one without a holder has ended. */
export function recoverMapping(row: Row): void {
  const base = mappingBase(row)
  if (mapping[base + MAPPING.rows] === 0) mappings.retire(row)
  else if (mapping[base + MAPPING.holders] === 0) mapping[base + MAPPING.flags]! |= ENDED
  else if (!hasEnded(row)) list(row)
}

/** The row that counts for its inside host (host-table.ts). */
export function removeMapping(row: Row): HostRow {
  const host = insideAddressOf(row)
  const asOthers = (mapping[mappingBase(row) + MAPPING.flags]! & MAPPING_AS_OTHERS) !== 0
  endMapping(row)
  mappings.retire(row)
  fault('mapping gone, its host counted')
  return countDown(host, HOST.ports, asOthers)
}

// --- what a row says ---

export const insideAddressOf = (row: Row): Addr => mapping[mappingBase(row) + MAPPING.insideAddress]!
export const insidePortOf = (row: Row): Port => mapping[mappingBase(row) + MAPPING.ports]! & 0xffff
export const externalAddressOf = (row: Row): Addr => mapping[mappingBase(row) + MAPPING.externalAddress]!
export const externalPortOf = (row: Row): Port => mapping[mappingBase(row) + MAPPING.ports]! >>> 16
/** The entry of its external address. */
export const externalOf = (row: Row): Entry => mapping[mappingBase(row) + MAPPING.external]!
export const mappingProtocol = (row: Row): ProtocolNumber => mapping[mappingBase(row) + MAPPING.flags]! & 0xff
export const isSecond = (row: Row): boolean => (mapping[mappingBase(row) + MAPPING.flags]! & SECOND) !== 0
export const hasEnded = (row: Row): boolean => (mapping[mappingBase(row) + MAPPING.flags]! & ENDED) !== 0
