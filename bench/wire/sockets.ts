// Blocking sockets for load. A connection through net.Socket costs Node more than it costs the gateway under test, so
// the bench would measure its own load. Every wait is bounded by SO_RCVTIMEO and SO_SNDTIMEO (socket(7)).

import koffi from 'koffi'
import {
  AF_INET,
  close,
  errno,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOL_SOCKET,
  SystemCallError,
  setsockopt,
  setsockoptInt,
  socket,
} from '../../src/io/syscalls.ts'

const libc = koffi.load(null)
const call = {
  bind: libc.func('int bind(int fd, const uint8_t *address, uint32_t length)'),
  connect: libc.func('int connect(int fd, const uint8_t *address, uint32_t length)'),
  listen: libc.func('int listen(int fd, int backlog)'),
  accept: libc.func('int accept(int fd, intptr_t address, intptr_t length)'),
  recvfrom: libc.func(
    'intptr_t recvfrom(int fd, _Out_ uint8_t *buffer, uintptr_t length, int flags, ' +
      '_Out_ uint8_t *address, _Inout_ uint32_t *addressLength)',
  ),
  sendto: libc.func(
    'intptr_t sendto(int fd, const uint8_t *buffer, uintptr_t length, int flags, ' +
      'const uint8_t *address, uint32_t addressLength)',
  ),
}

const SOCK_STREAM = 1
const SO_REUSEADDR = 2
const SO_RCVTIMEO = 20
const SO_SNDTIMEO = 21
const ADDRESS_LENGTH = 16
const BACKLOG = 4096

/** struct sockaddr_in, ip(7). */
export function address(host: string, port: number): Uint8Array {
  const bytes = Buffer.alloc(ADDRESS_LENGTH)
  bytes.writeUInt16LE(AF_INET, 0)
  bytes.writeUInt16BE(port, 2)
  bytes.set(host.split('.').map(Number), 4)
  return bytes
}

function bounded(fd: number, seconds: number): number {
  const time = new Uint8Array(BigInt64Array.of(BigInt(seconds), 0n).buffer)
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, time)
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, time)
  return fd
}

function checked(name: string, result: number): void {
  if (result < 0) throw new SystemCallError(name, errno())
}

const udpSocket = (patienceSeconds: number): number =>
  bounded(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), patienceSeconds)

export function boundUdpSocket(port: number, patienceSeconds: number): number {
  const fd = udpSocket(patienceSeconds)
  checked('bind', call.bind(fd, address('0.0.0.0', port), ADDRESS_LENGTH))
  return fd
}

export function connectedUdpSocket(to: Uint8Array, patienceSeconds: number): number {
  const fd = udpSocket(patienceSeconds)
  checked('connect', call.connect(fd, to, ADDRESS_LENGTH))
  return fd
}

/** A listener on all addresses; accept() gives up after `patienceSeconds`. */
export function listener(port: number, patienceSeconds: number): number {
  const fd = bounded(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), patienceSeconds)
  setsockoptInt(fd, SOL_SOCKET, SO_REUSEADDR, 1)
  checked('bind', call.bind(fd, address('0.0.0.0', port), ADDRESS_LENGTH))
  checked('listen', call.listen(fd, BACKLOG))
  return fd
}

/** The next connection, or a negative number if none comes in time. It has the same time limits as its listener. */
export const accept = (fd: number): number => call.accept(fd, 0, 0)

/** A connection from this source port; a negative number if it fails. */
export function connection(fromPort: number, to: Uint8Array, patienceSeconds: number): number {
  const fd = bounded(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), patienceSeconds)
  setsockoptInt(fd, SOL_SOCKET, SO_REUSEADDR, 1)
  if (call.bind(fd, address('0.0.0.0', fromPort), ADDRESS_LENGTH) === 0 && call.connect(fd, to, ADDRESS_LENGTH) === 0)
    return fd
  close(fd)
  return -1
}

/** Receives a datagram and fills `from`; returns its length, negative if none came in time. */
export const receiveFrom = (fd: number, buffer: Uint8Array, from: Uint8Array): number =>
  call.recvfrom(fd, buffer, buffer.length, 0, from, [ADDRESS_LENGTH])

export const sendTo = (fd: number, bytes: Uint8Array, length: number, to: Uint8Array): number =>
  call.sendto(fd, bytes, length, 0, to, ADDRESS_LENGTH)
