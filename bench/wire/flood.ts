// Runs in the LAN host: sends UDP datagrams as fast as it can, over so many flows in turn. Each flow is a socket, and
// so a source port, of its own. services.ts counts what arrives.

import { close, send } from '../../src/io/syscalls.ts'
import { address, connectedUdpSocket } from './sockets.ts'

export interface Flood {
  readonly host: string
  readonly port: number
  readonly flows: number
  readonly payload: number
  readonly milliseconds: number
}

const PATIENCE_S = 1
const SENDS_A_CLOCK_READING = 256

const { host, port, flows, payload, milliseconds } = JSON.parse(process.argv[2] ?? '{}') as Flood

const to = address(host, port)
const sockets = Array.from({ length: flows }, () => connectedUdpSocket(to, PATIENCE_S))
const bytes = new Uint8Array(payload)
process.send?.('started')

let sent = 0
const end = performance.now() + milliseconds
while (performance.now() < end)
  for (let i = 0; i < SENDS_A_CLOCK_READING; i++) {
    send(sockets[sent % flows] as number, bytes, 0)
    sent++
  }
sockets.forEach(close)
process.send?.(sent, () => process.exit(0))
