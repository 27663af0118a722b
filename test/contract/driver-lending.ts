// What every packet driver promises of frames that it lends (src/io/driver.ts, lend()): to another thread, and beyond
// the death of its own. A part of the driver contract (driver.ts).

import { describe, expect, it } from 'vitest'
import {
  at,
  burst,
  copyOf,
  length,
  numbers,
  receiveCopies,
  type Subject,
  sequence,
  waitUntil,
} from './driver-fixture.ts'
import { numbered, numberOf } from './frames.ts'

export function describeLending(subject: Subject): void {
  describe('lending', () => {
    /** Delivers a frame and lends it; returns where it lies, and its token. */
    function lendOne(number: number): { frameAt: number; token: number } {
      subject.fixture.deliver(0, numbered(number, 500))
      expect(burst(subject.driver, 0)).toBe(1)
      const frameAt = at[0]
      const token = subject.driver.lend(frameAt)
      subject.driver.release(0)
      return { frameAt, token }
    }

    function carryOn(from: number, count: number): void {
      for (const i of sequence(from, count)) {
        subject.fixture.deliver(0, numbered(i))
        expect(numbers(receiveCopies(subject.driver, 0, 1))).toEqual([i])
      }
    }

    const stopped = (): boolean => {
      subject.fixture.deliver(0, numbered(9999))
      return subject.driver.receive(0, at, length) === 0
    }

    it('leaves a lent frame as it is after release, while the ring goes on behind it', () => {
      const { frameAt } = lendOne(7)
      carryOn(100, subject.fixture.slots - 1)
      expect(copyOf(subject.fixture.neighbour, frameAt, 500).frame).toEqual(numbered(7, 500))
    })

    it('stops the ring where it comes round to the frame, until that is given back', () => {
      const { token } = lendOne(7)
      carryOn(100, subject.fixture.slots - 1)
      expect(stopped()).toBe(true)
      subject.driver.giveBack(token)
      carryOn(1000, 2 * subject.fixture.slots)
      expect(subject.driver.receiveLosses(0)).toBe(1)
    })

    it('takes a frame back from another shard', () => {
      const { token } = lendOne(7)
      carryOn(100, subject.fixture.slots - 1)
      subject.fixture.neighbour.giveBack(token)
      carryOn(1000, subject.fixture.slots)
      expect(subject.driver.receiveLosses(0)).toBe(0)
    })

    it('lends some frames of a burst, and gives the others back', () => {
      for (const i of sequence(0, 9)) subject.fixture.deliver(0, numbered(i))
      const lent: number[] = []
      waitUntil(subject.driver, () => {
        const listed = subject.driver.receive(0, at, length)
        for (let i = 0; i < listed; i++) {
          const number = numberOf(copyOf(subject.driver, at[i], length[i]).frame)
          if (number % 3 !== 1) continue
          subject.driver.lend(at[i])
          lent[number] = at[i]
        }
        subject.driver.release(0)
        return lent[7] !== undefined
      })
      carryOn(100, subject.fixture.slots - 8)
      for (const number of [1, 4, 7])
        expect(numberOf(copyOf(subject.fixture.neighbour, lent[number], 60).frame)).toBe(number)
      expect(stopped()).toBe(true)
    })

    it('does not touch a frame that was lent, given back and filled anew before its burst is released', () => {
      for (const i of sequence(0, subject.fixture.slots)) subject.fixture.deliver(0, numbered(i))
      const listed = burst(subject.driver, 0)
      subject.driver.giveBack(subject.driver.lend(at[0]))
      subject.fixture.deliver(0, numbered(5000))
      subject.driver.release(0)
      const behind = sequence(listed, subject.fixture.slots - listed)
      expect(numbers(receiveCopies(subject.driver, 0, behind.length + 1))).toEqual([...behind, 5000])
    })

    it('changes nothing when a frame is given back twice', () => {
      const { token } = lendOne(7)
      subject.fixture.neighbour.giveBack(token)
      carryOn(100, subject.fixture.slots - 1)
      subject.fixture.deliver(0, numbered(8))
      subject.driver.wait(50)
      subject.fixture.neighbour.giveBack(token)
      expect(numbers(receiveCopies(subject.driver, 0, 1))).toEqual([8])
    })

    it('lends only frames of the present burst', () => {
      subject.fixture.deliver(0, numbered(1))
      burst(subject.driver, 0)
      const received = at[0]
      expect(subject.fixture.neighbour.lend(received)).toBe(-1)
      expect(subject.driver.lend(subject.driver.scratchAt + 64)).toBe(-1)
      expect(subject.driver.lend(subject.driver.sharedAt + 64)).toBe(-1)
      subject.driver.release(0)
      expect(subject.driver.lend(received)).toBe(-1)
    })

    it('has a range that all shards see, beside the scratch of each', () => {
      const { driver, fixture } = subject
      const { neighbour } = fixture
      expect([driver.sharedAt, driver.sharedLength]).toEqual([neighbour.sharedAt, neighbour.sharedLength])
      expect(driver.sharedLength).toBeGreaterThanOrEqual(4096)
      expect(neighbour.scratchAt).not.toBe(driver.scratchAt)
      new Uint8Array(driver.packetMemory).set(numbered(6, 500), driver.sharedAt + 64)
      neighbour.send(0, neighbour.sharedAt + 64, 500)
      neighbour.flush()
    })

    describe('by a shard whose thread dies', () => {
      it('leaves the frame to the shard that has it', () => {
        const { frameAt, token } = lendOne(7)
        subject.driver = subject.fixture.successor()
        subject.driver.reclaim(new Set([token]))
        carryOn(100, subject.fixture.slots - 1)
        expect(copyOf(subject.fixture.neighbour, frameAt, 500).frame).toEqual(numbered(7, 500))
        expect(stopped()).toBe(true)
        subject.fixture.neighbour.giveBack(token)
        carryOn(1000, 1)
      })

      it('leaves it also if the burst was not released', () => {
        for (const i of [6, 7, 8]) subject.fixture.deliver(0, numbered(i))
        let listed = 0
        let frameAt = 0
        waitUntil(subject.driver, () => {
          const count = subject.driver.receive(0, at, length)
          for (let i = 0; i < count; i++, listed++)
            if (numberOf(copyOf(subject.driver, at[i], length[i]).frame) === 7) {
              frameAt = at[i]
              subject.driver.lend(frameAt)
            }
          if (listed < 3) subject.driver.release(0)
          return listed === 3
        })
        subject.driver = subject.fixture.successor()
        carryOn(100, subject.fixture.slots - 2)
        expect(copyOf(subject.fixture.neighbour, frameAt, 60).frame).toEqual(numbered(7))
      })

      it('gives back nothing that was given back and filled anew meanwhile', () => {
        subject.fixture.deliver(0, numbered(7))
        burst(subject.driver, 0)
        subject.fixture.neighbour.giveBack(subject.driver.lend(at[0]))
        // As many as are free: the frame that was given back is filled last.
        for (const i of sequence(100, subject.fixture.slots)) subject.fixture.deliver(0, numbered(i))
        subject.driver = subject.fixture.successor()
        subject.driver.reclaim(new Set())
        expect(numbers(receiveCopies(subject.driver, 0, subject.fixture.slots))).toEqual(
          sequence(100, subject.fixture.slots),
        )
        carryOn(1000, 2 * subject.fixture.slots)
      })

      it('is ended by reclaim() if nobody knows of the frame', () => {
        lendOne(7)
        subject.driver = subject.fixture.successor()
        subject.driver.reclaim(new Set())
        carryOn(100, 2 * subject.fixture.slots)
      })

      it('is not for another shard to reclaim', () => {
        const { frameAt } = lendOne(7)
        subject.fixture.neighbour.reclaim(new Set())
        carryOn(100, subject.fixture.slots - 1)
        expect(copyOf(subject.driver, frameAt, 500).frame).toEqual(numbered(7, 500))
        expect(stopped()).toBe(true)
      })
    })
  })
}
