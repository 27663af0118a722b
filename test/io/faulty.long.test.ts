import fc from 'fast-check'
import { describe, expect, it, vi } from 'vitest'
import { BURST } from '../../src/io/driver.ts'
import { type FaultPlan, type Faults, parseFaults } from '../../src/io/fault-plan.ts'
import { FaultyDriver } from '../../src/io/faulty.ts'
import { LoopbackDriver, packetMemoryBytes } from '../../src/io/loopback.ts'
import { sharedMemory } from '../../src/memory/region.ts'
import { describeDriver } from '../contract/driver.ts'
import { TOO_LONG } from '../contract/driver-fixture.ts'
import { numbered, numberOf, superPacket } from '../contract/frames.ts'

const NONE: Faults = { loss: 0, duplicate: 0, reorder: 0, by: 3, delay: 0, jitter: 0 }

/** What the clock of every driver here says. */
let now = 0
const clock = () => now
const nothing: FaultPlan = { seed: 1, receive: [NONE, NONE], send: [NONE, NONE] }

describeDriver('faults of no probability', () => {
  const shape = { slots: 128, scratchBytes: 1 << 20, shards: 2, sharedBytes: 4096 }
  const packetMemory = sharedMemory(packetMemoryBytes(shape))
  const inner = new LoopbackDriver({ ...shape, packetMemory, refuse: (_port, bytes) => bytes.length === TOO_LONG })
  return {
    driver: new FaultyDriver(inner, nothing, clock),
    neighbour: new FaultyDriver(new LoopbackDriver({ ...shape, packetMemory, shard: 1 }), nothing, clock),
    successor: () => new FaultyDriver(new LoopbackDriver({ ...shape, packetMemory }), nothing, clock),
    slots: shape.slots,
    wake: { by: 'loopback', options: { ...shape, packetMemory } },
    deliver: (port, bytes, header) => void inner.inject(port, bytes, header),
    collect: (port) =>
      inner.takeSent(port, true).map((bytes) => ({ header: bytes.subarray(0, 10), frame: bytes.subarray(10) })),
    close: () => inner.close(),
  }
})

const at = new Int32Array(BURST)
const length = new Int32Array(BURST)

function start(plan: FaultPlan) {
  const inner = new LoopbackDriver({ slots: 256, scratchBytes: 4 << 20 })
  const driver = new FaultyDriver(inner, plan, clock)
  const bytes = new Uint8Array(driver.packetMemory)
  /** Numbers of what port 0 lists now. */
  const receive = (): number[] => {
    const listed = driver.receive(0, at, length)
    expect(listed).toBeLessThanOrEqual(BURST)
    const numbers = Array.from({ length: listed }, (_, i) => {
      const frame = bytes.slice(at[i]!, at[i]! + length[i]!)
      expect(frame).toEqual(numbered(numberOf(frame), length[i]!))
      expect((at[i]! + 14) % 4).toBe(0)
      return numberOf(frame)
    })
    driver.release(0)
    driver.receive(1, at, length)
    driver.release(1)
    return numbers
  }
  /** Sends frames of these numbers by port 1; what of that has left. */
  const send = (numbers: readonly number[]): number[] => {
    for (const [i, number] of numbers.entries()) {
      const frameAt = driver.scratchAt + 64 + i * 128
      bytes.fill(0, frameAt - 10, frameAt)
      bytes.set(numbered(number), frameAt)
      driver.send(1, frameAt, 60)
    }
    driver.flush()
    return inner.takeSent(1).map((frame) => numberOf(frame))
  }
  const left = (): number[] => inner.takeSent(1).map((frame) => numberOf(frame))
  return { inner, driver, receive, send, left }
}

const receiving = (faults: Partial<Faults>, seed = 1): FaultPlan => ({
  seed,
  receive: [{ ...NONE, ...faults }],
  send: [],
})
const sending = (faults: Partial<Faults>, seed = 1): FaultPlan => ({
  seed,
  receive: [],
  send: [undefined, { ...NONE, ...faults }],
})

describe('a faulty path', () => {
  it('loses what is received, and what is sent', () => {
    const lossy = start(receiving({ loss: 1 }))
    lossy.inner.inject(0, numbered(1))
    expect(lossy.receive()).toEqual([])
    expect(lossy.inner.pending(0)).toBe(0)
    const mute = start(sending({ loss: 1 }))
    expect(mute.send([1, 2])).toEqual([])
    expect([lossy.driver.done.lost, mute.driver.done.lost]).toEqual([1, 2])
  })

  it('brings frames twice', () => {
    const { inner, receive } = start(receiving({ duplicate: 1 }))
    for (const i of [1, 2]) inner.inject(0, numbered(i))
    expect(receive()).toEqual([1, 1, 2, 2])
    expect(start(sending({ duplicate: 1 })).send([1, 2])).toEqual([1, 1, 2, 2])
  })

  it('lets as many others overtake a frame as it says', () => {
    const moved: string[] = []
    for (let seed = 0; seed < 60; seed++) {
      const { inner, driver, receive } = start(receiving({ reorder: 0.15, by: 2 }, seed))
      for (const i of [0, 1, 2, 3, 4, 5]) inner.inject(0, numbered(i))
      const seen = receive()
      if (driver.done.reordered === 1) moved.push(seen.join(''))
    }
    // What was to be the last or the last but one still waits for others.
    const expected = ['120345', '023145', '013425', '012453', '01235', '01234']
    expect([...new Set(moved)].toSorted()).toEqual(expected.toSorted())
  })

  it('brings what waits when the shard is about to sleep', () => {
    const { inner, driver, receive } = start(receiving({ reorder: 1, by: 1000 }))
    inner.inject(0, numbered(1))
    expect(receive()).toEqual([])
    const sleep = vi.spyOn(inner, 'wait')
    driver.wait(50)
    expect(sleep.mock.calls).toEqual([[0]])
    expect(receive()).toEqual([1])
    const out = start(sending({ reorder: 1, by: 1000 }))
    expect(out.send([1])).toEqual([])
    out.driver.wait(0)
    expect(out.left()).toEqual([1])
  })

  it('delays super-packets too, header and all', () => {
    const { inner, driver } = start(receiving({ reorder: 1, by: 1000 }))
    const { header, frame } = superPacket({ payload: 20_000, gsoSize: 1448 })
    inner.inject(0, frame, header)
    expect(driver.receive(0, at, length)).toBe(0)
    driver.release(0)
    driver.wait(0)
    expect(driver.receive(0, at, length)).toBe(1)
    expect(new Uint8Array(driver.packetMemory).slice(at[0]! - 10, at[0]! + length[0]!)).toEqual(
      Uint8Array.of(...header, ...frame),
    )
    expect(driver.lend(at[0]!)).toBe(-1)
  })

  it('delays what is received, and what is sent, by the clock that it was given', () => {
    now = 0
    const { inner, driver, receive } = start(receiving({ delay: 100 }))
    inner.inject(0, numbered(1))
    expect(receive()).toEqual([])
    now = 40
    inner.inject(0, numbered(2))
    // The link may fill the first one's slot again: it was copied.
    for (let i = 0; i < 300; i++) {
      inner.inject(0, numbered(100 + i))
      expect(receive()).toEqual([])
    }
    const sleep = vi.spyOn(inner, 'wait')
    driver.wait(50)
    driver.wait(500)
    expect(sleep.mock.calls).toEqual([[50], [60]])
    now = 100
    expect(receive()).toEqual([1])
    now = 140
    const rest = Array.from({ length: 30 }, receive).flat()
    expect(rest).toEqual([2, ...Array.from({ length: 300 }, (_, i) => 100 + i)])
    const out = start(sending({ delay: 100 }))
    expect(out.send([1, 2])).toEqual([])
    now = 239
    expect(out.send([3])).toEqual([])
    now = 240
    out.driver.wait(0)
    expect(out.left()).toEqual([1, 2])
    now = 339
    out.driver.flush()
    expect(out.left()).toEqual([3])
  })

  it('delays each frame by as much more as chance says, and loses none', () => {
    now = 0
    const { inner, receive } = start(receiving({ delay: 50, jitter: 100 }, 3))
    for (let i = 0; i < 40; i++) inner.inject(0, numbered(i))
    const arrived: (readonly [at: number, number: number])[] = []
    for (; now <= 150; now++) arrived.push(...receive().map((number) => [now, number] as const))
    expect(arrived.map(([, number]) => number).toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: 40 }, (_, i) => i),
    )
    expect(arrived[0]![0]).toBeGreaterThanOrEqual(50)
    expect(new Set(arrived.map(([at]) => at)).size).toBeGreaterThan(20)
  })

  it('is the same for the same seed, and another for another', () => {
    const run = (seed: number): number[] => {
      const { inner, driver, receive } = start(receiving({ loss: 0.2, duplicate: 0.2, reorder: 0.2 }, seed))
      for (let i = 0; i < 100; i++) inner.inject(0, numbered(i))
      const seen = [...receive(), ...receive()]
      driver.wait(0)
      return [...seen, ...receive()]
    }
    expect(run(7)).toEqual(run(7))
    expect(run(7)).not.toEqual(run(8))
  })

  it('brings in the end every frame that it has not lost, as often as it says, in bursts of any size', () => {
    const chance = fc.double({ min: 0, max: 0.5, noNaN: true })
    const faults = fc.record({ loss: chance, duplicate: chance, reorder: chance, by: fc.integer({ min: 1, max: 20 }) })
    const bursts = fc.array(fc.integer({ min: 0, max: 120 }), { maxLength: 12 })
    fc.assert(
      fc.property(faults, fc.integer(), bursts, fc.boolean(), (wanted, seed, sizes, isSending) => {
        const { inner, driver, receive, send, left } = start(
          isSending ? sending(wanted, seed) : receiving(wanted, seed),
        )
        const seen: number[] = []
        let next = 0
        for (const size of sizes) {
          const numbers = Array.from({ length: size }, () => next++)
          if (isSending) seen.push(...send(numbers))
          else {
            for (const number of numbers) inner.inject(0, numbered(number))
            seen.push(...receive(), ...receive())
          }
        }
        for (let i = 0; i < 4; i++) {
          driver.wait(0)
          seen.push(...(isSending ? left() : receive()))
        }
        const { lost, duplicated } = driver.done
        expect(seen.length).toBe(next - lost + duplicated)
        expect(new Set(seen).size).toBe(next - lost)
      }),
      { numRuns: 60 },
    )
  })
})

describe('a plan in words', () => {
  it('names what happens to how many', () => {
    const { seed, receive, send } = parseFaults('loss=0.02, duplicate=0.01,reorder=0.05,by=5,seed=7')
    const faults = { ...NONE, loss: 0.02, duplicate: 0.01, reorder: 0.05, by: 5 }
    expect([seed, receive[1], send]).toEqual([7, faults, []])
    expect(parseFaults('loss=1,on=both').send[0]).toMatchObject({ loss: 1 })
  })

  it('may be another for a port, or for a direction', () => {
    const { receive, send } = parseFaults('delay=400,jitter=50;delay=20,port=1;loss=0.5,on=send,port=0')
    expect(receive.slice(0, 3).map((each) => [each?.delay, each?.jitter])).toEqual([
      [400, 50],
      [20, 0],
      [400, 50],
    ])
    expect(send.map((each) => each?.loss)).toEqual([0.5])
  })

  it.each([
    '',
    'loss',
    'loss=2',
    'loss=x',
    'los=0.1',
    'loss=0.1,on=left',
    'by=0',
    'loss=0.1=2',
    'delay=-1',
    'delay=60001',
    'port=256',
    'delay=5;',
  ])('refuses %j', (text) => {
    expect(() => parseFaults(text)).toThrow(expect.objectContaining({ code: 'FAULT_PLAN', exitCode: 2 }))
  })
})
