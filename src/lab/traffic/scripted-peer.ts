// One end of scripted conversations, as a process in its host: it sends what it is told to, each segment by a write of
// its own, and keeps what it receives. A mark is a datagram on the same path, sent after a write; when it has arrived,
// the write has gone through the gateway, because nothing between the two hosts changes their order. Asked by Remote
// (world/remote.ts).

import { createSocket, type Socket as Datagrams } from 'node:dgram'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { PATIENCE_MS } from '../world/patience.ts'
import { answerRequests } from '../world/remote.ts'
import { type HowEnded, howEnded } from './how-ended.ts'

interface Endpoint {
  readonly address: string
  readonly port: number
}

/** What a socket has received, as latin1. */
interface Heard {
  text: string
  /** How much of it line() has returned. */
  read: number
  /** How the other side has ended it, or somebody between. */
  readonly ended: Promise<HowEnded>
}

const sockets = new Map<number, Socket>()
const datagrams = new Map<number, Datagrams>()
const heard = new Map<number, Heard>()
/** The last sender of a datagram to each socket. */
const senders = new Map<number, Endpoint>()
/** Connections that have come in and were not accepted yet, oldest first. */
const arrivals: Socket[] = []
const marksHeard = new Set<number>()
let marks: Datagrams | undefined
let marksGoTo: Endpoint | undefined
/** Called when anything has arrived. */
let onNews: () => void = () => {}

/** Waits until something is so; throws `otherwise` after the lab's patience. */
async function until(isSo: () => boolean, otherwise: string): Promise<void> {
  const deadline = AbortSignal.timeout(PATIENCE_MS)
  while (!isSo())
    await new Promise<void>((resolve, reject) => {
      onNews = resolve
      deadline.onabort = () => reject(new Error(otherwise))
    })
}

function keep(id: number, socket: Socket): void {
  const kept: Heard = { text: '', read: 0, ended: howEnded(socket) }
  socket.setNoDelay(true)
  socket.on('data', (bytes) => {
    kept.text += bytes.toString('latin1')
    onNews()
  })
  socket.on('error', () => socket.destroy())
  sockets.set(id, socket)
  heard.set(id, kept)
}

function socketOf(id: number): Socket {
  const socket = sockets.get(id)
  if (!socket) throw new Error(`there is no connection ${id}`)
  return socket
}

const sent = (send: (done: (error?: Error | null) => void) => void): Promise<void> =>
  new Promise((resolve, reject) => send((error) => (error ? reject(error) : resolve())))

const requests = {
  // --- connections ---

  async listen(port: number, address = '0.0.0.0'): Promise<void> {
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      arrivals.push(socket)
      onNews()
    })
    await once(server.listen(port, address), 'listening')
  },
  /** Returns the local endpoint. */
  async connect(id: number, to: Endpoint, from: Partial<Endpoint> = {}): Promise<Endpoint> {
    const socket = connect({
      host: to.address,
      port: to.port,
      ...(from.address !== undefined && { localAddress: from.address }),
      ...(from.port !== undefined && { localPort: from.port }),
      allowHalfOpen: true,
    })
    keep(id, socket)
    await once(socket, 'connect', { signal: AbortSignal.timeout(PATIENCE_MS) })
    return { address: socket.localAddress as string, port: socket.localPort as number }
  },
  /** Takes the oldest connection that has come in, or waits for one; returns the peer's endpoint as seen here. */
  async accept(id: number): Promise<Endpoint> {
    await until(() => arrivals.length > 0, 'nobody came')
    const socket = arrivals.shift() as Socket
    keep(id, socket)
    return { address: socket.remoteAddress as string, port: socket.remotePort as number }
  },
  /** Sends segments in a row: each is written as soon as the one before is. */
  async say(id: number, ...segments: string[]): Promise<void> {
    const socket = socketOf(id)
    for (const text of segments) await sent((done) => socket.write(text, 'latin1', done))
  },
  /** Writes one byte after the other, so many milliseconds apart; with Nagle's algorithm a byte waits in this host. */
  async trickle(id: number, text: string, gapMs: number, nagle: boolean): Promise<void> {
    const socket = socketOf(id).setNoDelay(!nagle)
    for (const byte of text) {
      if (!socket.writable) return
      socket.write(byte, 'latin1')
      await delay(gapMs)
    }
  },
  heard: (id: number): string => heard.get(id)?.text ?? '',
  /** Waits for the next whole line; returns it without its end. */
  async line(id: number): Promise<string> {
    const kept = heard.get(id)
    if (!kept) throw new Error(`there is no connection ${id}`)
    const end = () => kept.text.indexOf('\r\n', kept.read)
    await until(() => end() >= 0, `no whole line, but ${JSON.stringify(kept.text.slice(kept.read))}`)
    const line = kept.text.slice(kept.read, end())
    kept.read = end() + 2
    return line
  },
  /** Closes this side of the connection. */
  end(id: number): void {
    socketOf(id).end()
  },
  /** Waits until the connection has ended, or so long; returns what has come, and how it ended, null if not yet. */
  async ended(id: number, patienceMs = PATIENCE_MS): Promise<{ text: string; end: HowEnded | null }> {
    const kept = heard.get(id)
    const end = await Promise.race([kept?.ended, delay(patienceMs, null, { ref: false })])
    return { text: kept?.text ?? '', end: end ?? null }
  },
  forget(id: number): void {
    sockets.get(id)?.destroy()
    datagrams.get(id)?.close()
    for (const map of [sockets, heard, datagrams, senders]) map.delete(id)
  },

  // --- datagrams ---

  async bind(id: number, port: number): Promise<void> {
    const socket = createSocket('udp4')
    const kept: Heard = { text: '', read: 0, ended: Promise.resolve('closed') }
    socket.on('message', (message, from) => {
      kept.text += message.toString('latin1')
      senders.set(id, { address: from.address, port: from.port })
    })
    heard.set(id, kept)
    datagrams.set(id, socket)
    await once(socket.bind(port), 'listening')
  },
  /** Sends a datagram to an endpoint; without one, to the last sender. */
  send(id: number, text: string, to = senders.get(id)): Promise<void> {
    if (!to) throw new Error('nobody to answer')
    const bytes = Buffer.from(text, 'latin1')
    return sent((done) => datagrams.get(id)?.send(bytes, to.port, to.address, done))
  },

  // --- marks ---

  /** Without `to`, marks are sent to where the last one came from. */
  async bindMarks(port: number, to?: Endpoint): Promise<void> {
    const socket = createSocket('udp4')
    socket.on('message', (message, from) => {
      marksGoTo = { address: from.address, port: from.port }
      marksHeard.add(message.readUInt32BE())
      // Data that came before the mark may be read later in this round of the event loop, but not after it.
      setImmediate(() => onNews())
    })
    marks = socket
    marksGoTo = to
    await once(socket.bind(port), 'listening')
  },
  mark(number: number): Promise<void> {
    const to = marksGoTo
    if (!to) throw new Error('no mark has come yet')
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32BE(number)
    return sent((done) => marks?.send(bytes, to.port, to.address, done))
  },
  marked: (number: number): Promise<void> => until(() => marksHeard.has(number), `mark ${number} did not come`),
}

export type ScriptedPeerRequests = typeof requests

answerRequests(requests)
