// In the LAN host: connect, ask, read the answer to its end, close; several at a time in blocking threads, each
// connection from a source port that none had before. The server closes first, as a web server does.

import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { close, recv, send } from '../../src/io/syscalls.ts'
import { address, connection } from './sockets.ts'

export interface ConnectionsClient {
  readonly host: string
  readonly port: number
  readonly threads: number
  readonly milliseconds: number
}

export interface ConnectionsMade {
  readonly made: number
  readonly failed: number
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
  let failed = 0
  const begin = performance.now()
  const end = begin + milliseconds
  for (let from = FIRST_PORT + thread; from <= LAST_PORT && performance.now() < end; from += threads) {
    const fd = connection(from, to, PATIENCE_S)
    if (fd < 0) {
      failed++
      continue
    }
    send(fd, bytes, 0)
    const answered = recv(fd, bytes, 0) === MESSAGE && recv(fd, bytes, 0) === 0
    close(fd)
    if (answered) made++
    else failed++
  }
  return { made, failed, seconds: (performance.now() - begin) / 1000 }
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
    failed: shares.reduce((sum, { failed }) => sum + failed, 0),
    seconds: Math.max(...shares.map(({ seconds }) => seconds)),
  }
  process.send?.(total, () => process.exit(0))
} else parentPort?.postMessage(work(workerData as Share))
