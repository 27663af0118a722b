// Runs in the outside host: returns each UDP datagram to its sender, from a thread that does nothing else.

import { boundUdpSocket, receiveFrom, sendTo } from './sockets.ts'

export interface Echo {
  readonly port: number
}

const PATIENCE_S = 5

const { port } = JSON.parse(process.argv[2] ?? '{}') as Echo

const fd = boundUdpSocket(port, PATIENCE_S)
const bytes = new Uint8Array(2048)
const from = new Uint8Array(16)
process.send?.('ready')
// Ends when no datagram has come for a while, or by a signal.
for (let length = 0; length >= 0; ) {
  length = receiveFrom(fd, bytes, from)
  if (length >= 0) sendTo(fd, bytes, length, from)
}
