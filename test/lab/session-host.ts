// One end of scripted sessions, as a process in its host: says what it is told to, a segment a write, and keeps what it
// hears. A mark, sent after a write, tells that the write has gone through the gateway: a datagram on the same path,
// which nothing between the two hosts lets overtake.

import { createSocket, type Socket as Datagrams } from 'node:dgram'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { answerRequests } from './remote.ts'

const PATIENCE_MS = 5000
/** Longer than any gateway holds anything back. */
const STALLED_MS = 4000
const patience = () => ({ signal: AbortSignal.timeout(PATIENCE_MS) })

interface Heard {
  text: string
  ended: Promise<unknown>
}

const sockets = new Map<number, Socket>()
const heard = new Map<number, Heard>()
const arrivals: Socket[] = []
let onArrival: () => void = () => {}

function keep(id: number, socket: Socket): void {
  const kept: Heard = { text: '', ended: once(socket, 'end') }
  kept.ended.catch(() => {})
  socket.setNoDelay(true)
  socket.on('data', (bytes) => {
    kept.text += bytes.toString('latin1')
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

// --- marks ---

let marks: Datagrams | undefined
/** Where marks go: of who answers, where they come from. */
let markTo: { readonly address: string; readonly port: number } | undefined
const marksHeard = new Set<number>()
let onMark: () => void = () => {}

function bindMarks(port: number): Promise<unknown> {
  const socket = createSocket('udp4')
  marks = socket
  socket.on('message', (message, from) => {
    markTo = { address: from.address, port: from.port }
    marksHeard.add(message.readUInt32BE())
    // What came before it on a connection may be reported later in this same round of the event loop, not after it.
    setImmediate(() => onMark())
  })
  socket.bind(port)
  return once(socket, 'listening')
}

// --- datagrams of sessions ---

const datagrams = new Map<number, Datagrams>()

async function bindDatagrams(id: number, port: number): Promise<void> {
  const socket = createSocket('udp4')
  heard.set(id, { text: '', ended: Promise.resolve() })
  socket.on('message', (message, from) => {
    const kept = heard.get(id)
    if (kept) kept.text += message.toString('latin1')
    answerTo.set(id, { address: from.address, port: from.port })
  })
  datagrams.set(id, socket)
  socket.bind(port)
  await once(socket, 'listening')
}
const answerTo = new Map<number, { readonly address: string; readonly port: number }>()

const requests = {
  async listen(...ports: number[]): Promise<void> {
    for (const port of ports) {
      const server = createServer({ allowHalfOpen: true }, (socket) => {
        arrivals.push(socket)
        onArrival()
      })
      await once(server.listen(port, '0.0.0.0'), 'listening')
    }
  },
  async connect(id: number, address: string, port: number, localPort: number): Promise<void> {
    const socket = connect({ host: address, port, localPort, allowHalfOpen: true })
    keep(id, socket)
    await once(socket, 'connect', patience())
  },
  /** The next connection that comes in, or has come in. */
  async accept(id: number): Promise<void> {
    const deadline = AbortSignal.timeout(PATIENCE_MS)
    while (arrivals.length === 0)
      await new Promise<void>((resolve, reject) => {
        onArrival = resolve
        deadline.onabort = () => reject(new Error('nobody came'))
      })
    keep(id, arrivals.shift()!)
  },
  /** latin1. */
  async say(id: number, text: string): Promise<void> {
    const socket = socketOf(id)
    await new Promise<void>((resolve, reject) =>
      socket.write(text, 'latin1', (error) => (error ? reject(error) : resolve())),
    )
  },
  heard: (id: number): string => heard.get(id)?.text ?? '',
  end(id: number): void {
    socketOf(id).end()
  },
  /** What has come when the other side has closed, or some time after that was to be expected. */
  async ended(id: number): Promise<{ text: string; whole: boolean }> {
    const kept = heard.get(id)
    const whole = await Promise.race([kept?.ended.then(() => true), delay(STALLED_MS, false)])
    return { text: kept?.text ?? '', whole: whole === true }
  },
  forget(id: number): void {
    sockets.get(id)?.destroy()
    datagrams.get(id)?.close()
    for (const map of [sockets, heard, datagrams, answerTo]) map.delete(id)
    for (const stranger of arrivals.splice(0)) stranger.destroy()
  },

  bindDatagrams,
  /** To there, or to who has sent something. */
  async send(id: number, text: string, address?: string, port?: number): Promise<void> {
    const to = address === undefined ? answerTo.get(id) : { address, port: port! }
    if (!to) throw new Error('nobody to answer to')
    const socket = datagrams.get(id)!
    await new Promise<void>((resolve, reject) =>
      socket.send(Buffer.from(text, 'latin1'), to.port, to.address, (error) => (error ? reject(error) : resolve())),
    )
  },

  async bindMarks(port: number, to?: { address: string; port: number }): Promise<void> {
    await bindMarks(port)
    markTo = to
  },
  mark(number: number): void {
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32BE(number)
    if (!markTo) throw new Error('nobody has sent a mark yet')
    marks?.send(bytes, markTo.port, markTo.address)
  },
  async marked(number: number): Promise<void> {
    const deadline = AbortSignal.timeout(PATIENCE_MS)
    while (!marksHeard.has(number))
      await new Promise<void>((resolve, reject) => {
        onMark = resolve
        deadline.onabort = () => reject(new Error(`mark ${number} did not come`))
      })
  },
}

export type SessionRequests = typeof requests

answerRequests(requests)
