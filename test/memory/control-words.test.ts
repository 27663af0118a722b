import { describe, expect, it } from 'vitest'
import { ControlWords } from '../../src/memory/control-words.ts'
import { allocate } from '../../src/memory/region.ts'

const controlWords = (shards = 2) => allocate((region) => new ControlWords(region, shards)).seated

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
