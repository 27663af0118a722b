// A shard's thread: attaches memory and sockets, turns until it is ordered to end. What a turn does is in
// src/datapath/shard.ts. While it runs the thread reads no messages: its orders are a word in shared memory.

import type { ShardTask } from '../src/coordinator/shards.ts'
import { attachShard } from '../src/datapath/attach.ts'
import { AfPacketDriver } from '../src/io/af-packet.ts'
import { signal } from '../src/io/syscalls.ts'
import { ControlWords } from '../src/memory/control-words.ts'
import { Region } from '../src/memory/region.ts'

const LONGEST_SLEEP_MS = 50

export default async function shard(task: ShardTask): Promise<void> {
  const { settings, memory, seat, epoch, watcherFd, wakeFds } = task
  const control = new ControlWords(new Region(task.control.buffer), task.control.shards)
  const driver = new AfPacketDriver(seat)
  const dataplane = await attachShard(memory, settings, driver, {
    watcher: () => signal(watcherFd),
    shard: (shard) => signal(wakeFds[shard]!),
    coordinator: () => {},
  })
  // performance.now() counts from this thread's start and allocates nothing; hrtime is the same clock in every thread.
  const age = Number(process.hrtime.bigint() / 1_000_000n) - task.startedAt - performance.now()
  while (control.mayRun(settings.shard, epoch)) {
    const now = performance.now() + age
    const received = dataplane.turn(now)
    control.beat(settings.shard, now)
    if (received === 0) dataplane.sleep(LONGEST_SLEEP_MS)
  }
  driver.close()
}
