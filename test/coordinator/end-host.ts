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

/** Of silent services, by port. */
const ends = new Map<number, Promise<string>>()

let namesAsked = 0

/** Where the question section of a DNS message with one question ends (RFC 1035 section 4.1). */
function endOfQuestion(query: Buffer): number {
  let at = 12
  while (query[at]! > 0) at += query[at]! + 1
  return at + 5
}

/** A DNS query for an address, with the number as its id. */
function queryFor(number: number): Buffer {
  const labels = [String(number), 'example', 'net'].flatMap((label) => [label.length, ...Buffer.from(label)])
  return Buffer.from([number >> 8, number & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...labels, 0, 0, 1, 0, 1])
}

const requests = {
  /** Serves ten random megabytes; their digest. */
  async serveHttp(port: number): Promise<string> {
    await once(createHttpServer((_, response) => response.end(blob)).listen(port), 'listening')
    return sha256(blob)
  },
  /** Greets with the peer's endpoint, then echoes. */
  async serveTcpEcho(port: number, address = '0.0.0.0'): Promise<void> {
    const server = createServer((socket) => {
      socket.on('error', () => socket.destroy())
      socket.write(`${socket.remoteAddress}:${socket.remotePort}`)
      socket.pipe(socket)
    })
    await once(server.listen(port, address), 'listening')
  },
  /** Greets, and says nothing more. */
  async serveSilent(port: number): Promise<void> {
    const server = createServer((socket) => {
      const ended = once(socket.resume(), 'close').then(
        () => 'close',
        (error: NodeJS.ErrnoException) => error.code ?? String(error),
      )
      ends.set(port, ended)
      socket.write('greeting')
    })
    await once(server.listen(port, '0.0.0.0'), 'listening')
  },
  /** By what the last connection to a silent service has ended, once it has: an error's code, or `close`. */
  endOf: (port: number): Promise<string> => ends.get(port) ?? Promise.reject(new Error(`nobody came to ${port}`)),
  /** Answers with the sender's address and what it sent. */
  async serveUdpEcho(port: number): Promise<void> {
    const socket = createSocket('udp4')
    socket.on('message', (message, from) => socket.send(`${from.address} ${message}`, from.port, from.address))
    await once(socket.bind(port), 'listening')
  },
  /** A name server: every name has the address 192.0.2.7. Names that begin with a number are counted (`namesAsked`). */
  async serveNames(port: number): Promise<void> {
    const socket = createSocket('udp4')
    socket.on('message', (query, from) => {
      const question = query.subarray(12, endOfQuestion(query))
      if (/^\d/.test(question.toString('latin1', 1))) namesAsked++
      const header = Buffer.from([query[0]!, query[1]!, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0])
      // The name by a pointer to the question, type A, class IN, 60 s, four bytes.
      const answer = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7])
      socket.send(Buffer.concat([header, question, answer]), from.port, from.address)
    })
    await once(socket.bind(port), 'listening')
  },
  namesAsked: (): number => namesAsked,
  /** Asks a resolver for `<number>.example.net`, each once, twenty at a time; how many were answered rightly. */
  async askNames(resolver: string, count: number): Promise<number> {
    let next = 0
    let right = 0
    const one = async (): Promise<void> => {
      const socket = createSocket('udp4')
      for (let number = next++; number < count; number = next++) {
        const answer = once(socket, 'message', { signal: AbortSignal.timeout(PATIENCE_MS) })
        socket.send(queryFor(number), 53, resolver)
        const [bytes] = await answer.catch(() => [Buffer.alloc(0)])
        if (bytes.length > 4 && bytes.readUInt16BE() === number && bytes.subarray(-4).join('.') === '192.0.2.7') right++
      }
      socket.close()
    }
    await Promise.all(Array.from({ length: 20 }, one))
    return right
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
  /** Sends one datagram from each of these ports, a few at a time; how many were answered. None is sent twice. */
  async queryFromPorts(address: string, port: number, from: readonly number[]): Promise<number> {
    const waiting = [...from]
    let answered = 0
    const query = async (own: number): Promise<void> => {
      const socket = createSocket('udp4')
      await once(socket.bind(own), 'listening')
      const answer = once(socket, 'message', { signal: AbortSignal.timeout(PATIENCE_MS) })
      socket.send('query', port, address)
      await answer.then(
        () => answered++,
        () => {},
      )
      socket.close()
    }
    const one = async (): Promise<void> => {
      for (let own = waiting.pop(); own !== undefined; own = waiting.pop()) await query(own)
    }
    await Promise.all(Array.from({ length: 20 }, one))
    return answered
  },
  /** Opens a connection to an echo service; its name here, and the endpoint that the service sees. */
  async open(address: string, port: number): Promise<{ name: number; seen: string }> {
    // A reset may come while nobody asks, and must not end this process, on which others rely.
    const socket = connect(port, address).on('error', () => {})
    const seen = await nextData(socket)
    const name = connections.size
    connections.set(name, socket)
    return { name, seen }
  },
  /** Sends the first segment of a connection from this port, whatever becomes of it. */
  async beginFrom(own: number, address: string, port: number): Promise<void> {
    connect({ host: address, port, localPort: own }).on('error', () => {})
    await new Promise(setImmediate)
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
