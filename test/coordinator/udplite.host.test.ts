// UDP-Lite between real sockets through `natloom run`: the kernels at both ends verify the checksum that natloom has
// repaired, and drop a wrong one. nat.protocols lists it, and natloom knows no ports of it.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { GATEWAY_OUTSIDE, SERVER } from '../../src/lab/world/topology.ts'
import { Socket } from '../host/sockets-inside.ts'
import { type Natloom, Network } from './network.ts'

let network: Network
let natloom: Natloom

beforeAll(async () => {
  network = new Network()
  natloom = await network.forwarding({ NATLOOM_NAT_PROTOCOLS: 'udplite' })
})
afterAll(async () => {
  await natloom?.stop()
  network?.close()
})

describe('a datagram of UDP-Lite and its answer', () => {
  it('arrive, from the address of NAT and with the ports of their senders', () => {
    const server = Socket.udplite(network.outside.host, 9000)
    const client = Socket.udplite(network.lan.host, 5000).to(SERVER, 9000)
    client.send('from inside')
    expect(server.wait().received()).toEqual(['from inside'])
    server.to(GATEWAY_OUTSIDE, 5000).send('from outside')
    expect(client.wait().received()).toEqual(['from outside'])
    // Also of a length that is odd, and longer than one frame: its first fragment has the header.
    const long = 'x'.repeat(4001)
    client.send(long)
    expect(server.wait().received()).toEqual([long])
    server.send(long)
    expect(client.wait().received()).toEqual([long])
    client.close()
    server.close()
  })
})
