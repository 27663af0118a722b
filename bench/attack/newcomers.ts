// Runs in the LAN host: opens a TCP connection every few milliseconds, by turns from hosts that do nothing wrong, asks
// and reads the answer. Who has none within some seconds has failed.

import { createConnection } from 'node:net'
import { answerRequests } from '../../src/lab/world/remote.ts'
import { INSIDE_HOSTS } from '../../src/lab/world/topology.ts'

export interface Newcomers {
  readonly host: string
  readonly port: number
  readonly everyMs: number
}

export interface NewcomersMet {
  readonly tried: number
  readonly succeeded: number
  /** The median of those that succeeded, from the SYN to the answer. */
  readonly medianMs: number
  /** By what the error says. */
  readonly failures: Readonly<Record<string, number>>
}

const HOSTS = INSIDE_HOSTS.slice(4, 7)
const PATIENCE_MS = 3000

let timer: NodeJS.Timeout | undefined
let attempts: Promise<number | string>[] = []

/** How long it took in milliseconds, or why there was no answer. */
function attempt(localAddress: string, { host, port }: Newcomers): Promise<number | string> {
  const began = performance.now()
  const socket = createConnection({ host, port, localAddress })
  return new Promise((resolve) => {
    const end = (result: number | string): void => {
      socket.destroy()
      resolve(result)
    }
    socket.setTimeout(PATIENCE_MS, () => end('no answer in time'))
    socket.once('error', (error: NodeJS.ErrnoException) => end(error.code ?? error.message))
    socket.once('connect', () => socket.write('?'))
    socket.once('data', () => end(performance.now() - began))
  })
}

const requests = {
  begin(options: Newcomers) {
    attempts = []
    timer = setInterval(() => {
      attempts.push(attempt(HOSTS[attempts.length % HOSTS.length]!, options))
    }, options.everyMs)
  },
  async end(): Promise<NewcomersMet> {
    clearInterval(timer)
    const results = await Promise.all(attempts)
    const times = results.filter((result) => typeof result === 'number').sort((a, b) => a - b)
    const failures: Record<string, number> = {}
    for (const result of results) if (typeof result === 'string') failures[result] = (failures[result] ?? 0) + 1
    return {
      tried: results.length,
      succeeded: times.length,
      medianMs: times[times.length >> 1] ?? Number.NaN,
      failures,
    }
  },
}

export type NewcomersRequests = typeof requests

answerRequests(requests)
