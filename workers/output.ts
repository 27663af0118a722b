// What modules print in a shard's thread, and errors that they leave behind outside of every call (in a timer, in a
// promise that nobody waits for): entries of the gateway's log. Node would carry a thread's output by messages that
// need its event loop, which a busy shard never gives a turn, so it would pile up; and it would stand in a JSON log as
// it is. An error outside of a call would end the thread whenever the event loop gets a turn, though nothing is wrong
// with the shard.
//
// So that a helper that prints at every packet doesn't fill the log, so many entries are told and one more every few
// seconds; an entry says how many before it were not.

import type { Report } from '../src/datapath/shard-contract.ts'
import { describeThrown } from '../src/helpers/thrown.ts'

const AT_ONCE = 10
const ONE_MORE_EVERY_MS = 6000
/** Characters of an entry. */
const LONGEST = 2000

type Level = Report['level']
type Write = typeof process.stdout.write

/** From now on everything that this thread prints is given to `report`. */
export function captureOutput(report: (report: Report) => void): void {
  let allowed = AT_ONCE
  let refilledAt = performance.now()
  let untold = 0

  const tell = (level: Level, text: string, detail: Report['detail']): void => {
    const more = Math.floor((performance.now() - refilledAt) / ONE_MORE_EVERY_MS)
    allowed = Math.min(AT_ONCE, allowed + more)
    refilledAt += more * ONE_MORE_EVERY_MS
    if (allowed === 0) {
      untold++
      return
    }
    allowed--
    report({ level, text, detail: { ...detail, ...(untold > 0 && { untold }) } })
    untold = 0
  }

  const printed = (level: Level): Write => {
    return (chunk: string | Uint8Array, ...rest: unknown[]): boolean => {
      const text = typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString()
      tell(level, 'a module prints', { printed: text.slice(0, LONGEST).trimEnd() })
      const done = rest.at(-1)
      if (typeof done === 'function') queueMicrotask(() => done())
      return true
    }
  }
  process.stdout.write = printed('info')
  process.stderr.write = printed('warn')

  const left = (error: unknown): void => {
    const { message, ...where } = describeThrown(error)
    tell('error', 'a module has left an error in a timer or a promise', { error: message, ...where })
  }
  process.on('uncaughtException', left)
  process.on('unhandledRejection', left)
}
