// The same FTP, IRC and TFTP sessions through Linux with its helpers and through natloom: compared are what the other
// side receives and what is expected after each write. sessions/differences.ts has every difference, with its reason.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ScriptedPeerRequests } from '../../src/lab/traffic/scripted-peer.ts'
import { Processes } from '../../src/lab/world/processes.ts'
import { Remote } from '../../src/lab/world/remote.ts'
import { Topology } from '../../src/lab/world/topology.ts'
import { testFamily } from '../leftovers.ts'
import { PATIENCE_MS } from '../patience.ts'
import { type Aspect, DIFFERENCES } from './sessions/differences.ts'
import { FTP } from './sessions/ftp.ts'
import { IRC } from './sessions/irc.ts'
import { forgetExpectations, linuxExpectations, startLinux } from './sessions/kernel.ts'
import { natloomExpectations, startNatloom } from './sessions/natloom.ts'
import { meet, type Played, playAll, prepare } from './sessions/play.ts'
import { TFTP } from './sessions/tftp.ts'

const SESSIONS = [...FTP, ...IRC, ...TFTP]
const HOST = new URL('../../dist/src/lab/traffic/scripted-peer.js', import.meta.url)

const topology = Topology.create(testFamily())
const processes = new Processes()
const hosts = {
  lan: new Remote<ScriptedPeerRequests>(topology.lan, processes, HOST),
  outside: new Remote<ScriptedPeerRequests>(topology.outside, processes, HOST),
}
const { gateway } = topology

const meant = new Map(DIFFERENCES.flatMap((difference) => difference.sessions.map((name) => [name, difference])))

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
      stalls: (name) => meant.get(name)?.in.includes('stalls') ?? false,
    },
    SESSIONS,
  )
  await stop()
  const natloom = await startNatloom(topology, processes)
  await meet(hosts)
  throughNatloom = await playAll({ ...hosts, expectations: () => natloomExpectations(topology) }, SESSIONS)
  natloom.child.kill('SIGTERM')
  await natloom.within(PATIENCE_MS)
})
afterAll(async () => {
  await processes.end()
  topology.remove()
})

const same = (one: readonly string[], other: readonly string[]): boolean => one.join('\n') === other.join('\n')

function aspects(linux: Played, natloom: Played): Aspect[] {
  const differs: Readonly<Record<Aspect, boolean>> = {
    'to server': linux.toServer !== natloom.toServer,
    'to client': linux.toClient !== natloom.toClient,
    stalls: linux.stalled !== natloom.stalled,
    reset: linux.reset !== natloom.reset,
    expected: !same(linux.expected, natloom.expected),
  }
  return (Object.keys(differs) as Aspect[]).filter((aspect) => differs[aspect])
}

describe('through Linux and natloom alike', () => {
  for (const { name } of SESSIONS.filter(({ name }) => !meant.has(name)))
    it(name, () => {
      expect(throughNatloom.get(name)).toEqual(throughLinux.get(name))
    })
})

describe('through natloom otherwise than through Linux', () => {
  for (const { because, sessions, in: where } of DIFFERENCES)
    describe(because, () => {
      for (const name of sessions)
        it(name, () => {
          const [linux, natloom] = [throughLinux.get(name), throughNatloom.get(name)]
          expect(linux && natloom && aspects(linux, natloom), JSON.stringify({ linux, natloom }, null, 1)).toEqual(
            where,
          )
          // For no reason may bytes be lost on their way through natloom.
          expect(natloom?.stalled).toBe(false)
        })
    })
})

it('there are more than enough sessions, each with a name of its own, and each difference is of one of them', () => {
  const names = SESSIONS.map(({ name }) => name)
  expect(new Set(names).size).toBe(names.length)
  expect(names.length).toBeGreaterThanOrEqual(60)
  const listed = DIFFERENCES.flatMap(({ sessions }) => sessions)
  expect(new Set(listed).size).toBe(listed.length)
  expect(listed.filter((name) => !names.includes(name))).toEqual([])
})
