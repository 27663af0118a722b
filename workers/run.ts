// The loop of a shard's and of the dispatcher's thread: attaches memory and sockets, turns until its order word says
// that it may not. The thread reads no messages while it runs: its orders are a word in shared memory
// (src/memory/control-words.ts).

import { getHeapStatistics } from 'node:v8'
import { parentPort, threadId } from 'node:worker_threads'
import { isToCrash } from '#faults'
import type { ShardTask, WorkerMessage } from '../src/coordinator/workers/entry-points.ts'
import type { attachShard } from '../src/datapath/attach.ts'
import type { Report, Wakers, WarmUp } from '../src/datapath/shard-contract.ts'
import { AfPacketDriver } from '../src/io/af-packet.ts'
import type { AfPacketRings } from '../src/io/af-packet-layout.ts'
import { swallowingDriver } from '../src/io/af-packet-swallow.ts'
import { FaultyDriver } from '../src/io/faulty.ts'
import { signal, threadCpuTime } from '../src/io/syscalls.ts'
import { ControlWords } from '../src/memory/control-words.ts'
import { Region } from '../src/memory/region.ts'
import { captureOutput } from './output.ts'

const LONGEST_SLEEP_MS = 50
/** The first round costs as much as all others together; more of them show in no first packet (bench/start.ts). */
const WARM_UP_ROUNDS = 10
/** Of this thread's processor time: on a slow machine a gateway that forwards is worth more than a warm one. */
const WARM_UP_MS = 150

export async function run(
  { settings, memory, packetRings, ...task }: ShardTask,
  attach: typeof attachShard,
): Promise<void> {
  const { shard, epoch } = settings
  const control = new ControlWords(new Region(task.control.buffer), task.control.workers)
  if (!control.enter(shard, epoch, threadId)) return
  // A message is on its way when it is posted: only reading one needs the event loop.
  const report = ({ detail, ...rest }: Report) =>
    parentPort!.postMessage({ report: { ...rest, detail: { shard, ...detail } } } satisfies WorkerMessage)
  captureOutput(report)
  const sockets = new AfPacketDriver(packetRings)
  const driver = task.faults ? new FaultyDriver(sockets, task.faults, () => performance.now()) : sockets
  const wakers: Wakers = {
    watcher: () => signal(task.watcherFd),
    shard: (shard) => signal(task.wakeFds[shard]!),
    coordinator: () => control.ring(),
    callClocks: { wall: () => performance.now(), cpu: threadCpuTime },
    heapUsed: () => getHeapStatistics().used_heap_size,
    report,
  }
  // Not on a dead shard's memory: its scratch may hold frames, and its tables hold connections.
  const warmUp = settings.restarted || isToCrash ? undefined : warmUpOver(packetRings)
  const dataplane = await attach(memory, settings, driver, wakers, warmUp)
  // performance.now() counts from this thread's start and allocates nothing; hrtime is the same clock in every thread.
  const age = Number(process.hrtime.bigint() / 1_000_000n) - task.startedAt - performance.now()
  await dataplane.followHelpers()
  let hasBegun = false
  while (control.mayRun(shard, epoch)) {
    const now = performance.now() + age
    const received = dataplane.turn(now)
    control.beat(shard, now)
    if (!hasBegun) control.hasBegun(shard)
    hasBegun = true
    const following = dataplane.followHelpers()
    // An import needs the event loop, which this thread otherwise never gives a turn.
    if (following) await following
    else if (received === 0) dataplane.sleep(LONGEST_SLEEP_MS)
  }
  driver.close()
}

function warmUpOver(rings: AfPacketRings): WarmUp {
  const until = threadCpuTime() + WARM_UP_MS
  return {
    ...swallowingDriver(rings),
    mayGoOn: ({ rounds }) => rounds < WARM_UP_ROUNDS && threadCpuTime() < until,
  }
}
