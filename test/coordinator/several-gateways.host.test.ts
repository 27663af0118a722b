// Two `natloom run` in one network namespace, each with a LAN and an uplink of its own: both translate, the command
// line finds each by its name, and what one does to the host is nothing to the other.

import { existsSync, rmSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { type Namespace, veth } from '../../src/lab/world/namespace.ts'
import { GATEWAY_OUTSIDE, SERVER } from '../../src/lab/world/topology.ts'
import { testNamespace } from '../leftovers.ts'
import { EndHost, type Natloom, Network } from './network.ts'

/** /run is the machine's, so a name of this test's own. */
const SECOND = `second-${process.pid}`
const SECOND_OUTSIDE = '192.0.2.1'
const SECOND_SERVER = '192.0.2.2'

let network: Network
let hosts: Namespace[]
let secondLan: EndHost
let portRange: string
const started: Natloom[] = []

beforeAll(async () => {
  network = new Network()
  portRange = network.hostPortRange()
  const lan = testNamespace('second-lan')
  const outside = testNamespace('second-outside')
  hosts = [lan, outside]
  veth(network.gateway.host, 'lan1', lan, 'eth0')
  veth(network.gateway.host, 'wan1', outside, 'eth0')
  network.gateway.host.ip('addr add 10.1.0.1/24 dev lan1')
  network.gateway.host.ip(`addr add ${SECOND_OUTSIDE}/24 dev wan1`)
  lan.ip('addr add 10.1.0.2/24 dev eth0')
  lan.ip('route add default via 10.1.0.1')
  outside.ip(`addr add ${SECOND_SERVER}/24 dev eth0`)
  secondLan = new EndHost(lan, network.processes)
  await network.outside.ask('serveUdpEcho', 7)
  await new EndHost(outside, network.processes).ask('serveUdpEcho', 7)
})
afterEach(async () => {
  for (const natloom of started.splice(0)) {
    natloom.kill('SIGKILL')
    await natloom.ended()
  }
})
afterAll(async () => {
  await network?.close()
  for (const host of hosts ?? []) host.delete()
  rmSync(`/run/natloom/${SECOND}`, { recursive: true, force: true })
})

const on = (...command: [string, ...string[]]) => network.gateway.host.exec(...command)
const tables = () => on('nft', 'list', 'tables')
const seenOfFirst = async () => (await network.lan.ask('askByUdp', SERVER, 7, '')).trim()
const seenOfSecond = async () => (await secondLan.ask('askByUdp', SECOND_SERVER, 7, '')).trim()

function start(env: Readonly<Record<string, string>> = {}): Natloom {
  const natloom = network.natloom(env)
  started.push(natloom)
  return natloom
}
async function both(): Promise<readonly [Natloom, Natloom]> {
  const first = start()
  await first.logged('"forwarding"')
  const second = start(SECOND_ENV)
  await second.logged('"forwarding"')
  return [first, second]
}
const SECOND_ENV = {
  NATLOOM_NAME: SECOND,
  NATLOOM_INSIDE: 'lan1',
  NATLOOM_OUTSIDE: 'wan1',
  NATLOOM_METRICS_LISTEN: '127.0.0.1:9465',
  // Those of its name.
  NATLOOM_STATE_PATH: '',
  NATLOOM_API_SOCKET: '',
}

describe('two gateways', () => {
  it('translate side by side, and go one after the other', async () => {
    const [first, second] = await both()
    expect(await seenOfFirst()).toBe(GATEWAY_OUTSIDE)
    expect(await seenOfSecond()).toBe(SECOND_OUTSIDE)
    expect(tables()).toContain('table ip natloom\n')
    expect(tables()).toContain(`table ip ${SECOND}\n`)

    expect(await first.stop()).toBe(0)
    expect(tables()).not.toContain('table ip natloom\n')
    expect(network.hostPortRange()).not.toBe(portRange)
    expect(await seenOfSecond()).toBe(SECOND_OUTSIDE)
    expect(on('curl', '-s', '-o', '/dev/null', '-w', '%{http_code}', 'http://127.0.0.1:9465/healthz')).toBe('200')

    expect(await second.stop()).toBe(0)
    expect(tables()).toBe('')
    expect(network.hostPortRange()).toBe(portRange)
  })

  it('are found by the command line by their names', async () => {
    await both()
    await seenOfSecond()
    const command = new URL('../../dist/src/control/main.js', import.meta.url).pathname
    const list = (name: string) =>
      on('env', `NATLOOM_NAME=${name}`, 'NATLOOM_CONFIG=/dev/null', process.execPath, command, 'conntrack', '-L')
    expect(list(SECOND)).toContain(`dst=${SECOND_SERVER}`)
    expect(existsSync(`/run/natloom/${SECOND}/state.json`)).toBe(true)
  })

  it('keep out of each other’s way when one is killed and comes back', async () => {
    const [first] = await both()
    first.kill('SIGKILL')
    await first.ended()
    expect(await seenOfSecond()).toBe(SECOND_OUTSIDE)
    await start().logged('"forwarding"')
    expect(await seenOfFirst()).toBe(GATEWAY_OUTSIDE)
    expect(await seenOfSecond()).toBe(SECOND_OUTSIDE)
  })

  it('do not take each other’s interfaces, and the first goes on', async () => {
    const first = start()
    await first.logged('"forwarding"')
    const second = start({ ...SECOND_ENV, NATLOOM_INSIDE: 'lan1,lan0' })
    expect(await second.ended()).toBe(3)
    expect(second.program.output).toContain(
      `interface lan0 is served by another natloom already (natloom, process ${first.program.child.pid})`,
    )
    expect(await seenOfFirst()).toBe(GATEWAY_OUTSIDE)
  })
})
