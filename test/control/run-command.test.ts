import { EventEmitter } from 'node:events'
import pino from 'pino'
import { beforeEach, describe, expect, it } from 'vitest'
import { loadConfig } from '../../src/control/config.ts'
import { type RunningGateway, run } from '../../src/control/run-command.ts'

const { config } = loadConfig({ env: { NATLOOM_INSIDE: 'lan0', NATLOOM_OUTSIDE: 'wan0' } })

/** What happened, in order. */
let story: string[]
/** What the service manager was told. */
let told: string[]
let signals: EventEmitter
/** Milliseconds. */
let clock: number
let started: PromiseWithResolvers
let stopped: PromiseWithResolvers
let failed: PromiseWithResolvers
let left: { readonly late: boolean }[]

interface PromiseWithResolvers {
  readonly promise: Promise<void>
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}
function withResolvers(): PromiseWithResolvers {
  let [resolve, reject]: [() => void, (error: Error) => void] = [() => {}, () => {}]
  const promise = new Promise<void>((...settle) => {
    ;[resolve, reject] = settle
  })
  return { promise, resolve, reject }
}

beforeEach(() => {
  story = []
  told = []
  signals = new EventEmitter()
  clock = 1000
  started = withResolvers()
  stopped = withResolvers()
  failed = withResolvers()
  left = []
})

const EXIT_GATEWAY_FAILED = 4

/** `natloom run` with a gateway whose start and stop take until the test ends them. */
function natloomRun(): Promise<number> {
  return run({
    config,
    log: pino({ level: 'silent' }),
    manager: { ready: () => told.push('ready'), stopping: (reason) => told.push(`stopping: ${reason}`) },
    signals,
    now: () => clock,
    exit: (code) => story.push(`exit ${code}`),
    begin() {
      story.push('start')
      let stopping: Promise<typeof left> | undefined
      const gateway: RunningGateway = {
        started: started.promise,
        metricsUrl: 'http://127.0.0.1:9464/metrics',
        health: { reasons: () => [], isTurning: () => true },
        done: failed.promise.then(() => EXIT_GATEWAY_FAILED),
        stop(reason) {
          stopping ??= stop(reason)
          return stopping
        },
      }
      return gateway
    },
  })
}
async function stop(reason: string): Promise<typeof left> {
  story.push(`stop: ${reason}`)
  started.reject(new Error('stopped before it had started'))
  await stopped.promise
  story.push('stopped')
  return left
}

/** Lets every promise settle that waits for nothing else. */
const settled = () => new Promise((resolve) => setImmediate(resolve))
const ask = (signal: NodeJS.Signals) => signals.emit(signal, signal)

describe('natloom run', () => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    it(`stops on ${signal}, and ends with 0 once everything is taken back`, async () => {
      const ended = natloomRun()
      started.resolve()
      await settled()
      ask(signal)
      stopped.resolve()
      expect(await ended).toBe(0)
      expect(story).toEqual(['start', `stop: ${signal}`, 'stopped'])
      expect(told).toEqual(['ready', `stopping: ${signal}`])
    })

  it('asked to stop while it starts, gives up the start and stops', async () => {
    const ended = natloomRun()
    ask('SIGTERM')
    await settled()
    expect(story).toEqual(['start', 'stop: SIGTERM'])
    stopped.resolve()
    expect(await ended).toBe(0)
    expect(story).toEqual(['start', 'stop: SIGTERM', 'stopped'])
  })

  it('ends with the exit code of a gateway that failed', async () => {
    const ended = natloomRun()
    started.resolve()
    await settled()
    failed.resolve()
    stopped.resolve()
    expect(await ended).toBe(EXIT_GATEWAY_FAILED)
    expect(told).toEqual(['ready', 'stopping: the gateway failed'])
    expect(story).not.toContainEqual(expect.stringContaining('exit'))
  })

  it('passes on why the gateway could not start', async () => {
    const refusal = new Error('there is no interface lan0')
    const ended = natloomRun()
    started.reject(refusal)
    stopped.resolve()
    await expect(ended).rejects.toBe(refusal)
  })
})

describe('signals that come again', () => {
  // [milliseconds after the first one, what they come to]
  const TWO_SECONDS = 2000
  const cases: readonly (readonly [NodeJS.Signals, NodeJS.Signals, number, string[]])[] = [
    ['SIGTERM', 'SIGTERM', 0, []],
    ['SIGTERM', 'SIGTERM', 5, []],
    ['SIGINT', 'SIGTERM', 5, []],
    ['SIGHUP', 'SIGHUP', 500, []],
    ['SIGINT', 'SIGINT', TWO_SECONDS - 1, []],
    ['SIGINT', 'SIGINT', TWO_SECONDS, ['exit 130']],
    ['SIGTERM', 'SIGTERM', TWO_SECONDS, ['exit 143']],
    ['SIGTERM', 'SIGHUP', 60_000, ['exit 129']],
  ]
  for (const [first, again, milliseconds, end] of cases)
    it(`${first}, and ${again} ${milliseconds} ms later: ${end[0] ?? 'one request'}`, async () => {
      const ended = natloomRun()
      started.resolve()
      await settled()
      ask(first)
      await settled()
      clock += milliseconds
      ask(again)
      expect(story).toEqual(['start', `stop: ${first}`, ...end])
      stopped.resolve()
      await ended
    })

  it('time counts from the first one: repeats don’t put off the end', async () => {
    const ended = natloomRun()
    started.resolve()
    await settled()
    for (let repeat = 0; repeat < 4; repeat++) {
      ask('SIGINT')
      clock += 600
    }
    expect(story).not.toContain('exit 130')
    ask('SIGINT')
    expect(story).toContain('exit 130')
    stopped.resolve()
    await ended
  })

  it('are one request also while it starts, and after it has failed', async () => {
    const ended = natloomRun()
    ask('SIGTERM')
    clock += 5
    ask('SIGTERM')
    stopped.resolve()
    expect(await ended).toBe(0)
    clock += 5
    ask('SIGTERM')
    expect(story).toEqual(['start', 'stop: SIGTERM', 'stopped'])
  })
})

describe('what could not be taken back', () => {
  async function stopLeaving(problems: typeof left): Promise<number> {
    left = problems
    const ended = natloomRun()
    started.resolve()
    await settled()
    ask('SIGTERM')
    stopped.resolve()
    return ended
  }

  it('is no success', async () => {
    expect(await stopLeaving([{ late: false }])).toBe(EXIT_GATEWAY_FAILED)
    expect(story).toEqual(['start', 'stop: SIGTERM', 'stopped'])
  })

  it('ends the process at once if it is a thread that doesn’t end', async () => {
    await stopLeaving([{ late: true }])
    expect(story).toEqual(['start', 'stop: SIGTERM', 'stopped', `exit ${EXIT_GATEWAY_FAILED}`])
  })

  it('does so after a start that failed, too, with the exit code of the failure', async () => {
    left = [{ late: true }]
    const ended = natloomRun()
    started.reject(Object.assign(new Error('there is no interface lan0'), { code: 'HOST_INTERFACE' }))
    stopped.resolve()
    await ended
    expect(story).toEqual(['start', 'stop: could not start', 'stopped', 'exit 3'])
  })
})
