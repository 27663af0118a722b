// A worker as a thread pool runs it: turns, and fails in the way that the test orders. Meanwhile it writes its epoch
// into a word of its slot, and looks whether another thread does.

import { threadId } from 'node:worker_threads'
import { ControlWords } from '../../../src/memory/control-words.ts'
import { Region } from '../../../src/memory/region.ts'

export interface FailingTask {
  readonly control: { readonly buffer: SharedArrayBuffer; readonly workers: number }
  readonly worker: number
  readonly epoch: number
  /** By worker: how it is to fail, as an index of FAILURES. The worker clears its order. */
  readonly orders: SharedArrayBuffer
  /** By worker: the epoch of the thread that wrote last. */
  readonly writers: SharedArrayBuffer
  /** By worker: how often a worker saw that another wrote too. */
  readonly intrusions: SharedArrayBuffer
}

export const FAILURES = ['none', 'throw', 'overflow', 'exit', 'exhaust', 'wedge', 'return'] as const
export type Failure = (typeof FAILURES)[number]

/** The same in every thread. */
export const milliseconds = (): number => Number(process.hrtime.bigint() / 1_000_000n)

const LONGEST_SLEEP_MS = 5

const overflow = (depth: number): number => 1 + overflow(depth + 1)

function fail(how: Failure, write: () => void, beat: () => void): void {
  if (how === 'throw') throw new Error('thrown by the test')
  if (how === 'overflow') overflow(0)
  if (how === 'exit') process.exit(7)
  // It turns while it leaks, or on a busy machine it would count as silent before its memory is full.
  if (how === 'exhaust')
    for (const kept: number[][] = []; ; beat()) {
      write()
      kept.push(new Array(100_000).fill(kept.length))
    }
  if (how === 'wedge') for (;;) write()
}

let hasRun = false

export default function worker({ worker, epoch, ...task }: FailingTask): void {
  const [orders, writers, intrusions] = [task.orders, task.writers, task.intrusions].map((each) => new Int32Array(each))
  const write = () => Atomics.store(writers, worker, epoch)
  const beat = () => control.beat(worker, milliseconds())
  // Modules of a thread belong to its first task.
  if (hasRun) Atomics.add(intrusions, worker, 1)
  hasRun = true

  const control = new ControlWords(new Region(task.control.buffer), task.control.workers)
  if (!control.enter(worker, epoch, threadId)) return
  write()
  while (control.mayRun(worker, epoch)) {
    if (Atomics.load(writers, worker) !== epoch) Atomics.add(intrusions, worker, 1)
    beat()
    control.hasBegun(worker)
    const how = FAILURES[Atomics.exchange(orders, worker, 0)]!
    if (how === 'return') break
    fail(how, write, beat)
    Atomics.wait(orders, worker, 0, LONGEST_SLEEP_MS)
  }
}
