// Errors that helpers throw, as entries of the gateway's log. A helper that throws at every connection must not fill
// it: of each helper one error a minute is told, with how many were not. Each is counted (helper_cut_offs).
// Owner: this thread.

import type { Registered } from '../../helpers/registry.shard.ts'
import { describeThrown } from '../../helpers/thrown.ts'
import { nowMs } from '../../memory/clock.ts'

const TOLD_EVERY_MS = 60_000

/** An entry of the log (shard-contract.ts, Report). */
interface Entry {
  readonly level: 'error'
  readonly text: string
  readonly detail: Readonly<Record<string, unknown>>
}

interface Told {
  at: number
  /** Errors that were not told since. */
  untold: number
}

let report: (entry: Entry) => void = () => {}
/** By the helper's name. */
const told = new Map<string, Told>()

export function attachHelperErrors(withReport: ((entry: Entry) => void) | undefined): void {
  report = withReport ?? (() => {})
  told.clear()
}

/** Reports what a helper has thrown. Runs the helper's code where it reads the error: to be called as a part of it. */
export function blame({ helper: { name } }: Registered, where: string, error: unknown): void {
  const last = told.get(name)
  if (last !== undefined && nowMs - last.at < TOLD_EVERY_MS) {
    last.untold++
    return
  }
  told.set(name, { at: nowMs, untold: 0 })
  const { message, at, stack } = describeThrown(error)
  report({
    level: 'error',
    text: `helper ${name} failed in ${where}: its connection goes on without it, and so will the next ones`,
    detail: {
      helper: name,
      in: where,
      error: message,
      ...(at !== undefined && { at }),
      ...(stack !== undefined && { stack }),
      ...(last !== undefined && last.untold > 0 && { untold: last.untold }),
    },
  })
}
