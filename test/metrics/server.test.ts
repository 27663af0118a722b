import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CELL, counterBlock, METRICS } from '../../src/counters/counters.ts'
import { DROP, DROP_REASONS } from '../../src/counters/drop-reasons.ts'
import { DropTable } from '../../src/counters/drop-table.ts'
import { allocate } from '../../src/memory/region.ts'
import { HOST_PARTS } from '../../src/metrics/host-settings.ts'
import { type CountedWorker, createRegistry } from '../../src/metrics/registry.ts'
import { type Health, MetricsServer, MOST_CONNECTIONS } from '../../src/metrics/server.ts'

const DROPS = allocate((region) => new DropTable(region, { ports: 2, workers: 3 })).view
const KEPT = {
  expectations: {
    count: 3,
    limit: 4096,
    ended: { expired: 2, 'master-ended': 0, 'helper-gone': 0 },
    mended: { slot: 1, count: 0, reservation: 0 },
  },
  hostRules: { restored: 2, inForce: true },
  hostSettings: {
    restored: { 'port-range': 3 },
    findings: [{ check: 'kernel-nat', severity: 'error' }],
    failing: (part: string) => (part === 'qdiscs' ? 1 : 0),
  },
  hostPorts: { bound: (protocol: number) => protocol, contested: (protocol: number) => 100 + protocol },
  helpers: {
    failures: () => [
      { helper: 'ftp', why: 'endless-loop', count: 0 },
      { helper: 'beacon', why: 'out-of-memory', count: 2 },
    ],
  },
  interfaceDrops: { drops: DROPS, interfaces: ['lan0', 'wan0'], sides: [0, 1] },
}

let blocks: Float64Array[]
let restarts: number[]
let ages: number[]
let health: Health
let server: MetricsServer

beforeEach(async () => {
  blocks = [allocate(counterBlock).view, allocate(counterBlock).view]
  restarts = [0, 0]
  ages = [12, 0]
  health = { reasons: [], detail: { shards: 2 } }
  server = await MetricsServer.start({
    listen: '127.0.0.1:0',
    registry: createRegistry(workers(), KEPT),
    health: () => health,
  })
})
afterEach(() => server.close())

/** Two shards. */
const workers = (): CountedWorker[] =>
  blocks.map((counters, shard) => ({
    shard: String(shard),
    counters,
    restarts: () => restarts[shard]!,
    heartbeatAge: () => ages[shard]!,
  }))
const get = (path: string, init?: RequestInit) => fetch(new URL(path, server.url), init)
const scrape = async () => (await get('/metrics')).text()

describe('/metrics', () => {
  it('has every metric, a line for each shard and set of labels, even before anything was counted', async () => {
    const lines = (await scrape()).split('\n')
    for (const { name, type, help, cells } of Object.values(METRICS)) {
      expect(lines).toContain(`# HELP ${name} ${help}`)
      expect(lines).toContain(`# TYPE ${name} ${type}`)
      const samples = lines.filter((line) => line.startsWith(`${name}{`))
      expect(samples).toHaveLength(cells.length * blocks.length)
      expect(samples.every((line) => line.endsWith(' 0'))).toBe(true)
    }
  })

  it('says how many expectations stand, of how many, and what the coordinator ended and mended', async () => {
    const lines = (await scrape()).split('\n')
    for (const line of [
      'natloom_expectations 3',
      'natloom_expectations_limit 4096',
      'natloom_helper_failures_total{helper="ftp",why="endless-loop"} 0',
      'natloom_helper_failures_total{helper="beacon",why="out-of-memory"} 2',
      'natloom_expectations_ended_total{cause="expired"} 2',
      'natloom_expectations_mended_total{what="slot"} 1',
    ])
      expect(lines).toContain(line)
  })

  it("shows each scrape what shared memory holds then, by the shard's number", async () => {
    const [first, second] = blocks as [Float64Array, Float64Array]
    first[CELL.drops + DROP['no-route']] = 3
    second[CELL.connections + 1] = 7
    second[CELL.turns] = 2 ** 53
    expect((await scrape()).split('\n')).toEqual(
      expect.arrayContaining([
        'natloom_dropped_packets_total{shard="0",reason="no-route"} 3',
        'natloom_dropped_packets_total{shard="1",reason="no-route"} 0',
        'natloom_connections{shard="1",protocol="udp"} 7',
        'natloom_shard_turns_total{shard="1"} 9007199254740992',
      ]),
    )
    first[CELL.drops + DROP['no-route']] = 5
    second[CELL.connections + 1] = 6
    expect((await scrape()).split('\n')).toEqual(
      expect.arrayContaining([
        'natloom_dropped_packets_total{shard="0",reason="no-route"} 5',
        'natloom_connections{shard="1",protocol="udp"} 6',
      ]),
    )
  })

  it('shows drops by interface and reason, and what was lost at each interface, of all shards together', async () => {
    const shown = async () => (await scrape()).split('\n').filter((line) => /^natloom_interface_/.test(line))
    expect(await shown()).toHaveLength(2 * DROP_REASONS.length + 4)
    for (const line of await shown()) expect(line).toMatch(/ 0$/)
    DROPS.packets[DROPS.classOf(0, 1, DROP['no-route'])] = 4
    DROPS.packets[DROPS.classOf(1, 1, DROP['no-route'])] = 3
    DROPS.packets[DROPS.classOf(2, 0, DROP['no-route'])] = 2
    DROPS.links[DROPS.linkOf(0, 1)] = 1
    DROPS.links[DROPS.linkOf(1, 0) + 1] = 9
    const risen = (await shown()).filter((line) => !/ 0$/.test(line))
    DROPS.packets.fill(0)
    DROPS.links.fill(0)
    expect(risen).toEqual([
      'natloom_interface_dropped_packets_total{interface="lan0",side="inside",reason="no-route"} 2',
      'natloom_interface_dropped_packets_total{interface="wan0",side="outside",reason="no-route"} 7',
      'natloom_interface_send_failures_total{interface="wan0",side="outside"} 1',
      'natloom_interface_receive_losses_total{interface="lan0",side="inside"} 9',
    ])
  })

  it('shows what the coordinator knows of each shard', async () => {
    const shown = async () =>
      (await scrape()).split('\n').filter((line) => /^natloom_shard_(restarts|heart)/.test(line))
    expect(await shown()).toEqual([
      'natloom_shard_restarts_total{shard="0"} 0',
      'natloom_shard_restarts_total{shard="1"} 0',
      'natloom_shard_heartbeat_age_seconds{shard="0"} 0.012',
      'natloom_shard_heartbeat_age_seconds{shard="1"} 0',
    ])
    restarts = [0, 3]
    ages = [5000, 1]
    expect(await shown()).toEqual([
      'natloom_shard_restarts_total{shard="0"} 0',
      'natloom_shard_restarts_total{shard="1"} 3',
      'natloom_shard_heartbeat_age_seconds{shard="0"} 5',
      'natloom_shard_heartbeat_age_seconds{shard="1"} 0.001',
    ])
  })

  it('says what can’t be looked at, and has no sample of what a failed look would tell', async () => {
    const hostPorts = { bound: (protocol: number) => (protocol === 17 ? 3 : undefined), contested: () => undefined }
    const hostRules: { restored: number; inForce: boolean | undefined } = { restored: 2, inForce: true }
    const warning = { check: 'forward-chains', severity: 'warning' }
    const unseen = { check: 'kernel-nat', severity: 'error', couldNotLook: true } as const
    const findings = [...KEPT.hostSettings.findings, unseen, warning]
    const hostSettings = { ...KEPT.hostSettings, findings }
    const registry = createRegistry([], { ...KEPT, hostPorts, hostRules, hostSettings })
    const shown = async () => (await registry.metrics()).match(/^natloom_host_(?!settings).*/gm)
    const failing = (part: string, value: number) => `natloom_host_failing{part="${part}"} ${value}`
    const others = [
      'natloom_host_rules_restored_total 2',
      'natloom_host_ports_bound{protocol="udp"} 3',
      'natloom_host_findings{check="forward-chains",severity="warning"} 1',
      ...HOST_PARTS.map((part) => failing(part, part === 'qdiscs' ? 1 : 0)),
    ]
    expect(await shown()).toEqual([others[0], 'natloom_host_rules_in_force 1', ...others.slice(1)])
    hostRules.inForce = undefined
    expect(await shown()).toEqual(others)
    hostRules.inForce = false
    expect(await shown()).toContain('natloom_host_rules_in_force 0')
  })

  it('says what is running', async () => {
    expect(await scrape()).toMatch(/^natloom_build_info\{version="\d+\.\d+\.\d+",node="v\d+\.\d+\.\d+"\} 1$/m)
  })

  it('is served in the text format of Prometheus', async () => {
    expect((await get('/metrics')).headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/)
  })
})

describe('/healthz', () => {
  it('is 200 while all is well', async () => {
    const answer = await get('/healthz')
    expect(answer.status).toBe(200)
    expect(await answer.json()).toEqual({ ok: true, reasons: [], detail: { shards: 2 } })
  })

  it('is 503 with what is wrong', async () => {
    health = { reasons: ['shard 0 does not turn'], detail: { shards: 2 } }
    const answer = await get('/healthz')
    expect(answer.status).toBe(503)
    expect(await answer.json()).toEqual({ ok: false, reasons: ['shard 0 does not turn'], detail: { shards: 2 } })
  })
})

describe('the server', () => {
  const answers = [
    // method, path         status
    ['GET', '/', 404],
    ['GET', '/metrics/', 404],
    ['GET', '/metrics?name=x', 200],
    ['HEAD', '/metrics', 200],
    ['POST', '/metrics', 405],
  ] as const
  for (const [method, path, status] of answers)
    it(`answers ${method} ${path} by ${status}`, async () => {
      expect((await get(path, { method })).status).toBe(status)
    })

  it('names the key and what to do if its port is taken', async () => {
    const { host } = new URL(server.url)
    const second = MetricsServer.start({
      listen: host,
      registry: createRegistry([], KEPT),
      health: () => health,
    })
    await expect(second).rejects.toMatchObject({
      code: 'METRICS_ADDRESS_IN_USE',
      message:
        `metrics.listen ${host} is taken by another program (\`ss -ltnp\` names it): ` +
        'end that one, or set metrics.listen or NATLOOM_METRICS_LISTEN to another address:port',
    })
  })

  it('has all that it needs in the README', () => {
    const readme = readFileSync(new URL('../../src/metrics/README.md', import.meta.url), 'utf8')
    const [, parts = ''] = /createRegistry\(workers, \{(.*)\}\)/.exec(readme) ?? []
    expect(
      parts
        .split(',')
        .map((part) => part.trim())
        .sort(),
    ).toEqual(Object.keys(KEPT).sort())
  })

  it('names the key if the host has no such address', async () => {
    const elsewhere = MetricsServer.start({
      listen: '192.0.2.1:9464',
      registry: createRegistry([], KEPT),
      health: () => health,
    })
    await expect(elsewhere).rejects.toMatchObject({
      code: 'METRICS_ADDRESS',
      message: expect.stringMatching(/^can't listen on metrics\.listen 192\.0\.2\.1:9464 \(EADDRNOTAVAIL\): set /),
    })
  })
})

it('serves so many connections at a time, and closes one more', async () => {
  const { hostname, port } = new URL(server.url)
  const idle = Array.from({ length: MOST_CONNECTIONS }, () => connect(Number(port), hostname))
  await Promise.all(idle.map((each) => once(each, 'connect')))
  const more = connect(Number(port), hostname)
  await once(more.resume(), 'close')
  expect(idle.filter((each) => each.readyState === 'open')).toHaveLength(MOST_CONNECTIONS)
  for (const each of idle) each.destroy()
  await Promise.all(idle.map((each) => once(each, 'close')))
})
