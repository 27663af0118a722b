// One FTP session with several listings, while frames are lost, come twice, and overtake each other. Every PORT grows
// by three bytes behind the gateway, so that the numbers of each are shifted by all before it; whatever has to be sent
// again, both ends hear what the other said, and nothing else.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ScriptedPeerRequests } from '../../src/lab/traffic/scripted-peer.ts'
import { Processes } from '../../src/lab/world/processes.ts'
import { Remote } from '../../src/lab/world/remote.ts'
import { GATEWAY_OUTSIDE, INSIDE_HOSTS, SERVER, Topology } from '../../src/lab/world/topology.ts'
import { testFamily } from '../leftovers.ts'
import { startNatloom } from './sessions/natloom.ts'

const FAULTS = 'loss=0.04,duplicate=0.05,reorder=0.1,seed=11'
const SESSIONS = 6
const LISTINGS = 4
const CLIENT = INSIDE_HOSTS[0]!

const topology = Topology.create(testFamily())
const processes = new Processes()
const scriptedPeer = new URL('../../dist/src/lab/traffic/scripted-peer.js', import.meta.url)
const client = new Remote<ScriptedPeerRequests>(topology.lan, processes, scriptedPeer)
const server = new Remote<ScriptedPeerRequests>(topology.outside, processes, scriptedPeer)

let connections = 0

beforeAll(async () => {
  await startNatloom(topology, processes, FAULTS)
  await server.ask('listen', 21)
  await client.ask('listen', 40_000)
})
afterAll(async () => {
  await processes.end()
  topology.remove()
})

/** How many segments this host has sent again, as its kernel counts. */
const sentAgain = (host: Topology['lan']): number =>
  Number(/TcpRetransSegs\s+(\d+)/.exec(host.exec('nstat', '-asz', 'TcpRetransSegs'))![1])

async function said(id: number, speaker: typeof client, hearer: typeof client, line: string): Promise<string> {
  await speaker.ask('say', id, `${line}\r\n`)
  return hearer.ask('line', id)
}

describe('a session whose announcements all grow, with frames lost, repeated and late', () => {
  it.each(Array.from({ length: SESSIONS }, (_, i) => i + 1))('session %i', async () => {
    const id = ++connections
    await client.ask('connect', id, { address: SERVER, port: 21 })
    await server.ask('accept', id)
    expect(await said(id, server, client, '220 ready')).toBe('220 ready')
    for (let listing = 1; listing <= LISTINGS; listing++) {
      const heard = await said(id, client, server, `PORT ${CLIENT.replaceAll('.', ',')},156,64`)
      const [, address, high, low] = /^PORT (\d+,\d+,\d+,\d+),(\d+),(\d+)$/.exec(heard)!
      expect(address).toBe(GATEWAY_OUTSIDE.replaceAll('.', ','))
      const data = ++connections
      await server.ask('connect', data, { address: GATEWAY_OUTSIDE, port: Number(high) * 256 + Number(low) })
      await client.ask('accept', data)
      const text = `listing ${listing}\r\n`.repeat(2000)
      await server.ask('say', data, text)
      await server.ask('end', data)
      expect(await client.ask('ended', data)).toEqual({ text, end: 'closed' })
      for (const line of [`226 done ${listing}`, '250 and more'])
        expect(await said(id, server, client, line)).toBe(line)
      expect(await said(id, client, server, `NOOP ${listing}`)).toBe(`NOOP ${listing}`)
    }
    const heard = await server.ask('heard', id)
    expect(heard.length).toBe(LISTINGS * (GATEWAY_OUTSIDE.length - CLIENT.length) + sizeOfSaid())
  })

  it('had to send much of it again', () => {
    expect(sentAgain(topology.lan)).toBeGreaterThan(0)
    expect(sentAgain(topology.outside)).toBeGreaterThan(0)
  })
})

/** What a client has sent in a session. */
const sizeOfSaid = (): number =>
  Array.from({ length: LISTINGS }, (_, i) => `PORT ${CLIENT},156,64\r\nNOOP ${i + 1}\r\n`.length).reduce(
    (a, b) => a + b,
  )
