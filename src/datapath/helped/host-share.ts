// What one inside host has of the room that this shard has for helped connections: how many of them, in how many blocks
// their bytes lie, how many pieces their streams list. So that it can't take the room of all others. Every shard has
// room of its own, so a quarter of each is a quarter of all.
// Owner: this thread; lost if it dies, with what it counts.

import { baseOf } from '../../conntrack/connection-table.ts'
import { originOf, srcOf } from '../../conntrack/connections.shard.ts'
import { INSIDE } from '../../conntrack/terms.ts'
import type { Row } from '../../memory/brand.ts'
import type { Addr } from '../../wire/address.ts'
import { MOST_HELPED_OF_HOST, MOST_PIECES, MOST_PIECES_OF_HOST } from './limits.ts'

export interface HostShare {
  connections: number
  /** Counted by their queues (byte-queue.ts). */
  blocks: number
  /** Entries in lists of their streams (stream.ts, early-pieces.ts). */
  pieces: number
}

/** By address, of hosts that have a connection. */
const shares = new Map<Addr, HostShare>()

/** Entries in the lists of all streams. */
let listed = 0

export function attachHostShares(): void {
  shares.clear()
  listed = 0
}

export const piecesListed = (): number => listed

export function countPieces(share: HostShare, more: number): void {
  listed += more
  share.pieces += more
}

/** There is room for another entry in a list. */
export const mayList = ({ pieces }: HostShare): boolean => listed < MOST_PIECES && pieces < MOST_PIECES_OF_HOST

/** The address of the connection's inside end. */
const hostOf = (row: Row): Addr => srcOf(baseOf(row), originOf(row) === INSIDE ? 0 : 1)

/** Whether the inside host of this connection may have one more. */
export const mayHostHaveMore = (row: Row): boolean => (shares.get(hostOf(row))?.connections ?? 0) < MOST_HELPED_OF_HOST

/** The inside host of this connection has one more. */
export function beginShare(row: Row): HostShare {
  const host = hostOf(row)
  const share = shares.get(host) ?? { connections: 0, blocks: 0, pieces: 0 }
  share.connections++
  shares.set(host, share)
  return share
}

/** It has one less; the row still says whose it was. */
export function endShare(row: Row): void {
  const host = hostOf(row)
  const share = shares.get(host)
  if (share === undefined) return
  share.connections--
  if (share.connections === 0) shares.delete(host)
}
