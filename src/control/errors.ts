// An error as its reader needs it. By convention, not by class (host/, io/ and metrics/ may not import control/), the
// control plane's errors have a `code` of their own and a message that says what is wrong and what to do; `exitCode`
// if it is not "the host lacks something". Everything else is a fault of natloom, and comes with its stack.

import { EXIT } from './exit-codes.ts'

interface Explanation {
  /** For standard error, without a line end. */
  readonly text: string
  readonly exitCode: number
}

/** errno names and Node's own codes: `EINVAL`, `ERR_INVALID_ARG_TYPE`. */
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
