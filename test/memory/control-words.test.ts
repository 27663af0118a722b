import { describe, expect, it } from 'vitest'
import { ControlWords } from '../../src/memory/control-words.ts'
import { allocate } from '../../src/memory/region.ts'
import { PATIENCE_MS } from '../patience.ts'

const controlWords = (shards = 2) => allocate((region) => new ControlWords(region, shards)).view

describe('a shard’s orders', () => {
  it('let nobody run before the first start', () => {
    expect(controlWords().mayRun(0, 0)).toBe(false)
  })

  it('let the worker of the newest epoch run, and no older one', () => {
    const words = controlWords()
    const first = words.start(0)
    expect(words.mayRun(0, first)).toBe(true)
    const second = words.start(0)
    expect(words.mayRun(0, first)).toBe(false)
    expect(words.mayRun(0, second)).toBe(true)
  })

  it('end a worker, and let the next one have an epoch that was never given', () => {
    const words = controlWords()
    const first = words.start(0)
    words.stop(0)
    expect(words.mayRun(0, first)).toBe(false)
    expect(words.start(0)).toBeGreaterThan(first)
  })

  it('are each shard’s own', () => {
    const words = controlWords()
    const epoch = words.start(0)
    words.start(1)
    words.stop(1)
    expect(words.mayRun(0, epoch)).toBe(true)
    expect(words.mayRun(1, epoch)).toBe(false)
  })
})

describe('a shard’s heartbeat', () => {
  it('is 0 until it has turned, and again after the next start', () => {
    const words = controlWords()
    words.start(0)
    expect(words.heartbeat(0)).toBe(0)
    words.beat(0, 1234.5)
    expect(words.heartbeat(0)).toBe(1234)
    expect(words.heartbeat(1)).toBe(0)
    words.start(0)
    expect(words.heartbeat(0)).toBe(0)
  })

  it('is never 0 once it has turned: not in the first millisecond, nor where it wraps', () => {
    const words = controlWords()
    for (const milliseconds of [0, 0.4, 2 ** 32]) {
      words.beat(0, milliseconds)
      expect(words.heartbeat(0), String(milliseconds)).not.toBe(0)
    }
  })
})

describe('who is in a place', () => {
  it('is nobody before the worker has entered, and again after the next start', () => {
    const words = controlWords()
    const epoch = words.start(0)
    expect(words.thread(0)).toBe(0)
    expect(words.enter(0, epoch, 7)).toBe(true)
    expect([words.thread(0), words.thread(1)]).toEqual([7, 0])
    words.start(0)
    expect(words.thread(0)).toBe(0)
  })

  it('is known also of a worker that was ended before it entered, which must not begin', () => {
    const words = controlWords()
    const epoch = words.start(0)
    words.stop(0)
    expect(words.enter(0, epoch, 7)).toBe(false)
    expect(words.thread(0)).toBe(7)
  })
})

describe('the first beat', () => {
  it('is told to whoever waits for it', async () => {
    const words = controlWords()
    words.start(0)
    const beaten = words.firstBeat(0, PATIENCE_MS)
    words.beat(0, 5)
    words.hasBegun(0)
    expect(await beaten).toBe(true)
  })

  it('may have been before anybody waited', async () => {
    const words = controlWords()
    words.start(0)
    words.beat(0, 5)
    expect(await words.firstBeat(0, PATIENCE_MS)).toBe(true)
  })

  it('may not come in time', async () => {
    const words = controlWords()
    words.start(0)
    expect(await words.firstBeat(0, 1)).toBe(false)
  })
})

describe('the doorbell', () => {
  it('tells of rings since the count that the listener knows', async () => {
    const words = controlWords()
    const known = words.rings()
    const rung = words.nextRing(known)
    words.ring()
    words.ring()
    await rung
    await words.nextRing(known)
    expect(words.rings()).toBe(known + 2)
  })
})
