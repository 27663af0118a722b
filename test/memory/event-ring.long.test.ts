import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  BODY,
  cutEvents,
  EVENT,
  EVENT_SLOTS,
  EventReader,
  type EventRing,
  EventWriter,
  FRAME,
  KIND,
  SECOND,
} from '../../src/memory/event-ring.ts'
import { allocate } from '../../src/memory/region.ts'
import type { EventThread } from './event-thread.ts'

const ring = (): { buffer: SharedArrayBuffer; view: EventRing } => allocate(cutEvents)

/** What a reader has seen: numbers of events, and a negative one for so many lost. */
function drained(reader: EventReader): number[] {
  const seen: number[] = []
  reader.drain(
    (records, at) => seen.push(records[at + BODY]!),
    (lost) => seen.push(-lost),
  )
  return seen
}

function write(writer: EventWriter, number: number): void {
  const at = writer.begin(EVENT.flowNew, 7)
  if (at < 0) return
  writer.records[at + BODY] = number
  writer.end()
}

describe('a shard’s event ring', () => {
  it('asks for nothing until somebody wants something', () => {
    const { view } = ring()
    const writer = new EventWriter(view)
    expect(writer.wants(EVENT.flowNew)).toBe(false)
    const reader = new EventReader(view)
    reader.want(EVENT.flowNew | EVENT.packet)
    expect([writer.wants(EVENT.flowNew), writer.wants(EVENT.flowEnd)]).toEqual([true, false])
    reader.want(0)
    expect(writer.wants(EVENT.flowNew)).toBe(false)
  })

  it('says what a record is, when it was written, and which frame it belongs to', () => {
    const { view } = ring()
    const reader = new EventReader(view)
    reader.setFrame(12)
    write(new EventWriter(view), 99)
    reader.setFrame(13)
    const seen: number[][] = []
    reader.drain(
      (records, at) => seen.push([KIND, FRAME, SECOND, BODY].map((word) => records[at + word]!)),
      () => seen.push([]),
    )
    expect(seen).toEqual([[EVENT.flowNew, 12, 7, 99]])
  })

  it('loses what finds it full, and tells how many where they were', () => {
    const { view } = ring()
    const [writer, reader] = [new EventWriter(view), new EventReader(view)]
    for (let i = 0; i < EVENT_SLOTS + 5; i++) write(writer, i)
    const seen = drained(reader)
    expect(seen.length).toBe(EVENT_SLOTS + 1)
    expect(seen.slice(-2)).toEqual([EVENT_SLOTS - 1, -5])
    write(writer, 1_000_000)
    expect(drained(reader)).toEqual([1_000_000])
  })

  it('goes on for a writer that takes a dead one’s place', () => {
    const { view } = ring()
    const reader = new EventReader(view)
    const dead = new EventWriter(view)
    write(dead, 1)
    dead.begin(EVENT.flowEnd, 0)
    write(new EventWriter(view), 2)
    expect(drained(reader)).toEqual([1, 2])
  })

  it('tells in order of all that was written, whatever is read when', () => {
    const steps = fc.array(fc.oneof(fc.integer({ min: 0, max: 3000 }), fc.constant('read' as const)), { maxLength: 40 })
    fc.assert(
      fc.property(steps, (plan) => {
        const { view } = ring()
        const [writer, reader] = [new EventWriter(view), new EventReader(view)]
        let [written, read] = [0, 0]
        const take = () => {
          for (const number of drained(reader)) {
            if (number < 0) read -= number
            else expect(number).toBe(read++)
          }
        }
        for (const step of plan) {
          if (step === 'read') take()
          else for (let i = 0; i < step; i++) write(writer, written++)
        }
        take()
        expect(read).toBe(written)
      }),
      { numRuns: 60 },
    )
  })

  it('tells a thread of every event of another, or how many it has lost', async () => {
    const { buffer, view } = ring()
    const EVENTS = 400_000
    const path = fileURLToPath(new URL('../../dist/test/memory/event-thread.js', import.meta.url))
    const data: EventThread = { ring: buffer, events: EVENTS }
    const reader = new EventReader(view)
    reader.want(EVENT.flowNew)
    const writer = new Worker(path, { workerData: data })
    let [next, lost, torn] = [0, 0, 0]
    const take = (): void => {
      reader.drain(
        (records, at) => {
          const number = records[at + BODY]!
          if (number !== next || records[at + BODY + 15] !== Math.imul(number, 0x9e3779b1)) torn++
          next = number + 1
        },
        (count) => {
          next += count
          lost += count
        },
      )
    }
    let ended = false
    const gone = new Promise<void>((resolve, reject) => {
      writer.once('exit', () => resolve())
      writer.once('error', reject)
    })
    void gone.then(() => {
      ended = true
    })
    while (!ended) {
      take()
      await new Promise((resolve) => setImmediate(resolve))
    }
    await gone
    take()
    expect({ next, torn }).toEqual({ next: EVENTS, torn: 0 })
    expect(lost).toBeLessThan(EVENTS)
  })
})
