// Locks of this network namespace: whoever binds an abstract unix socket has its name until it closes the socket or
// ends, however it ends. So a lock is never left behind, and needs no file that somebody else may remove.
// Authority: unix(7), "Abstract sockets". Control plane, synchronous. Owner of the socket: who took the lock.

import { readFileSync } from 'node:fs'
import { AF_UNIX, bind, close, SOCK_CLOEXEC, SOCK_DGRAM, SystemCallError, socket } from '../io/syscalls.ts'
import { foreignHolder, refuseForeignHolder } from './lock-holder.ts'

const PREFIX = 'natloom/'
const RETRY_EVERY_MS = 5
/** A line of /proc/net/unix: type 2, state, inode, name. Sockets of other types have other names. */
const OF_DATAGRAMS = / 0002 \d\d +\d+ @/

export interface Lock {
  release(): void
}

/** The lock of this name, undefined if somebody has it. Throws SystemCallError, and HostError if it is no natloom. */
export function tryLock(name: string): Lock | undefined {
  const fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
  try {
    bind(fd, abstractAddress(name))
  } catch (error) {
    close(fd)
    if (!(error instanceof SystemCallError) || error.code !== 'EADDRINUSE') throw error
    refuseForeignHolder(PREFIX + name)
    return undefined
  }
  return { release: () => close(fd) }
}

/** Whether somebody has the lock of this name; takes nothing. Authority: proc(5), /proc/net/unix. */
export const isLocked = (name: string): boolean =>
  readFileSync('/proc/thread-self/net/unix', 'utf8')
    .split('\n')
    .some((line) => OF_DATAGRAMS.test(line) && line.endsWith(` @${PREFIX}${name}`))

/** Who has the lock, if that is no natloom: a text for people. */
export const foreignHolderOf = (name: string): string | undefined => foreignHolder(PREFIX + name)

/** Holds the lock while `step` runs; waits for it as long as that. Undefined if it could not be had in time. */
export function withLock<T>(name: string, patienceMs: number, step: () => T): { readonly result: T } | undefined {
  const pause = new Int32Array(new SharedArrayBuffer(4))
  for (let waited = 0; ; waited += RETRY_EVERY_MS) {
    const lock = tryLock(name)
    if (lock) {
      try {
        return { result: step() }
      } finally {
        lock.release()
      }
    }
    if (waited >= patienceMs) return undefined
    Atomics.wait(pause, 0, 0, RETRY_EVERY_MS)
  }
}

/** struct sockaddr_un: family u16, a zero byte that makes the name abstract, the name. */
function abstractAddress(name: string): Uint8Array {
  const bytes = new TextEncoder().encode(PREFIX + name)
  const address = new Uint8Array(3 + bytes.length)
  address[0] = AF_UNIX
  address.set(bytes, 3)
  return address
}
