// A hairpin's packets never leave the gateway's inside: whoever sends one from outside, by an external address of ours,
// has forged it, as the kernel takes every packet that comes by an address of the host's own.

import { expect, it } from 'vitest'
import { frame } from '../../src/testing/builder.ts'
import { Cluster } from './cluster.ts'
import { Gateway } from './gateway.ts'
import { EXTERNAL, HOST, ROUTER, SERVER, WAN } from './network.ts'
import { fromOf, icmpError, udp } from './packets.ts'

const PEER = '10.0.0.6'
const PEER_FROM = `${PEER}:47000`
const FROM = `${HOST}:5000`
const payload = new Uint8Array(2000)

for (const shards of [1, 4])
  it(`${shards} shards: neither half of it takes a packet from outside, and both go on`, async () => {
    const cluster = await Cluster.start({ shards, nat: { filtering: 'endpoint-independent' } })
    const peer = fromOf(cluster.inside(udp(PEER_FROM, `${SERVER}:3478`))[0]!)
    const own = fromOf(cluster.hairpin(udp(FROM, peer))[0]!)
    expect(own.startsWith(EXTERNAL)).toBe(true)
    for (let n = 0; n < 2; n++) {
      expect(cluster.outside(udp(own, peer))).toEqual([])
      expect(cluster.outside(udp(peer, own))).toEqual([])
      // Larger than the next link, too.
      expect(cluster.outside(udp(own, peer, { payload }))).toEqual([])
      expect(cluster.hairpin(udp(PEER_FROM, own))).toHaveLength(1)
      expect(cluster.hairpin(udp(FROM, peer))).toHaveLength(1)
      expect(cluster.outside(udp(`${SERVER}:9`, peer))).toHaveLength(1)
    }
    expect(cluster.drops()).toEqual({ 'martian-source': 6 })
    cluster.check()
  })

it('nor is an ICMP error about it believed that comes from outside', async () => {
  const gateway = await Gateway.start({ nat: { filtering: 'endpoint-independent' } })
  const peer = fromOf(gateway.inside(udp(PEER_FROM, `${SERVER}:3478`))[0]!)
  const own = fromOf(gateway.hairpin(udp(FROM, peer))[0]!)
  gateway.hairpin(udp(PEER_FROM, own))
  for (const quoted of [udp(own, peer), udp(peer, own)])
    expect(gateway.fate(WAN, icmpError(ROUTER, EXTERNAL, frame(quoted)))).toBe('icmp-error-unrelated')
  const [came] = gateway.hairpin(udp(FROM, peer))
  expect(gateway.hairpin(icmpError(PEER, EXTERNAL, came!))).toHaveLength(1)
})
