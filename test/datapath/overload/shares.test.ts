// A queue that fills while what was taken of it is worked off, in a time of its own: one packet that is kept takes one
// unit, one that is dropped a thirtieth. Senders come by turns at rates of their own, so that every run is the same.

import { beforeEach, describe, expect, it } from 'vitest'
import { Shares } from '../../../src/datapath/overload/shares.ts'
import { BURST } from '../../../src/io/driver.ts'
import { setClock } from '../../../src/memory/clock.ts'

const DROPPED = 1 / 30
const UNITS_A_SECOND = 1e6

class QueueOf {
  readonly shares: Shares
  /** By sender. */
  readonly sent: number[]
  readonly kept: number[]
  lost = 0
  /** Places in which a sender's packets were kept, in order of their arrival. */
  readonly order: number[][]
  readonly #slots: number
  readonly #isShared: boolean
  readonly #owed: number[]
  readonly #waiting: [sender: number, number: number][] = []
  #held = 0
  #now = 0
  #worksUntil = 0
  /** The thread works for so long, then its processor is somebody else's for so long. */
  works = 1000
  away = 0

  /** Not `isShared`: whoever comes to a full queue is lost, and everything else is kept. */
  constructor(slots: number, senders: number, isShared = true) {
    this.#slots = slots
    this.#isShared = isShared
    this.shares = new Shares({ slots, holds: (packets) => this.#held >= packets })
    this.sent = Array(senders).fill(0)
    this.kept = Array(senders).fill(0)
    this.#owed = Array(senders).fill(0)
    this.order = this.sent.map(() => [])
  }

  /** Packets come at these rates, by sender, for so long; `strangers`: of nobody that is known. */
  run(units: number, rates: readonly number[], strangers: readonly number[] = []): void {
    const end = this.#now + units
    while (this.#now < end) {
      setClock(this.#now / (UNITS_A_SECOND / 1000))
      this.#held = this.#waiting.length
      const burst = this.#waiting.splice(0, BURST)
      const asks =
        this.#isShared && (this.shares.isSharing || burst.length === BURST) && this.shares.begins(burst.length)
      let took = 0.1 + burst.length * DROPPED
      for (const [sender, number] of burst) {
        const name = sender * 7919 + 1
        const bucket = strangers.includes(sender) ? this.shares.strangersBucketOf(name) : this.shares.bucketOf(name)
        if (asks && !this.shares.keeps(bucket)) continue
        this.kept[sender]!++
        this.order[sender]!.push(number)
        took++
      }
      this.#arrive(took, rates, this.#slots - burst.length)
      this.#now += took
      if (this.#now < this.#worksUntil) continue
      this.#arrive(this.away, rates, this.#slots)
      this.#now += this.away
      this.#worksUntil = this.#now + this.works
    }
  }

  #arrive(units: number, rates: readonly number[], room: number): void {
    for (const sender of rates.keys()) this.#owed[sender]! += rates[sender]! * units
    // One of each by turns, until nobody owes any more.
    for (let some = true; some; ) {
      some = false
      for (const sender of rates.keys()) {
        if (this.#owed[sender]! < 1) continue
        // Whoever sends most has more turns in a row, spread over the others'.
        const others = rates.reduce((sum, rate, i) => (i === sender ? sum : sum + rate), 0)
        const turns = Math.max(1, Math.round((rates[sender]! / Math.max(rates[sender]!, others)) * 4))
        for (let i = 0; i < turns && this.#owed[sender]! >= 1; i++) this.#send(sender, room)
        some = true
      }
    }
  }

  #send(sender: number, room: number): void {
    this.#owed[sender]!--
    const number = this.sent[sender]!++
    if (this.#waiting.length < room) this.#waiting.push([sender, number])
    else this.lost++
  }

  /** So many packets of a sender come while the thread does nothing. */
  pause(sender: number, packets: number): void {
    this.#owed[sender]! += packets
    while (this.#owed[sender]! >= 1) this.#send(sender, this.#slots)
  }

  forget(): void {
    this.sent.fill(0)
    this.kept.fill(0)
    this.lost = 0
  }

  goodput(sender: number): number {
    return this.kept[sender]! / this.sent[sender]!
  }
}

const others = (count: number, rate: number): number[] => Array(count).fill(rate)

describe('a queue that is shared while it fills faster than it is emptied', () => {
  beforeEach(() => setClock(0))

  for (const slots of [252, 512, 2016, 4096])
    for (const flood of [1.5, 10])
      it(`of ${slots} places leaves nine what they ask for beside one that sends ${flood} times the most`, () => {
        const queue = new QueueOf(slots, 10)
        const rates = [flood, ...others(9, 0.04)]
        queue.run(30_000, rates)
        queue.forget()
        queue.run(100_000, rates)
        for (let sender = 1; sender < 10; sender++) expect(queue.goodput(sender)).toBeGreaterThan(0.97)
        // What is left is the flood's own: nobody is starved.
        expect(queue.kept[0]! / 100_000).toBeGreaterThan(0.2)
        expect(queue.shares.overloads).toBe(1)
      })

  it('shares in equal parts where all ask for more', () => {
    const queue = new QueueOf(2016, 4)
    queue.run(30_000, [8, 1, 1, 0.1])
    queue.forget()
    queue.run(100_000, [8, 1, 1, 0.1])
    expect(queue.goodput(3)).toBeGreaterThan(0.97)
    const shares = [0, 1, 2].map((sender) => queue.kept[sender]!)
    expect(Math.max(...shares) / Math.min(...shares)).toBeLessThan(1.15)
  })

  it('keeps the order of what it keeps', () => {
    const queue = new QueueOf(512, 10)
    queue.run(50_000, [10, ...others(9, 0.04)])
    for (const order of queue.order) expect(order.every((number, i) => i === 0 || number > order[i - 1]!)).toBe(true)
  })

  it('drops nothing while the thread keeps up', () => {
    const queue = new QueueOf(2016, 10)
    queue.run(100_000, others(10, 0.09))
    for (let sender = 0; sender < 10; sender++) expect(queue.goodput(sender)).toBeGreaterThan(0.99)
    expect(queue.shares.overloads).toBe(0)
  })

  it('does not take a queue that was full once for an overload', () => {
    const queue = new QueueOf(2016, 2)
    for (let i = 0; i < 10; i++) {
      // Much at once, as after a pause of the thread, then what it can well take.
      queue.pause(0, 1900)
      queue.run(10_000, [0.3, 0.1])
    }
    expect(queue.shares.overloads).toBe(0)
    expect(queue.lost).toBe(0)
  })

  it('ends when the flood has ended for a while, and begins again when it is back', () => {
    const queue = new QueueOf(2016, 10)
    const quiet = [0, ...others(9, 0.03)]
    for (let floods = 1; floods <= 3; floods++) {
      queue.run(30_000, [10, ...others(9, 0.03)])
      expect(queue.shares.isSharing).toBe(true)
      queue.run(5000, quiet)
      expect(queue.shares.isSharing).toBe(true)
      queue.run(150_000, quiet)
      expect(queue.shares.isSharing).toBe(false)
      expect(queue.shares.overloads).toBe(floods)
    }
  })

  it('loses nothing of others by arrival when a flood pauses and is back', () => {
    const queue = new QueueOf(2016, 10)
    const rates = [10, ...others(9, 0.03)]
    queue.run(30_000, rates)
    queue.forget()
    for (let i = 0; i < 20; i++) {
      queue.run(3000, [0, ...others(9, 0.03)])
      queue.run(5000, rates)
    }
    for (let sender = 1; sender < 10; sender++) expect(queue.goodput(sender)).toBeGreaterThan(0.9)
  })

  it('leaves those their packets who send many at once and then nothing', () => {
    const queue = new QueueOf(2016, 10)
    queue.run(30_000, [10])
    queue.forget()
    for (let i = 0; i < 20; i++) {
      queue.pause(1 + (i % 9), 200)
      queue.run(2000, [10])
    }
    const kept = queue.kept.slice(1).reduce((sum, each) => sum + each)
    expect(kept / (20 * 200)).toBeGreaterThan(0.95)
  })

  it('gives many that nobody knows together no more than a few hosts', () => {
    const strangers = 60
    const queue = new QueueOf(2016, 10 + strangers)
    const rates = [...others(10, 0.03), ...others(strangers, 10 / strangers)]
    const unknown = Array.from({ length: strangers }, (_, i) => 10 + i)
    queue.run(30_000, rates, unknown)
    queue.forget()
    queue.run(60_000, rates, unknown)
    for (let sender = 0; sender < 10; sender++) expect(queue.goodput(sender)).toBeGreaterThan(0.97)
    expect(unknown.reduce((sum, sender) => sum + queue.kept[sender]!, 0)).toBeGreaterThan(0)
  })

  // What comes to a full queue while the thread is away is lost by arrival, whatever it does when it is back.
  for (const [works, away] of [
    [200, 200],
    [800, 800],
    [800, 1600],
    [800, 4000],
    [3000, 3000],
  ] as const)
    for (const flood of [0.7, 1, 2, 10])
      it(`leaves nine no less than by arrival: works ${works}, is away ${away}, flood ${flood}`, () => {
        const rates = [flood, ...others(9, 0.02)]
        const [shared, byArrival] = [true, false].map((isShared) => {
          const queue = new QueueOf(2016, 10, isShared)
          Object.assign(queue, { works, away })
          queue.run(50_000, rates)
          queue.forget()
          queue.run(100_000, rates)
          return queue.kept.slice(1).reduce((sum, kept) => sum + kept)
        })
        expect(shared).toBeGreaterThan(0.97 * byArrival!)
      })

  it('is never shared where a ring has hardly room for a burst', () => {
    const queue = new QueueOf(BURST + 8, 2)
    queue.run(20_000, [10, 0.1])
    expect(queue.shares.overloads).toBe(0)
  })
})
