// Which block moves to a shard that has asked for one: one of which no port is in use, from the shard that leases most
// of the space. Ports of it may be in quarantine or the host's, the new lessee reads their words; but not all of them:
// such a block would help nobody, be asked for again at once, and begin its quarantine anew with each move.
// Owner: the coordinator, the only writer of leases (nat/externals.ts).

import type { Entry, Shard } from '../../memory/brand.ts'
import { type Block, type Externals, type Space, VACANT } from '../../nat/externals.ts'
import { isHostBound, isTaken, wasFreed } from '../../nat/port-words.ts'

/** A shard that gives a block away keeps at least as many: fewer, and it would ask for one itself. */
const BLOCKS_KEPT = 2

/** Leases such a block to a shard; false if there is none to be had. */
export function moveFreeBlock(externals: Externals, entry: Entry, space: Space, toShard: Shard): boolean {
  if (externals.kindOf(entry) === VACANT) return false
  const blocks = blocksByLessee(externals, entry, space)
  const donors = [...blocks.keys()].filter((shard) => shard !== toShard && blocks.get(shard)!.length > BLOCKS_KEPT)
  donors.sort((a, b) => blocks.get(b)!.length - blocks.get(a)!.length)
  for (const donor of donors)
    for (const block of worthMoving(externals, entry, space, blocks.get(donor)!)) {
      if (!externals.takeBack(entry, space, block)) continue
      externals.lease(entry, space, block, toShard)
      return true
    }
  return false
}

/**
 * A look before any is frozen, since most blocks of a busy shard have a port in use: those with the most ports that can
 * be given first.
 */
function worthMoving(externals: Externals, entry: Entry, space: Space, blocks: readonly Block[]): Block[] {
  return blocks
    .map((block) => ({ block, useless: uselessOfUnused(externals, entry, space, block) }))
    .filter(({ useless }) => useless < externals.blockSize)
    .sort((a, b) => a.useless - b.useless)
    .map(({ block }) => block)
}

function blocksByLessee(externals: Externals, entry: Entry, space: Space): Map<Shard, Block[]> {
  const blocks = new Map<Shard, Block[]>()
  for (let block = 0; block < externals.blocksPerSpace; block++) {
    const lessee = externals.ownerOfBlock(entry, space, block)
    if (lessee < 0) continue
    const list = blocks.get(lessee)
    if (list) list.push(block)
    else blocks.set(lessee, [block])
  }
  return blocks
}

/** How many of a block's ports are in quarantine or the host's; all of them if one is in use. */
function uselessOfUnused(externals: Externals, entry: Entry, space: Space, block: Block): number {
  const first = externals.portIndex(entry, space, block * externals.blockSize)
  let useless = 0
  for (let port = 0; port < externals.blockSize; port++) {
    const word = Atomics.load(externals.portWords, first + port)
    if (isTaken(word)) return externals.blockSize
    if (wasFreed(word) || isHostBound(word)) useless++
  }
  return useless
}
