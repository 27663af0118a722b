import { describe, expect, it } from 'vitest'
import { HelperList } from '../../src/helpers/helper-list.ts'
import { allocate, Region } from '../../src/memory/region.ts'

function lists(shards = 2): { coordinator: HelperList; shard: HelperList } {
  const { buffer, view } = allocate((region) => new HelperList(region, shards))
  return { coordinator: view, shard: new HelperList(new Region(buffer), shards) }
}

describe('the list of helpers in force', () => {
  it('is empty before there was one', () => {
    const { shard } = lists()
    expect(shard.version()).toBe(0)
    expect(shard.read()).toEqual({ version: 0, text: '' })
  })

  it('is read as it was published, each with a version of its own', () => {
    const { coordinator, shard } = lists()
    for (const text of ['["ftp"]', '["ftp","größer"]', '[]']) {
      const version = coordinator.publish(text)
      expect(shard.version()).toBe(version)
      expect(shard.read()).toEqual({ version, text })
    }
  })

  it('says so if it is too long, and stays as it was', () => {
    const { coordinator, shard } = lists()
    const version = coordinator.publish('[]')
    expect(() => coordinator.publish('x'.repeat(300_000))).toThrow(RangeError)
    expect(shard.read()).toEqual({ version, text: '[]' })
  })
})

describe('what shards report of it', () => {
  it('is each shard’s own', () => {
    const { coordinator, shard } = lists()
    shard.report(1, 4, 'ftp: no such module')
    expect([0, 1].map((number) => coordinator.reportOf(number))).toEqual([
      { version: 0, fault: '' },
      { version: 4, fault: 'ftp: no such module' },
    ])
    shard.report(1, 6, '')
    expect(coordinator.reportOf(1)).toEqual({ version: 6, fault: '' })
  })

  it('is cut where it is too long', () => {
    const { coordinator, shard } = lists()
    shard.report(0, 2, 'x'.repeat(5000))
    shard.report(1, 2, 'short')
    expect(coordinator.reportOf(0).fault).toMatch(/^x{1024}$/)
    expect(coordinator.reportOf(1).fault).toBe('short')
  })

  it('wakes who waits for it, and only when it is about the version that is waited for', async () => {
    const { coordinator, shard } = lists()
    const version = coordinator.publish('[]')
    const followed = coordinator.followed(0, version, 5000)
    shard.report(1, version, '')
    shard.report(0, version - 2, '')
    shard.report(0, version, '')
    expect(await followed).toBe(true)
    expect(await coordinator.followed(1, version, 0)).toBe(true)
  })

  it('is not waited for longer than was said', async () => {
    const { coordinator } = lists()
    expect(await coordinator.followed(0, coordinator.publish('[]'), 5)).toBe(false)
  })
})
