// Who may import whom (the table in README.md and biome.json), asked of the linter itself: every import that goes up,
// or sideways, is an error.

import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const project = (path: string) => fileURLToPath(new URL(`../${path}`, import.meta.url))

const MODULES = [
  ...['wire/address', 'wire/tcp', 'memory/region', 'conntrack/track', 'nat/ports', 'nat/externals', 'io/driver'],
  ...['io/syscalls', 'io/af-packet', 'datapath/pipeline', 'metrics/server', 'host/nft', 'coordinator/gateway'],
  ...['helpers/registry', 'replay/replay'],
  ...['control/config', 'lab/lab', '../workers/shard'],
]

const MAY_IMPORT: Readonly<Record<string, RegExp>> = {
  wire: /^$/,
  memory: /^$/,
  conntrack: /^(wire|memory)\//,
  helpers: /^$/,
  nat: /^(conntrack|wire|memory)\//,
  io: /^(wire|memory)\//,
  datapath: /^(helpers|nat|conntrack|wire|memory)\/|^io\/driver$/,
  metrics: /^memory\//,
  host: /^memory\/|^io\/syscalls$/,
  coordinator: /^(memory|io|host|metrics)\/|^wire\/address$|^nat\/externals$/,
  replay: /^(wire|memory|io|coordinator)\/|^nat\/externals$/,
  control: /^(coordinator|metrics|replay)\/|^wire\/address$/,
  lab: /^control\//,
}

let folder: string
let refused: Set<string>

const probe = (layer: string, module: string) => `src/${layer}/from-${module.replaceAll(/\W+/g, '-')}.ts`

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'natloom-layers-'))
  copyFileSync(project('biome.json'), join(folder, 'biome.json'))
  for (const layer of Object.keys(MAY_IMPORT)) {
    mkdirSync(join(folder, 'src', layer), { recursive: true })
    for (const module of MODULES)
      writeFileSync(join(folder, probe(layer, module)), `import { x } from '../${module}.ts'\nexport const y = x\n`)
  }
  const args = ['lint', '--only=style/noRestrictedImports', '--reporter=json', '--max-diagnostics=none', 'src']
  const { stdout } = spawnSync(project('node_modules/.bin/biome'), args, { cwd: folder, encoding: 'utf8' })
  const { diagnostics } = JSON.parse(stdout) as { diagnostics: { location: { path: string } }[] }
  refused = new Set(diagnostics.map(({ location }) => location.path))
})
afterAll(() => rmSync(folder, { recursive: true }))

describe('the layers', () => {
  for (const [layer, allowed] of Object.entries(MAY_IMPORT)) {
    const others = MODULES.filter((module) => !module.startsWith(`${layer}/`))
    it(`${layer} may import what is below it and nothing else`, () => {
      const accepted = others.filter((module) => !refused.has(probe(layer, module)))
      expect(accepted).toEqual(others.filter((module) => allowed.test(module)))
    })
  }
})
