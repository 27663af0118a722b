// UDP datagrams from many sockets of the LAN host to an echo service; every one must come back, once and unchanged, to
// the socket that sent it. A bounded number is under way at any time, so that no socket's buffer overflows as long as
// its program is run; what does not come back is counted. Sizes above the link's MTU travel as fragments, both ways.

import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { PROTO_UDP } from '../../wire/ipv4.ts'
import { answered, content, counted, inParallel, options, problem, type Tally } from './traffic.ts'

export interface Datagrams {
  readonly host: string
  /** Addresses of the LAN host that sockets are bound to, taken in turn. */
  readonly from: readonly string[]
  readonly port: number
  readonly sockets: number
  /** How many each socket sends. */
  readonly datagrams: number
  /** Payload bytes, taken in turn. At least 4: a datagram begins with its number. */
  readonly sizes: readonly number[]
  readonly underWay: number
}

/** A datagram that is not back by then counts as lost, until it comes after all. */
const LOST_AFTER_MS = 30_000

const { host, from, port, sockets, datagrams, sizes, underWay } = options<Datagrams>()

const size = (number: number): number => sizes[Math.floor(number / sockets) % sizes.length] as number

function payload(number: number): Buffer {
  const bytes = content(number, size(number))
  bytes.writeUInt32BE(number)
  return bytes
}

/** Datagrams that a socket has sent and not got back: by number, what to do when one comes. */
type Outstanding = Map<number, () => void>

async function open(tally: Tally, address: string, outstanding: Outstanding): Promise<Socket> {
  const socket = createSocket('udp4')
  let isAnswered = false
  socket.on('message', (message) => {
    const number = message.length >= 4 ? message.readUInt32BE() : -1
    const back = outstanding.get(number)
    outstanding.delete(number)
    if (back !== undefined && message.equals(payload(number))) {
      tally.arrived++
      tally.bytes += message.length
      if (!isAnswered)
        answered({
          protocol: PROTO_UDP,
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
  const outstanding = Array.from({ length: sockets }, (): Outstanding => new Map())
  const opened = await Promise.all(
    outstanding.map((table, number) => open(tally, from[number % from.length] as string, table)),
  )

  await inParallel(sockets * datagrams, underWay, async (number) => {
    const at = number % sockets
    await new Promise<void>((resolve) => {
      const lost = setTimeout(() => {
        tally.lost++
        outstanding[at]?.set(number, () => tally.lost--)
        resolve()
      }, LOST_AFTER_MS)
      outstanding[at]?.set(number, () => {
        clearTimeout(lost)
        resolve()
      })
      tally.sent++
      opened[at]?.send(payload(number))
    })
  })
})
