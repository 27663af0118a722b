// A host of `npm run bench:start`, as a process in its namespace: answers what comes to it, or sends and takes the
// time. Senders use blocking sockets, and are run hot against a path without the gateway before they measure one.

import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { close, recv, send } from '../../src/io/syscalls.ts'
import { answerRequests } from '../../src/lab/world/remote.ts'
import { address, connectedUdpSocket, connection } from '../wire/sockets.ts'

const PATIENCE_S = 30
const PAYLOAD = 64

const bytes = new Uint8Array(PAYLOAD)

const milliseconds = (since: bigint): number => Number(process.hrtime.bigint() - since) / 1e6

const requests = {
  /** Echoes datagrams, and takes TCP connections, whose handshakes are the kernel's. */
  async serve(port: number): Promise<void> {
    const socket = createSocket('udp4')
    socket.on('message', (message, from) => socket.send(message, from.port, from.address))
    await once(socket.bind(port), 'listening')
    await once(createServer((connection) => connection.destroy()).listen(port, '0.0.0.0'), 'listening')
  },
  /** From a new socket's first datagram to its answer, in milliseconds. */
  udp(host: string, port: number): number {
    const fd = connectedUdpSocket(address(host, port), PATIENCE_S)
    const sent = process.hrtime.bigint()
    send(fd, bytes, 0)
    const length = recv(fd, bytes, 0)
    const time = milliseconds(sent)
    close(fd)
    if (length !== PAYLOAD) throw new Error(`no answer from ${host}:${port} within ${PATIENCE_S} s`)
    return time
  },
  /** How long connect(2) takes, in milliseconds. */
  tcp(host: string, port: number): number {
    const to = address(host, port)
    const began = process.hrtime.bigint()
    const fd = connection(0, to, PATIENCE_S)
    const time = milliseconds(began)
    if (fd < 0) throw new Error(`no connection to ${host}:${port} within ${PATIENCE_S} s`)
    close(fd)
    return time
  },
}

export type Requests = typeof requests
answerRequests(requests)
