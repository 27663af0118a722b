// What becomes of the gateway when one of its threads fails. The gateway runs in this process, which moves to a network
// namespace of its own for good: the threads and programs that it starts are there too.

import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { loadConfig } from '../../src/control/config.ts'
import { GatewayError } from '../../src/coordinator/errors.ts'
import { Gateway } from '../../src/coordinator/gateway.ts'
import { allocateMemory } from '../../src/coordinator/memory.ts'
import { Shards, type ShardsOptions } from '../../src/coordinator/shards.ts'
import type { AfPacketSeat } from '../../src/io/af-packet-layout.ts'
import { CLONE_NEWNET, close, open, setns, signal } from '../../src/io/syscalls.ts'
import { Namespace, run } from '../../src/lab/namespace.ts'

/** What the gateway's shards were given. */
const started = vi.hoisted(() => ({ shards: undefined as ShardsOptions | undefined }))
vi.mock(import('../../src/coordinator/shards.ts'), async (original) => {
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

const NAME = `nlt-failure-${process.pid}`
let home: number
let folder: string

beforeAll(() => {
  home = open('/proc/thread-self/ns/net', 0)
  const namespace = Namespace.create(NAME)
  for (const name of ['lan0', 'wan0']) {
    namespace.ip(`link add ${name} type veth peer name ${name}-far`)
    namespace.ip(`link set ${name} up`)
  }
  namespace.ip('addr add 203.0.113.1/24 dev wan0')
  const there = open(namespace.path, 0)
  setns(there, CLONE_NEWNET)
  close(there)
  folder = mkdtempSync(join(tmpdir(), 'natloom-'))
})
afterAll(() => {
  setns(home, CLONE_NEWNET)
  run('ip', ['netns', 'delete', NAME])
  rmSync(folder, { recursive: true })
})

function configuration() {
  const statePath = join(folder, 'state.json')
  const env = { NATLOOM_CONFIG: '/dev/null', NATLOOM_INSIDE: 'lan0', NATLOOM_OUTSIDE: 'wan0' }
  return loadConfig({
    env: {
      ...env,
      NATLOOM_STATE_PATH: statePath,
      NATLOOM_METRICS_LISTEN: '127.0.0.1:0',
      NATLOOM_IO_RING_MEGABYTES: '16',
    },
  }).config
}

describe('a shard that ends though nobody stopped it', () => {
  it('ends the gateway with the exit code of a failure, and everything is taken back', async () => {
    const said: string[] = []
    const config = configuration()
    const log = pino({ level: 'fatal' }, { write: (line: string) => void said.push(JSON.parse(line).msg) })
    const gateway = await Gateway.start(config, log)
    expect(run('nft', ['list', 'ruleset'])).toContain('table netdev natloom')

    started.shards!.memory.control.words.stop(0)
    signal(started.shards!.seats[0].wakeFd)
    expect(await gateway.done).toBe(4)
    expect(said).toEqual(['shard 0 failed: it ended'])
    expect(run('nft', ['list', 'ruleset'])).toBe('')
    expect(existsSync(config.statePath)).toBe(false)
    // Once more is no harm.
    await gateway.stop('test')
  })
})

describe('a shard that can’t begin', () => {
  it('is a failed start, which names the shard and the reason', async () => {
    const failures: GatewayError[] = []
    const shards = new Shards({
      memory: allocateMemory(configuration()),
      seats: [{ wakeFd: -1 } as AfPacketSeat],
      watcherFd: -1,
      startedAt: 0,
      failed: (error) => failures.push(error),
    })
    const refusal = await shards.forwarding().catch((error: unknown) => error)
    await shards.stop()
    expect(refusal).toBeInstanceOf(GatewayError)
    expect(refusal).toMatchObject({
      code: 'GATEWAY_THREAD',
      exitCode: 4,
      message: expect.stringMatching(/^shard 0 failed: ./),
    })
    expect(failures).toEqual([refusal])
  })
})
