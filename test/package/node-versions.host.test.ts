// The newer Nodes that natloom is said to run on, as npm's packages give them: each runs a gateway that forwards, and
// loads the tutorial's helper in TypeScript as it is. Node 20, or whichever runs the tests, says which Node would.

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

const load = (node: string): Promise<string> =>
  run(folder, node, MAIN, 'helper', 'load', helper, '--socket', network.apiSocket)

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
