// Turns an error into the text and the exit code that a user gets. Errors of the control plane are recognised by
// convention, since the folders below must not import control/: they have a `code` of their own and a message that says
// what is wrong and what to do, and an `exitCode` unless it is "the host lacks something". A system call that the host
// refused, because it lacks something, is told with what it lacks. Every other error is a fault of natloom and is
// printed with its stack.

import { EXIT } from './exit-codes.ts'
import { FILE_ERRORS } from './problem.ts'

interface Explanation {
  /** For standard error; without a newline at the end. */
  readonly text: string
  readonly exitCode: number
}

/** Names of errno and codes of Node itself: `EINVAL`, `ERR_INVALID_ARG_TYPE`. */
const FOREIGN_CODE = /^E[A-Z0-9_]+$/

const RIGHTS =
  'natloom needs CAP_NET_ADMIN and CAP_NET_RAW: run it as root, or as the unit in deploy/natloom.service does'

/** What the host has none of, or not enough; by the error number of the call that was refused. */
const HOST_LACKS: Readonly<Record<string, string>> = {
  ...FILE_ERRORS,
  ENOMEM: 'the host has not enough memory: lower io.ringMegabytes, capacity.connections or workers',
  ENOBUFS: 'the host has not enough memory for sockets: lower io.ringMegabytes or workers',
  EMFILE: 'this process may open no more files: raise its limit (ulimit -n, LimitNOFILE of the unit)',
  ENFILE: 'the host may open no more files: raise fs.file-max',
  EAGAIN: 'this user may start no more threads: raise its limit (ulimit -u, TasksMax of the unit)',
  EADDRINUSE: 'another program uses the address',
  EADDRNOTAVAIL: 'the host has no such address',
  EAFNOSUPPORT: 'the kernel has not this kind of socket: load or build its module',
  ENODEV: 'the interface is gone',
  ENXIO: 'the interface is gone',
  ENETDOWN: 'the interface is down',
  EBUSY: 'another program uses it',
  ENOSYS: 'the kernel is too old',
}

export function explain(error: unknown): Explanation {
  if (!(error instanceof Error)) return { text: `natloom: ${String(error)}`, exitCode: EXIT.unexpected }
  const { code, exitCode } = error as { code?: unknown; exitCode?: unknown }
  if (code === 'EPERM' || code === 'EACCES')
    return { text: `natloom: ${error.message}: not permitted\n${RIGHTS}`, exitCode: EXIT.host }
  const lack = HOST_LACKS[String(code)]
  if (lack !== undefined) return { text: `natloom: ${error.message}: ${lack}`, exitCode: EXIT.host }
  if (typeof code !== 'string' || FOREIGN_CODE.test(code))
    return { text: `natloom: unexpected: ${error.stack ?? error.message}`, exitCode: EXIT.unexpected }
  return { text: `natloom: ${error.message}`, exitCode: typeof exitCode === 'number' ? exitCode : EXIT.host }
}
