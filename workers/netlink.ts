// The thread that watches the kernel's tables: attaches its memory, turns the watcher until its stop word is set, posts
// reports to the main thread. What a turn does is in src/host/watcher.ts.

import { parentPort, workerData } from 'node:worker_threads'
import { type NetlinkThreadData, Watcher } from '../src/host/watcher.ts'
import { signal } from '../src/io/syscalls.ts'
import { Region } from '../src/memory/region.ts'
import { Fib } from '../src/routing/fib.ts'

const data = workerData as NetlinkThreadData
const stop = new Int32Array(data.stop)

const watcher = new Watcher({
  fib: new Fib(new Region(data.fib.buffer), data.fib.options),
  ports: data.ports,
  rulesPort: data.rulesPort,
  wakeFd: data.wakeFd,
  now: () => performance.now(),
  published: () => {
    for (const fd of data.shardFds) signal(fd)
  },
  report: (report) => parentPort?.postMessage(report),
})
try {
  while (Atomics.load(stop, 0) === 0) watcher.turn()
} finally {
  watcher.close()
}
