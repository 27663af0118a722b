// Several gateways in one network namespace: each has what is its own, what they share is right for whoever runs, and
// the last one that ends leaves the host as it was, in whatever order they start, stop and are killed.

import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { HostPlan } from '../../src/host/host.ts'
import { readPortRange, writePortRange } from '../../src/host/port-range.ts'
import type { Namespace } from '../../src/lab/world/namespace.ts'
import { testFolder, testNamespace } from '../leftovers.ts'
import { addr, inside } from './inside.ts'

const DEBIAN = { from: 32768, to: 60999 }
/** In the dist folder, since it runs without a test runner. */
const PROCESS = fileURLToPath(new URL('../../dist/test/host/host-process.js', import.meta.url))
type End = 'stop' | 'kill'

let host: Namespace
let folder: string
const running = new Map<string, ChildProcess>()

/** Gateways a, b and c: the first two share an address of their uplink with the host, c has a pool. */
const planOf = (name: string): HostPlan => {
  const number = 'abc'.indexOf(name)
  return {
    name,
    inside: [`lan${name}`],
    outside: [`wan${name}`],
    shared: name === 'c' ? [] : [addr(`203.0.${number}.2`)],
    pool: name === 'c' ? [addr('203.0.2.50')] : [],
    natPorts: { from: 16384, to: name === 'a' ? 40959 : 60991 },
    protocols: [],
    forwarded: [],
    hostPortRange: name === 'c' ? null : { from: name === 'a' ? 40960 : 60992, to: 65535 },
    statePath: join(folder, name, 'state.json'),
  }
}

/** Starts a gateway and returns what it says: that it has applied its plan, or why it is refused. */
async function start(name: string, changes: Partial<HostPlan> = {}): Promise<string> {
  const child = host.spawn(process.execPath, [PROCESS, JSON.stringify({ ...planOf(name), ...changes })])
  running.set(changes.name ?? name, child)
  const [said] = await once(child.stdout!, 'data')
  return String(said).trim()
}

async function end(name: string, how: End): Promise<void> {
  const child = running.get(name)!
  running.delete(name)
  const ended = once(child, 'exit')
  if (how === 'stop') child.stdin!.end()
  else child.kill('SIGKILL')
  const [code] = await ended
  if (how === 'stop') expect(code).toBe(0)
}

const portRange = () => inside(host, readPortRange)
const tables = () => host.exec('nft', 'list', 'tables').split('\n').filter(Boolean).sort()
const routes = () =>
  host
    .ip('route show table local')
    .split('\n')
    .filter((line) => line.includes('203.0.2.50'))

function expectWhatRunsIsServed(): void {
  for (const name of running.keys()) expect(tables()).toContain(`table ip ${name}`)
  const lowest = running.has('b') ? 60992 : running.has('a') ? 40960 : 0
  expect(portRange().from).toBeGreaterThanOrEqual(lowest)
  if (running.has('c')) expect(routes()).toHaveLength(1)
}

function expectNothingLeft(): void {
  expect(tables()).toEqual([])
  expect(portRange()).toEqual(DEBIAN)
  expect(routes()).toEqual([])
  for (const name of 'abc') expect(existsSync(planOf(name).statePath)).toBe(false)
}

beforeEach(() => {
  host = testNamespace('instances')
  folder = testFolder('instances')
  for (const [number, name] of ['a', 'b', 'c'].entries()) {
    host.ip(`link add lan${name} type veth peer name peer${number}`)
    host.ip(`link add wan${name} type veth peer name uplink${number}`)
    host.ip(`link set wan${name} up`)
    host.ip(`addr add 203.0.${number}.2/24 dev wan${name}`)
  }
  inside(host, () => writePortRange(DEBIAN))
})

afterEach(async () => {
  for (const name of [...running.keys()]) await end(name, 'kill')
  host.delete()
  rmSync(folder, { recursive: true })
})

const permutations = (names: readonly string[]): string[][] =>
  names.length === 0
    ? [[]]
    : names.flatMap((first) => permutations(names.filter((name) => name !== first)).map((rest) => [first, ...rest]))

const ENDS: readonly (readonly End[])[] = [
  ['stop', 'stop'],
  ['stop', 'kill'],
  ['kill', 'stop'],
  ['kill', 'kill'],
]

async function live(starts: readonly string[], ends: readonly string[], how: readonly End[]): Promise<void> {
  for (const name of starts) {
    expect(await start(name)).toBe('applied')
    expectWhatRunsIsServed()
  }
  for (const [i, name] of ends.entries()) {
    await end(name, how[i]!)
    expectWhatRunsIsServed()
  }
  // Only its own next start takes back what a killed one has left.
  for (const [i, name] of ends.entries()) {
    if (how[i] === 'stop') continue
    expect(await start(name)).toBe('applied')
    await end(name, 'stop')
  }
  expectNothingLeft()
}

describe('two gateways of one host', () => {
  for (const starts of permutations(['a', 'b']))
    for (const ends of permutations(['a', 'b']))
      for (const how of ENDS)
        it(`start ${starts.join(', ')}, and end ${ends.map((name, i) => `${name} by ${how[i]}`).join(', ')}`, () =>
          live(starts, ends, how))
})

describe('three gateways of one host', () => {
  const orders = permutations(['a', 'b', 'c'])
  const ways = Array.from({ length: 8 }, (_, bits) =>
    [0, 1, 2].map((bit): End => ((bits >> bit) & 1 ? 'kill' : 'stop')),
  )
  // Each order of the ends with another order of the starts, and each way of ending in each place.
  const some = orders.map((ends, i) => [orders[(i * 5 + 2) % orders.length]!, ends, ways[i + 1]!] as const)
  // `npm run prove:instances`
  const all = orders.flatMap((starts) => orders.flatMap((ends) => ways.map((how) => [starts, ends, how] as const)))
  for (const [starts, ends, how] of process.env.NLT_ALL_ORDERS ? all : some)
    it(`start ${starts.join(', ')}, and end ${ends.map((name, n) => `${name} by ${how[n]}`).join(', ')}`, () =>
      live(starts, ends, how))
})

describe('a second gateway is refused', () => {
  it('an interface that another one serves, with its name and process', async () => {
    await start('a')
    expect(await start('b', { outside: ['wana'] })).toBe(
      `refused: interface wana is served by another natloom already (a, process ${running.get('a')!.pid}): stop that ` +
        'one, or name other interfaces under inside and outside',
    )
    await end('b', 'stop')
    expectWhatRunsIsServed()
  })

  it('the name of one that runs', async () => {
    await start('a')
    const { pid } = running.get('a')!
    const child = running.get('a')!
    expect(await start('b', { name: 'a' })).toBe(
      `refused: a natloom named a runs here already (process ${pid}): stop it, or give this one another name (name, ` +
        'NATLOOM_NAME) if it serves other interfaces',
    )
    await end('a', 'stop')
    running.set('a', child)
    expectWhatRunsIsServed()
  })

  it('an address of another one’s pool', async () => {
    await start('c')
    expect(await start('b', { pool: [addr('203.0.2.50')], shared: [], hostPortRange: null })).toBe(
      `refused: 203.0.2.50 in nat.pool belongs to the natloom c (process ${running.get('c')!.pid}): give each its own`,
    )
    await end('b', 'stop')
    expectWhatRunsIsServed()
  })

  it('not when the first has ended, however', async () => {
    await start('a')
    await end('a', 'kill')
    expect(await start('b', { inside: ['lana'], outside: ['wana'] })).toBe('applied')
  })
})

describe('a user without rights who takes a lock of natloom’s', () => {
  const NOBODY = 65534
  const BIND = `
import os, socket, sys
os.setgroups([])
os.setuid(int(sys.argv[2]))
taken = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
taken.bind('\\0natloom/' + sys.argv[1])
print('bound', flush=True)
sys.stdin.read()`

  it.each(['registry', 'name/a', 'interface/wana'])('is named, and nothing is changed: %s', async (lock) => {
    const child = host.spawn('python3', ['-c', BIND, lock, String(NOBODY)], { stdio: ['pipe', 'pipe', 'inherit'] })
    await once(child.stdout!, 'data')
    const said = await start('a')
    expect(said).toContain(
      `refused: user ${NOBODY} (process ${child.pid}) has bound the abstract unix socket @natloom/${lock}`,
    )
    await end('a', 'stop')
    expectNothingLeft()
    child.stdin!.end()
    await once(child, 'exit')
    expect(await start('a')).toBe('applied')
  })
})

describe('routes of pools', () => {
  it('bear a mark of their own', async () => {
    await start('c')
    await start('a', { pool: [addr('203.0.0.50')], shared: [], hostPortRange: null })
    expect(host.ip('route show table local proto 99')).toContain('203.0.2.50')
    expect(host.ip('route show table local proto 100')).toContain('203.0.0.50')
    await end('c', 'stop')
    expect(host.ip('route show table local proto 100')).toContain('203.0.0.50')
    await end('a', 'stop')
    expectNothingLeft()
    expect(readdirSync(folder).flatMap((name) => readdirSync(join(folder, name)))).toEqual([])
  })
})
