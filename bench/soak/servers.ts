// Runs in the outside host: pages, downloads in pieces, answers to names, and files by FTP (RFC 959), active and
// passive.

import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createConnection, createServer, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { DOWNLOAD_BYTES, FILE_BYTES, PAGE_BYTES, PORTS } from './services.ts'

const BACKLOG = 4096
const PIECES = 20
const PIECE_EVERY_MS = 250

const listen = async (port: number, serve: (socket: Socket) => void): Promise<void> => {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy())
    serve(socket)
  })
  await once(server.listen(port, '0.0.0.0', BACKLOG), 'listening')
}

async function download(socket: Socket): Promise<void> {
  for (let piece = 0; piece < PIECES && !socket.destroyed; piece++) {
    socket.write(Buffer.alloc(DOWNLOAD_BYTES / PIECES))
    await delay(PIECE_EVERY_MS)
  }
  socket.end()
}

/** One control connection: where the file goes is what the last PORT or PASV has said. */
async function ftp(control: Socket): Promise<void> {
  const say = (line: string): boolean => control.write(`${line}\r\n`)
  const send = async (data: Socket): Promise<void> => {
    data.on('error', () => data.destroy())
    data.end(Buffer.alloc(FILE_BYTES))
    await once(data, 'close')
    say('226 done')
  }
  let open = (): void => void say('425 no data connection')
  say('220 ready')
  for await (const line of createInterface(control)) {
    const [command, argument = ''] = line.split(' ')
    if (command === 'PORT') {
      const numbers = argument.split(',').map(Number)
      const [high, low] = numbers.slice(4) as [number, number]
      const to = { host: numbers.slice(0, 4).join('.'), port: (high << 8) | low }
      open = () => void send(createConnection(to)).catch(() => {})
      say('200 ok')
    } else if (command === 'PASV') {
      const listener = createServer()
      listener.once('connection', (data) => {
        listener.close()
        send(data).catch(() => {})
      })
      await once(listener.listen(0, '0.0.0.0'), 'listening')
      control.once('close', () => listener.close())
      const { port } = listener.address() as { port: number }
      const address = control.localAddress!.replaceAll('.', ',')
      open = () => {}
      say(`227 Entering Passive Mode (${address},${port >> 8},${port & 255})`)
    } else open()
  }
}

process.on('disconnect', () => process.exit(0))
await listen(PORTS.web, (socket) => socket.once('data', () => socket.end(Buffer.alloc(PAGE_BYTES))))
await listen(PORTS.downloads, (socket) => socket.once('data', () => void download(socket)))
await listen(PORTS.ftp, (socket) => void ftp(socket).catch(() => {}))
const names = createSocket('udp4')
names.on('message', (_, { address, port }) => names.send('name', port, address))
await once(names.bind(PORTS.names, '0.0.0.0'), 'listening')
process.send?.('ready')
