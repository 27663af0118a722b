// Turns an error into the text and the exit code that a user gets. Errors of the control plane are recognised by
// convention, since the folders below must not import control/: they have a `code` of their own and a message that says
// what is wrong and what to do, and an `exitCode` unless it is "the host lacks something". Every other error is a fault
// of natloom and is printed with its stack.

import { EXIT } from './exit-codes.ts'

interface Explanation {
  /** For standard error; without a newline at the end. */
  readonly text: string
  readonly exitCode: number
}

/** Names of errno and codes of Node itself: `EINVAL`, `ERR_INVALID_ARG_TYPE`. */
const FOREIGN_CODE = /^E[A-Z0-9_]+$/

const RIGHTS =
  'natloom needs CAP_NET_ADMIN and CAP_NET_RAW: run it as root, or as the unit in deploy/natloom.service does'

export function explain(error: unknown): Explanation {
  if (!(error instanceof Error)) return { text: `natloom: ${String(error)}`, exitCode: EXIT.unexpected }
  const { code, exitCode } = error as { code?: unknown; exitCode?: unknown }
  if (code === 'EPERM' || code === 'EACCES')
    return { text: `natloom: ${error.message}: not permitted\n${RIGHTS}`, exitCode: EXIT.host }
  if (typeof code !== 'string' || FOREIGN_CODE.test(code))
    return { text: `natloom: unexpected: ${error.stack ?? error.message}`, exitCode: EXIT.unexpected }
  return { text: `natloom: ${error.message}`, exitCode: typeof exitCode === 'number' ? exitCode : EXIT.host }
}
