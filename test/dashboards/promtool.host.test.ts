// What Prometheus's own tool says of what natloom gives it: the metrics, and the rules that ask for them.

import { execFileSync, spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { counterBlock } from '../../src/counters/counters.ts'
import { DropTable } from '../../src/counters/drop-table.ts'
import { allocate } from '../../src/memory/region.ts'
import { createRegistry } from '../../src/metrics/registry.ts'

const directory = fileURLToPath(new URL('../../dashboards/', import.meta.url))

it('the metrics of two shards, with all that a shard counts at work, pass promtool check metrics', async () => {
  const workers = [0, 1].map((shard) => {
    const counters = allocate(counterBlock).view
    for (const i of counters.keys()) counters[i] = i
    return { shard: String(shard), counters, restarts: () => 0, heartbeatAge: () => 12 }
  })
  const expectations = {
    count: 3,
    limit: 4096,
    ended: { expired: 2, 'master-ended': 0, 'helper-gone': 0 },
    mended: { slot: 1, count: 0, reservation: 0 },
  }
  const hostPorts = { bound: () => 0, contested: () => 0 }
  const hostRules = { restored: 0, inForce: true }
  const helpers = { failures: () => [{ helper: 'ftp', why: 'endless-loop', count: 1 }] }
  const hostSettings = {
    restored: { 'port-range': 0 },
    findings: [{ check: 'kernel-nat', severity: 'error' }],
    failing: () => 0,
  }
  const drops = allocate((region) => new DropTable(region, { ports: 2, workers: 3 })).view
  for (const i of drops.packets.keys()) drops.packets[i] = i
  const interfaceDrops = { drops, interfaces: ['lan0', 'wan0'], sides: [0, 1] }
  const parts = { expectations, hostRules, hostPorts, helpers, hostSettings, interfaceDrops }
  const input = await createRegistry(workers, parts).metrics()
  const { status, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], { input, encoding: 'utf8' })
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '', stderr: '' })
})

it('the alert rules fire and stay silent as their own tests say', () => {
  const said = execFileSync('promtool', ['test', 'rules', 'alerts.test.yaml'], { cwd: directory, encoding: 'utf8' })
  expect(said).toContain('SUCCESS')
})
