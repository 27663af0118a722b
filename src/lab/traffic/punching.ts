// Hole punching between hosts behind the same gateway (RFC 5128 3.3). Two hosts learn from a server outside which
// endpoint the gateway gives each, and then reach each other by these endpoints, through the gateway and back
// (hairpinning, RFC 4787 REQ-9, RFC 5382 REQ-8). Both send first, because neither is let in before the other has sent.
// What comes too early is dropped: UDP is sent again, and TCP's two SYNs become one connection by simultaneous open
// (RFC 9293 3.5). Counted are messages that one host sends and the other one returns.

import { createSocket, type Socket as Datagrams } from 'node:dgram'
import { once } from 'node:events'
import { connect, isIP, type Socket } from 'node:net'
import { PROTO_UDP } from '../../wire/ipv4.ts'
import { PATIENCE_MS } from '../world/patience.ts'
import {
  answered,
  content,
  counted,
  ENDPOINT_PORT,
  flowOf,
  inParallel,
  options,
  problem,
  type Tally,
} from './traffic.ts'

export interface Punching {
  readonly protocol: 'udp' | 'tcp'
  /** The server outside. */
  readonly host: string
  /** Addresses of the LAN host; each pair has two different ones. */
  readonly from: readonly string[]
  readonly pairs: number
  readonly atATime: number
  /** How many messages each pair exchanges. */
  readonly messages: number
}

interface Endpoint {
  readonly address: string
  readonly port: number
}

const PUNCH_EVERY_MS = 20
const MESSAGE_LENGTH = 64
const PUNCH = Buffer.from('punch')

const { protocol, host, from, pairs, atATime, messages } = options<Punching>()
const patience = () => ({ signal: AbortSignal.timeout(PATIENCE_MS) })

function endpoint(text: string): Endpoint {
  const [address = '', port = ''] = text.split(':')
  if (isIP(address) === 0) throw new Error(`the server sees ${JSON.stringify(text)}, which is no endpoint`)
  return { address, port: Number(port) }
}

/** The two addresses of a pair. Over many pairs, each address meets each other one. */
function ends(pair: number): [string, string] {
  const one = pair % from.length
  const apart = 1 + (Math.floor(pair / from.length) % (from.length - 1))
  return [from[one] as string, from[(one + apart) % from.length] as string]
}

// --- UDP ---

async function learn(address: string): Promise<{ socket: Datagrams; external: Endpoint }> {
  const socket = createSocket('udp4')
  socket.bind({ address })
  await once(socket, 'listening')
  socket.send('?', ENDPOINT_PORT, host)
  const [answer] = await once(socket, 'message', patience())
  return { socket, external: endpoint(String(answer)) }
}

/** Sends from both ends until each has received: a host that is let in first may still have to let in the other one. */
async function punch(ends: readonly (readonly [socket: Datagrams, peer: Endpoint])[]): Promise<void> {
  const send = () => {
    for (const [socket, { address, port }] of ends) socket.send(PUNCH, port, address)
  }
  const heard = Promise.all(ends.map(([socket, peer]) => hear(socket, peer)))
  const again = setInterval(send, PUNCH_EVERY_MS)
  send()
  await heard.finally(() => clearInterval(again))
}

async function hear(socket: Datagrams, peer: Endpoint): Promise<void> {
  const [, { address, port }] = await once(socket, 'message', patience())
  if (address !== peer.address || port !== peer.port)
    throw new Error(`a datagram came from ${address}:${port}, not from ${peer.address}:${peer.port}`)
}

async function echoedBack(socket: Datagrams, peer: Endpoint, message: Buffer): Promise<boolean> {
  const signal = AbortSignal.timeout(PATIENCE_MS)
  socket.send(message, peer.port, peer.address)
  for (;;) {
    const [back] = await once(socket, 'message', { signal })
    // The other end's punches may still come.
    if (!back.equals(PUNCH)) return back.equals(message)
  }
}

async function exchangeByUdp(number: number, tally: Tally): Promise<void> {
  const [one, other] = await Promise.all(ends(number).map(learn))
  if (!one || !other) return
  const pair = [
    [one.socket, other.external],
    [other.socket, one.external],
  ] as const
  try {
    await punch(pair)
    other.socket.on('message', (message) => {
      if (!message.equals(PUNCH)) other.socket.send(message, one.external.port, one.external.address)
    })
    await exchange(number, tally, (message) => echoedBack(one.socket, other.external, message))
    for (const [socket, peer] of pair) {
      const { address: source, port: sourcePort } = socket.address()
      answered({ protocol: PROTO_UDP, source, sourcePort, destination: peer.address, destinationPort: peer.port })
    }
  } finally {
    one.socket.close()
    other.socket.close()
  }
}

// --- TCP ---

/** Connects to the server. The same local port then goes to the peer: a mapping belongs to the inside endpoint. */
async function learnByTcp(localAddress: string): Promise<{ toServer: Socket; external: Endpoint }> {
  const toServer = connect({ host, port: ENDPOINT_PORT, localAddress })
  const [text] = await once(toServer, 'data', patience())
  return { toServer, external: endpoint(String(text)) }
}

async function meet({ localAddress, localPort }: Socket, peer: Endpoint): Promise<Socket> {
  const socket = connect({
    host: peer.address,
    port: peer.port,
    localAddress: localAddress as string,
    localPort: localPort as number,
  })
  await once(socket, 'connect', patience())
  return socket
}

async function echoedByTcp(socket: Socket, message: Buffer): Promise<boolean> {
  const signal = AbortSignal.timeout(PATIENCE_MS)
  socket.write(message)
  let received = Buffer.alloc(0)
  while (received.length < message.length) {
    const [bytes] = await once(socket, 'data', { signal })
    received = Buffer.concat([received, bytes])
  }
  return received.equals(message)
}

async function exchangeByTcp(pair: number, tally: Tally): Promise<void> {
  const [one, other] = await Promise.all(ends(pair).map(learnByTcp))
  if (!one || !other) return
  const [near, far] = await Promise.all([meet(one.toServer, other.external), meet(other.toServer, one.external)])
  far.pipe(far)
  await exchange(pair, tally, (message) => echoedByTcp(near, message))
  answered(flowOf(near))
  answered(flowOf(far))
  for (const socket of [near, one.toServer, other.toServer]) {
    socket.end()
    await once(socket.resume(), 'close', patience())
  }
}

// --- both ---

async function exchange(pair: number, tally: Tally, echo: (message: Buffer) => Promise<boolean>): Promise<void> {
  for (let number = 0; number < messages; number++) {
    tally.sent++
    if (await echo(content(pair * messages + number, MESSAGE_LENGTH))) {
      tally.arrived++
      tally.bytes += MESSAGE_LENGTH
    } else tally.wrong++
  }
}

const exchangeAll = protocol === 'udp' ? exchangeByUdp : exchangeByTcp

await counted(pairs * messages, (tally) =>
  inParallel(pairs, atATime, async (pair) => {
    try {
      await exchangeAll(pair, tally)
    } catch (error) {
      problem(tally, `${ends(pair).join(' and ')} did not meet: ${(error as Error).message}`)
    }
  }),
)
