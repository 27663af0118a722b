import { beforeAll, describe, expect, it } from 'vitest'
import { loadConfig } from '../../../src/control/config.ts'
import { allocateMemory } from '../../../src/coordinator/memory.ts'
import { placesOf, type ShardTask } from '../../../src/coordinator/workers/shards.ts'
import type { Place } from '../../../src/coordinator/workers/supervisor.ts'
import type { AfPacketSeat } from '../../../src/io/af-packet-layout.ts'

const seat = (wakeFd: number) => ({ wakeFd }) as AfPacketSeat
const SHARD_SEATS = [seat(10), seat(11)]
const DISPATCHER_SEAT = seat(12)

function placesFor(dispatch: 'kernel' | 'thread'): Place[] {
  const interfaces = { NATLOOM_CONFIG: '/dev/null', NATLOOM_INSIDE: 'lan0', NATLOOM_OUTSIDE: 'wan0' }
  const { config } = loadConfig({ env: { ...interfaces, NATLOOM_WORKERS: '2', NATLOOM_DISPATCH: dispatch } })
  return placesOf({
    memory: allocateMemory(config),
    seats: SHARD_SEATS,
    dispatcherSeat: dispatch === 'thread' ? DISPATCHER_SEAT : undefined,
    watcherFd: 9,
    startedAt: 5,
  })
}
const taskOf = (place: Place, epoch: number) => place.task(epoch) as ShardTask

let places: Place[]
beforeAll(() => {
  places = placesFor('thread')
})

describe('the workers of a gateway', () => {
  it('are its shards where the kernel dispatches, and the dispatcher where a thread does', () => {
    expect(placesFor('kernel').map(({ name }) => name)).toEqual(['shard 0', 'shard 1'])
    expect(places.map(({ name }) => name)).toEqual(['shard 0', 'shard 1', 'the dispatcher'])
    expect(places.map(({ file }) => file.replace(/^.*\//, ''))).toEqual(['shard.js', 'shard.js', 'dispatcher.js'])
  })

  it('know who they are, and share what is everybody’s', () => {
    const tasks = places.map((place) => taskOf(place, 1))
    expect(tasks.map(({ settings, seat }) => [settings.shard, settings.shards, seat.wakeFd])).toEqual([
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
    const lives = [1, 2, 3].map((epoch) => taskOf(places[1]!, epoch).settings)
    expect(lives.map(({ epoch, restarted }) => [epoch, restarted])).toEqual([
      [1, false],
      [2, true],
      [3, true],
    ])
  })
})
