// One LAN host opens many TCP connections and holds them all. When the last one is open, a message is echoed on each;
// then all are closed. Counted are connections that were opened, echoed right, and closed by both ends.

import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { PATIENCE_MS } from '../world/patience.ts'
import { answered, content, counted, flowOf, inParallel, options, problem, type Tally } from './traffic.ts'

export interface Connections {
  readonly host: string
  /** Addresses of the LAN host that connections begin at, taken in turn. */
  readonly from: readonly string[]
  readonly port: number
  readonly connections: number
  /** How many are opened, asked or closed at a time. */
  readonly atATime: number
}

const MESSAGE_LENGTH = 64

const { host, from, port, connections, atATime } = options<Connections>()

async function open(number: number): Promise<Socket> {
  const socket = connect({ host, port, localAddress: from[number % from.length] as string })
  await once(socket, 'connect', { signal: AbortSignal.timeout(PATIENCE_MS) })
  return socket
}

async function echoed(socket: Socket, message: Buffer): Promise<boolean> {
  const signal = AbortSignal.timeout(PATIENCE_MS)
  let received = Buffer.alloc(0)
  socket.write(message)
  while (received.length < message.length) {
    const [bytes] = await once(socket, 'data', { signal })
    received = Buffer.concat([received, bytes])
  }
  return received.equals(message)
}

async function closed(socket: Socket): Promise<void> {
  socket.end()
  await once(socket, 'close', { signal: AbortSignal.timeout(PATIENCE_MS) })
}

async function attempt(tally: Tally, step: string, work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    problem(tally, `${step}: ${(error as Error).message}`)
  }
}

await counted(connections, async (tally) => {
  const held: Socket[] = []
  await inParallel(connections, atATime, (number) =>
    attempt(tally, 'a connection did not open', async () => {
      tally.sent++
      held.push(await open(number))
    }),
  )
  const right: Socket[] = []
  await inParallel(held.length, atATime, (number) =>
    attempt(tally, 'a message was not echoed', async () => {
      const socket = held[number] as Socket
      if (!(await echoed(socket, content(number, MESSAGE_LENGTH)))) return void tally.wrong++
      right.push(socket)
      answered(flowOf(socket))
    }),
  )
  await inParallel(right.length, atATime, (number) =>
    attempt(tally, 'a connection did not close', async () => {
      await closed(right[number] as Socket)
      tally.arrived++
      tally.bytes += MESSAGE_LENGTH
    }),
  )
})
