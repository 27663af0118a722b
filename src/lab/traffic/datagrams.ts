// UDP datagrams from many sockets of the LAN host to an echo service; every one must come back, once and unchanged, to
// the socket that sent it. A bounded number is under way at any time, so that no socket's buffer overflows: what is
// lost, the gateway lost. Sizes above the link's MTU travel as fragments, both ways.

import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { answered, content, counted, inParallel, options, problem, type Tally, UDP } from './traffic.ts'

export interface Datagrams {
  readonly host: string
  /** Addresses of the LAN host that sockets are bound to, in turn. */
  readonly from: readonly string[]
  readonly port: number
  readonly sockets: number
  /** By each socket. */
  readonly datagrams: number
  /** Payload bytes, taken in turn. At least 4: a datagram begins with its number. */
  readonly sizes: readonly number[]
  readonly underWay: number
}

/** A datagram that is not back by then is lost. */
const LOST_AFTER_MS = 10_000

const { host, from, port, sockets, datagrams, sizes, underWay } = options<Datagrams>()

const size = (number: number): number => sizes[Math.floor(number / sockets) % sizes.length] as number

function payload(number: number): Buffer {
  const bytes = content(number, size(number))
  bytes.writeUInt32BE(number)
  return bytes
}

async function open(tally: Tally, address: string, waiting: Map<number, () => void>): Promise<Socket> {
  const socket = createSocket('udp4')
  let isAnswered = false
  socket.on('message', (message) => {
    const number = message.length >= 4 ? message.readUInt32BE() : -1
    const back = waiting.get(number)
    waiting.delete(number)
    if (back !== undefined && message.equals(payload(number))) {
      tally.arrived++
      tally.bytes += message.length
      if (!isAnswered)
        answered({
          protocol: UDP,
          source: address,
          sourcePort: socket.address().port,
          destination: host,
          destinationPort: port,
        })
      isAnswered = true
    } else {
      tally.wrong++
      problem(tally, `${message.length} bytes came back that were not sent from here, or came twice`)
    }
    back?.()
  })
  socket.on('error', (error) => problem(tally, error.message))
  socket.bind({ address })
  await once(socket, 'listening')
  socket.connect(port, host)
  await once(socket, 'connect')
  return socket
}

await counted(sockets * datagrams, async (tally) => {
  const waiting = Array.from({ length: sockets }, () => new Map<number, () => void>())
  const opened = await Promise.all(
    waiting.map((table, number) => open(tally, from[number % from.length] as string, table)),
  )

  await inParallel(sockets * datagrams, underWay, async (number) => {
    const at = number % sockets
    await new Promise<void>((resolve) => {
      const lost = setTimeout(() => {
        waiting[at]?.delete(number)
        problem(tally, `a datagram of ${size(number)} bytes did not come back within ${LOST_AFTER_MS / 1000} s`)
        resolve()
      }, LOST_AFTER_MS)
      waiting[at]?.set(number, () => {
        clearTimeout(lost)
        resolve()
      })
      tally.sent++
      opened[at]?.send(payload(number))
    })
  })
})
