// A host of the tests' network, as a process in its namespace: answers requests over the channel that Node gives a
// child. It serves what others ask for (HTTP, echo on TCP and UDP, a resolver) and is their client.

import { createHash, randomBytes } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer as createHttpServer, get } from 'node:http'
import { connect, createServer, type Socket } from 'node:net'
import { answerRequests } from '../../src/lab/world/remote.ts'
import { PATIENCE_MS } from '../patience.ts'

const connections = new Map<number, Socket>()
const blob = randomBytes(10_000_000)
const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

async function nextData(socket: Socket): Promise<string> {
  try {
    const [data] = await once(socket, 'data', { signal: AbortSignal.timeout(PATIENCE_MS) })
    return String(data)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error)
  }
}

const requests = {
  /** Serves ten random megabytes; their digest. */
  async serveHttp(port: number): Promise<string> {
    await once(createHttpServer((_, response) => response.end(blob)).listen(port), 'listening')
    return sha256(blob)
  },
  /** Greets with the peer's endpoint, then echoes. */
  async serveTcpEcho(port: number): Promise<void> {
    const server = createServer((socket) => {
      socket.on('error', () => socket.destroy())
      socket.write(`${socket.remoteAddress}:${socket.remotePort}`)
      socket.pipe(socket)
    })
    await once(server.listen(port, '0.0.0.0'), 'listening')
  },
  /** Answers with the sender's address and what it sent. */
  async serveUdpEcho(port: number): Promise<void> {
    const socket = createSocket('udp4')
    socket.on('message', (message, from) => socket.send(`${from.address} ${message}`, from.port, from.address))
    await once(socket.bind(port), 'listening')
  },

  /** Digest of what is served there. */
  async download(url: string): Promise<string> {
    const [response] = await once(get(url, { agent: false }), 'response', { signal: AbortSignal.timeout(PATIENCE_MS) })
    const hash = createHash('sha256')
    for await (const bytes of response) hash.update(bytes)
    return hash.digest('hex')
  },
  /** The answer to a datagram, which is sent again every half second. */
  async askByUdp(address: string, port: number, text: string): Promise<string> {
    const socket = createSocket('udp4')
    const answer = once(socket, 'message', { signal: AbortSignal.timeout(PATIENCE_MS) }).then(([bytes]) =>
      String(bytes),
    )
    const sending = setInterval(() => socket.send(text, port, address), 500)
    socket.send(text, port, address)
    try {
      return await answer
    } finally {
      clearInterval(sending)
      socket.close()
    }
  },
  /** Opens a connection to an echo service; its name here, and the endpoint that the service sees. */
  async open(address: string, port: number): Promise<{ name: number; seen: string }> {
    const socket = connect(port, address)
    const seen = await nextData(socket)
    const name = connections.size
    connections.set(name, socket)
    return { name, seen }
  },
  /** What comes back over the connection, or the code of its error. */
  async echo(name: number, text: string): Promise<string> {
    const socket = connections.get(name)
    if (!socket) throw new Error(`there is no connection ${name}`)
    const answer = nextData(socket)
    socket.write(text)
    return answer
  },
}

export type Requests = typeof requests

answerRequests(requests)
