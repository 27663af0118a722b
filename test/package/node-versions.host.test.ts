// The newer Nodes that natloom is said to run on, as npm's packages give them: each runs a gateway that forwards, loads
// the tutorial's helper in TypeScript as it is, and says where a module is wrong. Node 20, or whichever runs the tests,
// says which Node would.

import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { SERVER } from '../../src/lab/world/topology.ts'
import { Network } from '../coordinator/network.ts'
import { testFolder } from '../leftovers.ts'
import { PROJECT, QUIETLY, run } from './packed.ts'
import { tutorialOf } from './tutorial.ts'

const MAIN = join(PROJECT, 'dist', 'src', 'control', 'main.js')
/** The oldest that reads TypeScript, and the newest of the two lines that are looked after for long. */
const VERSIONS = ['22.18.0', '22', '24']
const ECHO = 9000

const folder = testFolder('node')
const helper = join(folder, 'parcel.ts')
let network: Network

beforeAll(async () => {
  network = new Network()
  await network.outside.ask('serveTcpEcho', ECHO)
  const { inTypeScript } = tutorialOf(readFileSync(join(PROJECT, 'docs', 'helper-tutorial.md'), 'utf8'))
  writeFileSync(helper, inTypeScript)
})
afterAll(async () => {
  await network?.close()
  rmSync(folder, { recursive: true })
})

/** npm's package of a Node holds nothing but its program. */
async function installed(version: string): Promise<string> {
  const name = `node-linux-${process.arch}`
  const to = join(folder, version)
  await run(folder, 'npm', 'install', ...QUIETLY, '--ignore-scripts', '--prefix', to, `${name}@${version}`)
  return join(to, 'node_modules', name, 'bin', 'node')
}

const load = (node: string, module = helper): Promise<string> =>
  run(folder, node, MAIN, 'helper', 'load', module, '--socket', network.apiSocket)

/** Modules that no Node takes, and what is said of them. */
const FAULTS: Readonly<Record<string, readonly [code: string, told: string]>> = {
  'syntax.ts': ["export default {\n  name: 'parcel'\n  tuple: {},\n}\n", '/syntax.ts:3:3)'],
  'enum.ts': ['const a = 1\nenum B { C }\n', '/enum.ts:2:1): Node only takes the types out of TypeScript.'],
  'commonjs.cts': ['export default {}\n', '/commonjs.cts is an ES module, and Node reads it as CommonJS: name it .mjs'],
}

describe('by Node', () => {
  for (const version of VERSIONS)
    it(`${version}, a gateway forwards and loads a helper in TypeScript`, async () => {
      const node = await installed(version)
      expect(await run(folder, node, '--version')).toMatch(new RegExp(`^v${version}\\b`))
      const natloom = network.started([node, MAIN, 'run'])
      await natloom.logged('"forwarding"')
      const { name } = await network.lan.ask('open', SERVER, ECHO)
      expect(await network.lan.ask('echo', name, 'hello')).toBe('hello')
      expect(await load(node)).toBe(
        `parcel: tcp port 7777 of any server, 4 expected at a time, for 60 s, from ${helper}\n`,
      )
      for (const [name, [code, told]] of Object.entries(FAULTS)) {
        writeFileSync(join(folder, name), code)
        await expect(load(node, join(folder, name))).rejects.toThrow(told)
      }
      expect(await natloom.stop()).toBe(0)
    })

  it(`${process.version.slice(1)}, which runs this test, it is loaded or told which Node reads it`, async () => {
    const readsTypeScript = 'typescript' in process.features && process.features.typescript === 'strip'
    const natloom = await network.forwarding()
    if (readsTypeScript) expect(await load(process.execPath)).toContain(helper)
    else
      await expect(load(process.execPath)).rejects.toThrow(
        `natloom: the helper ${helper} can't be loaded: ${helper} is TypeScript, which Node ` +
          `${process.version.slice(1)} doesn't read: run natloom by Node 22.18 or later, or compile it`,
      )
    expect(await natloom.stop()).toBe(0)
  })
})
