// Who has a lock (locks.ts) that is none of natloom's: any user of the network namespace may bind an abstract name, and
// so keep a gateway from starting. The kernel says whose socket it is. Authority: sock_diag(7), linux/unix_diag.h (the
// user since Linux 5.3); proc(5) for the process. Control plane, synchronous. Nothing here is kept.

import { readdirSync, readlinkSync } from 'node:fs'
import { AF_UNIX, SOCK_DGRAM } from '../io/syscalls.ts'
import { HostError } from './errors.ts'
import { attributes, type Message, textOf } from './netlink.ts'
import { NETLINK_SOCK_DIAG, NetlinkError, NetlinkSocket } from './netlink-socket.ts'

const SOCK_DIAG_BY_FAMILY = 20
const ALL_STATES = 0xffffffff
const SHOW_NAME = 0x1
const SHOW_UID = 0x40
const UNIX_DIAG_NAME = 0
const UNIX_DIAG_UID = 7
const ROOT = 0

interface Holder {
  readonly uid: number
  readonly inode: number
}

/**
 * Why the lock of this abstract name can't be a natloom's: a user has it who is neither root nor the one that this
 * process runs as. Undefined if nobody has it, one of them has, or the kernel doesn't tell.
 */
export function foreignHolder(name: string): string | undefined {
  const holder = holderOf(name)
  if (!holder || holder.uid === ROOT || holder.uid === process.geteuid?.()) return undefined
  const pid = processWith(holder.inode)
  return (
    `user ${holder.uid} (${pid === undefined ? 'a process that is hidden from here' : `process ${pid}`}) ` +
    `has bound the abstract unix socket @${name}, by which natlooms of this network namespace tell who has what: end ` +
    'that process (as root, ss -xap names it), and run no programs of such users in this network namespace'
  )
}

/** Throws HostError HOST_IN_USE if the lock can't be a natloom's. */
export function refuseForeignHolder(name: string): void {
  const why = foreignHolder(name)
  if (why !== undefined) throw new HostError('HOST_IN_USE', why)
}

function holderOf(name: string): Holder | undefined {
  const fixed = new Uint8Array(24) // struct unix_diag_req: family u8, protocol u8, padding, states, inode, show, cookie
  fixed[0] = AF_UNIX
  const view = new DataView(fixed.buffer)
  view.setUint32(4, ALL_STATES, true)
  view.setUint32(12, SHOW_NAME | SHOW_UID, true)
  const request = { what: 'listing unix sockets (kernel module unix_diag)', type: SOCK_DIAG_BY_FAMILY, fixed }
  let socket: NetlinkSocket | undefined
  try {
    socket = new NetlinkSocket(NETLINK_SOCK_DIAG)
    return socket.dump(request, (message) => ofName(message, name))[0]
  } catch (error) {
    if (error instanceof NetlinkError) return undefined
    throw error
  } finally {
    socket?.close()
  }
}

/** struct unix_diag_msg: family u8, type u8, state u8, padding, inode u32, cookie of 8 bytes; then attributes. */
function ofName({ body }: Message, wanted: string): Holder | undefined {
  const found = attributes(body, 16)
  const [name, uid] = [found.get(UNIX_DIAG_NAME), found.get(UNIX_DIAG_UID)]
  if (body.getUint8(1) !== SOCK_DGRAM || !name || !uid || name.byteLength < 2 || name.getUint8(0) !== 0)
    return undefined
  const abstract = textOf(new DataView(name.buffer, name.byteOffset + 1, name.byteLength - 1))
  return abstract === wanted ? { uid: uid.getUint32(0, true), inode: body.getUint32(4, true) } : undefined
}

/** Undefined where this process may not look at that one's open files. */
function processWith(inode: number): number | undefined {
  const link = `socket:[${inode}]`
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .find((pid) => has(pid, link))
}

function has(pid: number, link: string): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`) === link)
  } catch {
    // It has ended, or closed a file meanwhile, or is another user's.
    return false
  }
}
