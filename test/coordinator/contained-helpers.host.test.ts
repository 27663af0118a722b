// Helpers that would take a gateway down, in one that runs, with two shards: whatever a helper does, other connections
// go on, metrics answer, the helper is named and out of force everywhere, its connection goes on without it, the
// restart does not count, and SIGTERM ends the gateway with everything taken back.

import { execFileSync, spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Helper } from '../../src/control/api-client.ts'
import { GATEWAY_OUTSIDE, SERVER } from '../../src/lab/world/topology.ts'
import { type Natloom, Network } from './network.ts'

const MAIN = fileURLToPath(new URL('../../dist/src/control/main.js', import.meta.url))
const CONTROL = 9000
const OTHER = 9001
const DATA = 40_000
/** Where metrics are served in the gateway's namespace. */
const METRICS = '127.0.0.1:9464'

/** A helper of connections to CONTROL, with more of its own; `FAIL` in a line is what `fail` is for. */
const helperOf = (fail: string, more = ''): string => `
  ${more}
  function fail() {
    ${fail}
  }
  export default {
    name: 'beacon',
    tuple: { proto: 'tcp', dstPort: ${CONTROL} },
    help(ctx) {
      if (ctx.text.includes('FAIL')) fail()
      const found = /^OPEN ([0-9]+)\\n$/.exec(ctx.text)
      if (found && ctx.direction === 'original') {
        const announced = ctx.expect({ port: Number(found[1]) })
        if (announced) ctx.mangle(5, found[1].length, String(announced.port))
      }
    },
    expected() {
      fail()
      return 'follow'
    },
  }`

const LOOP = 'for (;;);'
const WAIT = 'Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)'
const FILL = 'for (const all = []; ; ) all.push(new Array(4_000_000).fill(all.length))'
/** A little at each call, and never a larger piece: an array that grows is copied from time to time. */
const LEAK = 'for (let i = 0; i < 100_000; i++) globalThis.last = { before: globalThis.last }'
const FILL_OUTSIDE = 'for (const all = []; ; ) all.push(new Uint8Array(1 << 24).fill(1))'

let network: Network
let natloom: Natloom
let module: string

beforeAll(async () => {
  network = new Network()
  module = `${network.topology.directory}/beacon.mjs`
  await network.outside.ask('serveTcpEcho', CONTROL)
  await network.outside.ask('serveTcpEcho', OTHER)
  await network.lan.ask('serveTcpEcho', DATA)
})
afterAll(() => network?.close())

const GATEWAY = {
  NATLOOM_WORKERS: '2',
  NATLOOM_METRICS_LISTEN: METRICS,
  // One failure that counts would end the gateway.
  NATLOOM_SUPERVISION_RESTARTS: '0',
}

/** The tests of this group have a gateway that runs, and SIGTERM ends it cleanly afterwards. */
function haveGateway(): void {
  beforeEach(async () => {
    natloom = await network.forwarding(GATEWAY)
  })
  afterEach(async () => {
    expect(await natloom.stop()).toBe(0)
  })
}

function command(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args, '--socket', network.apiSocket], {
    encoding: 'utf8',
    cwd: network.topology.directory,
  })
  return { status, stdout, stderr }
}
/** Those beside FTP's, which is always there. */
const listed = (): Helper[] => JSON.parse(command('helper', 'list', '-o', 'json').stdout).slice(1)
const metrics = (): string => network.topology.gateway.exec(process.execPath, '-e', scrape(`http://${METRICS}/metrics`))
const scrape = (url: string): string => `fetch('${url}').then((got) => got.text()).then((text) => console.log(text))`
const echo = (name: number, text: string): Promise<string> => network.lan.ask('echo', name, text)
const open = async (port: number): Promise<number> => (await network.lan.ask('open', SERVER, port)).name

/** Loads the module and opens a connection that it reads, among others that it doesn't. */
async function helped(text: string): Promise<{ readonly own: number; readonly others: readonly number[] }> {
  writeFileSync(module, text)
  expect(command('helper', 'load', './beacon.mjs')).toMatchObject({ status: 0, stderr: '' })
  const others = [await open(OTHER), await open(OTHER), await open(OTHER), await open(OTHER)]
  return { own: await open(CONTROL), others }
}

describe('a helper that a thread does not come back from', () => {
  haveGateway()
  const failures = [
    // it                    does  in      so it is    label
    ['loops without an end', LOOP, 'help()', 'endless loop', 'endless-loop'],
    ['loops without an end', LOOP, 'expected()', 'endless loop', 'endless-loop'],
    ['waits for a word', WAIT, 'help()', 'endless loop', 'endless-loop'],
    ['fills the heap by large pieces', FILL, 'help()', 'out of memory', 'out-of-memory'],
    ['takes memory outside of the heap', FILL_OUTSIDE, 'help()', 'out of memory', 'out-of-memory'],
    ['exits', 'process.exit(0)', 'help()', 'exit', 'exit'],
  ] as const
  for (const [what, fail, where, why, label] of failures)
    it(`because it ${what} in ${where} is named, unloaded, and all connections go on`, async () => {
      const { own, others } = await helped(helperOf(fail))
      let answered: Promise<string> | undefined
      if (where === 'expected()') {
        const told = await echo(own, `OPEN ${DATA}\n`)
        // What the helper has expected is gone with it, so whether this one comes in is nobody's promise.
        network.outside.ask('open', GATEWAY_OUTSIDE, Number(told.slice(5))).catch(() => {})
      } else answered = echo(own, 'FAIL\n')
      const failed = await natloom.logged('a helper has failed')
      expect(failed).toMatchObject({ level: 'error', helper: 'beacon', why, in: where })
      const replaced = await natloom.logged('the worker is replaced')
      expect(replaced).toMatchObject({ worker: failed.worker, epoch: 2 })
      for (const other of others) expect(await echo(other, 'still here\n')).toBe('still here\n')
      // Its own goes on without it: its end repeats what the shard has not forwarded.
      if (answered) expect(await answered).toBe('FAIL\n')
      expect(listed()).toMatchObject([{ name: 'beacon', state: `failed: ${why}` }])
      expect(command('helper', 'list').stdout).toMatch(new RegExp(`^beacon: .*, failed: ${why}$`, 'm'))
      const text = metrics()
      expect(text).toContain(`natloom_helper_failures_total{helper="beacon",why="${label}"} 1`)
      expect(text).toMatch(/natloom_shard_restarts_total\{shard="\d"\} 1/)
      expect(await echo(await open(CONTROL), 'FAIL again\n')).toBe('FAIL again\n')
      // It may be loaded again by hand.
      writeFileSync(module, helperOf(''))
      expect(command('helper', 'load', './beacon.mjs')).toMatchObject({ status: 0, stderr: '' })
      expect(listed()).toMatchObject([{ name: 'beacon', state: 'in force' }])
    })

  it('because it keeps more memory at each call is named and unloaded as well', async () => {
    const { own } = await helped(helperOf(LEAK))
    let isOver = false
    const failed = natloom.logged('a helper has failed').finally(() => {
      isOver = true
    })
    // Each time by another connection: where memory makes calls slow, the helper is cut off from the one.
    const callAgainAndAgain = async () => {
      while (!isOver) await echo(await open(CONTROL), 'FAIL\n')
    }
    const [failure] = await Promise.all([failed, callAgainAndAgain()])
    expect(failure).toMatchObject({ helper: 'beacon', why: 'out of memory' })
    // The thread's memory is looked at once a second, at the end of whichever call.
    expect(['state()', 'help()']).toContain(failure.in)
    expect(await echo(own, 'FAIL\n')).toBe('FAIL\n')
  })

  it('does not keep SIGTERM from ending the gateway, while it still keeps its thread', async () => {
    const { own } = await helped(helperOf(LOOP))
    echo(own, 'FAIL\n').catch(() => {})
  })
})

describe('a module that does not come back from its top level', () => {
  haveGateway()
  const modules = [
    ['loops', LOOP],
    ['waits for a word', WAIT],
    ['waits for a promise', 'await new Promise(() => {})'],
  ] as const
  for (const [what, text] of modules)
    it(`because it ${what} is refused in seconds, and meanwhile all goes on`, async () => {
      const other = await open(OTHER)
      writeFileSync(module, helperOf('', text))
      const loading = command('helper', 'load', './beacon.mjs')
      expect(loading.status).toBe(2)
      expect(loading.stderr).toContain(`natloom: the helper ${module} can't be loaded: `)
      expect(await echo(other, 'still here\n')).toBe('still here\n')
      expect(metrics()).toContain('natloom_build_info')
      expect(listed()).toEqual([])
    })

  it('the second time only, in a shard, is unloaded as one that fails later is', async () => {
    const other = await open(OTHER)
    // A process of its own has no parent port: that is the trial.
    const second = `import { isMainThread } from 'node:worker_threads'; if (!isMainThread) { ${LOOP} }`
    writeFileSync(module, helperOf('', second))
    const { status, stderr } = command('helper', 'load', './beacon.mjs')
    expect(stderr).toContain('natloom: helper beacon: endless loop in the import of its module')
    expect(status).toBe(2)
    expect(listed()).toEqual([])
    expect(metrics()).toContain('natloom_helper_failures_total{helper="beacon",why="endless-loop"}')
    expect(await echo(other, 'still here\n')).toBe('still here\n')
  })
})

describe('an error of a helper', () => {
  haveGateway()
  it('is an entry of the log, with file, line and column; and nothing in the log is not JSON', async () => {
    const { own } = await helped(helperOf(`console.log('about to'); throw new Error('out of order')`))
    expect(await echo(own, 'FAIL\n')).toBe('FAIL\n')
    expect(await natloom.logged('a module prints')).toMatchObject({ level: 'info', printed: 'about to' })
    expect(await natloom.logged('failed in help()')).toMatchObject({
      level: 'error',
      helper: 'beacon',
      shard: expect.any(Number),
      error: 'out of order',
      at: `${module}:4:36`,
      stack: expect.stringContaining('Error: out of order\n    at fail '),
    })
    for (const line of natloom.program.output.trim().split('\n')) expect(() => JSON.parse(line), line).not.toThrow()
  })
})

describe('a start with such a helper', () => {
  const modules = [
    // it                           at its top level                 and natloom says
    ['loops', LOOP, 'an endless loop or a wait at its top level'],
    ['waits for a word', WAIT, 'an endless loop or a wait at its top level'],
    ['waits for a promise', 'await new Promise(() => {})', 'its import took longer than 2 s'],
    ['exits', 'process.exit(0)', 'its import ended the process with exit code 0'],
    ['throws', `throw new Error('out of order')`, 'out of order (at '],
  ] as const
  for (const [what, text, says] of modules)
    it(`that ${what} at its top level fails, with exit code 2 and the reason`, async () => {
      writeFileSync(module, helperOf('', text))
      natloom = network.natloom({ ...GATEWAY, NATLOOM_HELPERS: module })
      expect(await natloom.ended()).toBe(2)
      const last = JSON.parse(natloom.program.output.trim().split('\n').at(-1)!)
      expect(last).toMatchObject({ level: 'fatal', msg: expect.stringContaining(says) })
      expect(last.msg).toContain(`natloom: the helper ${module} can't be loaded: `)
    })

  it('that loops in a shard, and not in its trial, fails with exit code 2 and its name', async () => {
    const inShard = `import { isMainThread } from 'node:worker_threads'; if (!isMainThread) { ${LOOP} }`
    writeFileSync(module, helperOf('', inShard))
    natloom = network.natloom({ ...GATEWAY, NATLOOM_HELPERS: module })
    const failed = await natloom.logged('"fatal"')
    expect(failed.msg).toMatch(
      /^natloom: shard \d did not begin within 10 s: helper beacon: endless loop in the import/,
    )
    expect(await natloom.ended()).toBe(2)
  })
})

describe('a helper that is in a system call that does not return', () => {
  it('is named, and the gateway ends with exit code 4 and everything taken back', async () => {
    const fifo = `${network.topology.directory}/fifo`
    execFileSync('mkfifo', [fifo])
    natloom = await network.forwarding(GATEWAY)
    const { own } = await helped(helperOf(`readFileSync('${fifo}')`, `import { readFileSync } from 'node:fs'`))
    const answered = echo(own, 'FAIL\n').then(
      (text) => `answered with ${text}`,
      (error: Error) => `refused: ${error.message}`,
    )
    const tooEarly = answered.then((how) => Promise.reject(new Error(`the helper's line was ${how}\n${metrics()}`)))
    const failed = await Promise.race([natloom.logged("its thread can't be ended"), tooEarly])
    tooEarly.catch(() => {})
    expect(failed).toMatchObject({
      level: 'fatal',
      msg: expect.stringMatching(/: helper beacon: endless loop in help/),
    })
    expect(await natloom.ended()).toBe(4)
    expect(network.rules()).toBe('')
  })
})
