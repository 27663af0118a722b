// What the build makes of the datapath: a bundle for each kind of thread, with nothing in it that this kind does not
// need.

import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'

const PROJECT = new URL('../../', import.meta.url)

/** The modules of a bundle, as paths in the project: its source map has them. */
function modulesOf(bundle: string): string[] {
  const file = new URL(`dist/src/datapath/${bundle}.bundle.js.map`, PROJECT)
  const { sources } = JSON.parse(readFileSync(file, 'utf8')) as { sources: string[] }
  return sources.map((source) => new URL(source, file).pathname.slice(PROJECT.pathname.length))
}

const UN_NAT = 'src/datapath/un-nat/un-nat.ts'
const TRANSLATE = 'src/datapath/egress/translate.ts'

describe("the bundle of a gateway's shard", () => {
  it('holds the datapath', () => expect(modulesOf('shard')).toContain(TRANSLATE))
  it('holds nothing of what only a replay needs', () => {
    expect(modulesOf('shard').filter((module) => module.startsWith('src/datapath/un-nat/'))).toEqual([])
  })
})

describe('the bundle of a dispatcher', () => {
  it('knows the rings between threads, and no connections', () => {
    expect(modulesOf('dispatcher')).toContain('src/datapath/handover/handover-rings.ts')
    expect(modulesOf('dispatcher').filter((module) => module.startsWith('src/conntrack/connections'))).toEqual([])
  })
})

describe("the bundle of a replay's shard", () => {
  it('holds the datapath and its inverse', () => {
    expect(modulesOf('un-nat/replay-shard')).toEqual(expect.arrayContaining([TRANSLATE, UN_NAT]))
  })
})
