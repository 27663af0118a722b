// Runs in the LAN host: dialogues of helped protocols, one after the other on each of its addresses, in which the
// client announces its own, inside address: at once, in two pieces, byte by byte, and so slowly that no gateway can
// hold it so long. Runs until it is told to end; then says how the dialogues went.

import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { FTP, IRC } from './ports.ts'

export interface DialogueOptions {
  readonly host: string
  readonly from: readonly string[]
  /** So many at a time from each address. */
  readonly each: number
  /** Leave each dialogue open for so long, so that expectations pile up. */
  readonly lingerMs: number
}

export interface DialogueReport {
  /** The announcement was answered. */
  answered: number
  /** The connection was reset. */
  reset: number
  /** Neither came in time. */
  silent: number
}

const PATIENCE_MS = 3000
const BETWEEN_MS = 5

const { host, from, each, lingerMs } = JSON.parse(process.argv[2] ?? '{}') as DialogueOptions
const report: DialogueReport = { answered: 0, reset: 0, silent: 0 }
let ending = false

const asNumber = (address: string): number => address.split('.').reduce((value, byte) => value * 256 + Number(byte), 0)

/** By port of the service: what the client says before it announces anything. */
const HELLO: Readonly<Record<number, string>> = { [FTP]: 'USER me\r\n', [IRC]: 'NICK me\r\n' }

/** Announcements of a port of one's own. */
const ANNOUNCEMENTS: readonly ((address: string, port: number) => readonly [port: number, line: string])[] = [
  (address, port) => [FTP, `PORT ${address.replaceAll('.', ',')},${port >> 8},${port & 255}\r\n`],
  (address, port) => [FTP, `EPRT |1|${address}|${port}|\r\n`],
  (address, port) => [IRC, `PRIVMSG friend :\x01DCC SEND file ${asNumber(address)} ${port} 1000\x01\r\n`],
]

/** Pieces of a line, each with the pause before it in milliseconds. */
const WAYS: readonly ((line: string) => readonly (readonly [pauseMs: number, piece: string])[])[] = [
  (line) => [[0, line]],
  (line) => [
    [0, line.slice(0, 9)],
    [30, line.slice(9)],
  ],
  (line) => [...line].map((byte) => [2, byte]),
  (line) => [
    [0, line.slice(0, -4)],
    [1500, line.slice(-4)],
  ],
  (line) => [...line].map((byte) => [120, byte]),
]

/** Resolves with the next text that comes, undefined if none does. Throws what the socket does. */
async function heard(socket: Socket): Promise<string | undefined> {
  try {
    const [text] = await once(socket, 'data', { signal: AbortSignal.timeout(PATIENCE_MS) })
    return String(text)
  } catch (error) {
    if ((error as Error).name === 'AbortError') return undefined
    throw error
  }
}

/** Counts through: two dialogues at the same time announce different ports. */
let announced = 0

async function dialogue(address: string, number: number): Promise<void> {
  const [port, line] = ANNOUNCEMENTS[number % ANNOUNCEMENTS.length]!(address, 20_000 + (announced++ % 20_000))
  const pieces = WAYS[Math.floor(number / ANNOUNCEMENTS.length) % WAYS.length]!(line)
  const socket = connect({ host, port, localAddress: address, noDelay: true })
  socket.on('error', () => {})
  try {
    if ((await heard(socket)) === undefined) return void report.silent++
    socket.write(HELLO[port]!)
    if ((await heard(socket)) === undefined) return void report.silent++
    const answer = heard(socket)
    answer.catch(() => {})
    for (const [pauseMs, piece] of pieces) {
      if (pauseMs > 0) await delay(pauseMs)
      socket.write(piece)
    }
    if ((await answer) === undefined) report.silent++
    else report.answered++
    if (lingerMs > 0) await delay(lingerMs)
  } catch {
    report.reset++
  } finally {
    socket.destroy()
  }
}

async function talk(address: string, offset: number): Promise<void> {
  for (let number = offset; !ending; number++) {
    await dialogue(address, number)
    await delay(BETWEEN_MS)
  }
}

process.on('disconnect', () => process.exit(0))
const talks = Promise.all(
  from.flatMap((address, i) => Array.from({ length: each }, (_, n) => talk(address, i * 7 + n * 3))),
)
process.send?.('talking')
await once(process, 'message')
ending = true
await talks
process.send?.(report)
process.exit(0)
