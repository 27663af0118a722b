// Runs in the LAN host: traffic that must outlive the crashes of the gateway's shards (kill.ts) and flushes of its
// rules (flush.ts). UDP streams send a numbered datagram each millisecond to an echo service and note every pause in
// the echoes; TCP connections send a piece, wait for its echo, and send the next; flows of one question come and go
// beside them, so that a crash often finds a shard inserting or deleting. Runs until it is told to end, then asks each
// stream and connection once more.

import { createSocket, type Socket as Datagrams } from 'node:dgram'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { content, type Flow, flowOf } from '../../src/lab/traffic/traffic.ts'
import { PATIENCE_MS } from '../../src/lab/world/patience.ts'
import { PROTO_UDP } from '../../src/wire/ipv4.ts'

export interface StreamsOptions {
  readonly host: string
  readonly port: number
  readonly from: readonly string[]
  readonly streams: number
  readonly connections: number
  /** Milliseconds between two datagrams of a stream; 1 by default. */
  readonly everyMs?: number
}

/** A time in which nothing came, longer than a stream's rhythm explains. Both ends are Date.now(). */
export interface Pause {
  readonly from: number
  readonly to: number
}

export interface StreamReport {
  readonly flow: Flow
  readonly sent: number
  readonly received: number
  /** Datagrams without an echo, before the last question. */
  readonly lost: number
  readonly pauses: readonly Pause[]
}

export interface StreamsReport {
  readonly streams: readonly StreamReport[]
  readonly connections: readonly { readonly flow: Flow; readonly pieces: number }[]
  /** Flows of one question, and how many of them got no answer in time because their first packet met a crash. */
  readonly fleeting: { readonly begun: number; readonly unanswered: number }
  readonly problems: readonly string[]
}

const PAUSE_MS = 10
/** An echo that has not come when none has for so long does not come any more. */
const QUIET_MS = 2000
const PIECE = 2000
const BETWEEN_PIECES_MS = 5
const BETWEEN_FLEETING_MS = 5
const FLEETING_PATIENCE_MS = 3000

const { host, port, from, streams, connections, everyMs = 1 } = JSON.parse(process.argv[2] ?? '{}') as StreamsOptions
const problems: string[] = []
const address = (number: number): string => from[number % from.length] as string
let ending = false
/** Until the rhythm ends: a pause after that is nobody's. */
let isSending = true
const told = new Promise<void>((resolve) =>
  process.once('message', () => {
    ending = true
    resolve()
  }),
)

async function udp(source: string): Promise<Datagrams> {
  const socket = createSocket('udp4')
  socket.on('error', (error) => problems.push(`UDP from ${source}: ${error.message}`))
  socket.bind({ address: source })
  await once(socket, 'listening')
  socket.connect(port, host)
  await once(socket, 'connect')
  return socket
}

class Stream {
  readonly #socket: Datagrams
  readonly #source: string
  readonly #pauses: Pause[] = []
  #sent = 0
  #received = 0
  #lost = 0
  #last = Date.now()

  constructor(socket: Datagrams, source: string) {
    this.#socket = socket
    this.#source = source
    socket.on('message', (message) => {
      const now = Date.now()
      if (isSending && now - this.#last > PAUSE_MS) this.#pauses.push({ from: this.#last, to: now })
      this.#last = now
      this.#received++
      if (message.length !== 8 || message.readUInt32BE() > this.#sent)
        problems.push(`UDP from ${source}: ${message.length} bytes that were not sent`)
    })
  }

  send(): void {
    const datagram = Buffer.alloc(8)
    datagram.writeUInt32BE(++this.#sent)
    this.#socket.send(datagram)
  }

  /** Waits for the echoes that are still on their way. */
  async settled(): Promise<void> {
    while (this.#received < this.#sent && Date.now() - this.#last < QUIET_MS) await delay(PAUSE_MS)
    this.#lost = this.#sent - this.#received
  }

  /** Checks that the stream is still answered; what was lost in a pause is no problem. */
  async end(): Promise<StreamReport> {
    const { port: sourcePort } = this.#socket.address()
    const flow: Flow = {
      protocol: PROTO_UDP,
      source: this.#source,
      sourcePort,
      destination: host,
      destinationPort: port,
    }
    const before = this.#received
    const again = setInterval(() => this.send(), 50)
    this.send()
    await once(this.#socket, 'message', { signal: AbortSignal.timeout(PATIENCE_MS) }).catch(() =>
      problems.push(`UDP from ${this.#source}:${sourcePort}: no answer any more, ${before} came before`),
    )
    clearInterval(again)
    this.#socket.close()
    return { flow, sent: this.#sent, received: this.#received, lost: this.#lost, pauses: this.#pauses }
  }
}

/** Sends pieces, each after the echo of the last, until the end; returns how many. */
async function converse(socket: Socket, number: number): Promise<number> {
  let pieces = 0
  while (!ending) {
    await echoed(socket, content(number * 1_000_000 + pieces, PIECE), PATIENCE_MS)
    pieces++
    await delay(BETWEEN_PIECES_MS)
  }
  return pieces
}

async function echoed(socket: Socket, piece: Buffer, patience: number): Promise<void> {
  const signal = AbortSignal.timeout(patience)
  socket.write(piece)
  let received = Buffer.alloc(0)
  while (received.length < piece.length) {
    const [bytes] = await once(socket, 'data', { signal })
    received = Buffer.concat([received, bytes])
  }
  if (!received.equals(piece)) throw new Error('the echo is not what was sent')
}

async function open(source: string): Promise<Socket> {
  const socket = connect({ host, port, localAddress: source })
  await once(socket, 'connect', { signal: AbortSignal.timeout(PATIENCE_MS) })
  // once() rejects for code that waits for data; without this, an error at another time would end the process.
  socket.on('error', () => {})
  return socket
}

async function connection(number: number): Promise<{ flow: Flow; pieces: number }> {
  const socket = await open(address(number))
  const flow = flowOf(socket)
  const broken = once(socket, 'close').then(() => {
    throw new Error('it was closed')
  })
  broken.catch(() => {})
  try {
    return { flow, pieces: await Promise.race([converse(socket, number), broken]) }
  } catch (error) {
    problems.push(`TCP from ${flow.source}:${flow.sourcePort} broke: ${(error as Error).message}`)
    return { flow, pieces: 0 }
  }
}

const fleeting = { begun: 0, unanswered: 0 }

/** One question and its answer, by UDP or by TCP. */
async function question(number: number): Promise<void> {
  fleeting.begun++
  const patience = AbortSignal.timeout(FLEETING_PATIENCE_MS)
  const isUdp = number % 2 === 0
  try {
    if (isUdp) {
      const socket = await udp(address(number))
      socket.send('?')
      await once(socket, 'message', { signal: patience }).finally(() => socket.close())
    } else {
      const socket = await open(address(number))
      await echoed(socket, Buffer.from('?'), FLEETING_PATIENCE_MS).finally(() => socket.destroy())
    }
  } catch {
    fleeting.unanswered++
  }
}

const all = await Promise.all(
  Array.from({ length: streams }, async (_, number) => new Stream(await udp(address(number)), address(number))),
)
const conversations = Promise.all(Array.from({ length: connections }, (_, number) => connection(number)))
const questions: Promise<void>[] = []
const rhythm = setInterval(() => {
  for (const stream of all) stream.send()
}, everyMs)
const asking = setInterval(() => questions.push(question(questions.length)), BETWEEN_FLEETING_MS)
process.send?.('ready')

await told
clearInterval(asking)
const ended = await conversations
clearInterval(rhythm)
isSending = false
await Promise.all(questions)
await Promise.all(all.map((stream) => stream.settled()))
const report: StreamsReport = {
  streams: await Promise.all(all.map((stream) => stream.end())),
  connections: ended,
  fleeting,
  problems,
}
// The connections stay open until this process is ended: the gateway is asked for them when the report has come.
process.on('disconnect', () => process.exit())
process.send?.(report)
