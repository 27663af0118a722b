// What changes on the host while `natloom run` forwards: addresses, links, interfaces.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { veth } from '../../src/lab/world/namespace.ts'
import { HOST_INTERFACE, INSIDE_INTERFACE, OUTSIDE_INTERFACE, REMOTE, SERVER } from '../../src/lab/world/topology.ts'
import { type Natloom, Network } from './network.ts'

const FIRST = '203.0.113.1'
const SECOND = '203.0.113.9'
const ADDRESS_NEWS = 'translating to the outside address'

let network: Network
let natloom: Natloom

beforeAll(async () => {
  network = new Network()
  await network.outside.ask('serveTcpEcho', 7)
  await network.outside.ask('serveUdpEcho', 7)
  natloom = await network.forwarding()
})
afterAll(async () => {
  await natloom?.stop()
  await network?.close()
})

const gatewayIp = (args: string) => network.gateway.host.ip(args)
const wan = OUTSIDE_INTERFACE
const addressSeen = async () => (await network.lan.ask('askByUdp', SERVER, 7, '')).trim()

describe('when the outside address changes', () => {
  let connection: number
  beforeAll(async () => {
    connection = (await network.lan.ask('open', REMOTE, 7)).name
    gatewayIp(`addr add ${SECOND}/24 dev ${wan}`)
    gatewayIp(`addr del ${FIRST}/24 dev ${wan}`)
    gatewayIp(`addr flush dev ${wan}`)
    gatewayIp(`addr add ${SECOND}/24 dev ${wan}`)
    gatewayIp(`route replace default via ${SERVER}`)
    await natloom.logged(`"${SECOND}"`)
  })

  it('new flows use the new one', async () => {
    expect(await addressSeen()).toBe(SECOND)
    expect((await network.lan.ask('open', REMOTE, 7)).seen).toMatch(`${SECOND}:`)
  })

  it('connections on the lost one end, and their inside host is told', async () => {
    expect(await network.lan.ask('echo', connection, 'still there?')).toBe('ECONNRESET')
  })

  it('the kernel is kept from the new one’s ports instead of the old one’s', () => {
    expect(network.rules()).toContain(`ip daddr ${SECOND} meta l4proto`)
    expect(network.rules()).not.toContain(FIRST)
  })

  it('and when there is none at all, natloom waits for one', async () => {
    gatewayIp(`addr flush dev ${wan}`)
    await natloom.logged('no outside address')
    gatewayIp(`addr add ${FIRST}/24 dev ${wan}`)
    gatewayIp(`route replace default via ${SERVER}`)
    await natloom.logged(ADDRESS_NEWS)
    expect(await addressSeen()).toBe(FIRST)
  })
})

describe('when a link goes down and up', () => {
  it('connections live on', async () => {
    const { name } = await network.lan.ask('open', REMOTE, 7)
    gatewayIp(`link set ${wan} down`)
    await natloom.logged('the interface is down')
    gatewayIp(`link set ${wan} up`)
    gatewayIp(`route replace default via ${SERVER}`)
    await natloom.logged('the interface is up')
    expect(await network.lan.ask('echo', name, 'still there?')).toBe('still there?')
  })
})

describe('when an interface vanishes and comes back', () => {
  it('the outside one is served again, under rules', async () => {
    gatewayIp(`link del ${wan}`)
    await natloom.logged('no outside address')
    veth(network.gateway.host, wan, network.outside.host, HOST_INTERFACE)
    network.outside.host.ip(`addr add ${SERVER}/24 dev ${HOST_INTERFACE}`)
    gatewayIp(`addr add ${FIRST}/24 dev ${wan}`)
    gatewayIp(`route add default via ${SERVER}`)
    await natloom.logged(ADDRESS_NEWS)
    expect(await addressSeen()).toBe(FIRST)
    // An index that nobody has any more would be listed as a number.
    expect(network.rules()).toContain(`oif "${wan}" drop`)
  })

  it('the inside one is served again, and connections live on', async () => {
    const lan = network.lan.host
    // An address of the end host's own, so that its connection survives the link.
    lan.ip('addr add 10.0.0.2/32 dev lo')
    const { name } = await network.lan.ask('open', REMOTE, 7)
    lan.ip(`link del ${HOST_INTERFACE}`)
    await natloom.logged('the interface is gone')
    veth(lan, HOST_INTERFACE, network.gateway.host, INSIDE_INTERFACE)
    lan.ip(`addr add 10.0.0.2/24 dev ${HOST_INTERFACE}`)
    gatewayIp(`addr add 10.0.0.1/24 dev ${INSIDE_INTERFACE}`)
    lan.ip('route add default via 10.0.0.1')
    await natloom.logged('the interface is back')
    expect(await network.lan.ask('echo', name, 'still there?')).toBe('still there?')
    expect(network.rules()).toContain(`oif "${INSIDE_INTERFACE}" drop`)
  })
})
