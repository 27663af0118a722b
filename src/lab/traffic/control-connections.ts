// One LAN host holds many FTP control connections to one server at the same time, logs in on all of them, and then
// fetches a file on each, first by an active and then by a passive data connection. Counted are files. Control and
// passive data connections are reported as flows, so that the lab finds them in the gateway's list.

import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { PATIENCE_MS } from '../world/patience.ts'
import { DOWN, fileName } from './servers.ts'
import { answered, content, counted, flowOf, inParallel, options, problem, type Tally } from './traffic.ts'

export interface ControlConnections {
  readonly host: string
  readonly from: readonly string[]
  readonly connections: number
  readonly atATime: number
  /** Sizes of the server's files (servers.ts), taken in turn. */
  readonly sizes: readonly number[]
}

const FTP_PORT = 21

const { host, from, connections, atATime, sizes } = options<ControlConnections>()
const patience = () => ({ signal: AbortSignal.timeout(PATIENCE_MS) })

/** A control connection: sends a command, and waits for its reply. */
class Control {
  readonly socket: Socket
  #text = ''
  #onText: () => void = () => {}

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', (bytes) => {
      this.#text += bytes.toString('latin1')
      this.#onText()
    })
    socket.on('error', () => socket.destroy())
  }

  /** The last line of the next reply, which must have one of these codes. */
  async reply(...codes: number[]): Promise<string> {
    const deadline = AbortSignal.timeout(PATIENCE_MS)
    for (;;) {
      const found = /^(?:.*\n)*?(\d\d\d) (.*)\r\n/.exec(this.#text)
      if (found) {
        this.#text = this.#text.slice(found[0].length)
        if (!codes.includes(Number(found[1])))
          throw new Error(`expected ${codes.join(' or ')}, the server said ${found[1]} ${found[2]}`)
        return found[2] as string
      }
      await new Promise<void>((resolve, reject) => {
        this.#onText = resolve
        deadline.onabort = () => reject(new Error(`no ${codes.join(' or ')} within ${PATIENCE_MS / 1000} s`))
      })
    }
  }

  ask(command: string, code: number): Promise<string> {
    this.socket.write(`${command}\r\n`)
    return this.reply(code)
  }
}

async function open(number: number): Promise<Control> {
  const socket = connect({ host, port: FTP_PORT, localAddress: from[number % from.length] as string })
  await once(socket, 'connect', patience())
  const control = new Control(socket)
  await control.reply(220)
  await control.ask('USER anonymous', 331)
  await control.ask('PASS lab', 230)
  await control.ask('TYPE I', 200)
  return control
}

async function bytesOf(socket: Socket): Promise<Buffer> {
  const pieces: Buffer[] = []
  const deadline = AbortSignal.timeout(PATIENCE_MS)
  deadline.onabort = () => socket.destroy(new Error('the data did not end'))
  for await (const piece of socket) pieces.push(piece as Buffer)
  deadline.onabort = null
  return Buffer.concat(pieces)
}

async function active(control: Control, file: string): Promise<Buffer> {
  const { localAddress } = control.socket
  const server: Server = createServer()
  await once(server.listen(0, localAddress), 'listening')
  try {
    const { port } = server.address() as { port: number }
    const coming = once(server, 'connection', patience())
    coming.catch(() => {})
    await control.ask(`PORT ${localAddress?.replaceAll('.', ',')},${port >> 8},${port & 0xff}`, 200)
    control.socket.write(`RETR ${file}\r\n`)
    const [data] = (await coming) as [Socket]
    const bytes = await bytesOf(data)
    await finished(control)
    return bytes
  } finally {
    server.close()
  }
}

async function passive(control: Control, file: string): Promise<Buffer> {
  const { localAddress } = control.socket
  const said = await control.ask('PASV', 227)
  const numbers = /(\d+),(\d+),(\d+),(\d+),(\d+),(\d+)/.exec(said)?.slice(1).map(Number) ?? []
  const port = (numbers[4] ?? 0) * 256 + (numbers[5] ?? 0)
  const data = connect({ host: numbers.slice(0, 4).join('.'), port, localAddress: localAddress as string })
  await once(data, 'connect', patience())
  answered(flowOf(data))
  control.socket.write(`RETR ${file}\r\n`)
  const bytes = await bytesOf(data)
  await finished(control)
  return bytes
}

async function finished(control: Control): Promise<void> {
  // 125 if the data connection was open already, 150 if it had to be opened.
  await control.reply(125, 150)
  await control.reply(226)
}

async function fetched(control: Control, number: number, tally: Tally): Promise<void> {
  const size = sizes[number % sizes.length] as number
  const file = `${DOWN}/${fileName(number, size)}`
  for (const [how, fetch] of [
    ['actively', active],
    ['passively', passive],
  ] as const) {
    tally.sent++
    const bytes = await fetch(control, file)
    tally.bytes += bytes.length
    if (bytes.equals(content(number, size))) tally.arrived++
    else {
      tally.wrong++
      problem(tally, `${file}, ${how}: the bytes that came are not the bytes that were asked for`)
    }
  }
}

await counted(2 * connections, async (tally) => {
  const attempt = (work: () => Promise<void>): Promise<void> =>
    work().catch((error: Error) => problem(tally, error.message))
  const controls: Control[] = []
  await inParallel(connections, atATime, (number) =>
    attempt(async () => {
      controls[number] = await open(number)
    }),
  )
  // Only now, so that all are open at the same time.
  await inParallel(connections, atATime, async (number) => {
    const control = controls[number]
    if (control) await attempt(() => fetched(control, number, tally))
  })
  for (const control of controls) {
    if (!control) continue
    answered(flowOf(control.socket))
    control.socket.end('QUIT\r\n')
  }
})
