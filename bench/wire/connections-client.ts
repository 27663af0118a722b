// Runs in the LAN host: opens a connection, asks, reads the answer to its end and closes, in several blocking threads
// at once. Each connection has a source port that none had before. The server closes first, as a web server does.

import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { close, errno, recv, send } from '../../src/io/syscalls.ts'
import { address, connection } from './sockets.ts'

export interface ConnectionsClient {
  readonly host: string
  readonly port: number
  readonly threads: number
  readonly milliseconds: number
}

export interface ConnectionsMade {
  readonly made: number
  /** How many failed, by the step that did. */
  readonly failures: Readonly<Record<string, number>>
  readonly seconds: number
}

interface Share {
  readonly options: ConnectionsClient
  readonly thread: number
}

const FIRST_PORT = 1024
const LAST_PORT = 65535
const PATIENCE_S = 3
const MESSAGE = 64

function work({ options: { host, port, threads, milliseconds }, thread }: Share): ConnectionsMade {
  const to = address(host, port)
  const bytes = new Uint8Array(MESSAGE)
  let made = 0
  const failures: Record<string, number> = {}
  const fail = (what: string): void => {
    failures[what] = (failures[what] ?? 0) + 1
  }
  const begin = performance.now()
  const end = begin + milliseconds
  for (let from = FIRST_PORT + thread; from <= LAST_PORT && performance.now() < end; from += threads) {
    const fd = connection(from, to, PATIENCE_S)
    if (fd < 0) {
      fail(`connect: error ${errno()}`)
      continue
    }
    send(fd, bytes, 0)
    const answer = recv(fd, bytes, 0)
    if (answer < 0) fail(`answer: error ${errno()}`)
    else if (answer !== MESSAGE) fail(`answer of ${answer} bytes`)
    else if (recv(fd, bytes, 0) === 0) made++
    else fail('more than the answer')
    close(fd)
  }
  return { made, failures, seconds: (performance.now() - begin) / 1000 }
}

function together(a: Readonly<Record<string, number>>, b: Readonly<Record<string, number>>): Record<string, number> {
  const sum = { ...a }
  for (const [what, count] of Object.entries(b)) sum[what] = (sum[what] ?? 0) + count
  return sum
}

if (isMainThread) {
  const options = JSON.parse(process.argv[2] ?? '{}') as ConnectionsClient
  const shares = await Promise.all(
    Array.from(
      { length: options.threads },
      (_, thread) =>
        new Promise<ConnectionsMade>((resolve, reject) => {
          const share: Share = { options, thread }
          const worker = new Worker(new URL(import.meta.url), { workerData: share })
          worker.once('message', resolve)
          worker.once('error', reject)
        }),
    ),
  )
  const total: ConnectionsMade = {
    made: shares.reduce((sum, { made }) => sum + made, 0),
    failures: shares.map(({ failures }) => failures).reduce(together, {}),
    seconds: Math.max(...shares.map(({ seconds }) => seconds)),
  }
  process.send?.(total, () => process.exit(0))
} else parentPort?.postMessage(work(workerData as Share))
