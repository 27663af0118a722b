// The ports that were freed and may not be given again yet, in the order in which they were freed: a ring of (port
// index, second, whose), with room for every port of the blocks that this shard leases, since each port is in it once
// at most. Whether a port's time is over is said by its word (port-words.ts); this queue says which port to look at
// next. Until then a port counts for the host whose mapping had it: by the row of the host table, which stays as long.
//
// Owner: this thread; derived from the port words (ports.shard.ts).

import { HOST, type HostRow } from '../conntrack/host-table.ts'
import { countIn } from '../conntrack/hosts.shard.ts'
import { CELL } from '../counters/counters.ts'
import { counters } from '../counters/own-counters.shard.ts'
import type { PortIndex, Seconds } from '../memory/brand.ts'
import { spaceAt } from './externals.ts'

/** Ports that there is room for at first; a power of two, as it is later. */
const FEWEST_PLACES = 64
/** Words of a place: a power of two. */
const PLACE_WORDS = 4
const PORT = 0
const SECOND = 1
const WHOSE = 2
/** In place of a row of the host table: the port counts for nobody. */
export const NOBODYS: HostRow = -1

let ring = new Int32Array(0)
/** Ports of our blocks that may come in. */
let mayBeQuarantined = 0
let head = 0
let tail = 0

export function attachQuarantine(): void {
  ring = new Int32Array(PLACE_WORDS * FEWEST_PLACES)
  mayBeQuarantined = 0
  head = 0
  tail = 0
}

const slotOf = (count: number): number => (count * PLACE_WORDS) & (ring.length - 1)

/**
 * Makes room for so many ports more. To be called when a block is leased: freeing a port, in a packet's time, allocates
 * nothing.
 */
export function makeRoomInQuarantine(ports: number): void {
  mayBeQuarantined += ports
  if (quarantineRoom() >= mayBeQuarantined) return
  const larger = new Int32Array(PLACE_WORDS * 2 ** Math.ceil(Math.log2(mayBeQuarantined)))
  const count = quarantined()
  for (let i = 0; i < count; i++) {
    const slot = slotOf(head + i)
    larger.set(ring.subarray(slot, slot + PLACE_WORDS), PLACE_WORDS * i)
  }
  ring = larger
  head = 0
  tail = count
}

/** Gives up the room for so many ports. */
export function giveUpRoom(ports: number): void {
  mayBeQuarantined -= ports
}

export function beginQuarantine(at: PortIndex, second: Seconds, host: HostRow = NOBODYS): void {
  const slot = slotOf(tail)
  ring[slot + PORT] = at
  ring[slot + SECOND] = second
  ring[slot + WHOSE] = host
  tail++
  if (host !== NOBODYS) countIn(host, HOST.resting, 1)
  counters[CELL.portsResting + spaceAt(at)]! += 1
}

/** Takes the oldest out if it was freed at `second` or before; -1 if there is none. */
export function nextOutOfQuarantine(second: Seconds): PortIndex {
  if (head === tail) return -1
  const slot = slotOf(head)
  if (ring[slot + SECOND]! > second) return -1
  head++
  return leave(slot)
}

/** The port of a place, which counts as resting no longer. */
function leave(slot: number): PortIndex {
  const at = ring[slot + PORT]!
  counters[CELL.portsResting + spaceAt(at)]! -= 1
  if (ring[slot + WHOSE] !== NOBODYS) countIn(ring[slot + WHOSE]!, HOST.resting, -1)
  return at
}

/** Takes out every port of which `isOver` is true. Looks at all. */
export function forgetQuarantine(isOver: (at: PortIndex) => boolean): void {
  let kept = head
  for (let from = head; from !== tail; from++) {
    const slot = slotOf(from)
    if (isOver(ring[slot + PORT]!)) leave(slot)
    else ring.copyWithin(slotOf(kept++), slot, slot + PLACE_WORDS)
  }
  tail = kept
}

/** Ports in the queue. */
export const quarantined = (): number => tail - head
/** How many it has room for. */
export const quarantineRoom = (): number => ring.length / PLACE_WORDS
