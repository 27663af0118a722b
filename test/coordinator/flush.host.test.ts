// Somebody flushes the whole nft ruleset while `natloom run` forwards, or after it was killed, on a gateway whose
// kernel forwards by itself. Long and under load, with what leaks after a kill: `npm run prove:flush`.

import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { GATEWAY_OUTSIDE, SERVER } from '../../src/lab/world/topology.ts'
import { eventually } from '../patience.ts'
import { type Natloom, Network } from './network.ts'

const FLUSHES = 5

let network: Network
const started: Natloom[] = []

beforeAll(async () => {
  network = new Network()
  network.gateway.host.exec('sysctl', '-qw', 'net.ipv4.ip_forward=1')
  await network.outside.ask('serveUdpEcho', 7)
  await network.outside.ask('serveTcpEcho', 7)
  const watch = network.outside.host
  watch.exec('nft', 'add table ip watch; add chain ip watch input { type filter hook prerouting priority 0; }')
  watch.exec('nft', 'add rule ip watch input ip saddr 10.0.0.0/8 counter')
})
afterEach(async () => {
  for (const natloom of started.splice(0)) {
    natloom.kill('SIGKILL')
    await natloom.ended()
  }
})
afterAll(() => network?.close())

const on = (...command: [string, ...string[]]) => network.gateway.host.exec(...command)
const tables = () => on('nft', 'list', 'tables').trim().split('\n').sort()
const metric = (name: string) =>
  Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(on('curl', '-s', 'http://127.0.0.1:9464/metrics'))?.[1])
const leaked = () => /packets (\d+)/.exec(network.outside.host.exec('nft', 'list', 'table', 'ip', 'watch'))?.[1]
const addressSeen = async () => (await network.lan.ask('askByUdp', SERVER, 7, '')).trim()

async function forwarding(way: string): Promise<Natloom> {
  const natloom = network.natloom({ NATLOOM_LAB_RULES: way })
  started.push(natloom)
  await natloom.logged('"forwarding"')
  return natloom
}

describe.each([
  ['persistent', ['table ip natloom']],
  ['pair', ['table ip natloom', 'table ip natloom-owned']],
])('nft flush ruleset, with rules owned as %s', (way, all) => {
  it('lets nothing out untranslated, breaks no connection, and what it removes is made again', async () => {
    const natloom = await forwarding(way)
    const { name } = await network.lan.ask('open', SERVER, 7)
    for (let i = 1; i <= FLUSHES; i++) {
      on('nft', 'flush', 'ruleset')
      expect(await network.lan.ask('echo', name, `after flush ${i}`)).toBe(`after flush ${i}`)
      expect(await addressSeen()).toBe(GATEWAY_OUTSIDE)
      await eventually('the tables are complete again', () => tables().join() === all.join())
    }
    if (way === 'pair') {
      const said = await natloom.logged('rules were changed: made again')
      expect(said).toMatchObject({ tables: ['ip natloom'], by: expect.stringMatching(/^nft \(\d+\)$/) })
    }
    expect(metric('natloom_host_rules_restored_total')).toBe(way === 'pair' ? FLUSHES : 0)
    expect(metric('natloom_host_rules_in_force')).toBe(1)
    expect(leaked()).toBe('0')
    expect(await natloom.stop()).toBe(0)
    expect(tables()).toEqual([''])
  })

  it('after SIGKILL removes what was left, and the next start makes it anew', async () => {
    const natloom = await forwarding(way)
    natloom.kill('SIGKILL')
    await natloom.ended()
    expect(tables()).toEqual(['table ip natloom'])
    on('nft', 'flush', 'ruleset')
    expect(tables()).toEqual([''])
    const next = await forwarding(way)
    expect(tables()).toEqual(all)
    expect(await addressSeen()).toBe(GATEWAY_OUTSIDE)
    expect(leaked()).toBe('0')
    expect(await next.stop()).toBe(0)
  })
})
