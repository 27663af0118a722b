// What every packet driver promises (src/io/driver.ts), as tests. A driver's own test file calls describeDriver() with
// a fixture that puts its ports between far ends. Everything waits for events, none of it for time to pass.

import { Worker } from 'node:worker_threads'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BURST, type Driver, VIRTIO_NET_HEADER } from '../../src/io/driver.ts'
import { PATIENCE_MS } from '../patience.ts'
import { numbered, numberOf, offload, superPacket } from './frames.ts'
import type { WakeTarget } from './waker.ts'

export interface Carried {
  readonly header: Uint8Array
  readonly frame: Uint8Array
}

export interface DriverFixture {
  /** Two ports at least, 8 scratch pages at least, nothing received yet. */
  readonly driver: Driver
  /** Another shard's, over the same packet memory. */
  readonly neighbour: Driver
  /** A driver that takes the place of `driver`, whose thread has died. */
  successor(): Driver
  /** How many frames a port's ring holds. */
  readonly slots: number
  /** The far end of a port's link sends; zeros if no virtio-net header is given. */
  deliver(port: number, frame: Uint8Array, virtioHeader?: Uint8Array): void
  /** What reaches the far end of a port, `count` frames of it. */
  collect(port: number, count: number): Carried[]
  /** How the worker in waker.ts wakes this driver. */
  readonly wake: WakeTarget
  close(): void
}

/** A frame of this length no link under test takes: the MTU is 1500, and it is no super-packet. */
export const TOO_LONG = 1800

const at = new Int32Array(BURST)
const length = new Int32Array(BURST)

/** Waits on the driver until `done`. */
export function waitUntil(driver: Driver, done: () => boolean): void {
  for (const deadline = Date.now() + PATIENCE_MS; !done(); driver.wait(50))
    if (Date.now() > deadline) throw new Error('what the test waits for did not happen')
}

/** Copies of what arrives on a port, `count` frames of it; fewer only if no more come for as long as tests wait. */
export function receiveCopies(driver: Driver, port: number, count: number): Carried[] {
  const copies: Carried[] = []
  let deadline = Date.now() + PATIENCE_MS
  while (copies.length < count && Date.now() < deadline) {
    const listed = driver.receive(port, at, length)
    for (let i = 0; i < listed; i++) copies.push(copyOf(driver, at[i], length[i]))
    driver.release(port)
    if (listed === 0) driver.wait(50)
    else deadline = Date.now() + PATIENCE_MS
  }
  return copies
}

function copyOf(driver: Driver, frameAt: number, frameLength: number): Carried {
  const bytes = Uint8Array.from(
    new Uint8Array(driver.packetMemory, frameAt - VIRTIO_NET_HEADER, VIRTIO_NET_HEADER + frameLength),
  )
  return { header: bytes.subarray(0, VIRTIO_NET_HEADER), frame: bytes.subarray(VIRTIO_NET_HEADER) }
}

export function describeDriver(name: string, makeFixture: () => DriverFixture): void {
  describe(`driver contract: ${name}`, () => {
    let fixture: DriverFixture
    let driver: Driver

    beforeEach(() => {
      fixture = makeFixture()
      driver = fixture.driver
    })
    afterEach(() => fixture.close())

    /** One burst, once something is there. It stays unreleased. */
    function burst(port: number): number {
      let listed = 0
      waitUntil(driver, () => {
        listed = driver.receive(port, at, length)
        return listed > 0
      })
      return listed
    }

    /** Writes a frame into scratch, with a header of zeros, and returns where it begins. */
    function inScratch(place: number, frame: Uint8Array, header = new Uint8Array(VIRTIO_NET_HEADER)): number {
      const frameAt = driver.scratchAt + place * 2048 + 64
      const bytes = new Uint8Array(driver.packetMemory)
      bytes.set(header, frameAt - VIRTIO_NET_HEADER)
      bytes.set(frame, frameAt)
      return frameAt
    }

    const sequence = (from: number, count: number): number[] => Array.from({ length: count }, (_, i) => from + i)
    const numbers = (carried: readonly Carried[]): number[] => carried.map(({ frame }) => numberOf(frame))

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
        const first = burst(0)
        expect(first).toBeLessThanOrEqual(BURST)
        expect(numberOf(copyOf(driver, at[0], length[0]).frame)).toBe(0)
        driver.release(0)
        expect(numbers(receiveCopies(driver, 0, BURST + 20 - first))).toEqual(sequence(first, BURST + 20 - first))
      })

      it('lists a frame once, whether it was released or not', () => {
        fixture.deliver(0, numbered(1))
        expect(burst(0)).toBe(1)
        expect(driver.receive(0, at, length)).toBe(0)
        driver.release(0)
        expect(driver.receive(0, at, length)).toBe(0)
      })

      it('puts the IPv4 header on a multiple of four', () => {
        for (const i of sequence(0, 5)) fixture.deliver(0, numbered(i, 60 + i))
        const listed = burst(0)
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

    describe('lending', () => {
      /** Delivers a frame and lends it; returns where it lies, and its token. */
      function lendOne(number: number): { frameAt: number; token: number } {
        fixture.deliver(0, numbered(number, 500))
        expect(burst(0)).toBe(1)
        const frameAt = at[0]
        const token = driver.lend(frameAt)
        driver.release(0)
        return { frameAt, token }
      }

      function carryOn(from: number, count: number): void {
        for (const i of sequence(from, count)) {
          fixture.deliver(0, numbered(i))
          expect(numbers(receiveCopies(driver, 0, 1))).toEqual([i])
        }
      }

      const stopped = (): boolean => {
        fixture.deliver(0, numbered(9999))
        return driver.receive(0, at, length) === 0
      }

      it('leaves a frame as it is after release, for whoever was lent it, while the ring goes on behind it', () => {
        const { frameAt } = lendOne(7)
        carryOn(100, fixture.slots - 1)
        expect(copyOf(fixture.neighbour, frameAt, 500).frame).toEqual(numbered(7, 500))
      })

      it('stops the ring where it comes round to the frame, until that is given back', () => {
        const { token } = lendOne(7)
        carryOn(100, fixture.slots - 1)
        expect(stopped()).toBe(true)
        driver.giveBack(token)
        carryOn(1000, 2 * fixture.slots)
        expect(driver.receiveLosses(0)).toBe(1)
      })

      it('takes a frame back from another shard', () => {
        const { token } = lendOne(7)
        carryOn(100, fixture.slots - 1)
        fixture.neighbour.giveBack(token)
        carryOn(1000, fixture.slots)
        expect(driver.receiveLosses(0)).toBe(0)
      })

      it('lends some frames of a burst, and gives the others back', () => {
        for (const i of sequence(0, 9)) fixture.deliver(0, numbered(i))
        const places: number[] = []
        waitUntil(driver, () => {
          const listed = driver.receive(0, at, length)
          for (let i = 0; i < listed; i++) {
            const number = numberOf(copyOf(driver, at[i], length[i]).frame)
            if (number % 3 !== 1) continue
            driver.lend(at[i])
            places[number] = at[i]
          }
          driver.release(0)
          return places[7] !== undefined
        })
        carryOn(100, fixture.slots - 8)
        for (const number of [1, 4, 7])
          expect(numberOf(copyOf(fixture.neighbour, places[number], 60).frame)).toBe(number)
        expect(stopped()).toBe(true)
      })

      it('does not touch a frame that was lent, given back and filled anew before its burst is released', () => {
        for (const i of sequence(0, fixture.slots)) fixture.deliver(0, numbered(i))
        const listed = burst(0)
        driver.giveBack(driver.lend(at[0]))
        fixture.deliver(0, numbered(5000))
        driver.release(0)
        const behind = sequence(listed, fixture.slots - listed)
        expect(numbers(receiveCopies(driver, 0, behind.length + 1))).toEqual([...behind, 5000])
      })

      it('changes nothing when a frame is given back twice', () => {
        const { token } = lendOne(7)
        fixture.neighbour.giveBack(token)
        carryOn(100, fixture.slots - 1)
        fixture.deliver(0, numbered(8))
        driver.wait(50)
        fixture.neighbour.giveBack(token)
        expect(numbers(receiveCopies(driver, 0, 1))).toEqual([8])
      })

      it('lends only frames of the present burst', () => {
        fixture.deliver(0, numbered(1))
        burst(0)
        const received = at[0]
        expect(fixture.neighbour.lend(received)).toBe(-1)
        expect(driver.lend(driver.scratchAt + 64)).toBe(-1)
        expect(driver.lend(driver.sharedAt + 64)).toBe(-1)
        driver.release(0)
        expect(driver.lend(received)).toBe(-1)
      })

      it('has a range that all shards see, beside what is one’s own', () => {
        const { neighbour } = fixture
        expect([driver.sharedAt, driver.sharedLength]).toEqual([neighbour.sharedAt, neighbour.sharedLength])
        expect(driver.sharedLength).toBeGreaterThanOrEqual(4096)
        expect(neighbour.scratchAt).not.toBe(driver.scratchAt)
        new Uint8Array(driver.packetMemory).set(numbered(6, 500), driver.sharedAt + 64)
        neighbour.send(0, neighbour.sharedAt + 64, 500)
        neighbour.flush()
      })

      describe('by a shard whose thread dies', () => {
        it('leaves the frame to who has it', () => {
          const { frameAt, token } = lendOne(7)
          driver = fixture.successor()
          driver.reclaim(new Set([token]))
          carryOn(100, fixture.slots - 1)
          expect(copyOf(fixture.neighbour, frameAt, 500).frame).toEqual(numbered(7, 500))
          expect(stopped()).toBe(true)
          fixture.neighbour.giveBack(token)
          carryOn(1000, 1)
        })

        it('leaves it also if the burst was not released', () => {
          for (const i of [6, 7, 8]) fixture.deliver(0, numbered(i))
          let listed = 0
          let frameAt = 0
          waitUntil(driver, () => {
            const count = driver.receive(0, at, length)
            for (let i = 0; i < count; i++, listed++)
              if (numberOf(copyOf(driver, at[i], length[i]).frame) === 7) {
                frameAt = at[i]
                driver.lend(frameAt)
              }
            if (listed < 3) driver.release(0)
            return listed === 3
          })
          driver = fixture.successor()
          carryOn(100, fixture.slots - 2)
          expect(copyOf(fixture.neighbour, frameAt, 60).frame).toEqual(numbered(7))
        })

        it('gives back nothing that was given back and filled anew meanwhile', () => {
          fixture.deliver(0, numbered(7))
          burst(0)
          fixture.neighbour.giveBack(driver.lend(at[0]))
          // All that is free: the frame itself comes last.
          for (const i of sequence(100, fixture.slots)) fixture.deliver(0, numbered(i))
          driver = fixture.successor()
          driver.reclaim(new Set())
          expect(numbers(receiveCopies(driver, 0, fixture.slots))).toEqual(sequence(100, fixture.slots))
          carryOn(1000, 2 * fixture.slots)
        })

        it('is made good where nobody knows of the frame', () => {
          lendOne(7)
          driver = fixture.successor()
          driver.reclaim(new Set())
          carryOn(100, 2 * fixture.slots)
        })

        it('is no business of another shard’s', () => {
          const { frameAt } = lendOne(7)
          fixture.neighbour.reclaim(new Set())
          carryOn(100, fixture.slots - 1)
          expect(copyOf(driver, frameAt, 500).frame).toEqual(numbered(7, 500))
          expect(stopped()).toBe(true)
        })
      })
    })

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
        expect(burst(0)).toBe(1)
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
          const listed = burst(0)
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
        for (const [place, frame] of [numbered(0), wrong, numbered(2), wrong, wrong, numbered(5)].entries())
          driver.send(0, inScratch(place, frame), frame.length)
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
        burst(1)
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

/** Does it until it was so as many times. */
function until(times: number, isSo: () => boolean): void {
  const deadline = Date.now() + PATIENCE_MS
  for (let left = times; left > 0; ) {
    if (isSo()) left--
    if (Date.now() > deadline) throw new Error(`it was so ${times - left} times, not ${times}`)
  }
}
