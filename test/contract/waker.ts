// A thread that wakes the test's driver once for each turn, as soon as the kernel says that the test's thread sleeps.
// The word `turn` counts up by one for each wake that the test asks for; -1 ends.

import { readFileSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { LoopbackDriver, type LoopbackOptions } from '../../src/io/loopback.ts'
import { signal } from '../../src/io/syscalls.ts'

export type WakeTarget =
  | { readonly by: 'eventfd'; readonly fd: number }
  | { readonly by: 'loopback'; readonly options: LoopbackOptions }

const { target, sleeper, turn: buffer } = workerData as { target: WakeTarget; sleeper: number; turn: SharedArrayBuffer }
const turn = new Int32Array(buffer)

function waker(): () => void {
  if (target.by === 'eventfd') return () => signal(target.fd)
  const driver = new LoopbackDriver(target.options)
  return () => driver.wake()
}

/** proc_pid_stat(5): the letter after the name in brackets is the state; S is asleep. */
function sleeping(): boolean {
  const stat = readFileSync(`/proc/self/task/${sleeper}/stat`, 'latin1')
  return stat[stat.lastIndexOf(')') + 2] === 'S'
}

const wake = waker()
parentPort?.postMessage({ turn })
for (let done = 0; Atomics.load(turn, 0) >= 0; done++) {
  Atomics.wait(turn, 0, done)
  if (Atomics.load(turn, 0) < 0) break
  while (Atomics.load(turn, 0) === done + 1 && !sleeping());
  wake()
}
