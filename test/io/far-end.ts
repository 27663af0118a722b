// The other end of a driver's link, in a namespace of its own: a plain packet socket, without a ring, that sends and
// receives frames with virtio-net headers. Authority: packet(7).

import { VIRTIO_NET_HEADER } from '../../src/io/driver.ts'
import {
  AF_PACKET,
  bind,
  CLONE_NEWNET,
  close,
  interfaceIndex,
  MSG_DONTWAIT,
  open,
  POLLIN,
  pollArray,
  recv,
  SOCK_CLOEXEC,
  SOCK_RAW,
  SOL_PACKET,
  SOL_SOCKET,
  send,
  setns,
  setsockoptInt,
  socket,
} from '../../src/io/syscalls.ts'
import { type Namespace, veth } from '../../src/lab/world/namespace.ts'
import type { Carried } from '../contract/driver-fixture.ts'
import { NEAR_MAC } from '../contract/frames.ts'
import { testNamespace } from '../leftovers.ts'
import { PATIENCE_MS } from '../patience.ts'

/** Runs `work` with this thread in a namespace: sockets made there stay there. */
export function inside<T>(namespace: Namespace, work: () => T): T {
  const home = open('/proc/thread-self/ns/net', 0)
  const there = open(namespace.path, 0)
  try {
    setns(there, CLONE_NEWNET)
    return work()
  } finally {
    setns(home, CLONE_NEWNET)
    close(home)
    close(there)
  }
}

/** A host that sends nothing by itself: with IPv6 it would look for routers. */
export function quietNamespace(name: string): Namespace {
  try {
    const made = testNamespace(name)
    made.exec('sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1', 'net.ipv6.conf.default.disable_ipv6=1')
    return made
  } catch (error) {
    throw new Error(
      'these tests make network namespaces: run them as root, or in `unshare -Urnm` with a tmpfs on /run',
      { cause: error },
    )
  }
}

/** Lays the cable near<port> - far<port>. */
export function cable(near: Namespace, far: Namespace, port: number): void {
  veth(near, `near${port}`, far, `far${port}`)
  near.ip(`link set near${port} address ${NEAR_MAC}`)
}

const LOOKS = 1000

/**
 * Brings up the near end of the cable near<port> - far<port>, and returns when both ends have a carrier. That takes the
 * kernel a moment, and frames sent before are lost.
 */
export function linkUp(near: Namespace, far: Namespace, port: number): void {
  near.ip(`link set near${port} up`)
  const carries = (host: Namespace, name: string): boolean =>
    (JSON.parse(host.ip(`-j link show ${name}`)) as { operstate: string }[])[0]?.operstate === 'UP'
  for (let looks = 0; !(carries(near, `near${port}`) && carries(far, `far${port}`)); looks++)
    if (looks === LOOKS) throw new Error(`the cable of port ${port} does not come up`)
}

const PACKET_VNET_HDR = 15
const PACKET_IGNORE_OUTGOING = 23
const ETH_P_ALL = 3
const SO_RCVBUFFORCE = 33
const RECEIVE_BUFFER = 16 << 20

/** The receive buffer, for all frames of a test. Without the right to force it, it has room for some hundred frames. */
function enlargeReceiveBuffer(fd: number): void {
  try {
    setsockoptInt(fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw error
  }
}

export class FarEnd {
  readonly #fd: number
  readonly #buffer = new Uint8Array(1 << 17)

  constructor(namespace: Namespace, name: string) {
    this.#fd = inside(namespace, () => {
      const fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0)
      enlargeReceiveBuffer(fd)
      setsockoptInt(fd, SOL_PACKET, PACKET_VNET_HDR, 1)
      setsockoptInt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
      const address = new DataView(new ArrayBuffer(20))
      address.setUint16(0, AF_PACKET, true)
      address.setUint16(2, ETH_P_ALL)
      address.setInt32(4, interfaceIndex(name), true)
      bind(fd, new Uint8Array(address.buffer))
      return fd
    })
  }

  send(frame: Uint8Array, header: Uint8Array = new Uint8Array(VIRTIO_NET_HEADER)): void {
    const sent = send(this.#fd, Uint8Array.of(...header, ...frame), 0)
    if (sent !== VIRTIO_NET_HEADER + frame.length) throw new Error(`the far end sent ${sent} bytes`)
  }

  /** The next `count` frames; fewer only if no more come for as long as tests wait. */
  collect(count: number): Carried[] {
    const poll = new Uint8Array(8)
    new Int32Array(poll.buffer).set([this.#fd, POLLIN])
    const carried: Carried[] = []
    while (carried.length < count && pollArray(poll, 1, PATIENCE_MS) > 0) {
      const taken = recv(this.#fd, this.#buffer, MSG_DONTWAIT)
      if (taken < 0) continue
      const bytes = this.#buffer.slice(0, taken)
      carried.push({ header: bytes.subarray(0, VIRTIO_NET_HEADER), frame: bytes.subarray(VIRTIO_NET_HEADER) })
    }
    return carried
  }

  /** Forgets what has come so far. */
  drain(): void {
    while (recv(this.#fd, this.#buffer, MSG_DONTWAIT) >= 0);
  }

  close(): void {
    close(this.#fd)
  }
}
