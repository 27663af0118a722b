// Frames that are sent again and again, or once at a rate: all of them lie ready in memory with their messages for
// sendmmsg(2), so that sending 20,000 a second takes a few hundred calls and no more of a core than the kernel's part.
// Authority: packet(7), sendmmsg(2). Owner: the thread.

import { IOVEC_BYTES, MMSGHDR_BYTES, MSG_IOV, MSG_IOVLEN } from '../../src/io/af-packet-layout.ts'
import { bindTo, ETH_P_NONE, packetSocket, setQdiscBypass } from '../../src/io/af-packet-sockets.ts'
import { addressOf, interfaceIndex, MSG_DONTWAIT, sendmmsg } from '../../src/io/syscalls.ts'

/** A socket that sends whole frames by an interface, and receives nothing. */
export function sendingSocket(name: string): number {
  const fd = packetSocket([])
  setQdiscBypass(fd, true)
  bindTo(fd, name, interfaceIndex(name), ETH_P_NONE)
  return fd
}

export class Frames {
  readonly count: number
  readonly #messages: number
  /** Held, because the kernel reads them by their addresses. */
  readonly #memory: Uint8Array
  readonly #headers: Uint8Array

  constructor(frames: readonly Uint8Array[]) {
    this.count = frames.length
    this.#memory = new Uint8Array(new SharedArrayBuffer(frames.reduce((sum, { length }) => sum + length, 1)))
    const iovecs = frames.length * MMSGHDR_BYTES
    this.#headers = new Uint8Array(new SharedArrayBuffer(iovecs + frames.length * IOVEC_BYTES + 1))
    const headers = new DataView(this.#headers.buffer)
    const [memoryAt, headersAt] = [addressOf(this.#memory), addressOf(this.#headers)]
    let next = 0
    for (const [i, frame] of frames.entries()) {
      const iovec = iovecs + i * IOVEC_BYTES
      this.#memory.set(frame, next)
      headers.setBigUint64(iovec, BigInt(memoryAt + next), true)
      headers.setBigUint64(iovec + 8, BigInt(frame.length), true)
      headers.setBigUint64(i * MMSGHDR_BYTES + MSG_IOV, BigInt(headersAt + iovec), true)
      headers.setBigUint64(i * MMSGHDR_BYTES + MSG_IOVLEN, 1n, true)
      next += frame.length
    }
    this.#messages = headersAt
  }

  /** Sends some of them, in order; how many the link has taken. */
  send(fd: number, first: number, count: number): number {
    let sent = 0
    while (sent < count) {
      const taken = sendmmsg(fd, this.#messages + (first + sent) * MMSGHDR_BYTES, count - sent, MSG_DONTWAIT)
      if (taken <= 0) break
      sent += taken
    }
    return sent
  }
}
