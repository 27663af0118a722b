// A client that writes its PORT one byte after the other, over a path with a round trip of its own, by sockets of the
// kernel: with Nagle's algorithm and without, what is held is probed for and sent again in ways that no test makes up.
// Whatever becomes of it, the server never hears the inside address: it hears the line rewritten, or the connection
// ends. That the line is rewritten where the bytes come fast enough is shown where time is the test's
// (test/datapath/helped/slow-senders.long.test.ts).

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ScriptedPeerRequests } from '../../src/lab/traffic/scripted-peer.ts'
import { Processes } from '../../src/lab/world/processes.ts'
import { Remote } from '../../src/lab/world/remote.ts'
import { GATEWAY_OUTSIDE, INSIDE_HOSTS, SERVER, Topology } from '../../src/lab/world/topology.ts'
import { testFamily } from '../leftovers.ts'
import { startNatloom } from './sessions/natloom.ts'

const INSIDE = INSIDE_HOSTS[0]!.replaceAll('.', ',')
const OUTSIDE = GATEWAY_OUTSIDE.replaceAll('.', ',')
const scriptedPeer = new URL('../../dist/src/lab/traffic/scripted-peer.js', import.meta.url)

describe.each([0, 100, 800])('a round trip of %i ms', (roundTripMs) => {
  const processes = new Processes()
  let topology: Topology
  let client: Remote<ScriptedPeerRequests>
  let server: Remote<ScriptedPeerRequests>
  let connections = 0

  beforeAll(async () => {
    topology = Topology.create(testFamily())
    client = new Remote(topology.lan, processes, scriptedPeer)
    server = new Remote(topology.outside, processes, scriptedPeer)
    // Each packet is under way for half of it, whichever side it comes by.
    await startNatloom(topology, processes, `delay=${roundTripMs / 2}`)
    await server.ask('listen', 21)
  })
  afterAll(async () => {
    await processes.end()
    topology.remove()
  })

  for (const nagle of [false, true])
    for (const gapMs of [15, 300])
      it(`${nagle ? 'with' : 'without'} Nagle, a byte every ${gapMs} ms: no inside address goes out`, async () => {
        const id = ++connections
        await client.ask('connect', id, { address: SERVER, port: 21 })
        await server.ask('accept', id)
        await server.ask('say', id, '220 ready\r\n')
        await client.ask('line', id)
        const line = server.ask('line', id)
        const reset = server.ask('ended', id).then(({ end }) => end)
        await client.ask('trickle', id, `PORT ${INSIDE},156,64\r\n`, gapMs, nagle)
        const outcome = await Promise.race([line.catch(() => 'no line'), reset])
        expect(outcome).toMatch(new RegExp(`^(PORT ${OUTSIDE},\\d+,\\d+|reset)$`))
        expect(await server.ask('heard', id)).not.toContain(INSIDE)
      })
})
