// Helpers at run time: tried in a process of their own, listed, loaded by every shard, and undone if one of them fails;
// taken out of force when a shard's thread does not come back from one.

import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import type { HelperError } from '../../../src/coordinator/helpers/errors.ts'
import { HelperManager } from '../../../src/coordinator/helpers/helper-manager.ts'
import type { TaskEnd } from '../../../src/coordinator/workers/thread-pool.ts'
import type * as InForce from '../../../src/datapath/helped/helpers-in-force.ts'
import { ENTRY, type Entry, HelperList } from '../../../src/helpers/helper-list.ts'
import type * as Registry from '../../../src/helpers/registry.shard.ts'
import { allocate } from '../../../src/memory/region.ts'
import { parseAddress, swap16 } from '../../../src/wire/address.ts'
import { testFolder } from '../../leftovers.ts'

const SHARDS = 2
const TCP = 6
const UDP = 17

/** A shard's helpers: instances of its modules for this shard alone. */
interface Shard {
  readonly follow: typeof InForce.followHelperList
  readonly registry: typeof Registry
  readonly detached: number[]
}

let folder: string
let list: HelperList
let shards: Shard[]
let manager: HelperManager
let dropped: number[]
/** The loops by which the shards follow the list. */
let following: Promise<unknown>

beforeAll(() => {
  folder = testFolder('helpers')
})
afterAll(() => rmSync(folder, { recursive: true }))

async function shard(number: number): Promise<Shard> {
  vi.resetModules()
  const inForce: typeof InForce = await import('../../../src/datapath/helped/helpers-in-force.ts')
  const registry: typeof Registry = await import('../../../src/helpers/registry.shard.ts')
  const detached: number[] = []
  inForce.attachHelpers(list, number, (id) => detached.push(id))
  return { follow: inForce.followHelperList, registry, detached }
}

beforeEach(async () => {
  list = allocate((region) => new HelperList(region, SHARDS)).view
  shards = []
  for (let number = 0; number < SHARDS; number++) shards.push(await shard(number))
  dropped = []
  following = Promise.resolve()
  manager = new HelperManager({
    list,
    shards: SHARDS,
    onFailure: 'reset',
    wake: () => {
      following = Promise.all(shards.map(({ follow }) => follow()))
    },
    drop: (id) => dropped.push(id),
  })
})

function moduleOf(text: string): string {
  const path = join(folder, `helper-${Math.random()}.mjs`)
  writeFileSync(path, text)
  return path
}
const BEACON = `
export default ({ port = 9000 }) => ({ name: 'beacon', tuple: { proto: 'udp', dstPort: port }, help() {} })`

/** Whether each shard watches a connection to this server because its helper can't read it. */
const watchedBy = (protocol: number, server: string, port: number): boolean[] =>
  shards.map(({ registry }) =>
    registry.isUnavailable(registry.findHelper(protocol, 0, parseAddress(server), swap16(port) << 16)),
  )

/** The name of the helper that each shard reads a connection to this server with. */
const readBy = (protocol: number, server: string, port: number): (string | undefined)[] =>
  shards.map(({ registry }) => {
    const id = registry.findHelper(protocol, 0, parseAddress(server), swap16(port) << 16)
    return registry.helperById(id)?.helper.name
  })

async function refusalOf(step: Promise<unknown>): Promise<Pick<HelperError, 'code' | 'message'>> {
  try {
    await step
  } catch (error) {
    const { code, message } = error as HelperError
    return { code, message }
  }
  throw new Error('it was accepted')
}

describe('a helper that is loaded', () => {
  it('reads connections in every shard, until it is unloaded', async () => {
    const loaded = await manager.load({ module: 'irc' })
    expect(loaded).toMatchObject({ name: 'irc', id: 1, module: 'irc', protocol: 'tcp', ports: [6667], servers: [] })
    expect(readBy(TCP, '192.0.2.7', 6667)).toEqual(['irc', 'irc'])
    expect(manager.list()).toEqual([loaded])
    expect(manager.nameOf(1)).toBe('irc')
    await manager.unload('irc')
    expect(readBy(TCP, '192.0.2.7', 6667)).toEqual([undefined, undefined])
    expect(manager.list()).toEqual([])
    expect(shards.map(({ detached }) => detached)).toEqual([[1], [1]])
    expect(dropped).toEqual([1])
  })

  it('is bound to the ports and servers that are named', async () => {
    await manager.load({ module: 'ftp', ports: [21, 2121], servers: ['192.0.2.0/24', '198.51.100.7'] })
    for (const [server, port, name] of [
      ['192.0.2.200', 21, 'ftp'],
      ['192.0.2.200', 2121, 'ftp'],
      ['198.51.100.7', 2121, 'ftp'],
      ['198.51.100.8', 21, undefined],
      ['192.0.2.200', 22, undefined],
    ] as const)
      expect(readBy(TCP, server, port), `${server}:${port}`).toEqual([name, name])
    expect(manager.list()).toMatchObject([{ ports: [21, 2121], servers: ['192.0.2.0/24', '198.51.100.7'] }])
  })

  it('may be a user’s, by the path of its module, with options', async () => {
    await manager.load({ module: moduleOf(BEACON), options: { port: 9999 } })
    expect(readBy(UDP, '192.0.2.7', 9999)).toEqual(['beacon', 'beacon'])
  })

  it('is imported anew when it is loaded again', async () => {
    const module = moduleOf(BEACON)
    await manager.load({ module })
    await manager.unload('beacon')
    writeFileSync(module, BEACON.replace('9000', '9001'))
    await manager.load({ module })
    expect(readBy(UDP, '192.0.2.7', 9001)).toEqual(['beacon', 'beacon'])
    expect(readBy(UDP, '192.0.2.7', 9000)).toEqual([undefined, undefined])
  })

  it('has a number that nobody had lately', async () => {
    expect([(await manager.load({ module: 'ftp' })).id, (await manager.load({ module: 'irc' })).id]).toEqual([1, 2])
    await manager.unload('ftp')
    expect((await manager.load({ module: 'ftp' })).id).toBe(3)
  })

  it('is followed by a shard that begins later, as one that takes a dead one’s place', async () => {
    await manager.load({ module: 'tftp' })
    shards[1] = await shard(1)
    await shards[1].follow()
    expect(readBy(UDP, '192.0.2.7', 69)).toEqual(['tftp', 'tftp'])
    expect(shards[1].follow()).toBeUndefined()
  })

  it('is named where a shard that begins later can’t load it, and the shard does without', async () => {
    const module = moduleOf(`
      export default () => {
        if (globalThis.isGone) throw new Error('gone')
        return { name: 'fading', tuple: { proto: 'tcp', dstPort: 7 }, help() {} }
      }`)
    await manager.load({ module })
    expect(manager.faults()).toEqual([])
    vi.stubGlobal('isGone', true)
    onTestFinished(() => void vi.unstubAllGlobals())
    shards[1] = await shard(1)
    await shards[1].follow()
    expect(manager.faults()).toEqual([expect.stringMatching(/^in shard 1: fading: gone \(at .*\.mjs:3:38\)$/)])
    expect(readBy(TCP, '192.0.2.7', 7)).toEqual(['fading', undefined])
    expect(watchedBy(TCP, '192.0.2.7', 7)).toEqual([false, true])
  })
})

describe('those of the configuration', () => {
  it('are tried before there are shards, and followed when they begin', async () => {
    const waiting = shards
    shards = []
    await manager.begin([{ module: 'ftp' }, { module: 'tftp', ports: [6969] }])
    shards = waiting
    await Promise.all(shards.map(({ follow }) => follow()))
    await manager.settled()
    expect(readBy(TCP, '192.0.2.7', 21)).toEqual(['ftp', 'ftp'])
    expect(readBy(UDP, '192.0.2.7', 6969)).toEqual(['tftp', 'tftp'])
  })
})

describe('what is refused changes nothing', () => {
  it('a module that can’t be imported, or exports no helper', async () => {
    const module = moduleOf('export default 7')
    expect(await refusalOf(manager.load({ module }))).toEqual({
      code: 'HELPER_MODULE',
      message: `the helper ${module} can't be loaded: a helper is an object with name, tuple and help()`,
    })
    expect(list.version()).toBe(0)
    expect(manager.list()).toEqual([])
  })

  it('options of a module that takes none', async () => {
    const module = moduleOf('export default { name: "x", tuple: { proto: "tcp", dstPort: 1 }, help() {} }')
    expect((await refusalOf(manager.load({ module, options: { a: 1 } }))).message).toMatch(/it takes no options/)
  })

  it('a name that there is not, and one that there is', async () => {
    expect(await refusalOf(manager.load({ module: 'sip' }))).toEqual({
      code: 'HELPER_MODULE',
      message:
        "the helper sip can't be loaded: there is no helper sip: ftp, irc, tftp, or the path of a module, " +
        'which begins with ./, ../ or /',
    })
    await manager.load({ module: 'ftp' })
    expect((await refusalOf(manager.load({ module: 'ftp' }))).code).toBe('HELPER_EXISTS')
    expect(await refusalOf(manager.unload('irc'))).toEqual({
      code: 'HELPER_UNKNOWN',
      message: 'there is no helper irc: loaded are ftp',
    })
    expect(manager.list()).toHaveLength(1)
  })

  it('a module that one shard can’t load: it is undone in all', async () => {
    // The shards of this test are of one thread, and share the module.
    const module = moduleOf(`
      let calls = 0
      export default () => {
        if (++calls === 2) throw new Error('not here')
        return { name: 'picky', tuple: { proto: 'tcp', dstPort: 7 }, help() {} }
      }`)
    const { code, message } = await refusalOf(manager.load({ module }))
    expect(code).toBe('HELPER_SHARD')
    expect(message).toMatch(/^in shard \d: picky: not here \(at .*\.mjs:4:34\)$/)
    await following
    expect(readBy(TCP, '192.0.2.7', 7)).toEqual([undefined, undefined])
    expect(manager.list()).toEqual([])
    expect(dropped).toEqual([1])
  })
})

describe('several at once', () => {
  it('are done one after the other', async () => {
    const loads = ['ftp', 'irc', 'tftp'].map((module) => manager.load({ module }))
    const gone = manager.unload('irc')
    await Promise.all([...loads, gone])
    expect(manager.list().map(({ name, id }) => `${name} ${id}`)).toEqual(['ftp 1', 'tftp 3'])
  })
})

describe('a helper from which a shard’s thread does not come back', () => {
  /** The shard's thread has entered the helper of this number, and ends so. */
  const endIn = (shard: number, id: number, how: TaskEnd['how'], entry: Entry = ENTRY.help) => {
    list.runningWordOf(shard)[0] = id | entry
    return manager.blame(shard, how)
  }

  it('is out of force in every shard, listed as failed, counted, and expects nothing any more', async () => {
    await manager.load({ module: 'ftp' })
    const irc = await manager.load({ module: 'irc' })
    expect(endIn(1, 2, 'silent')).toEqual({ helper: 'irc', why: 'endless loop', in: 'help()' })
    // At once: the shard's next thread reads the list as soon as it begins.
    expect(JSON.parse(list.read()!.text)).toMatchObject([{ name: 'ftp' }, { name: 'irc', hasFailed: true }])
    await following
    expect(readBy(TCP, '192.0.2.7', 6667)).toEqual([undefined, undefined])
    expect(readBy(TCP, '192.0.2.7', 21)).toEqual(['ftp', 'ftp'])
    expect(manager.list()).toMatchObject([
      { name: 'ftp', state: 'in force' },
      { ...irc, state: 'failed: endless loop' },
    ])
    expect(manager.nameOf(2)).toBeUndefined()
    // A request that comes later is handled after its expectations are ended.
    await manager.load({ module: 'tftp' })
    expect(dropped).toEqual([2])
    expect(list.running(1)).toBeUndefined()
    expect(manager.failures().filter(({ count }) => count > 0)).toEqual([
      { helper: 'irc', why: 'endless-loop', count: 1 },
    ])
  })

  const ends = [
    // how            entered                      blamed for
    ['silent', ENTRY.expected, 'endless loop', 'expected()'],
    ['out-of-memory', ENTRY.help, 'out of memory', 'help()'],
    ['out-of-memory', ENTRY.state, 'out of memory', 'state()'],
    ['exited', ENTRY.help, 'exit', 'help()'],
    ['silent', ENTRY.import, 'endless loop', 'the import of its module'],
  ] as const
  for (const [how, entry, why, where] of ends)
    it(`is blamed for ${why} in ${where}`, async () => {
      await manager.load({ module: 'ftp' })
      expect(endIn(0, 1, how, entry)).toEqual({ helper: 'ftp', why, in: where })
      expect(manager.list()).toMatchObject([{ state: `failed: ${why}` }])
    })

  it('is not blamed for what natloom throws, nor where no helper runs, nor for the dispatcher', async () => {
    await manager.load({ module: 'ftp' })
    expect(endIn(0, 1, 'threw')).toBeUndefined()
    expect(endIn(0, 1, 'returned')).toBeUndefined()
    expect(manager.blame(0, 'silent')).toBeUndefined()
    expect(manager.blame(SHARDS, 'silent')).toBeUndefined()
    expect(manager.list()).toMatchObject([{ state: 'in force' }])
  })

  it('is blamed by every shard that it keeps, also once it is out of force', async () => {
    await manager.load({ module: 'ftp' })
    const blame = { helper: 'ftp', why: 'endless loop', in: 'help()' }
    expect(endIn(0, 1, 'silent')).toEqual(blame)
    expect(endIn(1, 1, 'silent')).toEqual(blame)
    expect(manager.failures()).toContainEqual({ helper: 'ftp', why: 'endless-loop', count: 2 })
    expect(manager.list()).toHaveLength(1)
  })

  it('may be loaded again, or unloaded first', async () => {
    await manager.load({ module: 'ftp' })
    endIn(0, 1, 'silent')
    expect(await manager.load({ module: 'ftp' })).toMatchObject({ name: 'ftp', id: 2, state: 'in force' })
    expect(manager.list()).toMatchObject([{ id: 2, state: 'in force' }])
    endIn(0, 2, 'silent')
    expect(await manager.unload('ftp')).toMatchObject({ id: 2, state: 'failed: endless loop' })
    expect(manager.list()).toEqual([])
    expect((await refusalOf(manager.unload('ftp'))).code).toBe('HELPER_UNKNOWN')
  })

  it('leaves what it should read to be watched, until it is loaded again or unloaded', async () => {
    const watched = () => watchedBy(TCP, '192.0.2.7', 21)
    await manager.load({ module: 'ftp' })
    endIn(0, 1, 'silent')
    await following
    expect(watched()).toEqual([true, true])
    // Also by a shard's next thread, which has never read with it.
    shards[0] = await shard(0)
    await shards[0].follow()
    expect(watched()).toEqual([true, true])
    await manager.load({ module: 'ftp' })
    await following
    expect([watched(), readBy(TCP, '192.0.2.7', 21)]).toEqual([
      [false, false],
      ['ftp', 'ftp'],
    ])
    endIn(0, 2, 'silent')
    await following
    expect(watched()).toEqual([true, true])
    await manager.unload('ftp')
    expect(watched()).toEqual([false, false])
  })

  it('is watched by nobody where its announcements may go out as they are', async () => {
    await manager.load({ module: 'ftp', onFailure: 'pass' })
    endIn(0, 1, 'silent')
    await following
    expect(watchedBy(TCP, '192.0.2.7', 21)).toEqual([false, false])
  })

  it('is refused if that is while it is loaded: nothing has changed', async () => {
    const wake = vi.spyOn(shards[0]!, 'follow').mockImplementationOnce(() => {
      endIn(0, 1, 'silent', ENTRY.import)
      return undefined
    })
    onTestFinished(() => wake.mockRestore())
    expect(await refusalOf(manager.load({ module: 'ftp' }))).toEqual({
      code: 'HELPER_SHARD',
      message: 'helper ftp: endless loop in the import of its module',
    })
    expect(manager.list()).toEqual([])
    await following
    expect(readBy(TCP, '192.0.2.7', 21)).toEqual([undefined, undefined])
  })
})
