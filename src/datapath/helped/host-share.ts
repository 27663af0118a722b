// What one inside host has of the room that this shard has for helped connections: in how many blocks their bytes lie,
// how many pieces their streams list, so that it can't take the room of all others. It stands in the host's row of the
// host table (conntrack/host-table.ts), beside how many such connections it has, of all shards, which `limits` says.
// Of blocks and pieces every shard has room of its own, so a quarter of each is a quarter of all.
// Owner: this thread; lost if it dies, with what it counts.

import { HOST, type HostRow } from '../../conntrack/host-table.ts'
import { countHere, countIn } from '../../conntrack/hosts.shard.ts'
import { MOST_PIECES, MOST_PIECES_OF_HOST } from './limits.ts'

/** The share of the host that has this row, which counts a helped connection as long as the share is named. */
export class HostShare {
  readonly row: HostRow

  constructor(row: HostRow) {
    this.row = row
  }

  /** Counted by its queues (byte-queue.ts). */
  get blocks(): number {
    return countHere(this.row, HOST.helpedBlocks)
  }

  set blocks(count: number) {
    countIn(this.row, HOST.helpedBlocks, count - this.blocks)
  }

  /** Entries in lists of its streams (stream.ts, early-pieces.ts). */
  get pieces(): number {
    return countHere(this.row, HOST.helpedPieces)
  }
}

/** Entries in the lists of all streams. */
let listed = 0

export function attachHostShares(): void {
  listed = 0
}

export const piecesListed = (): number => listed

export function countPieces({ row }: HostShare, more: number): void {
  listed += more
  countIn(row, HOST.helpedPieces, more)
}

/** There is room for another entry in a list. */
export const mayList = (share: HostShare): boolean => listed < MOST_PIECES && share.pieces < MOST_PIECES_OF_HOST
