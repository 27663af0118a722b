// This shard's permissions: asking, granting and withdrawing (permission-table.ts). Owner: the shard.

import { attached } from '../memory/attached.ts'
import type { Row } from '../memory/brand.ts'
import { hash4 } from '../memory/siphash.ts'
import type { Addr, Port } from '../wire/address.ts'
import { fault } from './fault-points.ts'
import { cutPermissions, PERMISSION, PERMISSION_REMOTE_PORT_SHIFT, PERMISSION_WORDS } from './permission-table.ts'

const table = cutPermissions(attached().permissions, attached().capacity)
export const permissions = table.rows
const { index } = table
const words = permissions.words
/** Keeps its hashes apart from those of tuples and mappings. */
const DOMAIN = 0x400

const baseOf = (row: Row): number => row * PERMISSION_WORDS

/** 0 if the remote endpoint may not send to the mapping. */
export function findPermission(mapping: Row, remoteAddress: Addr, remotePort: Port): Row {
  const hash = hash4(mapping, remoteAddress, remotePort, DOMAIN)
  for (let at = index.first(hash); at >= 0; at = index.next(hash, at)) {
    const row: Row = index.refAt(at) >> 1
    const base = baseOf(row)
    if (
      words[base + PERMISSION.mapping] === mapping &&
      words[base + PERMISSION.remoteAddress] === remoteAddress &&
      words[base + PERMISSION.flags]! >>> PERMISSION_REMOTE_PORT_SHIFT === remotePort
    )
      return row
  }
  return 0
}

/** Counts one connection more behind the permission, which it makes if need be; 0 if the table is full. */
export function permit(mapping: Row, remoteAddress: Addr, remotePort: Port): Row {
  let row: Row = findPermission(mapping, remoteAddress, remotePort)
  if (row === 0) {
    row = permissions.begin()
    if (row === 0) return 0
    const base = baseOf(row)
    words[base + PERMISSION.mapping] = mapping
    words[base + PERMISSION.remoteAddress] = remoteAddress
    words[base + PERMISSION.flags] = remotePort << PERMISSION_REMOTE_PORT_SHIFT
    words[base + PERMISSION.count] = 0
    permissions.commit(row)
    fault('permission made')
    index.insert(hash4(mapping, remoteAddress, remotePort, DOMAIN), row << 1)
  }
  words[baseOf(row) + PERMISSION.count]! += 1
  fault('permission counted')
  return row
}

/** One connection fewer; the last takes the permission with it. */
export function withdraw(row: Row): void {
  const base = baseOf(row)
  const left = words[base + PERMISSION.count]! - 1
  words[base + PERMISSION.count] = left
  fault('permission withdrawn')
  if (left > 0) return
  const hash = hash4(
    words[base + PERMISSION.mapping]!,
    words[base + PERMISSION.remoteAddress]!,
    words[base + PERMISSION.flags]! >>> PERMISSION_REMOTE_PORT_SHIFT,
    DOMAIN,
  )
  index.remove(hash, row << 1)
  permissions.retire(row)
}

/** On a dead shard's memory: none is left. All follow from the connections, which permit() makes them of again. */
export function recoverPermissions(): void {
  permissions.recover()
  index.clear()
  for (let row = 1; row <= permissions.highest; row++) if (permissions.isLive(row)) permissions.retire(row)
}
