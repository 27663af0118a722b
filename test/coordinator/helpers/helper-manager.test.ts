// Helpers at run time: imported in the main thread, listed, loaded by every shard, and undone if one of them fails.

import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import type { HelperError } from '../../../src/coordinator/helpers/errors.ts'
import { HelperManager } from '../../../src/coordinator/helpers/helper-manager.ts'
import type * as InForce from '../../../src/datapath/helped/helpers-in-force.ts'
import { HelperList } from '../../../src/helpers/helper-list.ts'
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
    expect(manager.faults()).toEqual(['in shard 1: fading: gone'])
    expect(readBy(TCP, '192.0.2.7', 7)).toEqual(['fading', undefined])
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
  const modules = [
    ['that is not there', '', /Cannot find module|ENOENT|no such file|Failed to load/i],
    ['that does not parse', 'export default {', /.+/],
    ['that throws', 'throw new Error("out of order")', /: out of order$/],
    ['without a default export', 'export const helper = {}', /: it has no default export/],
    ['that exports no helper', 'export default 7', /: a helper is an object with name, tuple and help\(\)$/],
    ['with a wrong name', 'export default { name: "X", tuple: { proto: "tcp" }, help() {} }', /: name "X": a letter/],
    ['whose function throws', 'export default () => { throw new Error("no port") }', /: no port$/],
    ['whose import never ends', 'await new Promise(() => {}); export default 1', /: its import took longer than 2 s$/],
  ] as const
  for (const [what, text, reason] of modules)
    it(`a module ${what}`, async () => {
      const module = text === '' ? join(folder, 'nowhere.mjs') : moduleOf(text)
      const { code, message } = await refusalOf(manager.load({ module }))
      expect(code).toBe('HELPER_MODULE')
      expect(message).toContain(`the helper ${module} can't be loaded: `)
      expect(message).toMatch(reason)
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
      message: "the helper sip can't be loaded: there is no helper sip: ftp, irc, tftp",
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
    // The module is imported first in the main thread, then in each shard.
    const module = moduleOf(`
      let calls = 0
      export default () => {
        if (++calls === 3) throw new Error('not here')
        return { name: 'picky', tuple: { proto: 'tcp', dstPort: 7 }, help() {} }
      }`)
    const { code, message } = await refusalOf(manager.load({ module }))
    expect(code).toBe('HELPER_SHARD')
    expect(message).toMatch(/^in shard \d: picky: not here$/)
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
