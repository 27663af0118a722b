// `natloom run`, a real process, and the signals that a terminal, npm, timeout(1) and init systems send it: one request
// to stop may be several signals, and a stop takes the host's rules back whatever a thread does.

import { execFileSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { SERVER } from '../../src/lab/world/topology.ts'
import { eventually } from '../patience.ts'
import { type Natloom, Network } from './network.ts'

const CONTROL = 9000
const EXIT_GATEWAY_FAILED = 4
/** `src/control/run-command.ts`: a signal after two seconds is another request. */
const ANOTHER_REQUEST_MS = 2050
const MOST_ATTEMPTS = 10
/** 128 and the number of SIGTERM. */
const SIGNALLED = 143

let network: Network
let portRange: string
/** Opened for reading, it blocks the thread in a system call, and no signal of V8 ends that. */
let fifo: string
const started: Natloom[] = []

beforeAll(async () => {
  network = new Network()
  portRange = network.hostPortRange()
  fifo = `${network.topology.directory}/fifo`
  execFileSync('mkfifo', [fifo])
  await network.outside.ask('serveTcpEcho', CONTROL)
})
afterEach(async () => {
  for (const natloom of started.splice(0)) {
    natloom.kill('SIGKILL')
    await natloom.ended()
  }
})
afterAll(() => network?.close())

function expectNothingLeft(): void {
  expect(network.rules()).toBe('')
  expect(network.hostPortRange()).toBe(portRange)
  expect(existsSync(network.statePath)).toBe(false)
}

function start(env: Readonly<Record<string, string>> = {}): Natloom {
  const natloom = network.natloom(env)
  started.push(natloom)
  return natloom
}

async function forwarding(env: Readonly<Record<string, string>> = {}): Promise<Natloom> {
  const natloom = start(env)
  await natloom.logged('"forwarding"')
  return natloom
}

function module(name: string, source: string): string {
  const path = `${network.topology.directory}/${name}.mjs`
  writeFileSync(path, source)
  return path
}

describe('two signals 5 ms apart', () => {
  const pairs = [
    ['SIGTERM', 'SIGTERM'],
    ['SIGINT', 'SIGINT'],
    ['SIGINT', 'SIGTERM'],
  ] as const
  for (const [first, second] of pairs)
    it(`${first} and ${second}: everything is taken back`, async () => {
      const natloom = await forwarding()
      natloom.kill(first)
      await delay(5)
      natloom.kill(second)
      expect(await natloom.ended()).toBe(0)
      expectNothingLeft()
    })

  it('both before it has seen the first: everything is taken back', async () => {
    const natloom = await forwarding()
    await natloom.suspend()
    natloom.kill('SIGINT')
    natloom.kill('SIGTERM')
    natloom.kill('SIGCONT')
    expect(await natloom.ended()).toBe(0)
    expectNothingLeft()
  })
})

describe('timeout(1), which signals its command and then its process group', () => {
  it('everything is taken back', async () => {
    const natloom = network.natloom({}, ['timeout', '600'])
    started.push(natloom)
    await natloom.logged('"forwarding"')
    natloom.kill('SIGTERM')
    await natloom.ended()
    expect(natloom.program.output).toContain('everything taken back')
    expectNothingLeft()
  })
})

describe('a signal while it starts', () => {
  it('gives up the start: what a helper’s module waits for is not waited for', async () => {
    const path = module(
      'endless',
      `import { writeFileSync } from 'node:fs'
       writeFileSync(import.meta.dirname + '/waits', '')
       await new Promise(() => setInterval(() => {}, 1000))
       export default {}`,
    )
    const natloom = start({ NATLOOM_HELPERS: path })
    await eventually('the module waits', () => existsSync(`${network.topology.directory}/waits`))
    natloom.kill('SIGTERM')
    expect(await natloom.ended()).toBe(0)
    expect(natloom.program.output).not.toContain('"forwarding"')
    expectNothingLeft()
  })
})

describe('where a shard’s thread is in a system call that doesn’t return', () => {
  async function stuck(): Promise<Natloom> {
    const path = module(
      'stuck',
      `import { readFileSync, writeSync } from 'node:fs'
       export default {
         name: 'stuck',
         tuple: { proto: 'tcp', dstPort: ${CONTROL} },
         help() {
           writeSync(2, '{"msg":"the helper waits"}\\n')
           readFileSync('${fifo}')
         },
       }`,
    )
    const natloom = await forwarding({ NATLOOM_HELPERS: path })
    // It gets no answer.
    network.lan.ask('open', SERVER, CONTROL).catch(() => {})
    await natloom.logged('the helper waits')
    return natloom
  }

  it('the host’s rules are taken back all the same, and the log says what was not', async () => {
    const natloom = await stuck()
    natloom.kill('SIGTERM')
    expect(await natloom.ended()).toBe(EXIT_GATEWAY_FAILED)
    expect(natloom.program.output).toMatch(/not done within 5 s.*"shards: not taken back"/)
    expectNothingLeft()
  })

  it('a second request ends it at once, and the next start takes everything back', async () => {
    const natloom = await askedTwice()
    expect(await natloom.ended()).toBe(SIGNALLED)
    expect(network.rules()).not.toBe('')
    const next = await forwarding()
    expect(await next.stop()).toBe(0)
    expectNothingLeft()
  })

  /** The second signal must come before the stop has ended by itself: on a machine without time it may be late. */
  async function askedTwice(): Promise<Natloom> {
    for (let attempt = 0; attempt < MOST_ATTEMPTS; attempt++) {
      const natloom = await stuck()
      natloom.kill('SIGTERM')
      await natloom.logged('asked to stop')
      await delay(ANOTHER_REQUEST_MS)
      natloom.kill('SIGTERM')
      await natloom.ended()
      if (natloom.program.output.includes('asked to stop again: ending at once')) return natloom
    }
    throw new Error(`the second signal came too late ${MOST_ATTEMPTS} times`)
  }
})
