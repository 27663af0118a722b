// What the process tells the service manager that has started it: sd_notify(3), systemd.service(5) for Type=notify and
// WatchdogSec. A message is a datagram of lines to the socket that NOTIFY_SOCKET names. Node has no unix datagrams, so
// the system calls are made here (io/syscalls.ts). Without a service manager nothing is sent.
//
//   message       when
//   READY=1       every shard forwards; again with each look until the service manager has taken it
//   STATUS=       then, and when it changes: what `systemctl status` shows
//   WATCHDOG=1    every 5 s, or at half of the watchdog's time if that is shorter, if every worker turns then
//   STOPPING=1    a stop begins
// If the main thread hangs, or a worker that isn't turning is not replaced either, the messages stay away and the
// service manager kills the process: the host's rules stay until the next start, so that nothing leaks.
//
// Main thread.

import { AF_UNIX, close, connect, MSG_DONTWAIT, SOCK_CLOEXEC, SOCK_DGRAM, send, socket } from '../io/syscalls.ts'

/** struct sockaddr_un, unix(7). */
const PATH_AT = 2
const LONGEST_PATH = 107

/** What is looked at: GatewayHealth (health.ts). */
export interface Watched {
  /** Why it isn't well, in words; none while it is. */
  reasons(): readonly string[]
  /** Whether every worker's heartbeat moves. */
  isTurning(): boolean
}

export class ServiceManager {
  readonly #address: Uint8Array | undefined
  readonly #watchdogMs: number
  #looking: NodeJS.Timeout | undefined
  #status = ''
  #isReadyTold = false

  /** Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment: they are not for child processes. */
  constructor(env: NodeJS.ProcessEnv, pid = process.pid) {
    const { NOTIFY_SOCKET: path = '', WATCHDOG_USEC: microseconds = '', WATCHDOG_PID: forPid = String(pid) } = env
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete env[name]
    this.#address = addressOf(path)
    this.#watchdogMs = forPid === String(pid) ? Number(microseconds) / 1000 : 0
  }

  /** Every shard forwards; from now on it is looked at, and the watchdog is fed. */
  ready(watched: Watched): void {
    this.#tellReady(watched)
    this.#looking = setInterval(() => this.#look(watched), this.#lookEveryMs())
    this.#looking.unref()
  }

  stopping(reason: string): void {
    clearInterval(this.#looking)
    this.#notify('STOPPING=1', `STATUS=stopping: ${reason}`)
  }

  /** A service manager's queue may be full, and without READY=1 it ends the gateway when the time to start is over. */
  #tellReady(watched: Watched): void {
    this.#status = statusOf(watched)
    this.#isReadyTold = this.#notify('READY=1', `STATUS=${this.#status}`)
  }

  #look(watched: Watched): void {
    if (!this.#isReadyTold) this.#tellReady(watched)
    const status = statusOf(watched)
    const lines = status === this.#status ? [] : [`STATUS=${status}`]
    this.#status = status
    if (this.#watchdogMs > 0 && watched.isTurning()) lines.push('WATCHDOG=1')
    if (lines.length > 0) this.#notify(...lines)
  }

  #lookEveryMs(): number {
    return this.#watchdogMs > 0 ? Math.min(this.#watchdogMs / 2, LOOK_EVERY_MS) : LOOK_EVERY_MS
  }

  /** Whether it was sent. A service manager that doesn't listen is no reason to stop forwarding. */
  #notify(...lines: string[]): boolean {
    if (!this.#address) return true
    let fd = -1
    try {
      fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
      connect(fd, this.#address)
      return send(fd, Buffer.from(lines.join('\n')), MSG_DONTWAIT) >= 0
    } catch {
      // Its socket is gone.
      return false
    } finally {
      if (fd >= 0) close(fd)
    }
  }
}

const LOOK_EVERY_MS = 5000

/** A line: reasons have no line breaks, but what an operator configured stands in them. */
const statusOf = (watched: Watched): string => (watched.reasons().join('; ') || 'forwarding').replaceAll(/\s+/g, ' ')

/** A path, or with @ in front a name in the abstract namespace. Undefined if there is none that fits. */
function addressOf(path: string): Uint8Array | undefined {
  const name = Buffer.from(path)
  if (!/^[/@]./.test(path) || name.length > LONGEST_PATH) return undefined
  // A path ends with a zero byte; an abstract name begins with one and ends with the address.
  const address = new Uint8Array(PATH_AT + name.length + (path.startsWith('@') ? 0 : 1))
  new DataView(address.buffer).setUint16(0, AF_UNIX, true)
  address.set(name, PATH_AT)
  if (path.startsWith('@')) address[PATH_AT] = 0
  return address
}
