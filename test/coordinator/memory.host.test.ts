// What a gateway takes of its host's memory when it has just started stays within what it announces, whatever its
// tables hold later: its process and threads are counted in, by figures that are measured here.

import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadConfig } from '../../src/control/config.ts'
import { memoryPlan } from '../../src/coordinator/memory-plan.ts'
import { INSIDE_INTERFACE, OUTSIDE_INTERFACE, SERVER } from '../../src/lab/world/topology.ts'
import { Network } from './network.ts'

const MEGABYTE = 2 ** 20
let network: Network

beforeAll(async () => {
  network = new Network()
  await network.outside.ask('serveUdpEcho', 7)
})
afterAll(() => network?.close())

const residentBytes = (pid: number): number =>
  1024 * Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1])

describe('a gateway with the smallest tables, that has forwarded a packet', () => {
  for (const workers of ['1', '4'])
    it(`of ${workers} workers takes no more than its threads, rings and tables are said to`, async () => {
      const env = {
        NATLOOM_WORKERS: workers,
        NATLOOM_CAPACITY_CONNECTIONS: '4096',
        NATLOOM_IO_RING_MEGABYTES: '16',
      }
      const { config } = loadConfig({
        env: {
          ...env,
          NATLOOM_CONFIG: '/dev/null',
          NATLOOM_INSIDE: INSIDE_INTERFACE,
          NATLOOM_OUTSIDE: OUTSIDE_INTERFACE,
        },
      })
      const { packetMemory, tables, shared, threads, total } = memoryPlan(config)
      const natloom = network.natloom(env)
      try {
        const { memoryMegabytes } = await natloom.logged('"forwarding"')
        expect(memoryMegabytes).toBe(Math.ceil(total / MEGABYTE))
        expect((await network.lan.ask('askByUdp', SERVER, 7, '')).trim()).not.toBe('')
        const resident = residentBytes(natloom.program.child.pid!)
        const others = packetMemory + Number(workers) * tables + shared
        console.log(
          `${workers} workers: ${Math.round(resident / MEGABYTE)} MB, threads ${Math.round(threads / MEGABYTE)}`,
        )
        expect(resident).toBeLessThan(others + threads)
        expect(await natloom.stop()).toBe(0)
      } finally {
        natloom.kill('SIGKILL')
        await natloom.ended()
      }
    })
})
