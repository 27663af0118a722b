// The outside host's services: HTTP downloads whose bytes are known beforehand, the echo service (RFC 862) on TCP and
// UDP, and one that tells a client, by TCP or UDP, which endpoint it is seen at. Reports each source address that it
// sees: there must be one, the gateway's own.

import { createSocket } from 'node:dgram'
import { createServer as createHttpServer } from 'node:http'
import { createServer } from 'node:net'
import { content, ECHO_PORT, ENDPOINT_PORT, HTTP_PORT, report, UDP_ECHO_PORTS } from './traffic.ts'

const BACKLOG = 4096

const seen = new Set<string>()
function saw(address: string | undefined): void {
  if (address === undefined || seen.has(address)) return
  seen.add(address)
  report({ kind: 'source', address })
}

/** `/17/4096` is 4096 bytes of download number 17. */
function serveHttp(): Promise<void> {
  const server = createHttpServer((request, response) => {
    saw(request.socket.remoteAddress)
    const [, number, bytes] = (request.url ?? '').split('/')
    response.end(content(Number(number), Number(bytes)))
  })
  return new Promise((resolve) => server.listen(HTTP_PORT, '0.0.0.0', BACKLOG, resolve))
}

function serveTcpEcho(): Promise<void> {
  const server = createServer((socket) => {
    saw(socket.remoteAddress)
    // If the client resets the connection, the client's side tells whether that was wrong.
    socket.on('error', () => socket.destroy())
    socket.pipe(socket)
  })
  return new Promise((resolve) => server.listen(ECHO_PORT, '0.0.0.0', BACKLOG, resolve))
}

function serveUdpEcho(port: number): Promise<void> {
  const socket = createSocket('udp4')
  socket.on('message', (message, from) => {
    saw(from.address)
    socket.send(message, from.port, from.address)
  })
  return new Promise((resolve) => socket.bind(port, '0.0.0.0', resolve))
}

function tellTcpEndpoints(): Promise<void> {
  const server = createServer((socket) => {
    saw(socket.remoteAddress)
    socket.on('error', () => socket.destroy())
    socket.write(`${socket.remoteAddress}:${socket.remotePort}`)
    socket.resume()
  })
  return new Promise((resolve) => server.listen(ENDPOINT_PORT, '0.0.0.0', BACKLOG, resolve))
}

function tellUdpEndpoints(): Promise<void> {
  const socket = createSocket('udp4')
  socket.on('message', (_, from) => {
    saw(from.address)
    socket.send(`${from.address}:${from.port}`, from.port, from.address)
  })
  return new Promise((resolve) => socket.bind(ENDPOINT_PORT, '0.0.0.0', resolve))
}

await Promise.all([
  serveHttp(),
  serveTcpEcho(),
  ...UDP_ECHO_PORTS.map(serveUdpEcho),
  tellTcpEndpoints(),
  tellUdpEndpoints(),
])
report({ kind: 'ready' })
