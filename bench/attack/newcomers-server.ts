// Runs in the outside host: answers each request of a newcomer by one byte. Who asks closes.

import { once } from 'node:events'
import { createServer } from 'node:net'

export interface NewcomersServer {
  readonly port: number
}

const BACKLOG = 4096

const { port } = JSON.parse(process.argv[2] ?? '{}') as NewcomersServer

const server = createServer((socket) => {
  socket.on('error', () => socket.destroy())
  socket.on('data', () => socket.end('!'))
})
process.on('disconnect', () => process.exit(0))
await once(server.listen(port, '0.0.0.0', BACKLOG), 'listening')
process.send?.('ready')
