// Each documented maximum starts and forwards. Several at once where they don't limit each other.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { GATEWAY_OUTSIDE, SERVER } from '../../src/lab/world/topology.ts'
import { Network } from './network.ts'

let network: Network

beforeAll(async () => {
  network = new Network()
  await network.outside.ask('serveUdpEcho', 7)
  network.outside.host.exec('ip', 'route', 'add', POOL, 'via', GATEWAY_OUTSIDE)
})
afterAll(() => network?.close())

const POOL = '198.18.4.0/22'
const forwards = Array.from({ length: 4096 }, (_, i) => `tcp :${1024 + i} 10.9.${i >> 8}.${i & 255}:80`)
const filter = Array.from({ length: 1024 }, (_, i) => `deny out tcp port ${i + 1024}`)
const limits = Array.from({ length: 1024 }, (_, i) => `inside 10.7.${i >> 8}.${i & 255} connections 16777216`)
const protocols = Array.from({ length: 256 }, (_, i) => i).filter((number) => ![1, 6, 17, 51].includes(number))

const MAXIMA: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'workers with a dispatcher, and expectations': {
    NATLOOM_WORKERS: '32',
    NATLOOM_DISPATCH: 'thread',
    NATLOOM_CAPACITY_EXPECTATIONS: '16384',
  },
  'workers that the kernel dispatches to': { NATLOOM_WORKERS: '26' },
  'a pool, and of blocks on it': {
    NATLOOM_WORKERS: '2',
    NATLOOM_NAT_POOL: '198.18.4.0-198.18.7.255',
    NATLOOM_NAT_BLOCK_SIZE: '16',
  },
  'connections, rings, blocks, lists and times': {
    NATLOOM_WORKERS: '2',
    NATLOOM_CAPACITY_CONNECTIONS: '16777216',
    NATLOOM_IO_RING_MEGABYTES: '512',
    NATLOOM_NAT_BLOCK_SIZE: '1024',
    NATLOOM_FORWARD: forwards.join(),
    NATLOOM_FILTER: filter.join(),
    NATLOOM_LIMITS: limits.join(),
    NATLOOM_NAT_PROTOCOLS: protocols.join(),
    NATLOOM_ICMP_ERRORS_PER_SECOND: '1000000',
    NATLOOM_SUPERVISION_RESTARTS: '1000',
    NATLOOM_SUPERVISION_WITHIN_SECONDS: '86400',
    NATLOOM_TIMEOUTS_UDP: '1000000',
    NATLOOM_TIMEOUTS_TCP_ESTABLISHED: '1000000',
  },
}

describe('the maximum of', () => {
  for (const [what, env] of Object.entries(MAXIMA))
    it(`${what} forwards`, async () => {
      const natloom = network.natloom(env)
      try {
        await natloom.logged('"forwarding"')
        expect((await network.lan.ask('askByUdp', SERVER, 7, '')).trim()).not.toBe('')
        expect(await natloom.stop()).toBe(0)
      } finally {
        natloom.kill('SIGKILL')
        await natloom.ended()
      }
    })
})
