// What the supervisor does about workers that fail, in real threads. The worker is failing-worker.ts.

import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ThreadError } from '../../../src/coordinator/workers/errors.ts'
import { RestartLimit } from '../../../src/coordinator/workers/restart-limit.ts'
import { type Blame, Supervisor } from '../../../src/coordinator/workers/supervisor.ts'
import type { TaskEnd } from '../../../src/coordinator/workers/thread-pool.ts'
import { ControlWords } from '../../../src/memory/control-words.ts'
import { allocate, sharedMemory } from '../../../src/memory/region.ts'
import { eventually } from '../../patience.ts'
import { FAILURES, type FailingTask, type Failure, milliseconds } from './failing-worker.ts'

const WORKERS = 3
const WORKER_FILE = fileURLToPath(new URL('../../../dist/test/coordinator/workers/failing-worker.js', import.meta.url))
/** Without an end of its own: what a test waits for ends it. */
const MANY_RESTARTS = { restarts: 1000, withinSeconds: 60 }

interface Told {
  readonly worker: string
  readonly reason?: string
  readonly epoch: number
}

let words: ControlWords
let supervisor: Supervisor
let orders: Int32Array
let intrusions: Int32Array
/** What the supervisor reports, in order, and the promises that wait for more of it. */
let gone: { readonly worker: number; readonly restarts: number }[]
let replacing: Told[]
let replaced: Told[]
let failures: ThreadError[]
let tellMore: () => void
/** What the process takes, in bytes. */
let memory = 1 << 30
/** Workers that a helper's code runs in. */
let inHelper: number[]
/** Whose fault a worker's end is. */
let blame: (worker: number, how: TaskEnd['how']) => Blame | undefined

function supervise(limit = MANY_RESTARTS, file = WORKER_FILE): void {
  const control = allocate((region) => new ControlWords(region, WORKERS))
  const shared = () => sharedMemory(4 * WORKERS)
  const common = {
    control: { buffer: control.buffer, workers: WORKERS },
    orders: shared(),
    writers: shared(),
    intrusions: shared(),
  }
  words = control.view
  orders = new Int32Array(common.orders)
  intrusions = new Int32Array(common.intrusions)
  ;[gone, replacing, replaced, failures] = [[], [], [], []]
  const tell = <T>(list: T[]) => {
    return (news: T) => {
      list.push(news)
      tellMore()
    }
  }
  supervisor = new Supervisor({
    words,
    slots: Array.from({ length: WORKERS }, (_, worker) => ({
      name: `worker ${worker}`,
      file,
      task: (epoch): FailingTask => ({ ...common, worker, epoch }),
      wake: () => Atomics.notify(orders, worker),
    })),
    limit: new RestartLimit(limit, milliseconds),
    now: milliseconds,
    memory: () => memory,
    isInHelper: (worker) => inHelper.includes(worker),
    heapMegabytes: 128,
    blame: (worker, how) => blame(worker, how),
    heard: () => {},
    gone: (worker) => gone.push({ worker, restarts: supervisor.restarts(worker) }),
    replacing: tell(replacing),
    replaced: tell(replaced),
    failed: tell(failures),
  })
}

const order = (worker: number, how: Failure) => {
  Atomics.store(orders, worker, FAILURES.indexOf(how))
  Atomics.notify(orders, worker)
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo())
    await new Promise<void>((resolve) => {
      tellMore = resolve
    })
}

beforeEach(() => {
  tellMore = () => {}
  blame = () => undefined
  memory = 1 << 30
  inHelper = []
})
afterEach(() => supervisor.stop())

describe('a worker that fails', () => {
  const ways = [
    // how         reason in the report
    ['throw', 'thrown by the test'],
    ['overflow', 'Maximum call stack size exceeded'],
    ['exit', 'worker exited with code: 7'],
    ['exhaust', 'Worker terminated due to reaching memory limit: JS heap out of memory'],
    ['wedge', 'it has not turned for 5 s'],
    ['return', 'it ended'],
  ] as const
  for (const [how, reason] of ways)
    it(`(${how}) is replaced by another on its memory, once its thread is gone; the others turn on`, async () => {
      supervise()
      await supervisor.forwarding()
      const threads = [0, 1, 2].map((worker) => words.thread(worker))
      order(1, how)
      await until(() => replaced.length === 1)
      expect(gone).toEqual([{ worker: 1, restarts: 0 }])
      expect(replacing).toEqual([{ worker: 'worker 1', reason, epoch: 1 }])
      expect(replaced).toEqual([{ worker: 'worker 1', epoch: 2, milliseconds: expect.any(Number) }])
      const now = [0, 1, 2].map((worker) => words.thread(worker))
      expect([now[0], now[2]]).toEqual([threads[0], threads[2]])
      expect(threads).not.toContain(now[1])
      expect([0, 1, 2].map((worker) => supervisor.restarts(worker))).toEqual([0, 1, 0])
      expect(supervisor.notTurning()).toEqual([])
      await supervisor.stop()
      expect([...intrusions.subarray(0, WORKERS)]).toEqual([0, 0, 0])
      expect(failures).toEqual([])
    })

  it('in a helper that allocates outside of its heap is ended before it is silent; one that turns is not', async () => {
    const ends: unknown[] = []
    blame = (worker, how) => {
      ends.push([worker, how])
      return undefined
    }
    inHelper = [0, 1]
    supervise()
    await supervisor.forwarding()
    order(1, 'wedge')
    await eventually('it stands still', () => supervisor.heartbeatAge(1) >= 1000)
    memory += 600 << 20
    await until(() => replaced.length === 1)
    expect(ends).toEqual([[1, 'out-of-memory']])
    expect(replacing).toMatchObject([
      { worker: 'worker 1', reason: 'the process grew by 600 MB while it did not turn' },
    ])
  })

  it('is not suspected of the process’s memory where it runs no helper', async () => {
    const ends: unknown[] = []
    blame = (worker, how) => {
      ends.push([worker, how])
      return undefined
    }
    supervise()
    await supervisor.forwarding()
    order(1, 'wedge')
    await eventually('it stands still', () => supervisor.heartbeatAge(1) >= 1000)
    memory += 600 << 20
    await until(() => replaced.length === 1)
    expect(ends).toEqual([[1, 'silent']])
  })

  it('is replaced again and again, also when several fail at once', async () => {
    supervise()
    await supervisor.forwarding()
    const rounds = ['throw', 'exit', 'overflow', 'return'] as const
    for (const [round, how] of rounds.entries()) {
      for (let worker = 0; worker < WORKERS; worker++) order(worker, how)
      await until(() => replaced.length === (round + 1) * WORKERS)
    }
    expect([0, 1, 2].map((worker) => supervisor.restarts(worker))).toEqual([4, 4, 4])
    expect(new Set([0, 1, 2].map((worker) => words.thread(worker))).size).toBe(WORKERS)
    await supervisor.stop()
    expect([...intrusions.subarray(0, WORKERS)]).toEqual([0, 0, 0])
  })
})

describe('one failure too many', () => {
  it('is the gateway’s, with the reason and the limit', async () => {
    supervise({ restarts: 2, withinSeconds: 60 })
    await supervisor.forwarding()
    for (const worker of [0, 1]) {
      order(worker, 'throw')
      await until(() => replaced.length === worker + 1)
    }
    order(2, 'exit')
    await until(() => failures.length === 1)
    expect(failures[0]).toMatchObject({
      code: 'GATEWAY_THREAD',
      exitCode: 4,
      message: 'worker 2 failed: worker exited with code: 7 (2 were replaced within 60 s already)',
    })
    expect([replacing.length, replaced.length]).toEqual([2, 2])
  })

  it('is the first where none is to be replaced', async () => {
    supervise({ restarts: 0, withinSeconds: 60 })
    await supervisor.forwarding()
    order(0, 'throw')
    await until(() => failures.length === 1)
    expect(failures[0]!.message).toBe('worker 0 failed: thrown by the test (none is replaced)')
  })
})

describe('a failure that is a helper’s', () => {
  const HELPER: Blame = { helper: 'beacon', why: 'endless loop', in: 'help()' }

  it('is told with the helper and does not count, however often; the next of the worker’s own does', async () => {
    blame = () => HELPER
    supervise({ restarts: 0, withinSeconds: 60 })
    await supervisor.forwarding()
    for (const round of [1, 2]) {
      order(0, 'exit')
      await until(() => replaced.length === round)
    }
    expect(replacing[1]).toEqual({ worker: 'worker 0', reason: 'worker exited with code: 7', epoch: 2, ...HELPER })
    expect(supervisor.restarts(0)).toBe(2)
    blame = () => undefined
    order(0, 'exit')
    await until(() => failures.length === 1)
    expect(failures[0]!.message).toBe('worker 0 failed: worker exited with code: 7 (none is replaced)')
  })

  const ends = [
    ['throw', 'threw'],
    ['exit', 'exited'],
    ['exhaust', 'out-of-memory'],
    ['wedge', 'silent'],
    ['return', 'returned'],
  ] as const
  for (const [how, end] of ends)
    it(`is asked for before another thread begins: ${how} is ${end}`, async () => {
      const asked: unknown[] = []
      blame = (worker, how) => {
        asked.push([worker, how, words.thread(worker) !== 0])
        return undefined
      }
      supervise()
      await supervisor.forwarding()
      order(2, how)
      await until(() => replaced.length === 1)
      expect(asked).toEqual([[2, end, true]])
    })
})

describe('a worker that can’t begin', () => {
  it('is a failed start, and is not tried again', async () => {
    supervise(MANY_RESTARTS, '/nowhere/worker.js')
    const refusal = await supervisor.forwarding().catch((error: unknown) => error)
    expect(refusal).toMatchObject({ code: 'GATEWAY_THREAD', message: expect.stringMatching(/^worker \d failed: ./) })
    expect(failures).toEqual([refusal])
    expect(replacing).toEqual([])
  })
})

describe('asked to stop', () => {
  it('lets every worker finish its turn', async () => {
    supervise()
    await supervisor.forwarding()
    await supervisor.stop()
    expect([replacing, failures]).toEqual([[], []])
  })

  it('ends one by force that does not turn: the age of its heartbeat grows', async () => {
    supervise()
    await supervisor.forwarding()
    order(1, 'wedge')
    await eventually('the age grows, and only that one', () => {
      return supervisor.heartbeatAge(1) >= 300 && supervisor.heartbeatAge(0) < 300
    })
    await supervisor.stop()
    expect([replacing, failures]).toEqual([[], []])
  })

  it('ends also one that is just being replaced', async () => {
    supervise()
    await supervisor.forwarding()
    order(1, 'exit')
    await until(() => replacing.length === 1)
    expect(supervisor.notTurning()).toEqual(['worker 1'])
    await supervisor.stop()
    expect([...intrusions.subarray(0, WORKERS)]).toEqual([0, 0, 0])
    expect(failures).toEqual([])
  })
})
