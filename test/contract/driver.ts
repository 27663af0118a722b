// What every packet driver promises (src/io/driver.ts), as tests. A driver's own test file calls describeDriver() with
// a fixture that puts its ports between far ends. Frames that are lent are tested in driver-lending.ts.

import { Worker } from 'node:worker_threads'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BURST, type Driver, VIRTIO_NET_HEADER } from '../../src/io/driver.ts'
import { PATIENCE_MS } from '../patience.ts'
import {
  at,
  burst,
  copyOf,
  type DriverFixture,
  length,
  numbers,
  receiveCopies,
  type Subject,
  sequence,
  TOO_LONG,
} from './driver-fixture.ts'
import { describeLending } from './driver-lending.ts'
import { numbered, numberOf, offload, superPacket } from './frames.ts'

export function describeDriver(name: string, makeFixture: () => DriverFixture): void {
  describe(`driver contract: ${name}`, () => {
    let fixture: DriverFixture
    let driver: Driver
    const subject = {} as Subject

    beforeEach(() => {
      fixture = makeFixture()
      driver = fixture.driver
      Object.assign(subject, { fixture, driver })
    })
    afterEach(() => fixture.close())

    /** Writes a frame into scratch as the i-th one there; returns where it begins. */
    function inScratch(i: number, frame: Uint8Array, header = new Uint8Array(VIRTIO_NET_HEADER)): number {
      const frameAt = driver.scratchAt + i * 2048 + 64
      const bytes = new Uint8Array(driver.packetMemory)
      bytes.set(header, frameAt - VIRTIO_NET_HEADER)
      bytes.set(frame, frameAt)
      return frameAt
    }

    describe('receiving', () => {
      it.each([60, 61, 590, 1514])('lists a frame of %i bytes exactly as it was sent', (bytes) => {
        const frame = numbered(7, bytes)
        fixture.deliver(0, frame)
        expect(receiveCopies(driver, 0, 1).map((carried) => carried.frame)).toEqual([frame])
      })

      it('lists frames in the order of their arrival', () => {
        for (const i of sequence(0, 40)) fixture.deliver(1, numbered(i))
        expect(numbers(receiveCopies(driver, 1, 40))).toEqual(sequence(0, 40))
      })

      it('keeps the ports apart', () => {
        fixture.deliver(0, numbered(100))
        fixture.deliver(1, numbered(101))
        expect(numbers(receiveCopies(driver, 1, 1))).toEqual([101])
        expect(numbers(receiveCopies(driver, 0, 1))).toEqual([100])
      })

      it('lists nothing where nothing has arrived', () => {
        expect(driver.receive(0, at, length)).toBe(0)
      })

      it('never lists more than a burst, and the rest afterwards', () => {
        for (const i of sequence(0, BURST + 20)) fixture.deliver(0, numbered(i))
        const first = burst(driver, 0)
        expect(first).toBeLessThanOrEqual(BURST)
        expect(numberOf(copyOf(driver, at[0], length[0]).frame)).toBe(0)
        driver.release(0)
        expect(numbers(receiveCopies(driver, 0, BURST + 20 - first))).toEqual(sequence(first, BURST + 20 - first))
      })

      it('lists a frame once, whether it was released or not', () => {
        fixture.deliver(0, numbered(1))
        expect(burst(driver, 0)).toBe(1)
        expect(driver.receive(0, at, length)).toBe(0)
        driver.release(0)
        expect(driver.receive(0, at, length)).toBe(0)
      })

      it('puts the IPv4 header on a multiple of four', () => {
        for (const i of sequence(0, 5)) fixture.deliver(0, numbered(i, 60 + i))
        const listed = burst(driver, 0)
        for (let i = 0; i < listed; i++) expect((at[i] + 14) % 4).toBe(0)
        driver.release(0)
      })

      it('loses what finds the ring full, counts it, and goes on after release', () => {
        for (const i of sequence(0, fixture.slots + 10)) fixture.deliver(0, numbered(i))
        const kept = receiveCopies(driver, 0, fixture.slots)
        expect(numbers(kept)).toEqual(sequence(0, fixture.slots))
        expect(driver.receiveLosses(0)).toBe(10)
        expect(driver.receiveLosses(1)).toBe(0)
        fixture.deliver(0, numbered(5000))
        expect(numbers(receiveCopies(driver, 0, 1))).toEqual([5000])
        expect(driver.receiveLosses(0)).toBe(10)
      })

      it('says how many frames it holds, those of the burst in hand included, until they are given back', () => {
        const arrived = Math.min(fixture.slots, BURST + 20)
        expect(driver.receiveSlots).toBe(fixture.slots)
        expect(driver.holds(0, 1)).toBe(false)
        for (const i of sequence(0, arrived)) fixture.deliver(0, numbered(i))
        const first = burst(driver, 0)
        expect(driver.holds(0, arrived)).toBe(true)
        if (arrived < fixture.slots) expect(driver.holds(0, arrived + 1)).toBe(false)
        expect(driver.holds(0, fixture.slots + 1)).toBe(false)
        driver.release(0)
        expect(driver.holds(0, arrived - first + 1)).toBe(false)
        if (arrived > first) expect(driver.holds(0, arrived - first)).toBe(true)
        expect(driver.holds(1, 1)).toBe(false)
        expect(numbers(receiveCopies(driver, 0, arrived - first))).toEqual(sequence(first, arrived - first))
      })

      it('uses its ring over and over', () => {
        const laps = 3
        let next = 0
        while (next < laps * fixture.slots) {
          const wave = sequence(next, 50)
          for (const i of wave) fixture.deliver(0, numbered(i))
          expect(numbers(receiveCopies(driver, 0, wave.length))).toEqual(wave)
          next += wave.length
        }
        expect(driver.receiveLosses(0)).toBe(0)
      })
    })

    describeLending(subject)

    describe('the virtio-net header', () => {
      const partial = superPacket({ payload: 512 })
      const whole = superPacket({ payload: 20_000, gsoSize: 1448 })

      it('asks for nothing where the link asked for nothing, whatever lay in the ring before', () => {
        for (let i = 0; i <= fixture.slots; i++) {
          const { header, frame } = i === 0 ? whole : { header: undefined, frame: numbered(i) }
          fixture.deliver(0, frame, header)
          const [received] = receiveCopies(driver, 0, 1)
          if (i === fixture.slots)
            expect(offload(received.header)).toMatchObject({ needsChecksum: false, gsoType: 0, gsoSize: 0 })
        }
      })

      it.each([
        ['a partial checksum', partial],
        ['a super-packet', whole],
      ])('carries %s from link to link', (_, { header, frame }) => {
        fixture.deliver(0, frame, header)
        expect(burst(driver, 0)).toBe(1)
        const received = copyOf(driver, at[0], length[0])
        expect(received.frame).toEqual(frame)
        expect(offload(received.header)).toEqual(offload(header))
        driver.send(1, at[0], length[0])
        driver.flush()
        driver.release(0)
        const [sent] = fixture.collect(1, 1)
        expect(sent.frame).toEqual(frame)
        expect(offload(sent.header)).toEqual(offload(header))
      })
    })

    describe('sending', () => {
      it('sends received frames in place, as they were rewritten', () => {
        for (const i of sequence(0, 10)) fixture.deliver(0, numbered(i, 100 + i))
        const mem = new DataView(driver.packetMemory)
        let sent = 0
        while (sent < 10) {
          const listed = burst(driver, 0)
          for (let i = 0; i < listed; i++) {
            mem.setUint16(at[i] + 12, 0x88b6)
            driver.send(1, at[i], length[i])
          }
          driver.flush()
          driver.release(0)
          sent += listed
        }
        const arrived = fixture.collect(1, 10)
        expect(numbers(arrived)).toEqual(sequence(0, 10))
        for (const [i, { frame }] of arrived.entries()) {
          const rewritten = numbered(i, 100 + i)
          new DataView(rewritten.buffer).setUint16(12, 0x88b6)
          expect(frame).toEqual(rewritten)
        }
      })

      it('sends what was written into scratch', () => {
        expect(driver.scratchLength).toBeGreaterThanOrEqual(8 * 4096)
        const frame = numbered(3, 333)
        driver.send(0, inScratch(0, frame), frame.length)
        driver.flush()
        expect(fixture.collect(0, 1).map((carried) => carried.frame)).toEqual([frame])
      })

      it('keeps the order within a port, mixed with another', () => {
        const frame = numbered(0)
        for (const i of sequence(0, 12)) driver.send(i % 2, inScratch(i, numbered(i)), frame.length)
        driver.flush()
        expect(numbers(fixture.collect(0, 6))).toEqual([0, 2, 4, 6, 8, 10])
        expect(numbers(fixture.collect(1, 6))).toEqual([1, 3, 5, 7, 9, 11])
      })

      it('takes more than a burst before a flush', () => {
        const count = 2 * BURST + 5
        for (const i of sequence(0, count)) driver.send(0, inScratch(i, numbered(i)), 60)
        driver.flush()
        expect(numbers(fixture.collect(0, count))).toEqual(sequence(0, count))
      })

      it('sends one frame to two ports', () => {
        const frameAt = inScratch(0, numbered(77))
        driver.send(0, frameAt, 60)
        driver.send(1, frameAt, 60)
        driver.flush()
        expect(numbers([...fixture.collect(0, 1), ...fixture.collect(1, 1)])).toEqual([77, 77])
      })

      it('counts what the link refuses, and sends what comes before and after', () => {
        const wrong = numbered(1, TOO_LONG)
        for (const [i, frame] of [numbered(0), wrong, numbered(2), wrong, wrong, numbered(5)].entries())
          driver.send(0, inScratch(i, frame), frame.length)
        driver.flush()
        expect(numbers(fixture.collect(0, 3))).toEqual([0, 2, 5])
        expect(driver.sendFailures(0)).toBe(3)
        expect(driver.sendFailures(1)).toBe(0)
      })

      it('sends nothing twice', () => {
        driver.send(0, inScratch(0, numbered(1)), 60)
        driver.flush()
        driver.flush()
        driver.send(0, inScratch(0, numbered(2)), 60)
        driver.flush()
        expect(numbers(fixture.collect(0, 2))).toEqual([1, 2])
      })
    })

    describe('waiting', () => {
      it('ends at once where a frame has arrived on any port', () => {
        fixture.deliver(1, numbered(1))
        burst(driver, 1)
        driver.release(1)
        fixture.deliver(1, numbered(2))
        // Each would sleep for 50 ms if it overlooked the frame; a busy machine makes some of them late, never all.
        until(20, () => elapsed(() => driver.wait(50)) < 45)
        expect(numbers(receiveCopies(driver, 1, 1))).toEqual([2])
      })

      it('ends when the time is over', () => {
        expect(elapsed(() => driver.wait(20))).toBeGreaterThanOrEqual(19)
      })

      it('is bounded by 50 ms, whatever is asked', () => {
        expect(elapsed(() => driver.wait(PATIENCE_MS))).toBeLessThan(PATIENCE_MS)
      })

      it('ends when another thread wakes it, asleep or about to sleep', async () => {
        const TURNS = 20
        const waker = new Worker(new URL('../../dist/test/contract/waker.js', import.meta.url), {
          workerData: { target: fixture.wake, sleeper: process.pid, turn: new SharedArrayBuffer(4) },
        })
        const { turn } = await new Promise<{ turn: Int32Array }>((ready, failed) => {
          waker.once('message', ready)
          waker.once('error', failed)
        })
        const gone = new Promise((exit) => waker.once('exit', exit))
        // A wait that nobody ends takes 50 ms. On a busy machine the waker is late sometimes, never always.
        until(TURNS, () => {
          Atomics.add(turn, 0, 1)
          Atomics.notify(turn, 0)
          return elapsed(() => driver.wait(50)) < 45
        })
        Atomics.store(turn, 0, -1)
        Atomics.notify(turn, 0)
        await gone
        // The last wake may have come after its turn. After that nothing is left to end a wait early.
        driver.wait(50)
        expect(elapsed(() => driver.wait(20))).toBeGreaterThanOrEqual(19)
      })
    })
  })
}

function elapsed(work: () => void): number {
  const start = performance.now()
  work()
  return performance.now() - start
}

/** Tries until something was so as many times. */
function until(times: number, isSo: () => boolean): void {
  const deadline = Date.now() + PATIENCE_MS
  for (let left = times; left > 0; ) {
    if (isSo()) left--
    if (Date.now() > deadline) throw new Error(`it was so ${times - left} times, not ${times}`)
  }
}
