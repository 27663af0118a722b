// What is bound to a thread says so (ARCHITECTURE.md, "Layouts, and what is bound to a thread"), asked of every module
// by importing it where no memory is attached: this process. Programs, which run when they are imported, are asked by
// what they import.

import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))
const modules = ['src', 'workers'].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => `${folder}/${name}`),
)

const isProgram = (path: string): boolean => /^workers\/|^src\/lab\/|^src\/control\/main\.ts$/.test(path)
const isShard = (path: string): boolean => path.endsWith('.shard.ts')
/** In the datapath everything is the shard, but for what says what one is told and how its memory is cut. */
const CONTRACTS = /^src\/datapath\/(attach|shard-contract|shard-tables|handover\/handover-rings)\.ts$/
const isDatapath = (path: string): boolean => path.startsWith('src/datapath/') && !CONTRACTS.test(path)

const textOf = (path: string): string => readFileSync(join(root, path), 'utf8')

/** What is evaluated with it: `import type` is gone by then, and `import()` comes later. */
function evaluatedWith(path: string, known = new Set<string>()): Set<string> {
  if (known.has(path)) return known
  known.add(path)
  for (const [, from] of textOf(path).matchAll(/^(?:import|export)(?! type\b)(?:[^'"]*? from)? '(\.[^']+)'/gm))
    evaluatedWith(normalize(join(dirname(path), from as string)), known)
  return known
}

let throwing: ReadonlySet<string>
beforeAll(async () => {
  const found = new Set<string>()
  for (const path of modules.filter((path) => !isProgram(path)))
    await import(join(root, path)).catch((error: Error) => {
      if (!error.message.startsWith('no memory is attached')) throw error
      found.add(path)
    })
  throwing = found
})

describe('a module', () => {
  it('that throws where no memory is attached is a *.shard.ts, or the datapath', () => {
    expect([...throwing].filter((path) => !isShard(path) && !isDatapath(path))).toEqual([])
  })

  it('of either kind does throw: the question is asked', () => {
    expect(throwing).toContain('src/conntrack/connections.shard.ts')
    expect(throwing).toContain('src/datapath/pipeline.ts')
  })

  it('that is named *.shard.ts throws there, or keeps what is attached to its thread later', () => {
    const keepsState = (path: string): boolean => /^export function (attach|register)[A-Z]\w*\(/m.test(textOf(path))
    const others = modules.filter((path) => isShard(path) && !throwing.has(path) && !keepsState(path))
    expect(others).toEqual([])
  })
})

describe('a program', () => {
  const programs = modules.filter(isProgram)
  it('there are some', () => expect(programs).toContain('workers/shard.ts'))
  for (const path of programs)
    it(`${path} attaches memory before it imports what is bound to it, or doesn't`, () => {
      const bound = [...evaluatedWith(path)].filter((other) => throwing.has(other))
      expect(bound).toEqual([])
    })
})
