// What a check of the host says: one finding for each thing that is not as it should be, with what mends it.

import type { HostErrorCode } from '../../host/errors.ts'
import type { HostFacts } from '../../host/facts.ts'
import type { GatewayConfig } from '../config.ts'
import type { GatewayErrorCode } from '../errors.ts'

type FindingCode = GatewayErrorCode | HostErrorCode

interface Said {
  /** What is wrong and where. Further lines are indented. */
  readonly what: string
  /** The command or the key that mends it. Empty if `what` says it. */
  readonly mend: string
  /** The check could not look: what it has found before may still be so. */
  readonly couldNotLook?: true
}

/** An error keeps `natloom run` from starting. With a warning it starts, and something is not as one may believe. */
export type Finding = Said &
  ({ readonly severity: 'error'; readonly code: FindingCode } | { readonly severity: 'warning' })

export const error = (code: FindingCode, what: string, mend: string): Finding => ({
  severity: 'error',
  code,
  what,
  mend,
})
export const warning = (what: string, mend: string): Finding => ({ severity: 'warning', what, mend })

/** Finds what is wrong with one thing. May throw HostError or NetlinkError, if it can't look. */
export type HostCheck = (config: GatewayConfig, host: HostFacts) => readonly Finding[]

/** What is wrong and what mends it, in one text. */
export function textOf({ what, mend }: Said): string {
  if (mend === '') return what
  return `${what}${what.includes('\n') ? '\n' : ': '}${mend}`
}
