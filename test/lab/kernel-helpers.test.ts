// The same FTP, IRC and TFTP sessions through Linux and its helpers, and through natloom: what the other side hears,
// and what is expected after each write. Every difference is meant: it is in sessions/differences.ts, with its reason.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Processes } from '../../src/lab/processes.ts'
import { Remote } from '../../src/lab/remote.ts'
import type { TalkerRequests } from '../../src/lab/talker.ts'
import { Topology } from '../../src/lab/topology.ts'
import { FTP } from './sessions/ftp.ts'
import { IRC } from './sessions/irc.ts'
import { forgetExpectations, linuxExpectations, startLinux } from './sessions/kernel.ts'
import { startNatloom } from './sessions/natloom.ts'
import { meet, type Played, playAll, prepare } from './sessions/play.ts'
import { TFTP } from './sessions/tftp.ts'

const SESSIONS = [...FTP, ...IRC, ...TFTP]
const HOST = new URL('../../dist/src/lab/talker.js', import.meta.url)

const topology = Topology.create('nlt-sessions')
const processes = new Processes()
const hosts = {
  lan: new Remote<TalkerRequests>(topology.lan, processes, HOST),
  outside: new Remote<TalkerRequests>(topology.outside, processes, HOST),
}
const { gateway } = topology

let throughLinux: ReadonlyMap<string, Played>
let throughNatloom: ReadonlyMap<string, Played>

beforeAll(async () => {
  const stop = await startLinux(gateway)
  await prepare(hosts)
  await meet(hosts)
  throughLinux = await playAll(
    {
      ...hosts,
      expectations: async () => linuxExpectations(gateway),
      forget: () => forgetExpectations(gateway),
    },
    SESSIONS,
  )
  await stop()
  const natloom = await startNatloom(topology, processes)
  await meet(hosts)
  throughNatloom = await playAll({ ...hosts, expectations: async () => [] }, SESSIONS)
  natloom.child.kill('SIGTERM')
  await natloom.within(10_000)
}, 60_000)
afterAll(async () => {
  await processes.end()
  topology.remove()
})

describe('x', () => {
  it('y', () => {
    console.log(SESSIONS.length)
    for (const [n, p] of throughLinux) {
      const q = throughNatloom.get(n)!
      if (p.stalled !== q.stalled || p.toServer !== q.toServer || p.toClient !== q.toClient)
        console.log(
          n,
          p.stalled,
          q.stalled,
          JSON.stringify(p.toServer.slice(-80)),
          JSON.stringify(q.toServer.slice(-80)),
          JSON.stringify(p.toClient.slice(-80)),
          JSON.stringify(q.toClient.slice(-80)),
        )
    }
    expect(1).toBe(1)
  })
})
