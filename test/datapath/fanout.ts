// The receive sockets of a gateway's shards on one interface, dispatched by a program: without rings, one process for
// all shards. Authority: packet(7) PACKET_FANOUT.

import {
  AF_PACKET,
  addressOf,
  bind,
  close,
  interfaceIndex,
  MSG_DONTWAIT,
  POLLIN,
  pollArray,
  recv,
  SOCK_CLOEXEC,
  SOCK_RAW,
  SOL_PACKET,
  SOL_SOCKET,
  setsockopt,
  setsockoptInt,
  socket,
} from '../../src/io/syscalls.ts'
import { PATIENCE_MS } from '../patience.ts'

const PACKET_FANOUT = 18
const PACKET_FANOUT_DATA = 22
const CBPF_AND_IGNORE_OUTGOING = 6 | 0x4000
const SO_ATTACH_FILTER = 26
const SO_DETACH_FILTER = 27
const ETH_P_ALL = 3
const RETURN_0 = Uint8Array.of(6, 0, 0, 0, 0, 0, 0, 0)

export class FanoutMembers {
  readonly #fds: readonly number[]
  readonly #buffer = new Uint8Array(1 << 17)

  /** To be made in the namespace that has the interface. Nothing is received before the first setProgram(). */
  constructor(name: string, members: number) {
    this.#fds = Array.from({ length: members }, () => socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0))
    const address = new DataView(new ArrayBuffer(20)) // struct sockaddr_ll
    address.setUint16(0, AF_PACKET, true)
    address.setUint16(2, ETH_P_ALL)
    address.setInt32(4, interfaceIndex(name), true)
    for (const fd of this.#fds) {
      setProgram(fd, SOL_SOCKET, SO_ATTACH_FILTER, RETURN_0)
      bind(fd, new Uint8Array(address.buffer))
    }
    for (const fd of this.#fds) setsockoptInt(fd, SOL_PACKET, PACKET_FANOUT, 1 | (CBPF_AND_IGNORE_OUTGOING << 16))
  }

  setProgram(program: Uint8Array): void {
    setProgram(this.#fds[0]!, SOL_PACKET, PACKET_FANOUT_DATA, program)
    for (const fd of this.#fds) {
      try {
        setsockoptInt(fd, SOL_SOCKET, SO_DETACH_FILTER, 0)
      } catch {
        // It was taken off before.
      }
    }
  }

  /** The next frame, and the member that gets it. */
  next(): { member: number; frame: Uint8Array } {
    const polled = new Int32Array(this.#fds.flatMap((fd) => [fd, POLLIN]))
    if (pollArray(new Uint8Array(polled.buffer), this.#fds.length, PATIENCE_MS) <= 0) throw new Error('no frame came')
    for (const [member, fd] of this.#fds.entries()) {
      const length = recv(fd, this.#buffer, MSG_DONTWAIT)
      if (length >= 0) return { member, frame: this.#buffer.slice(0, length) }
    }
    throw new Error('no member has a frame')
  }

  close(): void {
    for (const fd of this.#fds) close(fd)
  }
}

/** Options that take a struct sock_fprog: the number of instructions, and where they lie, which must not move. */
function setProgram(fd: number, level: number, option: number, program: Uint8Array): void {
  const instructions = new Uint8Array(new SharedArrayBuffer(program.length))
  instructions.set(program)
  const fprog = new DataView(new ArrayBuffer(16))
  fprog.setUint16(0, program.length / 8, true)
  fprog.setBigUint64(8, BigInt(addressOf(instructions)), true)
  setsockopt(fd, level, option, new Uint8Array(fprog.buffer))
}
