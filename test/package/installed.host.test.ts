// The package as its users have it: the tarball, installed by npm into an empty folder. Its commands run, its lab is
// all right, and what its own tutorial tells step by step comes true: a helper is written, tested, loaded into a
// gateway that runs, and lets a delivery in.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { GATEWAY_OUTSIDE, SERVER } from '../../src/lab/world/topology.ts'
import { type Natloom, Network } from '../coordinator/network.ts'
import { testFolder } from '../leftovers.ts'
import { eventually, PATIENCE_MS } from '../patience.ts'
import { PROJECT, QUIETLY, run, tarball } from './packed.ts'
import { type Tutorial, tutorialOf } from './tutorial.ts'

const folder = testFolder('installed')
const app = join(folder, 'parcel')
const installed = (path: string): string => join(app, 'node_modules', path)
const npx = (...args: string[]): Promise<string> => run(app, 'npx', '--no-install', 'natloom', ...args)

let tutorial: Tutorial

beforeAll(async () => {
  const { commands } = tutorialOf(readFileSync(join(PROJECT, 'docs', 'helper-tutorial.md'), 'utf8'))
  const setUp = commands.slice(0, 4)
  expect(setUp.at(-1)).toBe('npm install natloom')
  // What the registry would have to give is not published yet.
  const script = setUp.join('\n').replace('npm install natloom', `npm install ${QUIETLY.join(' ')} ${tarball(folder)}`)
  await run(folder, 'bash', '-euc', script)
  tutorial = tutorialOf(readFileSync(installed('natloom/docs/helper-tutorial.md'), 'utf8'))
  for (const [name, code] of Object.entries(tutorial.modules)) writeFileSync(join(app, name), code)
})
afterAll(() => rmSync(folder, { recursive: true }))

describe('the installed package', () => {
  it('says its version', async () => {
    const { version } = JSON.parse(readFileSync(join(PROJECT, 'package.json'), 'utf8'))
    expect(await npx('--version')).toBe(`${version}\n`)
  })

  it('is a command for all where it is installed globally', async () => {
    const prefix = join(folder, 'global')
    await run(folder, 'npm', 'install', ...QUIETLY, '--global', '--prefix', prefix, tarball(folder))
    expect(await run(folder, join(prefix, 'bin', 'natloom'), '--version')).toBe(await npx('--version'))
  })

  it('checks a configuration, its example among them', async () => {
    const example = readFileSync(installed('natloom/deploy/natloom.yaml'), 'utf8')
    mkdirSync(join(folder, 'etc'))
    writeFileSync(join(folder, 'etc', 'natloom.yaml'), example)
    const inForce = await npx('check', '--config', join(folder, 'etc', 'natloom.yaml'))
    expect(inForce).toMatch(/^inside: \[ lan0 \]/m)
    expect(inForce).toMatch(/^nat:$/m)
  })

  it('has a lab that is all right', async () => {
    expect(await npx('lab', 'forward')).toContain('All traffic right, nothing left behind.')
  })

  it('exports what authors of helpers import, and nothing else', async () => {
    const imported = (name: string) =>
      run(
        app,
        process.execPath,
        '--input-type=module',
        '-e',
        `console.log(Object.keys(await import('${name}')).join())`,
      )
    expect(await imported('natloom/helper')).toBe('Expected,Verdict\n')
    expect(await imported('natloom/testing')).toMatch(/\bScript\b/)
    for (const other of ['natloom', 'natloom/dist/src/control/main.js', 'natloom/notations'])
      await expect(imported(other)).rejects.toThrow('ERR_PACKAGE_PATH_NOT_EXPORTED')
  })
})

describe('its tutorial', () => {
  let network: Network
  let natloom: Natloom

  beforeAll(async () => {
    network = new Network()
    natloom = network.started([installed('.bin/natloom'), 'run'])
    await natloom.logged('"forwarding"')
  })
  afterAll(async () => {
    await natloom?.stop()
    await network?.close()
  })

  it('has a test that its helper passes', async () => {
    expect(tutorial.commands).toContain('node --test')
    expect(await run(app, process.execPath, '--test')).toMatch(/^. fail 0$/m)
  })

  it('has a helper that is loaded into a gateway that runs', async () => {
    const [load, list] = tutorial.commands.filter((command) => command.startsWith('npx natloom helper'))
    const asked = (command: string) => run(app, 'bash', '-euc', `${command} --socket ${network.apiSocket}`)
    const parcel = `parcel: tcp port 7777 of any server, 4 expected at a time, for 60 s, from ${app}/parcel.js\n`
    expect(await asked(load!)).toBe(parcel)
    expect(await asked(list!)).toContain(parcel)
  })

  it('has a server and a client between which the helper lets the delivery in', async () => {
    const { outside, lan } = network.topology
    const server = network.processes.start(outside, process.execPath, [join(app, 'server.js')])
    await eventually('the server is ready', () => server.output.includes('ready'))
    const client = network.processes.start(lan, process.execPath, [join(app, 'client.js'), SERVER])
    expect(await client.text(PATIENCE_MS)).toBe('here is your book\n')
    expect(server.output).toMatch(new RegExp(`^DELIVER book TO ${GATEWAY_OUTSIDE}:\\d+$`, 'm'))
  })
})
