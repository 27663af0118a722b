// This worker's part of the drop table (drop-table.ts). Owner: this worker, the only writer of its classes.

import { now } from '../memory/clock.ts'
import { Region } from '../memory/region.ts'
import type { Addr, Ports, ProtocolNumber } from '../wire/address.ts'
import type { DropReason } from './drop-reasons.ts'
import { type DropClass, DropTable, HALF_LIFE, halvingsUntil, SOURCE, SOURCE_WORDS, SOURCES } from './drop-table.ts'

/** Before a table is attached there is none, and nothing is noted. */
let table = new DropTable(new Region(), { ports: 0, workers: 1 })
let words = table.sources
let worker = 0
/** Decides who is admitted. Nothing is kept secret by it. */
let chance = 1

export function attachDrops(shared: DropTable, ownWorker: number): void {
  table = shared
  words = shared.sources
  worker = ownWorker
}

/** One more packet that came by this port was dropped; the class that its source is noted in. */
export function countDropped(port: number, reason: DropReason): DropClass {
  const of = table.classOf(worker, port, reason)
  table.packets[of]! += 1
  return of
}

/** What an interface has refused to send and what its receive ring has lost, so far. */
export function noteLink(port: number, failures: number, losses: number): void {
  table.links[table.linkOf(worker, port)] = failures
  table.links[table.linkOf(worker, port) + 1] = losses
}

/** Notes whose it was. `ports` is 0 if they are not known. */
export function noteSource(
  of: DropClass,
  source: Addr,
  destination: Addr,
  ports: Ports,
  protocol: ProtocolNumber,
): void {
  const base = of * SOURCE_WORDS
  if (now - words[base + SOURCE.halved]! >= HALF_LIFE) halve(base)
  const entry = entryFor(base, source)
  if (entry < 0) return
  const at = base + entry
  words[at + SOURCE.second] = now
  words[at + SOURCE.destination] = destination
  words[at + SOURCE.ports] = ports
  words[at + SOURCE.protocol] = protocol
}

/** The entry of a source, which has counted one more; -1 if it is not admitted. */
function entryFor(base: number, source: Addr): number {
  for (let entry = 0; entry < SOURCES; entry++)
    if (words[base + entry] === source) {
      words[base + SOURCE.count + entry]! += 1
      return entry
    }
  // No count is below this, so most of a flood need not look for the smallest.
  const atLeast = words[base + SOURCE.least]!
  if (draw(atLeast + 1) !== 0) return -1
  const smallest = smallestOf(base)
  const least = words[base + SOURCE.count + smallest]!
  words[base + SOURCE.least] = least
  // One in `atLeast + 1` has passed so far, and one in `least + 1` is to.
  if (draw(least + 1) > atLeast) return -1
  words[base + SOURCE.count + smallest] = least + 1
  words[base + smallest] = source
  return smallest
}

function smallestOf(base: number): number {
  let smallest = 0
  for (let entry = 1; entry < SOURCES; entry++)
    if (words[base + SOURCE.count + entry]! < words[base + SOURCE.count + smallest]!) smallest = entry
  return smallest
}

/** A number below `end`. Numerical Recipes' generator, of which the high bits are the good ones. */
function draw(end: number): number {
  chance = (Math.imul(chance, 1664525) + 1013904223) | 0
  return (chance >>> 8) % end
}

function halve(base: number): void {
  const halved = words[base + SOURCE.halved]!
  const halvings = halvingsUntil(halved, now)
  for (let at = base + SOURCE.count; at < base + SOURCE.count + SOURCES; at++) {
    words[at] = words[at]! >> halvings
    if (words[at] === 0) words[at - SOURCE.count] = 0
  }
  words[base + SOURCE.least] = 0
  words[base + SOURCE.halved] = now - ((now - halved) % HALF_LIFE)
}
