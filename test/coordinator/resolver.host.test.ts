// unbound on the gateway, as the LAN's resolver: each of its questions comes from another random port in NAT's range,
// opened just before.

import { writeFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { GATEWAY_INSIDE, SERVER } from '../../src/lab/world/topology.ts'
import { type Natloom, Network } from './network.ts'

const NAMES = 1000

let network: Network
let natloom: Natloom | undefined

beforeAll(() => {
  network = new Network()
})
afterAll(async () => {
  await natloom?.stop()
  await network?.close()
})

/** A DNS query for the address of ready.example.net (RFC 1035 section 4.1). */
const READY = '\0\x01\x01\0\0\x01\0\0\0\0\0\0\x05ready\x07example\x03net\0\0\x01\0\x01'

/**
 * Its ports for questions are NAT's alone. An answer is waited for so long that a busy machine doesn't make it ask
 * twice: it does so only if an answer was lost.
 */
const CONFIGURATION = `server:
  interface: ${GATEWAY_INSIDE}
  access-control: 10.0.0.0/24 allow
  outgoing-port-avoid: 0-65535
  outgoing-port-permit: 16384-60991
  module-config: "iterator"
  qname-minimisation: no
  unknown-server-time-limit: 60000
  infra-cache-min-rtt: 60000
  do-ip6: no
  do-daemonize: no
  username: ""
  chroot: ""
  pidfile: ""
  use-syslog: no
  logfile: ""
remote-control:
  control-enable: no
forward-zone:
  name: "."
  forward-addr: ${SERVER}
`

it('answers a thousand names, and asks for each once', async () => {
  await network.outside.ask('serveNames', 53)
  natloom = await network.forwarding()
  const file = `${network.topology.directory}/unbound.conf`
  writeFileSync(file, CONFIGURATION)
  const unbound = network.processes.start(network.topology.gateway, 'unbound', ['-d', '-c', file], { name: 'unbound' })
  const started = network.lan.ask('askByUdp', GATEWAY_INSIDE, 53, READY).then(() => 'answers')
  const ended = unbound.ended.then(() => unbound.output)
  expect(await Promise.race([started, ended])).toBe('answers')
  expect(await network.lan.ask('askNames', GATEWAY_INSIDE, NAMES)).toBe(NAMES)
  expect(await network.outside.ask('namesAsked')).toBe(NAMES)
})
