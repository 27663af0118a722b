// A netlink socket: requests with their answer, dumps, and multicast groups to listen to. Authority: netlink(7).
// Owner: one thread. A socket stays in the network namespace that its thread was in when it was made.

import { constants } from 'node:os'
import {
  AF_NETLINK,
  bind,
  close,
  errno,
  getsockname,
  MSG_DONTWAIT,
  MSG_TRUNC,
  recv,
  SO_RCVBUFFORCE,
  SO_SNDBUFFORCE,
  SOCK_CLOEXEC,
  SOCK_RAW,
  SOL_NETLINK,
  SOL_SOCKET,
  SystemCallError,
  send,
  setsockopt,
  setsockoptInt,
  socket,
} from '../io/syscalls.ts'
import { HostError } from './errors.ts'
import {
  type Attribute,
  errorOf,
  type Message,
  message,
  messages,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
} from './netlink.ts'

export const NETLINK_ROUTE = 0
export const NETLINK_SOCK_DIAG = 4
export const NETLINK_NETFILTER = 12

const SO_RCVTIMEO = 20
const NETLINK_CAP_ACK = 10
const NETLINK_EXT_ACK = 11
const NETLINK_GET_STRICT_CHK = 12
const RECEIVE_BYTES = 65536 // the kernel fills at most 32 KB of a dump into one datagram
const ANSWER_SECONDS = 5n
const DUMP_ATTEMPTS = 16
/** Room for the longest transaction: a few thousand ports and addresses in the rules. */
const SEND_BYTES = 4 << 20
/** Room for about 4096 route notifications. A larger burst is noticed, and everything is listed anew. */
const QUEUE_BYTES = 4 << 20

const errnoNames = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]))

/** The kernel answered a request with an error. */
export class NetlinkError extends HostError {
  readonly errno: string
  constructor(what: string, number: number, explanation: string) {
    const errno = errnoNames.get(number) ?? String(number)
    super('HOST_NETLINK', `${what}: the kernel answers ${errno}${explanation ? ` (${explanation})` : ''}`)
    this.errno = errno
  }
}

export interface Request {
  /** For error messages: what the request is for. */
  readonly what: string
  readonly type: number
  /** Flags besides REQUEST, and ACK or DUMP. */
  readonly flags?: number
  /** The family's fixed part. */
  readonly fixed: Uint8Array
  readonly attributes?: readonly Attribute[]
}

/** `some`: datagrams were read; `lost`: the queue has overflowed, so the caller's tables may be out of date. */
export type Received = 'some' | 'lost' | 'none'

export class NetlinkSocket {
  readonly fd: number
  /** The socket's number in its namespace, which the kernel chooses: usually the process's id. */
  readonly port: number
  readonly #buffer = new Uint8Array(RECEIVE_BYTES)
  #sequence = 0

  /** `groups` is the bit mask of multicast groups to listen to; 0 for a socket that only sends requests. */
  constructor(protocol: number, groups = 0) {
    this.fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol)
    try {
      setsockopt(this.fd, SOL_SOCKET, SO_RCVTIMEO, new Uint8Array(BigInt64Array.of(ANSWER_SECONDS, 0n).buffer))
      for (const option of [NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK])
        setsockoptInt(this.fd, SOL_NETLINK, option, 1)
      if (groups !== 0) this.#enlarge(SO_RCVBUFFORCE, QUEUE_BYTES)
      else this.#enlarge(SO_SNDBUFFORCE, SEND_BYTES)
      bind(this.fd, new Uint8Array(Uint32Array.of(AF_NETLINK, 0, groups).buffer))
      const address = new Uint8Array(12) // struct sockaddr_nl: family u16, padding u16, port u32, groups u32
      getsockname(this.fd, address)
      this.port = new DataView(address.buffer).getUint32(4, true)
    } catch (error) {
      close(this.fd)
      throw error
    }
  }

  /** Sends a request and waits for its acknowledgement. Throws NetlinkError if the kernel refuses. */
  request(request: Request): void {
    this.ask(request, () => {})
  }

  /** As `request`, for one that is answered by a message before it is acknowledged. */
  ask(request: Request, each: (message: Message) => void): void {
    const sequence = this.#send(request, NLM_F_ACK)
    this.#answers(request.what, sequence, each)
  }

  /**
   * Sends messages that the kernel carries out together or not at all, between a first and a last one that say so, and
   * waits until it has. Throws NetlinkError for the first message that it refuses.
   */
  batch(begin: Request, requests: readonly Request[], end: Request): void {
    const first = this.#sequence + 1
    const last = first + requests.length
    const datagram = [begin, ...requests, end].map((request, i) => {
      // Errors are answered in any case, and nothing is answered before the whole batch is through.
      const acknowledged = first + i === last ? NLM_F_ACK : 0
      return this.#encode(request, acknowledged)
    })
    const what = begin.what
    if (send(this.fd, Buffer.concat(datagram), 0) < 0) throw new NetlinkError(what, errno(), '')
    let refused: NetlinkError | undefined
    for (let isThrough = false; !isThrough; )
      this.#datagram(what, (answer) => {
        const place = answer.sequence - first
        if (place < 0 || place > requests.length || answer.type !== NLMSG_ERROR) return
        const { errno, text } = errorOf(answer)
        if (errno !== 0) refused ??= new NetlinkError([begin, ...requests][place]!.what, errno, text)
        // What is answered to the first message concerns the whole.
        isThrough ||= place === requests.length || (place === 0 && errno !== 0)
      })
    if (refused) throw refused
  }

  /** Lists a whole table. `each` may keep copies only: a message's memory is reused. Throws NetlinkError. */
  dump<T>(request: Request, each: (message: Message) => T | undefined): T[] {
    for (let attempt = 1; ; attempt++) {
      const rows: T[] = []
      let interrupted = false
      const sequence = this.#send(request, NLM_F_DUMP)
      this.#answers(request.what, sequence, (message) => {
        if (message.flags & NLM_F_DUMP_INTR) interrupted = true
        const row = each(message)
        if (row !== undefined) rows.push(row)
      })
      // The table changed while it was listed: rows may be missing or twice.
      if (!interrupted || attempt === DUMP_ATTEMPTS) return rows
    }
  }

  /** Reads the notifications that have arrived, without waiting. */
  receive(each: (message: Message) => void): Received {
    let received: Received = 'none'
    for (;;) {
      const length = recv(this.fd, this.#buffer, MSG_DONTWAIT | MSG_TRUNC)
      if (length >= 0) {
        if (length > RECEIVE_BYTES) return 'lost'
        for (const message of messages(this.#buffer.subarray(0, length))) each(message)
        received = 'some'
      } else if (errno() === constants.errno.ENOBUFS) {
        return 'lost'
      } else if (errno() === constants.errno.EAGAIN) {
        return received
      } else if (errno() !== constants.errno.EINTR) {
        throw new SystemCallError('recv of netlink notifications', errno())
      }
    }
  }

  close(): void {
    close(this.fd)
  }

  #enlarge(option: number, bytes: number): void {
    try {
      setsockoptInt(this.fd, SOL_SOCKET, option, bytes)
    } catch {
      // Not permitted in a user namespace; the default size holds some hundred notifications, or some thousand ports.
    }
  }

  #encode({ type, flags = 0, fixed, attributes = [] }: Request, kind: number): Uint8Array {
    return message(type, NLM_F_REQUEST | kind | flags, ++this.#sequence, fixed, attributes)
  }

  #send(request: Request, kind: number): number {
    if (send(this.fd, this.#encode(request, kind), 0) < 0) throw new NetlinkError(request.what, errno(), '')
    return this.#sequence
  }

  #answers(what: string, sequence: number, each: (message: Message) => void): void {
    for (let isThrough = false; !isThrough; )
      this.#datagram(what, (answer) => {
        if (isThrough || answer.sequence !== sequence) return
        if (answer.type === NLMSG_ERROR) {
          const { errno, text } = errorOf(answer)
          if (errno !== 0) throw new NetlinkError(what, errno, text)
          isThrough = true
        } else if (answer.type === NLMSG_DONE) {
          const failed = answer.body.byteLength >= 4 ? -answer.body.getInt32(0, true) : 0
          if (failed > 0) throw new NetlinkError(what, failed, '')
          isThrough = true
        } else {
          each(answer)
        }
      })
  }

  /** Waits for one datagram and takes the messages in it. */
  #datagram(what: string, each: (message: Message) => void): void {
    for (;;) {
      const length = recv(this.fd, this.#buffer, 0)
      if (length >= 0) {
        for (const answer of messages(this.#buffer.subarray(0, length))) each(answer)
        return
      }
      if (errno() !== constants.errno.EINTR) throw new NetlinkError(what, errno(), '')
    }
  }
}
