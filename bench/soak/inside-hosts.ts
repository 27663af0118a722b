// Runs in the LAN host: two hundred hosts that do what hosts do, each when chance says so: short requests, long
// downloads, names, pings, files by FTP both ways. Chance is a seed's, so two runs begin the same things in the same
// order. Counted is what began, what succeeded, and why anything didn't.

import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { answerRequests } from '../../src/lab/world/remote.ts'
import { HOST_INTERFACE } from '../../src/lab/world/topology.ts'
import { frame } from '../../src/testing/builder.ts'
import { ECHO_REQUEST } from '../../src/wire/icmp.ts'
import { Frames, sendingSocket } from '../attack/frames.ts'
import type { Link } from '../attack/sender.ts'
import { type FtpMode, fetchByFtp } from './ftp.ts'
import { fetchBytes } from './requests.ts'
import { DOWNLOAD_BYTES, type Outcome, PAGE_BYTES, PORTS } from './services.ts'

export interface InsideHosts {
  readonly hosts: readonly string[]
  readonly server: string
  readonly link: Link
  readonly seed: number
  /** Things begun a second, of all hosts together. */
  readonly rate: number
}

const ANSWER_WITHIN_MS = 20_000
const PINGS_A_SECOND = 20

/** Numbers from 0 to below 1, the same for the same seed (mulberry32). */
function chanceOf(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

async function askName(host: string, server: string): Promise<void> {
  const socket = createSocket('udp4')
  try {
    socket.bind(0, host)
    await once(socket, 'listening')
    const answered = once(socket, 'message', { signal: AbortSignal.timeout(ANSWER_WITHIN_MS) })
    socket.send('name?', PORTS.names, server)
    await answered
  } finally {
    socket.close()
  }
}

type Doing = (host: string, server: string) => Promise<void>

const byFtp =
  (mode: FtpMode): Doing =>
  (host, server) =>
    fetchByFtp(host, server, mode)

/** What is begun, and how often of a hundred. */
const DOINGS: readonly (readonly [name: string, often: number, doing: Doing])[] = [
  ['page', 46, (host, server) => fetchBytes({ host, server, port: PORTS.web, bytes: PAGE_BYTES })],
  ['name', 44, askName],
  ['download', 2, (host, server) => fetchBytes({ host, server, port: PORTS.downloads, bytes: DOWNLOAD_BYTES })],
  ['FTP, PORT', 4, byFtp('PORT')],
  ['FTP, PASV', 4, byFtp('PASV')],
]

let timers: NodeJS.Timeout[] = []
const under = new Set<Promise<void>>()
const outcomes: Record<string, { tried: number; succeeded: number; failures: Record<string, number> }> = {}

function begin(name: string, doing: Promise<void>): void {
  outcomes[name] ??= { tried: 0, succeeded: 0, failures: {} }
  const outcome = outcomes[name]
  outcome.tried++
  const done = doing.then(
    () => void outcome.succeeded++,
    (error: NodeJS.ErrnoException) => {
      const why = error.code ?? error.message
      outcome.failures[why] = (outcome.failures[why] ?? 0) + 1
    },
  )
  under.add(done)
  done.finally(() => under.delete(done))
}

function pings({ hosts, server, link }: InsideHosts): NodeJS.Timeout {
  const fd = sendingSocket(HOST_INTERFACE)
  const frames = new Frames(
    hosts.map((src, i) =>
      frame({ eth: link, ip: { src, dst: server }, icmp: { type: ECHO_REQUEST, id: 1 + i, seq: 1 } }),
    ),
  )
  let next = 0
  return setInterval(() => frames.send(fd, next++ % frames.count, 1), 1000 / PINGS_A_SECOND)
}

const requests = {
  begin(options: InsideHosts) {
    const { hosts, server, seed, rate } = options
    const chance = chanceOf(seed)
    timers = [
      pings(options),
      setInterval(() => {
        const host = hosts[Math.floor(chance() * hosts.length)]!
        let left = chance() * 100
        const chosen = DOINGS.find(([, often]) => {
          left -= often
          return left < 0
        })
        if (chosen) begin(chosen[0], chosen[2](host, server))
      }, 1000 / rate),
    ]
  },
  /** Begins nothing more; what came of all that was begun. */
  async end(): Promise<Readonly<Record<string, Outcome>>> {
    timers.forEach(clearInterval)
    await Promise.all(under)
    return outcomes
  },
}

export type InsideHostsRequests = typeof requests

answerRequests(requests)
