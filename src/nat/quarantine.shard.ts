// The ports that were freed and may not be given again yet, in the order in which they were freed: a ring of (port
// index, second), with room for every port of the blocks that this shard leases, since each port is in it once at most.
// Whether a port's time is over is said by its word (port-words.ts); this queue says which port to look at next.
//
// Owner: this thread; derived from the port words (ports.shard.ts).

import { CELL } from '../counters/counters.ts'
import { counters } from '../counters/own-counters.shard.ts'
import type { PortIndex, Seconds } from '../memory/brand.ts'
import { spaceAt } from './externals.ts'

/** Ports that there is room for at first; a power of two, as it is later. */
const FEWEST_PLACES = 64

let ring = new Int32Array(0)
/** Ports of our blocks that may come in. */
let mayBeQuarantined = 0
let head = 0
let tail = 0

export function attachQuarantine(): void {
  ring = new Int32Array(2 * FEWEST_PLACES)
  mayBeQuarantined = 0
  head = 0
  tail = 0
}

const slotOf = (count: number): number => (count * 2) & (ring.length - 1)

/**
 * Makes room for so many ports more. To be called when a block is leased: freeing a port, in a packet's time, allocates
 * nothing.
 */
export function makeRoomInQuarantine(ports: number): void {
  mayBeQuarantined += ports
  if (quarantineRoom() >= mayBeQuarantined) return
  const larger = new Int32Array(2 * 2 ** Math.ceil(Math.log2(mayBeQuarantined)))
  const count = quarantined()
  for (let i = 0; i < count; i++) {
    const slot = slotOf(head + i)
    larger[2 * i] = ring[slot]!
    larger[2 * i + 1] = ring[slot + 1]!
  }
  ring = larger
  head = 0
  tail = count
}

/** Gives up the room for so many ports. */
export function giveUpRoom(ports: number): void {
  mayBeQuarantined -= ports
}

export function beginQuarantine(at: PortIndex, second: Seconds): void {
  const slot = slotOf(tail)
  ring[slot] = at
  ring[slot + 1] = second
  tail++
  counters[CELL.portsResting + spaceAt(at)]! += 1
}

/** Takes the oldest out if it was freed at `second` or before; -1 if there is none. */
export function nextOutOfQuarantine(second: Seconds): PortIndex {
  if (head === tail) return -1
  const slot = slotOf(head)
  if (ring[slot + 1]! > second) return -1
  head++
  counters[CELL.portsResting + spaceAt(ring[slot]!)]! -= 1
  return ring[slot]!
}

/** Takes out every port of which `isOver` is true. Looks at all. */
export function forgetQuarantine(isOver: (at: PortIndex) => boolean): void {
  let kept = head
  for (let from = head; from !== tail; from++) {
    const at = ring[slotOf(from)]!
    if (isOver(at)) {
      counters[CELL.portsResting + spaceAt(at)]! -= 1
      continue
    }
    ring[slotOf(kept)] = at
    ring[slotOf(kept) + 1] = ring[slotOf(from) + 1]!
    kept++
  }
  tail = kept
}

/** Ports in the queue. */
export const quarantined = (): number => tail - head
/** How many it has room for. */
export const quarantineRoom = (): number => ring.length / 2
