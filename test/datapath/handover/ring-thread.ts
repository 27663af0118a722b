// A producer's or the consumer's thread of handover-threads.test.ts. They sleep and wake as shards do, with a counter
// in shared memory in place of the eventfd.

import { parentPort, workerData } from 'node:worker_threads'
import { ENTRY, HandoverRings, Inbox, Outbox } from '../../../src/datapath/handover/handover-rings.ts'
import { Region } from '../../../src/memory/region.ts'
import { PATIENCE_MS } from '../../patience.ts'

/** What a thread is given. */
export interface RingThread {
  readonly rings: SharedArrayBuffer
  readonly shards: number
  /** Its place as a producer; none for the consumer. */
  readonly producer?: number
  readonly consumer: number
  /** How many entries each producer puts. */
  readonly entries: number
  /** Only one entry at a time: the next is put when it is done with. Whoever sleeps through one sleeps for ever. */
  readonly lockStep: boolean
  /**
   * The consumer's eventfd, [0]: counts wakes; [1] its sleeps, the first of which the producers await; [2] the entries
   * that are done with.
   */
  readonly wakes: SharedArrayBuffer
}

/** What the consumer tells. */
export interface RingReport {
  /**
   * Entries that came, by producer; those that were not the next one of theirs; sleeps, and those that nobody ended.
   */
  readonly received: number[]
  readonly disorder: number
  readonly sleeps: number
  readonly missedWakes: number
}

const BURST = 64

const { rings: buffer, shards, producer, consumer, entries, lockStep, wakes } = workerData as RingThread
const rings = new HandoverRings(new Region(buffer), shards)
const doorbell = new Int32Array(wakes)

/** What else an entry must say, if it is whole. */
const lengthOf = (number: number): number => Math.imul(number, 0x9e3779b1)

function wake(): void {
  Atomics.add(doorbell, 0, 1)
  Atomics.notify(doorbell, 0)
}

/** Mostly without sleep: what comes next should come while the consumer is about to sleep. */
function awaitDone(number: number): void {
  for (let looks = 0; looks < 2000; looks++) if (Atomics.load(doorbell, 2) === number) return
  Atomics.wait(doorbell, 2, number - 1, PATIENCE_MS)
}

function produce(place: number): void {
  const outbox = new Outbox(rings, place)
  Atomics.wait(doorbell, 1, 0)
  const pause = new Int32Array(new SharedArrayBuffer(4))
  for (let number = 0; number < entries; ) {
    // Bursts of all lengths, so that the consumer falls asleep in between.
    const burst = lockStep ? 1 : 1 + (lengthOf(number) >>> 26)
    for (let i = 0; i < burst && number < entries && outbox.hasRoom(consumer); i++, number++)
      outbox.put(consumer, number, lengthOf(number), (number >> 3) & 3, number)
    outbox.publish(wake)
    if (lockStep) awaitDone(number)
    // A full ring: lets the consumer run where there is one core. Nothing is waited for that could come earlier.
    if (!outbox.hasRoom(consumer)) Atomics.wait(pause, 0, 0, 1)
  }
}

function consume(): RingReport {
  const inbox = new Inbox(rings, consumer)
  const received: number[] = Array(inbox.producers).fill(0)
  let [disorder, sleeps, missedWakes] = [0, 0, 0]
  for (let left = lockStep ? entries : 2 * entries; left > 0; ) {
    if (!inbox.hasMail()) {
      const wakesBefore = Atomics.load(doorbell, 0)
      if (inbox.fallAsleep()) {
        sleeps = Atomics.add(doorbell, 1, 1) + 1
        Atomics.notify(doorbell, 1)
        if (Atomics.wait(doorbell, 0, wakesBefore, PATIENCE_MS) === 'timed-out')
          return { received, disorder, sleeps, missedWakes: 1 }
      }
      inbox.wakeUp()
      continue
    }
    for (let from = 0; from < inbox.producers; from++) {
      const count = inbox.receive(from, BURST)
      for (let i = 0; i < count; i++) {
        const entry = inbox.entry(from, count, i)
        const number = rings.entries[entry + ENTRY.at]!
        const whole = rings.entries[entry + ENTRY.length] === lengthOf(number)
        if (number !== received[from] || !whole || rings.entries[entry + ENTRY.ports] !== number) disorder++
        received[from]! += 1
      }
      if (count === 0) continue
      inbox.release(from)
      left -= count
      Atomics.add(doorbell, 2, count)
      Atomics.notify(doorbell, 2)
    }
  }
  return { received, disorder, sleeps, missedWakes }
}

if (producer === undefined) parentPort?.postMessage(consume())
else produce(producer)
