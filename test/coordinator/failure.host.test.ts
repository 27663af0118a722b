// What becomes of the gateway when one of its threads fails. The gateway runs in this process, which moves to a network
// namespace of its own for good: the threads and programs that it starts are there too.

import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import pino from 'pino'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { loadConfig } from '../../src/control/config.ts'
import { Gateway } from '../../src/coordinator/gateway.ts'
import { allocateMemory } from '../../src/coordinator/memory.ts'
import { ThreadError } from '../../src/coordinator/workers/errors.ts'
import { RestartLimit } from '../../src/coordinator/workers/restart-limit.ts'
import { Shards, type ShardsOptions } from '../../src/coordinator/workers/shards.ts'
import type { AfPacketRings } from '../../src/io/af-packet-layout.ts'
import { CLONE_NEWNET, close, open, setns, signal } from '../../src/io/syscalls.ts'
import { type Namespace, run } from '../../src/lab/world/namespace.ts'
import { testFolder, testNamespace } from '../leftovers.ts'
import { eventually } from '../patience.ts'

/** The tasks that the gateway's shards were given. */
const started = vi.hoisted(() => ({ shards: undefined as ShardsOptions | undefined }))
vi.mock(import('../../src/coordinator/workers/shards.ts'), async (original) => {
  const module = await original()
  return {
    ...module,
    Shards: class extends module.Shards {
      constructor(options: ShardsOptions) {
        super(options)
        started.shards = options
      }
    },
  }
})

let home: number
let namespace: Namespace
let folder: string

beforeAll(() => {
  home = open('/proc/thread-self/ns/net', 0)
  namespace = testNamespace('failure')
  for (const name of ['lan0', 'wan0']) {
    namespace.ip(`link add ${name} type veth peer name ${name}-far`)
    namespace.ip(`link set ${name} up`)
    namespace.ip(`link set ${name}-far up`)
  }
  namespace.ip('addr add 10.0.0.1/24 dev lan0')
  namespace.ip('addr add 203.0.113.1/24 dev wan0')
  const there = open(namespace.path, 0)
  setns(there, CLONE_NEWNET)
  close(there)
  folder = testFolder('files')
})
afterAll(() => {
  setns(home, CLONE_NEWNET)
  namespace.delete()
  rmSync(folder, { recursive: true })
})

function configuration(variables: Readonly<Record<string, string>> = {}) {
  const statePath = join(folder, 'state.json')
  const env = { NATLOOM_CONFIG: '/dev/null', NATLOOM_INSIDE: 'lan0', NATLOOM_OUTSIDE: 'wan0' }
  return loadConfig({
    env: {
      ...env,
      NATLOOM_STATE_PATH: statePath,
      NATLOOM_METRICS_LISTEN: '127.0.0.1:0',
      NATLOOM_IO_RING_MEGABYTES: '16',
      NATLOOM_WORKERS: '1',
      ...variables,
    },
  }).config
}

/** The entries of the log in order; `logged` waits for the first entry with a text. */
class Story {
  readonly entries: Record<string, unknown>[] = []
  readonly log = pino({ level: 'info', base: null }, { write: (line: string) => this.#add(JSON.parse(line)) })
  #more = () => {}

  async logged(text: string): Promise<Record<string, unknown>> {
    for (;;) {
      const found = this.entries.find(({ msg }) => String(msg).includes(text))
      if (found) return found
      await new Promise<void>((resolve) => {
        this.#more = resolve
      })
    }
  }

  #add(entry: Record<string, unknown>): void {
    this.entries.push(entry)
    this.#more()
  }
}

/** Makes a shard's worker return, which it should not do. */
function endShard(shard: number): void {
  started.shards!.memory.control.words.stop(shard)
  signal(started.shards!.packetRings[shard]!.wakeFd)
}

const scrape = async (gateway: Gateway) => (await fetch(gateway.metricsUrl)).text()
const health = async (gateway: Gateway) => (await fetch(new URL('/healthz', gateway.metricsUrl))).json()

describe('a shard that ends though nobody stopped it', () => {
  it('is replaced: it is logged why, counted, and the gateway is well', async () => {
    const story = new Story()
    const gateway = await new Gateway(configuration({ NATLOOM_WORKERS: '2' }), story.log).started
    endShard(1)
    const failed = await story.logged('a worker has failed')
    expect(failed).toMatchObject({ level: 50, worker: 'shard 1', reason: 'it ended', epoch: 1 })
    const replaced = await story.logged('the worker is replaced')
    expect(replaced).toMatchObject({ level: 30, worker: 'shard 1', epoch: 2, milliseconds: expect.any(Number) })
    const metrics = await scrape(gateway)
    expect(metrics).toContain('natloom_shard_restarts_total{shard="0"} 0')
    expect(metrics).toContain('natloom_shard_restarts_total{shard="1"} 1')
    const isYoung = async () => /natloom_shard_heartbeat_age_seconds\{shard="1"\} 0\.\d/.test(await scrape(gateway))
    await eventually('the new shard turns', isYoung)
    expect(await health(gateway)).toMatchObject({ ok: true, detail: { shards: 2, notTurning: [] } })
    await gateway.stop('test')
  })

  it('ends the gateway with the exit code of a failure if it is one too many, and everything is undone', async () => {
    const story = new Story()
    const config = configuration({ NATLOOM_SUPERVISION_RESTARTS: '0' })
    const gateway = await new Gateway(config, story.log).started
    expect(run('nft', ['list', 'ruleset'])).toContain('table ip natloom {')

    endShard(0)
    expect(await gateway.done).toBe(4)
    expect(await story.logged('failed')).toMatchObject({
      level: 60,
      msg: 'shard 0 failed: it ended (none is replaced)',
    })
    expect(run('nft', ['list', 'ruleset'])).toBe('')
    expect(existsSync(config.statePath)).toBe(false)
    // A second call does no harm.
    await gateway.stop('test')
  })
})

describe('a shard that can’t begin', () => {
  it('is a failed start, which names the shard and the reason', async () => {
    const failures: ThreadError[] = []
    const shards = new Shards({
      memory: allocateMemory(configuration()),
      packetRings: [{ wakeFd: -1 } as AfPacketRings],
      watcherFd: -1,
      startedAt: 0,
      limit: new RestartLimit({ restarts: 5, withinSeconds: 60 }, () => 0),
      blame: () => undefined,
      isInHelper: () => false,
      heard: () => {},
      gone: () => {},
      replacing: () => {},
      replaced: () => {},
      failed: (error) => failures.push(error),
    })
    const refusal = await shards.forwarding().catch((error: unknown) => error)
    await shards.stop()
    expect(refusal).toBeInstanceOf(ThreadError)
    expect(refusal).toMatchObject({
      code: 'GATEWAY_THREAD',
      exitCode: 4,
      message: expect.stringMatching(/^shard 0 failed: ./),
    })
    expect(failures).toEqual([refusal])
  })
})
