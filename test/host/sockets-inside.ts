// Sockets of other hosts, held by the test's own process: each was made in its host's namespace and stays there.

import { constants } from 'node:os'
import {
  AF_INET,
  AF_PACKET,
  bind,
  close,
  connect,
  errno,
  interfaceIndex,
  MSG_DONTWAIT,
  POLLIN,
  pollArray,
  recv,
  SOCK_DGRAM,
  SOCK_RAW,
  send,
  socket,
} from '../../src/io/syscalls.ts'
import type { Namespace } from '../../src/lab/world/namespace.ts'
import { PATIENCE_MS } from '../patience.ts'
import { inside } from './inside.ts'

const IPPROTO_UDPLITE = 136
const ETH_P_ALL = 0x0300 // in network order, as a little-endian number

/** struct sockaddr_in */
function socketAddress(address: string, port: number): Uint8Array {
  const bytes = new Uint8Array(16)
  bytes.set([AF_INET, 0, port >> 8, port & 255, ...address.split('.').map(Number)])
  return bytes
}

export class Socket {
  readonly fd: number

  private constructor(fd: number) {
    this.fd = fd
  }

  static udp(host: Namespace, port = 0, address = '0.0.0.0'): Socket {
    const made = new Socket(inside(host, () => socket(AF_INET, SOCK_DGRAM, 0)))
    bind(made.fd, socketAddress(address, port))
    return made
  }

  /** UDP-Lite, whose checksum always covers what is sent (RFC 3828, udplite(7)): receivers drop a wrong one. */
  static udplite(host: Namespace, port = 0, address = '0.0.0.0'): Socket {
    const made = new Socket(inside(host, () => socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE)))
    bind(made.fd, socketAddress(address, port))
    return made
  }

  /** Gets and sends whole packets of one protocol. */
  static raw(host: Namespace, protocol: number): Socket {
    return new Socket(inside(host, () => socket(AF_INET, SOCK_RAW, protocol)))
  }

  /** Gets and sends whole frames of one interface. */
  static packet(host: Namespace, name: string): Socket {
    return inside(host, () => {
      const made = new Socket(socket(AF_PACKET, SOCK_RAW, ETH_P_ALL))
      const link = new DataView(new ArrayBuffer(20)) // struct sockaddr_ll
      link.setUint16(0, AF_PACKET, true)
      link.setUint16(2, ETH_P_ALL, true)
      link.setInt32(4, interfaceIndex(name), true)
      bind(made.fd, new Uint8Array(link.buffer))
      return made
    })
  }

  to(address: string, port = 0): this {
    connect(this.fd, socketAddress(address, port))
    return this
  }

  send(bytes: string | Uint8Array): void {
    send(this.fd, typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes, 0)
  }

  /** What has arrived, without waiting: texts, or the error that ICMP brought. */
  received(): string[] {
    const texts: string[] = []
    const buffer = new Uint8Array(65536)
    for (;;) {
      const length = recv(this.fd, buffer, MSG_DONTWAIT)
      if (length >= 0) texts.push(Buffer.from(buffer.subarray(0, length)).toString('latin1'))
      else if (errno() === constants.errno.EAGAIN) return texts
      else texts.push(`error ${errno()}`)
    }
  }

  /** Waits until something is there to be received. */
  wait(): this {
    const pollfd = new Uint8Array(Int32Array.of(this.fd, POLLIN).buffer)
    if (pollArray(pollfd, 1, PATIENCE_MS) !== 1) throw new Error('nothing arrived')
    return this
  }

  close(): void {
    close(this.fd)
  }
}
