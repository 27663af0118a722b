import { EventEmitter } from 'node:events'
import pino from 'pino'
import { beforeEach, describe, expect, it } from 'vitest'
import { loadConfig } from '../../src/control/config.ts'
import { type RunningGateway, run } from '../../src/control/run-command.ts'

const { config } = loadConfig({ env: { NATLOOM_INSIDE: 'lan0', NATLOOM_OUTSIDE: 'wan0' } })

/** What happened, in order. */
let story: string[]
let signals: EventEmitter
let fail: (exitCode: number) => void
let started: PromiseWithResolvers
let stopped: PromiseWithResolvers

interface PromiseWithResolvers {
  readonly promise: Promise<void>
  readonly resolve: () => void
}
function withResolvers(): PromiseWithResolvers {
  let resolve = () => {}
  const promise = new Promise<void>((settle) => {
    resolve = settle
  })
  return { promise, resolve }
}

beforeEach(() => {
  story = []
  signals = new EventEmitter()
  started = withResolvers()
  stopped = withResolvers()
})

/** `natloom run` with a gateway whose start and stop take until the test ends them. */
function natloomRun(): Promise<number> {
  return run({
    config,
    log: pino({ level: 'silent' }),
    signals,
    exit: (code) => story.push(`exit ${code}`),
    async start() {
      story.push('start')
      await started.promise
      const done = new Promise<number>((resolve) => {
        fail = resolve
      })
      const gateway: RunningGateway = {
        metricsUrl: 'http://127.0.0.1:9464/metrics',
        done,
        async stop(reason) {
          story.push(`stop: ${reason}`)
          await stopped.promise
          story.push('stopped')
        },
      }
      return gateway
    },
  })
}

/** Lets every promise settle that waits for nothing else. */
const settled = () => new Promise((resolve) => setImmediate(resolve))

describe('natloom run', () => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'])
    it(`stops on ${signal}, and ends with 0 once everything is taken back`, async () => {
      const ended = natloomRun()
      started.resolve()
      await settled()
      signals.emit(signal, signal)
      stopped.resolve()
      expect(await ended).toBe(0)
      expect(story).toEqual(['start', `stop: ${signal}`, 'stopped'])
    })

  it('asked to stop while it starts, stops when it has started', async () => {
    const ended = natloomRun()
    signals.emit('SIGTERM', 'SIGTERM')
    await settled()
    expect(story).toEqual(['start'])
    started.resolve()
    stopped.resolve()
    expect(await ended).toBe(0)
    expect(story).toEqual(['start', 'stop: SIGTERM', 'stopped'])
  })

  it('asked a second time, exits at once with 128 and the number of the signal', async () => {
    const ended = natloomRun()
    started.resolve()
    await settled()
    signals.emit('SIGTERM', 'SIGTERM')
    await settled()
    signals.emit('SIGINT', 'SIGINT')
    expect(story).toEqual(['start', 'stop: SIGTERM', 'exit 130'])
    stopped.resolve()
    await ended
  })

  it('ends with the exit code of a gateway that failed', async () => {
    const ended = natloomRun()
    started.resolve()
    await settled()
    fail(4)
    expect(await ended).toBe(4)
    expect(story).toEqual(['start'])
  })

  it('passes on why the gateway could not start, and listens to signals no longer', async () => {
    const refusal = new Error('there is no interface lan0')
    const ended = run({
      config,
      log: pino({ level: 'silent' }),
      signals,
      exit: () => {},
      start: () => Promise.reject(refusal),
    })
    await expect(ended).rejects.toBe(refusal)
    expect(signals.eventNames()).toEqual([])
  })
})
