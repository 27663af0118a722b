import { beforeAll, describe, expect, it } from 'vitest'
import { loadConfig } from '../../../src/control/config.ts'
import { allocateMemory } from '../../../src/coordinator/memory.ts'
import type { ShardTask } from '../../../src/coordinator/workers/entry-points.ts'
import { workerSlotsOf } from '../../../src/coordinator/workers/shards.ts'
import type { WorkerSlot } from '../../../src/coordinator/workers/supervisor.ts'
import type { AfPacketRings } from '../../../src/io/af-packet-layout.ts'

const ringsOf = (wakeFd: number) => ({ wakeFd }) as AfPacketRings
const SHARD_RINGS = [ringsOf(10), ringsOf(11)]
const DISPATCHER_RINGS = ringsOf(12)

function slotsFor(dispatch: 'kernel' | 'thread'): WorkerSlot[] {
  const interfaces = { NATLOOM_CONFIG: '/dev/null', NATLOOM_INSIDE: 'lan0', NATLOOM_OUTSIDE: 'wan0' }
  const { config } = loadConfig({ env: { ...interfaces, NATLOOM_WORKERS: '2', NATLOOM_DISPATCH: dispatch } })
  return workerSlotsOf({
    memory: allocateMemory(config),
    packetRings: SHARD_RINGS,
    dispatcherRings: dispatch === 'thread' ? DISPATCHER_RINGS : undefined,
    watcherFd: 9,
    startedAt: 5,
  })
}
const taskOf = (slot: WorkerSlot, epoch: number) => slot.task(epoch) as ShardTask

let slots: WorkerSlot[]
beforeAll(() => {
  slots = slotsFor('thread')
})

describe('the workers of a gateway', () => {
  it('are its shards where the kernel dispatches, and the dispatcher where a thread does', () => {
    expect(slotsFor('kernel').map(({ name }) => name)).toEqual(['shard 0', 'shard 1'])
    expect(slots.map(({ name }) => name)).toEqual(['shard 0', 'shard 1', 'the dispatcher'])
    expect(slots.map(({ file }) => file.replace(/^.*\//, ''))).toEqual(['shard.js', 'shard.js', 'dispatcher.js'])
  })

  it('know who they are, and share what is everybody’s', () => {
    const tasks = slots.map((slot) => taskOf(slot, 1))
    expect(tasks.map(({ settings, packetRings }) => [settings.shard, settings.shards, packetRings.wakeFd])).toEqual([
      [0, 2, 10],
      [1, 2, 11],
      [2, 2, 12],
    ])
    expect(new Set(tasks.map(({ memory }) => memory.handover)).size).toBe(1)
    expect(new Set(tasks.map(({ memory }) => memory.tables)).size).toBe(3)
    for (const { wakeFds, watcherFd, startedAt, control } of tasks)
      expect([wakeFds, watcherFd, startedAt, control.workers]).toEqual([[10, 11], 9, 5, 3])
  })

  it('are told whether somebody was there before them', () => {
    const lives = [1, 2, 3].map((epoch) => taskOf(slots[1]!, epoch).settings)
    expect(lives.map(({ epoch, restarted }) => [epoch, restarted])).toEqual([
      [1, false],
      [2, true],
      [3, true],
    ])
  })
})
