// Runs in the outside host: accepts a connection, reads a request, answers and closes, in as many blocking threads as
// there are connections at a time. The threads share the listener by its descriptor.

import { isMainThread, Worker, workerData } from 'node:worker_threads'
import { close, recv, send } from '../../src/io/syscalls.ts'
import { accept, listener } from './sockets.ts'

export interface ConnectionsServer {
  readonly port: number
  readonly threads: number
}

/** The server ends when no connection has come for so long. */
const PATIENCE_S = 5
const MESSAGE = 64

function serve(fd: number): void {
  const bytes = new Uint8Array(MESSAGE)
  for (;;) {
    const connection = accept(fd)
    if (connection < 0) return
    if (recv(connection, bytes, 0) > 0) send(connection, bytes, 0)
    close(connection)
  }
}

if (isMainThread) {
  const { port, threads } = JSON.parse(process.argv[2] ?? '{}') as ConnectionsServer
  const fd = listener(port, PATIENCE_S)
  for (let thread = 0; thread < threads; thread++) new Worker(new URL(import.meta.url), { workerData: fd })
  process.send?.('ready')
} else serve(workerData as number)
