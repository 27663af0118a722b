// The doorbell is rung by other threads: here by one that rings as often as it is told.

import { once } from 'node:events'
import { setImmediate } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Doorbell } from '../../../src/coordinator/workers/doorbell.ts'
import { ControlWords } from '../../../src/memory/control-words.ts'
import { allocate } from '../../../src/memory/region.ts'

const RINGER = new URL('../../../dist/test/coordinator/workers/ringer.js', import.meta.url)

let control: { buffer: SharedArrayBuffer; view: ControlWords }
let doorbell: Doorbell
let heard: number
let hear: () => void

beforeEach(() => {
  control = allocate((region) => new ControlWords(region, 1))
  heard = 0
  hear = () => {}
  doorbell = new Doorbell(control.view, () => {
    heard++
    hear()
  })
})
afterEach(() => doorbell.stop())

const ringTimes = (times: number) => new Worker(RINGER, { workerData: { buffer: control.buffer, times } })

describe('the doorbell', () => {
  it('is heard when another thread rings', async () => {
    const hearing = new Promise<void>((resolve) => {
      hear = resolve
    })
    ringTimes(1)
    await hearing
    expect(heard).toBe(1)
  })

  it('is heard after the last of many rings', async () => {
    const heardAt: number[] = []
    hear = () => heardAt.push(control.view.rings())
    await once(ringTimes(10_000), 'exit')
    while (heardAt.at(-1) !== 10_000) await setImmediate()
  })

  it('is not heard any more after the end', async () => {
    doorbell.stop()
    control.view.ring()
    await setImmediate()
    expect(heard).toBe(0)
  })

  it('does not keep the process alive', async () => {
    const listening = new Worker(RINGER, { workerData: { buffer: control.buffer, times: 0, listens: true } })
    await once(listening, 'exit')
  })
})
